//! `toctoc key`: make, list and revoke keys

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::builder::ArgPredicate;
use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;
use qrcode::render::svg;

use super::client_host::{ClientHost, reached_by};
use super::completions::doors;
use super::qr::{code, code_of_address, show_in_terminal};
use super::{
    Answer, PolicyAlone, PolicyPath, complain, could_not_read, count, host, policy, revoke, say,
    trusted,
};
use crate::cli::passphrase;
use crate::cli::profile::{NO_PAGE, addresses_for_page, link, page_address, sealed, with_code};
use crate::client::page::{Key, Passphrase, Settings, Written, write};
use crate::client::profile::Way;
use crate::client::{Outside, Profile};
use crate::enrol::{EnrolError, Enrolled, For, Kind, keys, new_key};
use crate::firewall::Firewall;
use crate::firewall::record::Record;
use crate::firewall::revoke::note_edit;
use crate::firewall::tokens::{clocks, note_new, used_up};
use crate::policy::edit::has_key;
use crate::policy::load::read_text;
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
    New(Box<New>),
    /// List the keys of a policy. Secrets are not shown.
    List(PolicyAlone),
    /// Take a key away: out of the policy's file, and with all its grants out of the running firewall.
    /// Nothing else of either changes.
    Revoke(revoke::Arguments),
}

#[derive(Args)]
struct New {
    /// The name of the key.
    #[arg(value_parser = name)]
    name: Name,
    #[command(flatten)]
    policy: PolicyPath,
    /// A door that it opens; may come several times [default: the only door].
    #[arg(long, value_name = "DOOR", add = ArgValueCandidates::new(doors))]
    opens: Vec<String>,
    /// It opens with tokens, each good once [default].
    #[arg(long, conflicts_with = "sequence")]
    token: bool,
    /// It opens with signed datagrams, each good once and from the address that it was signed for alone (needs BPF).
    #[arg(long, conflicts_with_all = ["token", "sequence", "scratch", "html", "page", "user"])]
    signed: bool,
    /// Signed: the address that the client has outside (behind NAT), or the STUN server that tells it: stun:HOST.
    #[arg(long, value_name = "ADDRESS", requires = "signed")]
    from: Option<Outside>,
    /// It opens with a sequence of so many random ports.
    #[arg(long, value_name = "N", value_parser = length)]
    sequence: Option<usize>,
    /// It has so many sequences of four random ports, each good once, to carry on paper.
    #[arg(long, value_name = "N", value_parser = number, conflicts_with_all = ["token", "sequence", "qr", "svg", "profile"])]
    scratch: Option<usize>,
    /// The tool that the owner will knock with: a program, or a web page, which has other ports and tokens.
    #[arg(long = "for", value_name = "WHAT", value_parser = user, default_value = "program",
          default_value_ifs([("html", ArgPredicate::IsPresent, "browser"), ("page", ArgPredicate::IsPresent, "browser")]))]
    user: For,
    /// Write a web page that knocks with the key into this file, and no profile.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["profile", "qr", "svg"])]
    html: Option<PathBuf>,
    /// The address of the page without a key on a web host of your own (`profile show NAME --as html-empty`): --qr shows
    /// the link to it, with the key; the page of --html shows the link to a second device.
    #[arg(long, value_name = "URL", value_parser = page_address, conflicts_with_all = ["profile", "svg"])]
    page: Option<String>,
    /// Put the key in the page, or in the link to it, under a passphrase, which is asked for or read from standard input.
    #[arg(long, conflicts_with_all = ["profile", "svg"])]
    passphrase: bool,
    /// The name or address by which the client reaches this host [default: its own name, or the address that your ssh connection came to].
    #[arg(long, value_name = "HOST", value_parser = reached_by)]
    host: Option<String>,
    /// Where to write the profile [default: NAME.profile.toml beside the policy].
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Show the profile as a QR code, and write no file.
    #[arg(long, conflicts_with = "profile")]
    qr: bool,
    /// Write the profile as a QR code into this SVG file.
    #[arg(long, value_name = "FILE", conflicts_with = "profile")]
    svg: Option<PathBuf>,
}

pub(super) fn name(text: &str) -> Result<Name, String> {
    Name::new(text).ok_or_else(|| {
        format!(
            "`{text}` is no name: 1 to {} letters (a-z), digits, `-`, `_` or `.`, the first a letter or \
             digit",
            Name::LONGEST
        )
    })
}

fn user(text: &str) -> Result<For, String> {
    match text {
        "program" => Ok(For::Program),
        "browser" => Ok(For::Browser),
        _ => Err(format!("`{text}` is not one of program, browser")),
    }
}

pub(super) fn length(text: &str) -> Result<usize, String> {
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
        Command::Revoke(arguments) => revoke::run(arguments),
    }
}

fn make(new: &New) -> Answer {
    let path = &new.policy.path;
    if let Err(answer) = trusted(path) {
        complain("nothing was changed");
        return answer;
    }
    // Else the profile of that key would be told of first.
    if read_text(path).is_ok_and(|text| has_key(&text, &new.name)) {
        let (shown, name) = (path.display(), &new.name);
        complain(&format!(
            "{shown}: there is a key {name} already (`toctoc key revoke {name}` takes it away)\nnothing was changed"
        ));
        return Answer::CouldNot;
    }
    let kind = match (new.sequence, new.scratch) {
        (Some(length), _) => Kind::Sequence(length),
        (_, Some(number)) => Kind::Scratch(number),
        _ if new.signed => Kind::Signed,
        _ => Kind::Token,
    };
    let profile_path = match &new.profile {
        Some(path) => path.clone(),
        None => path.with_file_name(format!("{}.profile.toml", new.name)),
    };
    let to_file = !new.qr && new.svg.is_none() && new.scratch.is_none() && new.html.is_none();
    if to_file && profile_path.symlink_metadata().is_ok() {
        complain(&format!(
            "{} is there already: remove it, or name another file with --profile",
            profile_path.display()
        ));
        return Answer::CouldNot;
    }
    if let Some(path) = new
        .html
        .as_ref()
        .filter(|path| path.symlink_metadata().is_ok())
    {
        complain(&format!(
            "{} is there already: remove it, or name another file with --html",
            path.display()
        ));
        return Answer::CouldNot;
    }
    let has_page = new.html.is_some() || new.qr && new.page.is_some();
    if !has_page && (new.passphrase || new.page.is_some()) {
        complain(
            "--passphrase and --page are for a page: --html FILE, or --qr --page URL\nnothing was changed",
        );
        return Answer::CouldNot;
    }
    let passphrase = match new.passphrase.then(passphrase::ask).transpose() {
        Ok(passphrase) => passphrase,
        Err(message) => {
            complain(&format!("{message}\nnothing was changed"));
            return Answer::CouldNot;
        }
    };
    let client_host = match &new.host {
        Some(host) => Ok(ClientHost::given(host)),
        None => ClientHost::proposed(given()),
    };
    let made = new_key(
        path,
        &host(&new.policy, None),
        &new.name,
        &new.opens,
        kind,
        new.user,
        || {
            let server = client_host.as_ref().map_err(String::clone)?.name.clone();
            if has_page {
                addresses_for_page(&server)?;
            }
            Ok(server)
        },
    );
    let mut made = match made {
        Ok(made) => made,
        Err(error) => return failed(error),
    };
    if let (Some(from), Some(profile)) = (&new.from, &mut made.profile)
        && let Way::Signed(signed) = &mut profile.way
    {
        signed.from = from.clone();
    }
    tokens_open_at_once(made.profile.as_ref());
    let with = match &made.secret {
        Some(secret) if new.signed => {
            format!("signed datagrams; the secret is in {}", secret.display())
        }
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
    for door in &made.deaf {
        complain(&format!(
            "no knocks are heard at {}: add `knock_at = \"both\"` to door `{door}`, or name an address of this host (`--host`)",
            made.server
        ));
    }
    let firewall = Firewall::default();
    if let Err(failure) = note_edit(&firewall, &made.before, &made.after) {
        complain(&format!(
            "that the file was changed is not noted: {}",
            failure.message
        ));
    }
    let Some(profile) = &made.profile else {
        say(&client_host.map_or(String::new(), |host| host.words()));
        say(&opens_from(&firewall, new, &made));
        say(&on_paper(&made));
        let written = new.html.as_ref().map_or(Ok(()), |path| {
            write_page(path, new, &made, passphrase.as_ref())
        });
        return written_or_not(new, written);
    };
    let mut written = Ok(());
    if to_file {
        written = write_new(&profile_path, profile.text().as_bytes());
        if written.is_ok() {
            say(&format!(
                "the client's profile is {}; there: toctoc profile import FILE {}\n\
                 remove it here when it is there: it holds the secret\n",
                profile_path.display(),
                new.name
            ));
        }
    }
    if let Some(path) = &new.html {
        written = write_page(path, new, &made, passphrase.as_ref());
    }
    if let Some(path) = &new.svg {
        written = code(profile).and_then(|code| {
            let picture = code.render::<svg::Color>().min_dimensions(400, 400).build();
            write_new(path, picture.as_bytes())
        });
        if written.is_ok() {
            say(&format!(
                "its QR code is {}; there: `toctoc profile import - {}` reads its text\n\
                 remove it here when it is there: it holds the secret\n",
                path.display(),
                new.name
            ));
        }
    }
    if let (true, Some(page)) = (new.qr && written.is_ok(), &new.page) {
        written = show_link(page, &made, passphrase.as_ref());
    } else if new.qr && written.is_ok() {
        written = code(profile).map(|code| {
            say(&show_in_terminal(&code));
            say(&format!(
                "{}\n\nit is shown this once; the client: `toctoc profile import - {}` reads this line\n",
                profile.link().as_str(),
                new.name
            ));
        });
    }
    say(&client_host.map_or(String::new(), |host| host.words()));
    say(&opens_from(&firewall, new, &made));
    written_or_not(new, written)
}

/// The words of the command line.
fn given() -> impl Iterator<Item = String> {
    std::env::args_os().map(|word| word.to_string_lossy().into_owned())
}

fn written_or_not(new: &New, written: Result<(), String>) -> Answer {
    let Err(message) = written else {
        return Answer::Yes;
    };
    let what = if new.html.is_some() {
        "page"
    } else {
        "profile"
    };
    complain(&message);
    complain(&format!(
        "the key is made, its {what} is not: `toctoc key revoke {}` takes it back",
        new.name
    ));
    Answer::CouldNot
}

/// Shows the link to a page on a web host, with a new key.
fn show_link(page: &str, made: &Enrolled, passphrase: Option<&Passphrase>) -> Result<(), String> {
    let addresses = addresses_for_page(&made.server)?;
    let link = link(page, &sealed(written(made, &addresses)?, passphrase)?);
    say(&show_in_terminal(&code_of_address(&link)?));
    say(&format!(
        "{}\n\nit is shown this once; what stands behind the # is the key: the host of the page is not sent it, but whoever \
         can change the page can read it\n",
        link.as_str()
    ));
    Ok(())
}

/// Writes the page of a new key, which only its owner may read.
fn write_page(
    path: &Path,
    new: &New,
    made: &Enrolled,
    passphrase: Option<&Passphrase>,
) -> Result<(), String> {
    let addresses = addresses_for_page(&made.server)?;
    let written = sealed(written(made, &addresses)?, passphrase)?;
    let page = with_code(written, new.page.as_deref())?.page()?;
    write_new(path, page.as_bytes())?;
    let shown: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    let with = match passphrase {
        Some(_) => "whoever has it and the passphrase has the key",
        None => "whoever has it has the key",
    };
    say(&format!(
        "the page is {}; it knocks at {}\nremove it here when it is on the device: {with}\n",
        path.display(),
        shown.join(" and ")
    ));
    Ok(())
}

/// The settings of a page with a new key.
fn written(made: &Enrolled, addresses: &[IpAddr]) -> Result<Written, String> {
    let key = match made.profile.as_ref().map(|profile| &profile.way) {
        Some(Way::Sequence(knocks)) => Key::Sequence(knocks),
        Some(Way::Token(secret, port)) => Key::Token(secret, *port),
        Some(Way::Signed(_)) => return Err(NO_PAGE.to_string()),
        None => {
            let id = getrandom::u32().map_err(|error| format!("no random numbers: {error}"))?;
            Key::Scratch(&made.scratch, id)
        }
    };
    write(&Settings {
        host: &made.server,
        door: made.door,
        addresses,
        key,
    })
}

/// Notes the secret of a new key of tokens: none was spent yet.
pub(super) fn tokens_open_at_once(profile: Option<&Profile>) {
    if let Some(Way::Token(secret, _)) = profile.map(|profile| &profile.way) {
        // Without it, the first tokens open two minutes later: `apply` says so.
        let _ = note_new(&Firewall::default().state, secret, clocks());
    }
}

/// From when on a new key opens, and what else comes in by then.
fn opens_from(firewall: &Firewall, new: &New, made: &Enrolled) -> String {
    let mut text = "it opens from the next `toctoc apply --confirm 10m` on\n".to_string();
    let record = match firewall.record() {
        Ok(record) => record,
        Err(why) => {
            complain(&why);
            Record::default()
        }
    };
    if record.trial.is_some() {
        text.push_str(
            "a policy is on trial: `toctoc apply` without `--confirm` ends the trial, and what the file says stays\n",
        );
    }
    let other = record
        .running
        .as_ref()
        .filter(|origin| origin.is_at(&new.policy.path) && origin.text != made.before);
    if other.is_some() {
        text.push_str(
            "what runs is not what the file said before either: an apply brings in these changes too (`toctoc \
             apply --dry-run` shows them)\n",
        );
    }
    text
}

/// The lines to carry along: each works anywhere.
fn on_paper(made: &Enrolled) -> String {
    let server = &made.server;
    let mut text = String::from("each sequence opens once, in any order\n\n");
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

fn list(file: &PolicyAlone) -> Answer {
    let policy = match policy(&file.as_written()) {
        Ok(policy) => policy,
        Err(answer) => return answer,
    };
    // Without root nobody may know what was used up.
    let used_up = used_up(&Firewall::default(), &policy).ok();
    let keys = keys(&policy, used_up.as_ref());
    if keys.is_empty() {
        say("no keys\n");
    }
    for (name, kind, doors) in keys {
        say(&format!(
            "{name:<12} {kind:<10} opens {}\n",
            doors.join(" and ")
        ));
    }
    if used_up.is_none() {
        complain("how many scratch sequences are left only root can see");
    }
    Answer::Yes
}

pub(super) fn failed(error: EnrolError) -> Answer {
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
