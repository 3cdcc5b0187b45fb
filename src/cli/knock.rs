//! `toctoc knock`

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use clap_complete::ArgValueCandidates;

use super::completions::profiles;
use super::{Answer, complain, count, now, say};
use crate::client::profile::{GAP, Way, is_host, not_too_many, parse_gap};
use crate::client::store::{self, Found};
use crate::client::{
    Addresses, Answers, Door, Family, MOST_ADDRESSES, Open, Packets, Plan, Profile, Seen,
    addresses, compare, is_this_machine, likely, look_around, race, send_knock, send_signed,
    send_token, signed_for, time_at,
};
use crate::knock::{Knock, Protocol};

#[derive(Args)]
pub(super) struct Arguments {
    /// The host, a name or an address; or, without knocks, a profile: its name, its host, or a path
    /// with a `/`.
    #[arg(value_name = "HOST|PROFILE", add = ArgValueCandidates::new(profiles))]
    target: String,
    /// The ports to knock at, in order: 4431, 4431/tcp, 53/udp, or as for knockd 53:udp.
    #[arg(value_name = "KNOCK", value_parser = knock)]
    knocks: Vec<Knock>,
    /// Try this TCP port before and after the knocks. If it is open before, nothing is sent. If it stays shut, the
    /// knocks are sent again, slower. (The grant of a key with `once` is used up by that.)
    #[arg(long, value_name = "PORT", value_parser = door)]
    door: Option<Knock>,
    /// Knock even if the door is open, so that its time begins anew.
    #[arg(long)]
    always: bool,
    /// The pause after each knock [default: 3ms, or what the profile says].
    #[arg(long, value_name = "TIME", value_parser = parse_gap)]
    gap: Option<Duration>,
    /// Say nothing when it works, nor when there is no such profile (for `Match exec` in ssh's
    /// configuration).
    #[arg(short, long)]
    quiet: bool,
    /// Open the door for IPv4 and for IPv6.
    #[arg(long, conflicts_with_all = ["ipv4", "ipv6"])]
    both: bool,
    /// Use IPv4.
    #[arg(short = '4', conflicts_with = "ipv6")]
    ipv4: bool,
    /// Use IPv6.
    #[arg(short = '6')]
    ipv6: bool,
}

pub(super) fn knock(text: &str) -> Result<Knock, String> {
    Knock::spelled(text).map_err(|error| match text.contains(',') {
        true => format!("{error}; here knocks are apart: 4431 2387 53/udp"),
        false => error.to_string(),
    })
}

pub(super) fn door(text: &str) -> Result<Knock, String> {
    let door = knock(text)?;
    match door.protocol {
        Protocol::Tcp => Ok(door),
        Protocol::Udp => Err(
            "only a TCP door can be tried: UDP has no connections; leave --door out".to_string(),
        ),
    }
}

pub(super) fn run(arguments: &Arguments) -> Answer {
    let Found { profile, .. } = match target(arguments) {
        Ok(Some(found)) => found,
        Ok(None) => {
            if !arguments.quiet {
                complain(&no_profile_to_knock(&arguments.target));
            }
            return Answer::CouldNot;
        }
        Err(message) => {
            complain(&message);
            return Answer::CouldNot;
        }
    };
    let look = (!arguments.always).then(|| patience(&profile.host));
    let moment = now();
    let sent = store::sent_tokens(&profile.host, moment);
    let plan = Plan::new(&profile.way, profile.gap, look, moment, &sent);
    let families: &[Family] = match (arguments.ipv4, arguments.ipv6, arguments.both) {
        (true, ..) => &[Family::V4],
        (_, true, _) => &[Family::V6],
        (.., true) => &[Family::V6, Family::V4],
        _ => &[Family::Any],
    };
    let mut plans = match families {
        [_] => vec![plan],
        _ => Vec::from(plan.split()),
    };
    let mut answer = Answer::Yes;
    for (family, plan) in families.iter().zip(plans.drain(..)) {
        let hosts = match some_addresses(&profile.host, *family) {
            Ok(hosts) => hosts,
            Err(message) => {
                complain(&message);
                answer = Answer::CouldNot;
                continue;
            }
        };
        let plan = Arc::new(plan.shared_by(hosts.len()));
        let came = match profile.door {
            None => send(&hosts, &plan, arguments.quiet),
            Some(door) => match enter(&hosts, door, &plan, &profile.way) {
                Ok((host, open)) => {
                    store::remember_round_trip(&profile.host, open.round_trip);
                    entered(host, door, &open, &plan, arguments.quiet)
                }
                Err(answer) => answer,
            },
        };
        store::remember_tokens(&profile.host, plan.sent(), moment);
        answer = answer.max(came);
    }
    answer
}

/// The ports that answer, once a connection to the door was taken.
fn answers(host: SocketAddr, door: NonZeroU16, open: &Open, plan: &Plan) -> Answers {
    match (open.answers, plan.look) {
        // Nobody looked before the knocks.
        (Answers::Door, None) => {
            let used = [plan.ports(), vec![door.get()]].concat();
            compare(host, &used, open.round_trip)
        }
        (answers, _) => answers,
    }
}

/// The answer once a connection to the door was taken.
fn entered(host: SocketAddr, door: NonZeroU16, open: &Open, plan: &Plan, quiet: bool) -> Answer {
    let answers = answers(host, door, open, plan);
    if let Answers::Every(port) = answers {
        complain(&everything_answers(host, door, port));
        return Answer::CouldNot;
    }
    if !quiet {
        say(&opened(host, door, open, plan));
    }
    Answer::Yes
}

/// The addresses that are tried. That there are more is said.
pub(super) fn some_addresses(host: &str, family: Family) -> Result<Vec<SocketAddr>, String> {
    let Addresses { tried, others } = addresses(host, family)?;
    if others > 0 {
        complain(&format!(
            "{host} has {} addresses: the first {MOST_ADDRESSES} are tried",
            tried.len() + others
        ));
    }
    Ok(tried)
}

pub(super) fn everything_answers(host: SocketAddr, door: NonZeroU16, port: NonZeroU16) -> String {
    let host = host.ip();
    format!(
        "knocked at {host}; {door}/tcp answers there, and so does {port}/tcp, which nobody uses: something answers \
         every connection (a captive portal, a proxy), so it cannot be seen whether the door opened"
    )
}

/// Finds the target: by the arguments, or in the profile that they name.
fn target(arguments: &Arguments) -> Result<Option<Found>, String> {
    let found = match arguments.knocks.as_slice() {
        [] => store::find(&arguments.target)?,
        knocks if !is_host(bare(&arguments.target)) => {
            let target = &arguments.target;
            let why = not_alone(target, " 4431 2387 920");
            let why = why.unwrap_or_else(|| "a host is a name or an address".to_string());
            let knocks = count(knocks.len(), "knock");
            return Err(format!("`{target}` is no host to send {knocks} to: {why}"));
        }
        knocks => Some(Found {
            name: not_too_many(knocks.len()).map(|()| arguments.target.clone())?,
            profile: Profile {
                host: arguments.target.clone(),
                door: None,
                way: Way::Sequence(knocks.to_vec()),
                gap: GAP,
            },
        }),
    };
    Ok(found.map(|mut found| {
        let profile = &mut found.profile;
        profile.door = arguments.door.map(|door| door.port).or(profile.door);
        profile.gap = arguments.gap.unwrap_or(profile.gap);
        found
    }))
}

/// An address without its brackets.
fn bare(target: &str) -> &str {
    let inside = target
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    inside.unwrap_or(target)
}

/// Advice on a host with a user before it or a port behind it. `knocks` are those of the example.
fn not_alone(target: &str, knocks: &str) -> Option<String> {
    if let Some((_, host)) = target.split_once('@').filter(|(_, host)| is_host(host)) {
        return Some(format!("leave out the user: `toctoc knock {host}{knocks}`"));
    }
    let (host, port) = target.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    is_host(bare(host)).then(|| {
        let host = bare(host);
        format!("the port to try is an option: `toctoc knock {host} --door {port}{knocks}`")
    })
}

pub(super) fn no_profile(target: &str) -> String {
    if target.is_empty() {
        return format!("the name of the profile is empty; {}", there_are());
    }
    if let Some(why) = not_alone(target, "") {
        return format!("there is no profile {target}: {why}");
    }
    format!(
        "there is no profile {target}, nor one for a host of that name; {}\nnext: `toctoc profile import FILE \
         {target}` takes one in",
        there_are()
    )
}

/// The same for `knock`, which can do without a profile.
fn no_profile_to_knock(target: &str) -> String {
    match not_alone(target, "") {
        Some(_) => no_profile(target),
        None if target.is_empty() => no_profile(target),
        None => format!(
            "{}; without one: `toctoc knock {target} 4431 2387 920`, with your ports",
            no_profile(target)
        ),
    }
}

/// The profiles that there are.
pub(super) fn there_are() -> String {
    match store::names().as_slice() {
        [] => "there are none yet".to_string(),
        names => format!("there are: {}", names.join(", ")),
    }
}

/// The time to look whether a door is open before knocking at it: two round trips and a little, as far
/// as one is remembered.
pub(super) fn patience(host: &str) -> Duration {
    const UNKNOWN: Duration = Duration::from_millis(100);
    const LITTLE: Duration = Duration::from_millis(1);
    const LONGEST: Duration = Duration::from_millis(500);
    match store::round_trip(host) {
        Some(round_trip) => (round_trip.saturating_mul(2) + LITTLE).min(LONGEST),
        None => UNKNOWN,
    }
}

/// Sends what the first try sends to the first address that can be reached at all.
fn send(hosts: &[SocketAddr], plan: &Plan, quiet: bool) -> Answer {
    let Some(first) = plan.next(0) else {
        return Answer::CouldNot;
    };
    for host in hosts {
        let sent = match &first.packets {
            Packets::Knocks(knocks) => knocks.iter().enumerate().try_for_each(|(index, knock)| {
                if index > 0 {
                    std::thread::sleep(first.gap);
                }
                send_knock(*host, *knock)
            }),
            Packets::Token(token, port) => send_token(*host, *port, token),
            Packets::Signed(signed) => send_signed(*host, signed),
        };
        let what = match &first.packets {
            Packets::Knocks(knocks) => count(knocks.len(), "knock"),
            Packets::Token(..) => "a token".to_string(),
            Packets::Signed(_) => "a signed datagram".to_string(),
        };
        match sent {
            Ok(()) if quiet => return Answer::Yes,
            Ok(()) => {
                say(&format!("sent {what} to {}\n", host.ip()));
                if is_this_machine(*host) {
                    complain(&oneself(*host));
                }
                return Answer::Yes;
            }
            Err(error) => complain(&cannot_send(*host, &error)),
        }
    }
    Answer::CouldNot
}

/// Opens the door at the address that lets us in first; otherwise says on standard error what is likely
/// wrong.
pub(super) fn enter(
    hosts: &[SocketAddr],
    door: NonZeroU16,
    plan: &Arc<Plan>,
    way: &Way,
) -> Result<(SocketAddr, Open), Answer> {
    let lost = match race(hosts, door, plan) {
        Ok(open) => return Ok(open),
        Err(lost) => lost,
    };
    // Whoever has many addresses, the first ones tell enough.
    const TOLD: usize = 3;
    let mut answer = Answer::CouldNot;
    for (index, (host, result)) in lost.into_iter().enumerate() {
        if result.is_ok() {
            answer = Answer::No;
        }
        match result {
            _ if index >= TOLD => {}
            Ok(shut) => complain(&stays_shut(host, door, shut, way)),
            Err(error) => complain(&cannot_send(host, &error)),
        }
    }
    Err(answer)
}

fn opened(host: SocketAddr, door: NonZeroU16, open: &Open, plan: &Plan) -> String {
    let door = format!("{door}/tcp at {}", host.ip());
    let after = open.after.as_secs_f64() * 1000.0;
    let at_try = match open.seen {
        Seen::Before | Seen::Amid | Seen::After(1) => String::new(),
        Seen::After(attempt) => format!(", at try {attempt}"),
    };
    match open.seen {
        Seen::Before if is_this_machine(host) => format!("{door} answers: {}\n", oneself(host)),
        Seen::Before => format!("{door} is open already: did not knock (--always does)\n"),
        Seen::Amid => format!("{door} was open already\n"),
        // Nobody looked before the knocks.
        Seen::After(_) if plan.look.is_none() => {
            format!("{door} is open{at_try}; it may have been before\n")
        }
        Seen::After(_) => format!("{door} is open, after {after:.1} ms{at_try}\n"),
    }
}

/// Why it says nothing about a door that one gets in here.
fn oneself(host: SocketAddr) -> String {
    format!(
        "{} is this machine, and loopback is never guarded: knock from another machine",
        host.ip()
    )
}

fn stays_shut(host: SocketAddr, door: NonZeroU16, shut: Door, way: &Way) -> String {
    if is_this_machine(host) {
        return format!(
            "{door}/tcp at {} is closed, and that is no door's doing: {}",
            host.ip(),
            oneself(host)
        );
    }
    let heard = look_around(host, way);
    let ahead = match way {
        Way::Token(..) | Way::Signed(_) => time_at(host).map(|theirs| now() - theirs),
        Way::Sequence(_) => None,
    };
    let source = match way {
        Way::Signed(signed) => signed_for(host, signed),
        Way::Token(..) | Way::Sequence(_) => None,
    };
    let likely = likely(way, shut, &heard, ahead, now(), source);
    format!("{door}/tcp at {} stays shut\n{likely}", host.ip())
}

fn cannot_send(host: SocketAddr, error: &std::io::Error) -> String {
    use std::io::ErrorKind::{HostUnreachable, NetworkUnreachable, PermissionDenied};
    let link_local = matches!(host, SocketAddr::V6(v6)
        if v6.ip().is_unicast_link_local() && v6.scope_id() == 0);
    let hint = match error.kind() {
        _ if link_local => "; a link-local address needs its interface: fe80::1%eth0",
        NetworkUnreachable => ": this machine has no way there (offline, or no IPv6 here?)",
        HostUnreachable => ": nobody there has that address, or a network on the way refuses",
        PermissionDenied => ": a firewall of this machine forbids it",
        _ => "",
    };
    format!("cannot send to {}: {error}{hint}", host.ip())
}
