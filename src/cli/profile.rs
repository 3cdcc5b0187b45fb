//! `toctoc profile`

use std::io::Read;
use std::net::{IpAddr, ToSocketAddrs};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand, ValueHint};
use clap_complete::ArgValueCandidates;
use zeroize::Zeroizing;

use super::completions::{profiles, tools};
use super::knock::{door, knock, no_profile, there_are};
use super::passphrase;
use super::qr::{code, code_of_address, modules, show_in_terminal};
use super::{Answer, complain, count, now, say};
use crate::client::page::{
    Key, Passphrase, Settings, Written, empty_page, one_of_each_family, write,
};
use crate::client::profile::{GAP, Signed, Way, is_host, not_too_many, parse_gap};
use crate::client::recipe::{Tool, recipe, ssh_config};
use crate::client::store::{self, Found};
use crate::client::{Outside, Profile};
use crate::knock::Knock;
use crate::signed::Binding;
use crate::single_use::{Form, Secret};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write down how to get through a door.
    Add(Add),
    /// Take in a profile: a file of `toctoc key new`, or the text of its QR code.
    Import(Import),
    /// List all profiles.
    List,
    /// Show a profile, without its secret; or the same way in with another tool.
    Show(Show),
    /// Print what makes `ssh NAME` knock by itself, for ~/.ssh/config.
    SshConfig(Named),
    /// Take a profile away.
    Remove(Named),
}

#[derive(Args)]
#[command(group(ArgGroup::new("way").required(true)))]
struct Add {
    /// The name of the profile.
    #[arg(value_parser = new_name)]
    name: String,
    /// The name or address of the host.
    #[arg(long, value_parser = host)]
    host: String,
    /// The TCP port that opens.
    #[arg(long, value_name = "PORT", value_parser = door)]
    door: Option<Knock>,
    /// The ports to knock at, in order: 4431,2387/tcp,53/udp.
    #[arg(long, value_name = "KNOCKS", value_delimiter = ',', value_parser = trimmed,
          group = "way")]
    sequence: Vec<Knock>,
    /// A file with the 64 hexadecimal digits of a token key, or `-` for standard input.
    #[arg(long, value_name = "FILE", requires = "token_port", value_hint = ValueHint::FilePath, group = "way")]
    token: Option<String>,
    /// The policy says `signed` of the key, and not `token`.
    #[arg(long, requires = "token", conflicts_with = "browser")]
    signed: bool,
    /// Signed: the address that this host has outside (behind NAT), or the STUN server that tells it: stun:HOST.
    #[arg(long, value_name = "ADDRESS", requires = "signed")]
    from: Option<Outside>,
    /// Signed: for its address, network or none [default: address].
    #[arg(long, value_name = "WHAT", value_parser = binding, requires = "signed")]
    binding: Option<Binding>,
    /// The UDP port that tokens go to.
    #[arg(long, value_name = "PORT", requires = "token")]
    token_port: Option<NonZeroU16>,
    /// The policy says `browser = true` of the key: its tokens are letters.
    #[arg(long, requires = "token")]
    browser: bool,
    /// The pause after each knock [default: 3ms].
    #[arg(long, value_name = "TIME", value_parser = parse_gap)]
    gap: Option<Duration>,
}

#[derive(Args)]
struct Import {
    /// The file, or `-` for standard input.
    #[arg(value_hint = ValueHint::FilePath)]
    file: String,
    /// The name of the profile here [default: as its host].
    #[arg(value_parser = new_name)]
    name: Option<String>,
}

#[derive(Args)]
struct Show {
    /// The profile.
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(profiles))]
    name: String,
    /// Print what to type with another tool: nmap, nc, knock, ssh, knockonports, bash, curl, powershell, python, ping;
    /// or a web page that knocks: html with the key, html-empty without it, fragment (the key, for the latter's
    /// address).
    #[arg(long = "as", value_name = "TOOL", value_parser = form, group = "what",
          add = ArgValueCandidates::new(tools))]
    form: Option<As>,
    /// With --as html or fragment, or --page: put the key under a passphrase, which is asked for or read from standard
    /// input.
    #[arg(long)]
    passphrase: bool,
    /// The address of the page without a key (html-empty) on a web host of your own: with --as fragment or --qr, the
    /// whole link is shown; with --as html or fragment, the page shows its QR code to a second device.
    #[arg(long, value_name = "URL", value_parser = page_address)]
    page: Option<String>,
    /// Print the file, with its secret.
    #[arg(long, group = "what")]
    reveal: bool,
    /// Print the text of its QR code, with its secret.
    #[arg(long, group = "what")]
    link: bool,
    /// Show it as a QR code, with its secret.
    #[arg(long, group = "what")]
    qr: bool,
}

#[derive(Args)]
struct Named {
    /// The profile.
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(profiles))]
    name: String,
}

fn new_name(text: &str) -> Result<String, String> {
    match store::is_name(text) {
        true => Ok(text.to_string()),
        false => Err(format!(
            "`{text}` is no name: letters (a-z), digits, `-`, `_` and `.`, the first a letter or digit"
        )),
    }
}

/// The address of a page on a web host.
pub(super) fn page_address(text: &str) -> Result<String, String> {
    let rest = ["https://", "http://"]
        .iter()
        .find_map(|start| text.strip_prefix(start));
    let of_host = |rest: &str| {
        let place = rest.split(['/', '?']).next().unwrap_or_default();
        let (host, port) = match place
            .strip_prefix('[')
            .and_then(|rest| rest.split_once(']'))
        {
            Some((address, port)) => (address, port.strip_prefix(':')),
            None => match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        is_host(host) && port.is_none_or(|port| port.parse::<NonZeroU16>().is_ok())
    };
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    match rest.is_some_and(of_host) && text.bytes().all(fits) {
        true => Ok(text.to_string()),
        false => Err(format!(
            "`{text}` is no address of a page: https://HOST/FILE, without a `#`"
        )),
    }
}

fn host(text: &str) -> Result<String, String> {
    match is_host(text) {
        true => Ok(text.to_string()),
        false => Err(format!(
            "`{text}` is neither a name of a host nor an address"
        )),
    }
}

fn trimmed(text: &str) -> Result<Knock, String> {
    knock(text.trim())
}

/// In what form a profile is shown.
#[derive(Debug, Clone, Copy)]
enum As {
    Tool(Tool),
    Page,
    EmptyPage,
    Fragment,
}

/// The forms that are no commands, with their names.
const PAGES: [(&str, As); 3] = [
    ("html", As::Page),
    ("html-empty", As::EmptyPage),
    ("fragment", As::Fragment),
];

/// The names of all forms.
pub(super) fn forms() -> Vec<&'static str> {
    let tools = Tool::ALL.iter().map(|(name, _)| *name);
    tools.chain(PAGES.iter().map(|(name, _)| *name)).collect()
}

fn form(text: &str) -> Result<As, String> {
    let tools = Tool::ALL.map(|(name, tool)| (name, As::Tool(tool)));
    let mut all = tools.into_iter().chain(PAGES);
    let found = all.find(|(name, _)| *name == text);
    found
        .map(|(_, form)| form)
        .ok_or_else(|| format!("`{text}` is not one of {}", forms().join(", ")))
}

pub(super) fn run(arguments: &Arguments) -> Answer {
    let done = match &arguments.command {
        Command::Add(add) => added(add),
        Command::Import(import) => imported(import),
        Command::List => return list(),
        Command::Show(show) => shown(show),
        Command::SshConfig(named) => find(&named.name).and_then(|found| {
            if !store::is_name(&found.name) {
                return Err(
                    "ssh needs a profile with a name: `toctoc profile import FILE NAME`"
                        .to_string(),
                );
            }
            Ok(ssh_config(&found.name, &found.profile))
        }),
        Command::Remove(named) => removed(&named.name),
    };
    match done {
        Ok(said) => {
            say(&said);
            Answer::Yes
        }
        Err(message) => {
            complain(&message);
            Answer::CouldNot
        }
    }
}

fn binding(text: &str) -> Result<Binding, String> {
    Binding::named(text).ok_or_else(|| format!("`{text}` is not one of address, network, none"))
}

fn find(name: &str) -> Result<Found, String> {
    store::find(name)?.ok_or_else(|| no_profile(name))
}

fn added(add: &Add) -> Result<String, String> {
    let way = match (&add.token, add.token_port) {
        (Some(file), Some(port)) => {
            let text = read(file)?;
            let secret = Secret::parse(text.trim()).map_err(|error| format!("{file}: {error}"))?;
            match (add.signed, add.browser) {
                (true, _) => Way::Signed(Signed {
                    secret,
                    port,
                    binding: add.binding.unwrap_or_default(),
                    from: add.from.clone().unwrap_or_default(),
                }),
                (false, true) => Way::Token(secret.in_form(Form::Letters), port),
                (false, false) => Way::Token(secret, port),
            }
        }
        _ => {
            not_too_many(add.sequence.len())?;
            Way::Sequence(add.sequence.clone())
        }
    };
    let profile = Profile {
        host: add.host.clone(),
        door: add.door.map(|door| door.port),
        way,
        gap: add.gap.unwrap_or(GAP),
    };
    store::save(&add.name, &profile).map(|path| wrote(path, &add.name))
}

fn imported(import: &Import) -> Result<String, String> {
    let text = read(&import.file)?;
    let parsed = match text.trim_start().starts_with("toctoc://") {
        true => Profile::parse_link(&text),
        false => Profile::parse(&text),
    };
    let profile = parsed.map_err(|error| format!("{}: {error}", import.file))?;
    let name = match &import.name {
        Some(name) => name.clone(),
        None => new_name(&profile.host)
            .map_err(|error| format!("{error}; name it: `toctoc profile import FILE NAME`"))?,
    };
    store::save(&name, &profile).map(|path| wrote(path, &name))
}

fn wrote(path: PathBuf, name: &str) -> String {
    format!(
        "wrote {}: `toctoc knock {name}`; for ssh: `toctoc profile ssh-config {name}`\n",
        path.display()
    )
}

fn removed(name: &str) -> Result<String, String> {
    if !store::is_name(name) {
        return Err(format!("`{name}` is no name of a profile"));
    }
    if store::path(name).symlink_metadata().is_err() {
        return Err(format!("there is no profile {name}; {}", there_are()));
    }
    store::remove(name).map(|path| format!("removed {}\n", path.display()))
}

fn list() -> Answer {
    let names = store::names();
    if names.is_empty() {
        say("no profiles: `toctoc profile add` or `toctoc profile import` makes one\n");
    }
    let mut answer = Answer::Yes;
    for name in names {
        match store::load(&store::path(&name)) {
            Ok(profile) => say(&format!(
                "{name:<16} {:<24} {:<10} {}\n",
                profile.host,
                door_of(&profile),
                way_of(&profile.way)
            )),
            Err(message) => {
                answer = Answer::CouldNot;
                complain(&message);
            }
        }
    }
    answer
}

fn door_of(profile: &Profile) -> String {
    let door = profile.door.map(|door| format!("{door}/tcp"));
    door.unwrap_or_else(|| "-".to_string())
}

fn way_of(way: &Way) -> String {
    match way {
        Way::Sequence(knocks) => count(knocks.len(), "knock"),
        Way::Token(_, port) => format!("a token to {port}/udp"),
        Way::Signed(signed) => format!("a signed datagram to {}/udp", signed.port),
    }
}

fn shown(show: &Show) -> Result<String, String> {
    let Found { name, profile } = find(&show.name)?;
    let in_page =
        matches!(show.form, Some(As::Page | As::Fragment)) || show.qr && show.page.is_some();
    if !in_page && (show.passphrase || show.page.is_some()) {
        return Err(
            "--passphrase and --page are for a page: --as html, --as fragment, or --qr --page URL"
                .to_string(),
        );
    }
    if in_page {
        let written = write_for(&profile)?;
        let passphrase = show.passphrase.then(passphrase::ask).transpose()?;
        let written = sealed(written, passphrase.as_ref())?;
        if show.qr
            && let Some(page) = &show.page
        {
            let link = link(page, &written);
            return Ok(format!(
                "{}{}\n",
                show_in_terminal(&code_of_address(&link)?),
                link.as_str()
            ));
        }
        let written = with_code(written, show.page.as_deref())?;
        return match (show.form, &show.page) {
            (Some(As::Page), _) => written.page().map(|page| page.to_string()),
            (_, Some(page)) => Ok(format!("{}\n", link(page, &written).as_str())),
            (_, None) => Ok(format!("#{}\n", written.fragment())),
        };
    }
    match show.form {
        Some(As::Tool(tool)) => return recipe(tool, &name, &profile, now()),
        Some(As::EmptyPage) => return Ok(empty_page().to_string()),
        Some(As::Page | As::Fragment) | None => {}
    }
    if show.reveal {
        return Ok(profile.text().to_string());
    }
    if show.link {
        return Ok(format!("{}\n", profile.link().as_str()));
    }
    if show.qr {
        return code(&profile).map(|code| show_in_terminal(&code));
    }
    Ok(format!(
        "file  {}\nhost  {}\ndoor  {}\nkey   {} (hidden; --reveal shows it)\ngap   {}\n",
        store::path(&name).display(),
        profile.host,
        door_of(&profile),
        way_of(&profile.way),
        humantime::format_duration(profile.gap)
    ))
}

/// The link to a page on a web host. Holds the key.
pub(super) fn link(page: &str, written: &Written) -> Zeroizing<String> {
    Zeroizing::new(format!("{page}#{}", written.fragment()))
}

/// Settings under a passphrase, if there shall be one.
pub(super) fn sealed(written: Written, passphrase: Option<&Passphrase>) -> Result<Written, String> {
    Ok(match passphrase {
        Some(words) => written.seal(words, &passphrase::random()?),
        None => written,
    })
}

/// Why no page has such a key.
pub(super) const NO_PAGE: &str = "a page does not know the address that it sends from, and cannot sign it: take a key with tokens for browsers";

/// Settings with the QR code of their own link, if they have one.
pub(super) fn with_code(written: Written, page: Option<&str>) -> Result<Written, String> {
    Ok(match page {
        Some(page) => {
            let code = code_of_address(&link(page, &written))?;
            written.with_code(&modules(&code))
        }
        None => written,
    })
}

/// The settings of a page, with the addresses that the host has now.
fn write_for(profile: &Profile) -> Result<Written, String> {
    let addresses = addresses_for_page(&profile.host)?;
    let key = match &profile.way {
        Way::Sequence(knocks) => Key::Sequence(knocks),
        Way::Token(secret, port) => Key::Token(secret, *port),
        Way::Signed(_) => return Err(NO_PAGE.to_string()),
    };
    write(&Settings {
        host: &profile.host,
        door: profile.door,
        addresses: &addresses,
        key,
    })
}

/// The addresses by which a page reaches a host: one of each family, since browsers send no token to a name.
///
/// # Errors
/// A sentence, when it has none that others can reach.
pub(super) fn addresses_for_page(host: &str) -> Result<Vec<IpAddr>, String> {
    if host.contains('%') {
        return Err(format!("no browser knows interfaces, as in {host}"));
    }
    let found = (host, 0).to_socket_addrs();
    let found = found.map_err(|error| format!("{host} is not found: {error}"))?;
    let found: Vec<IpAddr> = found.map(|at| at.ip()).collect();
    match found
        .iter()
        .find(|at| at.is_loopback() || at.is_unspecified())
    {
        Some(own) => Err(format!(
            "here, {host} is {own}, which is no way to it from elsewhere: name it by its address"
        )),
        None => Ok(one_of_each_family(found)),
    }
}

/// A file, or standard input.
fn read(shown: &str) -> Result<Zeroizing<String>, String> {
    if shown.starts_with("toctoc://") {
        return Err(
            "others see command lines: pass a link on standard input (`toctoc profile import -`)"
                .to_string(),
        );
    }
    let failed = |error| format!("{shown} cannot be read: {error}");
    let mut text = Zeroizing::new(String::with_capacity(store::LARGEST as usize));
    let from: Box<dyn Read> = match shown {
        "-" => Box::new(std::io::stdin()),
        path => Box::new(std::fs::File::open(path).map_err(failed)?),
    };
    from.take(store::LARGEST)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok(text)
}
