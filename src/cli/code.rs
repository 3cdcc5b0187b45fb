//! `toctoc code`

use clap::Args;
use clap_complete::ArgValueCandidates;

use super::completions::profiles;
use super::knock::no_profile;
use super::{Answer, complain, now, say};
use crate::client::profile::Way;
use crate::client::{store, tokens};

#[derive(Args)]
pub(super) struct Arguments {
    /// The profile: its name, or a path with a `/`.
    #[arg(add = ArgValueCandidates::new(profiles))]
    profile: String,
}

pub(super) fn run(arguments: &Arguments) -> Answer {
    let found = store::find(&arguments.profile)
        .and_then(|found| found.ok_or_else(|| no_profile(&arguments.profile)));
    let found = match found {
        Ok(found) => found,
        Err(message) => {
            complain(&message);
            return Answer::CouldNot;
        }
    };
    let Way::Token(secret, _) = &found.profile.way else {
        complain("this profile has a sequence, and no tokens");
        return Answer::CouldNot;
    };
    say(&format!("{}\n", tokens(secret, now())[0].hex()));
    Answer::Yes
}
