//! `toctoc connect`

use std::num::NonZeroU16;
use std::sync::Arc;

use clap::Args;
use clap_complete::ArgValueCandidates;

use super::completions::profiles;
use super::knock::{enter, no_profile, patience};
use super::{Answer, complain, now};
use crate::client::store::{self, Found};
use crate::client::{Family, Plan, addresses, hand_over, relay};

#[derive(Args)]
pub(super) struct Arguments {
    /// The profile: its name, its host, or a path with a `/`.
    #[arg(value_name = "HOST|PROFILE", add = ArgValueCandidates::new(profiles))]
    target: String,
    /// The port to connect to.
    /// (Default: the door of the profile.)
    port: Option<NonZeroU16>,
    /// Hand the connection over instead of relaying, for `ProxyUseFdpass yes`.
    #[arg(long)]
    fdpass: bool,
    /// Use IPv4.
    #[arg(short = '4', conflicts_with = "ipv6")]
    ipv4: bool,
    /// Use IPv6.
    #[arg(short = '6')]
    ipv6: bool,
}

pub(super) fn run(arguments: &Arguments) -> Answer {
    connect(arguments).unwrap_or_else(|(answer, message)| {
        if let Some(message) = message {
            complain(&message);
        }
        answer
    })
}

type Failed = (Answer, Option<String>);

fn could_not(message: String) -> Failed {
    (Answer::CouldNot, Some(message))
}

fn connect(arguments: &Arguments) -> Result<Answer, Failed> {
    let target = &arguments.target;
    let found = store::find(target).map_err(could_not)?;
    let Found { name, profile } = found.ok_or_else(|| could_not(no_profile(target)))?;
    let door = arguments.port.or(profile.door).ok_or_else(|| {
        could_not(format!(
            "profile {name} names no door: `toctoc connect {target} 22`"
        ))
    })?;
    let family = match (arguments.ipv4, arguments.ipv6) {
        (true, _) => Family::V4,
        (_, true) => Family::V6,
        _ => Family::Any,
    };
    let hosts = addresses(&profile.host, family).map_err(could_not)?;
    let look = Some(patience(&profile.host));
    let plan = Plan::new(&profile.way, profile.gap, look, now());
    let plan = Arc::new(plan.shared_by(hosts.len()));
    let (_, open) = enter(&hosts, door, &plan, &profile.way).map_err(|answer| (answer, None))?;
    store::remember_round_trip(&profile.host, open.round_trip);
    if arguments.fdpass {
        hand_over(&open.stream).map_err(|error| {
            could_not(format!(
                "standard output takes no connection ({error}): --fdpass is for ssh with \
                 `ProxyUseFdpass yes`; leave it out"
            ))
        })?;
        return Ok(Answer::Yes);
    }
    match relay(open.stream) {
        Ok(()) => Ok(Answer::Yes),
        Err(error) => Err(could_not(format!("the connection broke: {error}"))),
    }
}
