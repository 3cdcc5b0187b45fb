//! `toctoc remove`

use super::{Answer, complain, say};
use crate::firewall::Nft;
use crate::firewall::apply::remove;

pub(super) fn run() -> Answer {
    match remove(&Nft::default()) {
        Ok(true) => say("removed: no door is guarded any more\n"),
        Ok(false) => say("there was nothing to remove\n"),
        Err(failure) => {
            complain(&failure.to_string());
            return Answer::CouldNot;
        }
    }
    Answer::Yes
}
