//! `toctoc remove`

use std::path::Path;

use clap::Args;

use super::{Answer, POLICY, complain, reported, say};
use crate::firewall::Firewall;
use crate::firewall::apply::{Removed, remove};
use crate::firewall::record::Origin;
use crate::firewall::tokens::clocks;
use crate::firewall::unit::{UNIT, is_enabled};
use crate::policy::Backend;

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    /// Only what is in `nftables`, or in `iptables` [default: both].
    #[arg(long, value_name = "BACKEND", value_parser = super::backend)]
    backend: Option<Backend>,
}

/// Says what the next boot does.
fn at_boot() -> String {
    match is_enabled() && Path::new(POLICY).exists() {
        true => format!(
            "the next boot closes the doors again, since {UNIT} is enabled: `systemctl disable {UNIT}` \
             prevents that\n"
        ),
        false => String::new(),
    }
}

/// Says what stays where the policy is.
fn files(running: Option<&Origin>) -> String {
    let there = running.filter(|origin| origin.path.exists());
    match there.and_then(|origin| origin.path.parent()) {
        Some(directory) => format!("the policy and its keys stay in {}\n", directory.display()),
        None => String::new(),
    }
}

pub(super) fn run(arguments: &Arguments) -> Answer {
    let firewall = Firewall::default();
    // It is forgotten with the rules.
    let before = firewall.record().unwrap_or_default();
    match remove(&firewall, arguments.backend, clocks()) {
        Ok(Removed {
            any: true,
            unsaved,
            unnoted,
        }) => {
            if let Some(why) = unsaved {
                complain(&format!("what was used up could not be saved: {why}"));
            }
            let answer = reported(&format!(
                "removed: no door is guarded any more\n{}{}",
                files(before.running.as_ref()),
                at_boot()
            ));
            match unnoted {
                None => answer,
                Some(why) => {
                    complain(&format!(
                        "that could not be noted, and the end of a trial, or a healing (toctoc-heal.timer), may undo \
                         it: {why}"
                    ));
                    answer.max(Answer::No)
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
