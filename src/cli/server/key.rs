//! `toctoc key`: make, list and revoke keys

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;
use qrcode::render::svg;

use super::apply::about;
use super::completions::{doors, keys as key_names};
use super::qr::{code, show_in_terminal};
use super::{
    Answer, PolicyPath, complain, could_not_read, count, host, policy, policy_and_origin_for, say,
};
use crate::client::profile::{Way, is_host};
use crate::enrol::{EnrolError, Enrolled, Kind, keys, new_key, revoke};
use crate::firewall::Firewall;
use crate::firewall::apply::apply_from;
use crate::firewall::by_hand::note_revoked;
use crate::firewall::status::running_backend;
use crate::firewall::tokens::{clocks, note_new};
use crate::policy::{LONGEST_SEQUENCE, Name};
use crate::private_file::write_new;

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a key: a secret or random ports, in the policy and in a profile for the client.
    New(New),
    /// List the keys of a policy. Secrets are not shown.
    List(PolicyPath),
    /// Take a key away: out of the policy, and with all its grants out of the kernel.
    Revoke(Revoke),
}

#[derive(Args)]
struct New {
    /// What the key is called.
    #[arg(value_parser = name)]
    name: Name,
    #[command(flatten)]
    policy: PolicyPath,
    /// A door that it opens; may come several times. (Default: the only door.)
    #[arg(long, value_name = "DOOR", add = ArgValueCandidates::new(doors))]
    opens: Vec<String>,
    /// It opens with tokens, each good once (the default).
    #[arg(long, conflicts_with = "sequence")]
    token: bool,
    /// It opens with a sequence of so many random ports.
    #[arg(long, value_name = "N", value_parser = length)]
    sequence: Option<usize>,
    /// It has so many sequences of four random ports, each good once, to carry on paper.
    #[arg(long, value_name = "N", value_parser = number, conflicts_with_all = ["token", "sequence", "qr", "svg", "profile"])]
    scratch: Option<usize>,
    /// How the client reaches this host (default: this host's own name).
    #[arg(long, value_name = "HOST", value_parser = server)]
    host: Option<String>,
    /// Where to write the profile (default: NAME.profile.toml beside the policy).
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Show the profile as a QR code, and write no file.
    #[arg(long, conflicts_with = "profile")]
    qr: bool,
    /// Write the profile as a QR code into this SVG file.
    #[arg(long, value_name = "FILE", conflicts_with = "profile")]
    svg: Option<PathBuf>,
}

#[derive(Args)]
struct Revoke {
    /// The key.
    #[arg(value_parser = name, add = ArgValueCandidates::new(key_names))]
    name: Name,
    #[command(flatten)]
    policy: PolicyPath,
}

fn name(text: &str) -> Result<Name, String> {
    Name::new(text).ok_or_else(|| {
        format!(
            "`{text}` is no name: 1 to {} letters (a-z), digits, `-`, `_` or `.`, the first a letter or \
             digit",
            Name::LONGEST
        )
    })
}

fn server(text: &str) -> Result<String, String> {
    match is_host(text) {
        true => Ok(text.to_string()),
        false => Err(format!(
            "`{text}` is neither a name of a host nor an address"
        )),
    }
}

fn length(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|length| (3..=LONGEST_SEQUENCE).contains(length))
        .ok_or_else(|| format!("`{text}` is not a number of knocks from 3 to {LONGEST_SEQUENCE}"))
}

fn number(text: &str) -> Result<usize, String> {
    let number = text
        .parse()
        .ok()
        .filter(|number| (1..=100).contains(number));
    number.ok_or_else(|| format!("`{text}` is not a number of sequences from 1 to 100"))
}

pub(super) fn run(arguments: &Arguments) -> Answer {
    match &arguments.command {
        Command::New(new) => make(new),
        Command::List(path) => list(path),
        Command::Revoke(revoke) => take_away(revoke),
    }
}

fn make(new: &New) -> Answer {
    let path = &new.policy.path;
    let kind = match (new.sequence, new.scratch) {
        (Some(length), _) => Kind::Sequence(length),
        (_, Some(number)) => Kind::Scratch(number),
        _ => Kind::Token,
    };
    let profile_path = match &new.profile {
        Some(path) => path.clone(),
        None => path.with_file_name(format!("{}.profile.toml", new.name)),
    };
    let to_file = !new.qr && new.svg.is_none() && new.scratch.is_none();
    if to_file && profile_path.symlink_metadata().is_ok() {
        complain(&format!(
            "{} is there already: remove it, or name another file with --profile",
            profile_path.display()
        ));
        return Answer::CouldNot;
    }
    let own = || {
        rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned()
    };
    let server = new.host.clone().unwrap_or_else(own);
    let made = new_key(
        path,
        &host(&new.policy, None),
        &new.name,
        &new.opens,
        kind,
        &server,
    );
    let made = match made {
        Ok(made) => made,
        Err(error) => return failed(error),
    };
    if let Some(Way::Token(secret, _)) = made.profile.as_ref().map(|profile| &profile.way) {
        // Without it, the first tokens open two minutes later: `apply` says so.
        let _ = note_new(&Firewall::default().state, secret, clocks());
    }
    let with = match &made.secret {
        Some(secret) => format!("tokens; the secret is in {}", secret.display()),
        None if !made.scratch.is_empty() => count(made.scratch.len(), "scratch sequence"),
        None => "a sequence".to_string(),
    };
    let opens = made.opens.join(" and ");
    say(&format!(
        "added key {} to {}: it opens {opens} with {with}\n",
        new.name,
        path.display()
    ));
    let Some(profile) = &made.profile else {
        say(&on_paper(&made, &server));
        return Answer::Yes;
    };
    let mut written = Ok(());
    if to_file {
        written = write_new(&profile_path, profile.text().as_bytes());
        if written.is_ok() {
            say(&format!(
                "the client's profile is {}; there: toctoc profile import FILE\n",
                profile_path.display()
            ));
        }
    }
    if let Some(path) = &new.svg {
        written = code(profile).and_then(|code| {
            let picture = code.render::<svg::Color>().min_dimensions(400, 400).build();
            write_new(path, picture.as_bytes())
        });
        if written.is_ok() {
            say(&format!("its QR code is {}\n", path.display()));
        }
    }
    if new.qr && written.is_ok() {
        written = code(profile).map(|code| {
            say(&show_in_terminal(&code));
            say("it is shown this once; the client: `toctoc profile import -` reads its text\n");
        });
    }
    if new.host.is_none() {
        say(&format!(
            "the client will look for this host as {server}: --host names another\n"
        ));
    }
    say("it opens from the next `toctoc apply` on\n");
    match written {
        Ok(()) => Answer::Yes,
        Err(message) => {
            complain(&message);
            complain(&format!(
                "the key is made, its profile is not: `toctoc key revoke {}` takes it back",
                new.name
            ));
            Answer::CouldNot
        }
    }
}

/// What to carry along: each line works anywhere.
fn on_paper(made: &Enrolled, server: &str) -> String {
    let mut text =
        String::from("each opens once, in any order, from the next `toctoc apply` on\n\n");
    for (number, knocks) in made.scratch.iter().enumerate() {
        let ports: Vec<String> = knocks.iter().map(|knock| knock.port.to_string()).collect();
        text.push_str(&format!("  {:>2}  {}\n", number + 1, ports.join(" ")));
    }
    let first: Vec<String> = made.scratch[0]
        .iter()
        .map(|knock| knock.port.to_string())
        .collect();
    text.push_str(&format!(
        "\nwith nothing but nmap:\n  for p in {}; do nmap -Pn -n --max-retries 0 --host-timeout 200ms \
         -p $p {server}; done\n",
        first.join(" ")
    ));
    text
}

fn list(path: &PolicyPath) -> Answer {
    let policy = match policy(path) {
        Ok(policy) => policy,
        Err(answer) => return answer,
    };
    let keys = keys(&policy);
    if keys.is_empty() {
        say("no keys\n");
    }
    for (name, kind, doors) in keys {
        say(&format!(
            "{name:<12} {kind:<10} opens {}\n",
            doors.join(" and ")
        ));
    }
    Answer::Yes
}

fn take_away(arguments: &Revoke) -> Answer {
    let Revoke { name, policy: path } = arguments;
    let firewall = Firewall::default();
    let backend = running_backend(&firewall);
    let secret = match revoke(&path.path, &host(path, backend), name) {
        Ok(secret) => secret,
        Err(error) => return failed(error),
    };
    say(&format!("took key {name} out of {}\n", path.path.display()));
    let profile = path.path.with_file_name(format!("{name}.profile.toml"));
    if profile.symlink_metadata().is_ok() {
        say(&format!(
            "its profile is still there, and opens nothing any more: rm {}\n",
            profile.display()
        ));
    }
    if backend.is_none() {
        say("no policy is applied here, so nothing else had to be done\n");
        forget(secret.as_deref());
        return Answer::Yes;
    }
    let (policy, origin) = match policy_and_origin_for(path, backend) {
        Ok(read) => read,
        Err(answer) => return answer,
    };
    match apply_from(&firewall, &policy, origin, None, clocks()) {
        Ok((applied, recorded)) => {
            forget(secret.as_deref());
            let ended = count(applied.removed, "live grant");
            say(&format!(
                "applied {}; {ended} ended, open sessions stay\n",
                path.path.display()
            ));
            for door in policy.door_indices() {
                let mut opens = policy.keys.iter().flat_map(|key| &key.opens);
                if !opens.any(|opening| opening.door == door) {
                    say(&format!(
                        "no key opens {} any more: `toctoc open` does\n",
                        policy.door(door).name
                    ));
                }
            }
            match note_revoked(&firewall, name) {
                Ok(false) => {}
                Ok(true) => say(
                    "the other hosts of the fleet end its grants too; where one still has this key, it opens \
                     there, and by that here: revoke it there too\n",
                ),
                Err(failure) => complain(&format!(
                    "the other hosts of the fleet are not told: {}",
                    failure.message
                )),
            }
            about(&recorded)
        }
        Err(failure) => {
            complain(&failure.to_string());
            complain(&format!(
                "key {name} is out of the policy, and maybe not out of the kernel: `toctoc apply`"
            ));
            Answer::CouldNot
        }
    }
}

fn forget(secret: Option<&Path>) {
    let Some(secret) = secret else {
        return;
    };
    match std::fs::remove_file(secret) {
        Ok(()) => say(&format!("removed {}\n", secret.display())),
        Err(error) => complain(&format!("{} cannot be removed: {error}", secret.display())),
    }
}

fn failed(error: EnrolError) -> Answer {
    let answer = match error {
        EnrolError::Failed(message) => {
            complain(&message);
            Answer::CouldNot
        }
        EnrolError::Policy(error) => could_not_read(error),
    };
    complain("nothing was changed");
    answer
}
