//! `interfaces`, read: names of network interfaces.

use std::ops::Range;

use super::diagnostic::Diagnostic;
use super::file::Spanned;
use super::values::{Reader, Value};

impl Reader {
    pub(super) fn interfaces(&mut self, value: &Value<'_>) -> Option<Vec<Spanned<String>>> {
        let array = self.array(value, "interfaces = [\"eth0\"]")?;
        let mut names = Vec::new();
        for element in array {
            let name = self.string(element, "interfaces = [\"eth0\"]")?;
            if !is_interface_name(name) {
                self.error(no_interface(name, element.span()));
                continue;
            }
            if name == "lo" {
                self.error(loopback(element.span()));
                continue;
            }
            names.push(Spanned {
                value: name.to_string(),
                at: element.span(),
            });
        }
        (names.len() == array.len()).then_some(names)
    }
}

/// Returns whether the kernel accepts a name (`dev_valid_name`), less what a ruleset would quote.
pub fn is_interface_name(name: &str) -> bool {
    (1..=15).contains(&name.len()) && has_letters_of_interfaces(name)
}

fn has_letters_of_interfaces(name: &str) -> bool {
    let mut bytes = name.bytes();
    let fits = bytes.all(|b| b.is_ascii_alphanumeric() || b".-_@".contains(&b));
    fits && name != "." && name != ".."
}

fn loopback(at: Range<usize>) -> Diagnostic {
    Diagnostic::new(at, "loopback is never guarded")
        .label("leave this out")
        .help("what a host sends to itself passes every door: `interfaces` names those that face others")
}

/// Why a text is no name of an interface.
fn no_interface(name: &str, at: Range<usize>) -> Diagnostic {
    match name.split_once(':') {
        Some((real, _)) if is_interface_name(real) => Diagnostic::new(
            at,
            format!("`{name}` is a label of an address, and no interface"),
        )
        .label(format!("write \"{real}\""))
        .help(format!(
            "packets to that address arrive at `{real}`, like all others that come by it"
        )),
        _ if name.len() > 15 && has_letters_of_interfaces(name) => Diagnostic::new(
            at,
            format!("`{name}` is too long for the name of a network interface"),
        )
        .label("more than 15 letters")
        .help("if it is an alternative name, write the one that `ip link` shows first"),
        _ => Diagnostic::new(at, format!("`{name}` is not a name of a network interface"))
            .label("1 to 15 letters, digits, `.`, `-`, `_` or `@`")
            .help("`ip link` lists the names; patterns are not accepted"),
    }
}
