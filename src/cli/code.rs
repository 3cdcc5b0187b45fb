//! `toctoc code`

use clap::Args;
use clap_complete::ArgValueCandidates;

use super::completions::profiles;
use super::knock::no_profile;
use super::{Answer, complain, now, say};
use crate::client::profile::Way;
use crate::client::{signed_now, store, tokens};
use crate::signed::SHORTEST;

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
    let code = match &found.profile.way {
        Way::Token(secret, _) => Ok(tokens(secret, now())[0].hex()),
        Way::Signed(signed) => signed_now(&found.profile.host, signed).map(hex),
        Way::Sequence(_) => Err("this profile has a sequence, and no tokens".to_string()),
    };
    match code {
        Ok(code) => {
            say(&format!("{code}\n"));
            Answer::Yes
        }
        Err(message) => {
            complain(&message);
            Answer::CouldNot
        }
    }
}

fn hex(bytes: [u8; SHORTEST]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
