//! `toctoc connect`

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use clap_complete::ArgValueCandidates;

use super::completions::profiles;
use super::knock::{enter, everything_answers, no_profile, patience, some_addresses};
use super::{Answer, complain, now};
use crate::client::profile::is_host;
use crate::client::store::{self, Found};
use crate::client::{Answers, Door, Family, Open, Plan, hand_over, race, relay};

#[derive(Args)]
pub(super) struct Arguments {
    /// The profile: its name, its host, or a path with a `/`.
    #[arg(value_name = "HOST|PROFILE", add = ArgValueCandidates::new(profiles))]
    target: String,
    /// The port to connect to [default: the door of the profile].
    port: Option<NonZeroU16>,
    /// Knock even if the door is open, so that its time begins anew.
    #[arg(long)]
    always: bool,
    /// Without a profile for it, connect to the host directly (for `Host *.example` in ssh's configuration).
    #[arg(long)]
    direct: bool,
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
    let family = match (arguments.ipv4, arguments.ipv6) {
        (true, _) => Family::V4,
        (_, true) => Family::V6,
        _ => Family::Any,
    };
    let open = match store::find(target).map_err(could_not)? {
        Some(found) => through(arguments, &found, family)?,
        None if arguments.direct && is_host(target) => directly(arguments, family)?,
        None => return Err(could_not(no_profile(target))),
    };
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

/// Knocks, and enters by the door of a profile.
fn through(arguments: &Arguments, found: &Found, family: Family) -> Result<Open, Failed> {
    let Found { name, profile } = found;
    let door = arguments.port.or(profile.door).ok_or_else(|| {
        could_not(format!(
            "profile {name} names no door: `toctoc connect {} 22`",
            arguments.target
        ))
    })?;
    let hosts = some_addresses(&profile.host, family).map_err(could_not)?;
    let look = (!arguments.always).then(|| patience(&profile.host));
    let moment = now();
    let sent = store::sent_tokens(&profile.host, moment);
    let plan = Plan::new(&profile.way, profile.gap, look, moment, &sent);
    let plan = Arc::new(plan.shared_by(hosts.len()));
    let entered = enter(&hosts, door, &plan, &profile.way);
    store::remember_tokens(&profile.host, plan.sent(), moment);
    let (host, open) = entered.map_err(|answer| (answer, None))?;
    store::remember_round_trip(&profile.host, open.round_trip);
    // With `--always` nobody has looked before the knocks, and no port is tried now: it might be a door of this key.
    if let Answers::Every(port) = open.answers {
        complain(&everything_answers(host, door, port));
    }
    Ok(open)
}

/// Connects without knocking.
fn directly(arguments: &Arguments, family: Family) -> Result<Open, Failed> {
    /// As long as people wait for a host that is far away.
    const PATIENCE: Duration = Duration::from_secs(30);
    let target = &arguments.target;
    let port = arguments.port.ok_or_else(|| {
        could_not(format!(
            "there is no profile {target}: to connect directly, name a port: `toctoc connect --direct {target} 22`"
        ))
    })?;
    let hosts = some_addresses(target, family).map_err(could_not)?;
    let plan = Arc::new(Plan::of_nothing(PATIENCE));
    race(&hosts, port, &plan)
        .map(|(_, open)| open)
        .map_err(|lost| {
            let why = lost.into_iter().map(|(host, met)| match met {
                Ok(Door::Refused) => format!("{} refuses", host.ip()),
                Ok(_) => format!("{} does not answer", host.ip()),
                Err(error) => format!("{}: {error}", host.ip()),
            });
            let why: Vec<String> = why.collect();
            could_not(format!(
                "{target} is not reached at {port}/tcp: {}",
                why.join("; ")
            ))
        })
}
