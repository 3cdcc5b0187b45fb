//! `toctoc code`

use clap::Args;

use super::knock::load;
use super::{Answer, complain, now, say};
use crate::client::profile::Way;
use crate::client::{Profile, tokens};

#[derive(Args)]
pub(super) struct Arguments {
    /// The profile: its name, or a path with a `/`.
    profile: String,
}

pub(super) fn run(arguments: &Arguments) -> Answer {
    let path = Profile::path(&arguments.profile);
    if !path.exists() {
        complain(&format!(
            "there is no profile {}: `toctoc profile import NAME FILE` takes one in, and a path needs a `/` \
             (./{})",
            path.display(),
            arguments.profile.trim_start_matches('/')
        ));
        return Answer::CouldNot;
    }
    let profile = match load(&arguments.profile) {
        Ok(profile) => profile,
        Err(message) => {
            complain(&message);
            return Answer::CouldNot;
        }
    };
    let Way::Token(secret, _) = &profile.way else {
        complain("this profile has a sequence, and no tokens");
        return Answer::CouldNot;
    };
    say(&format!("{}\n", tokens(secret, now())[0].hex()));
    Answer::Yes
}
