//! `toctoc remove`

use clap::Args;

use super::{Answer, complain, reported, say};
use crate::firewall::Firewall;
use crate::firewall::apply::{Removed, remove};
use crate::firewall::tokens::clocks;
use crate::policy::Backend;

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    /// Only what is in `nftables`, or in `iptables`.
    #[arg(long, value_name = "BACKEND", value_parser = super::backend)]
    backend: Option<Backend>,
}

pub(super) fn run(arguments: &Arguments) -> Answer {
    match remove(&Firewall::default(), arguments.backend, clocks()) {
        Ok(Removed {
            any: true,
            unsaved,
            unnoted,
        }) => {
            if let Some(why) = unsaved {
                complain(&format!("what was used up could not be saved: {why}"));
            }
            let answer = reported("removed: no door is guarded any more\n");
            match unnoted {
                None => answer,
                Some(why) => {
                    complain(&format!(
                        "that could not be noted, and the end of a trial would undo it: {why}"
                    ));
                    Answer::CouldNot
                }
            }
        }
        Ok(Removed { any: false, .. }) => {
            say("there was nothing to remove\n");
            Answer::Yes
        }
        Err(failure) => {
            complain(&failure.to_string());
            Answer::CouldNot
        }
    }
}
