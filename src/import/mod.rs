//! Turns what people have already (`/etc/knockd.conf`, the classic `iptables -m recent` script) into
//! a policy, with a comment for each thing that has no counterpart.
//!
//! Pure: text in, text out. The result is a policy to read and finish, not one to apply unseen; what
//! `check` says of it is said to the user as well.

mod draft;
mod knockd;
mod origin;

use std::fmt;

/// Nothing that could be turned into a policy was found.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportError(String);

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ImportError {}

/// The policy that says what `text` says. Which of the two it is shows in the text: knockd's file
/// has `[sections]`, the script has an array of ports.
///
/// # Errors
/// When there is neither a knockd sequence nor a port array in it.
pub fn import(text: &str) -> Result<String, ImportError> {
    let draft = match origin::read(text) {
        Some(draft) => draft,
        None => knockd::read(text),
    };
    if draft.keys.is_empty() {
        let mut said =
            "there is neither a knockd section with a sequence in it, nor an array of ports \
                        as in `K22P=(443 2387 920)`: only these two forms are read"
                .to_string();
        if text.contains("-m recent") {
            said.push_str(
                "\nthe rules of `iptables -m recent` alone do not tell a sequence: add such an array \
                 to a copy of the script, on a line of its own, and import that; its name has the port \
                 that is opened (22), its words are the ports of `--dport` in the order in which they \
                 are knocked",
            );
        }
        return Err(ImportError(said));
    }
    Ok(draft.to_string())
}
