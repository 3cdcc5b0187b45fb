//! Talking to the kernel through `iptables-save`, `iptables-restore` and their IPv6 likes, and through
//! the lists in `/proc/net/xt_recent`.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::exec::{Exit, run};
use super::{Failure, Left, hidden, hint, others};
use crate::ruleset::Family;
use crate::ruleset::iptables::names::{is_our_list, midway};
use crate::ruleset::iptables::{Clock, Entry, Lists, Saved, Script, parse_list};

/// The programs of one variant: what `iptables` is on this host, or one of the two by name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Iptables {
    suffix: &'static str,
}

/// The tables that rules of ours can be in.
const TABLES: [&str; 3] = ["raw", "mangle", "filter"];

/// The modules that a kernel needs besides the tables themselves.
const MODULES: &str =
    "xt_recent, xt_addrtype, xt_comment, xt_multiport; for logging xt_LOG, for UDP xt_conntrack";

/// Where the kernel shows the lists of this thread's network namespace.
const LISTS: &str = "/proc/thread-self/net/xt_recent";

/// Where the kernel says how many sources a list holds.
const LIST_SIZE: &str = "/sys/module/xt_recent/parameters/ip_list_tot";

/// The number of sources a list of this kernel holds; `None` when nobody may know (not root) or the
/// module is not loaded yet.
pub fn list_size() -> Option<u32> {
    fs::read_to_string(LIST_SIZE).ok()?.trim().parse().ok()
}

impl Iptables {
    /// The two variants by name, besides the host's own choice: rules of the one are not seen by the
    /// other.
    pub const BY_NAME: [Iptables; 2] =
        [Iptables { suffix: "-legacy" }, Iptables { suffix: "-nft" }];

    /// Returns whether this is another name for that variant.
    ///
    /// # Errors
    /// When the program is missing.
    pub fn is(self, other: Iptables) -> Result<bool, Failure> {
        let ended = start(&[&self.program(Family::V4, "restore"), "--version"], "")?;
        let nft = ended.stdout.contains("nf_tables");
        Ok(other.suffix == if nft { "-nft" } else { "-legacy" })
    }

    /// The families that this kernel has.
    pub fn families() -> Vec<Family> {
        let v6 = Path::new("/proc/sys/net/ipv6").exists();
        Family::BOTH
            .into_iter()
            .filter(|family| *family == Family::V4 || v6)
            .collect()
    }

    /// `iptables-save`, `ip6tables-legacy-restore`, ...
    fn program(self, family: Family, verb: &str) -> String {
        let stem = match family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        format!("{stem}{}-{verb}", self.suffix)
    }

    /// Our chains of a family.
    ///
    /// # Errors
    /// When the program is missing, not permitted, prints what is no listing, or does not show a table
    /// that holds chains of ours.
    pub fn save(self, family: Family) -> Result<Saved, Failure> {
        let program = self.program(family, "save");
        let ended = start(&[&program, "-c"], "")?;
        self.saved(family, &ended)
    }

    /// Like [`save`](Iptables::save); nothing where there is no such program.
    ///
    /// # Errors
    /// As for [`save`](Iptables::save).
    pub fn save_if_there(self, family: Family) -> Result<Saved, Failure> {
        let program = self.program(family, "save");
        match run(&[&program, "-c"], "") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Saved::default()),
            Ok(ended) => self.saved(family, &ended),
            Err(error) => Err(Failure::unchanged(error.to_string())),
        }
    }

    fn saved(self, family: Family, ended: &Exit) -> Result<Saved, Failure> {
        let program = self.program(family, "save");
        let mut saved = match ended.succeeded() {
            true => parse(ended)?,
            false if lacks_names(&ended.stderr) => return self.save_by_name(family),
            false => return Err(Failure::unchanged(said(&program, ended))),
        };
        for (table, words) in &saved.hidden {
            hidden::holds_nothing_of_ours(family, table, &program, words)?;
        }
        let of = match family {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        };
        // Where nf_tables is not there, no table of it is switched off.
        let asleep = others::asleep().unwrap_or_default();
        for (name, table) in &mut saved.tables {
            table.is_dormant = asleep.contains(&(of, name.clone()));
        }
        Ok(saved)
    }

    /// Our chains where iptables-legacy may not read which tables there are (root of a container). Each table
    /// is named then. The kernel makes a table that is named, so none is where no rule of ours can be.
    fn save_by_name(self, family: Family) -> Result<Saved, Failure> {
        let mut saved = Saved::default();
        if !Iptables::has_rules()? {
            return Ok(saved);
        }
        let program = self.program(family, "save");
        for table in TABLES {
            let ended = start(&[&program, "-c", "-t", table], "")?;
            if !ended.succeeded() {
                return Err(Failure::unchanged(said(&program, &ended)));
            }
            saved.tables.extend(parse(&ended)?.tables);
        }
        Ok(saved)
    }

    /// Makes sure that the program shows every table in which a script puts rules: no other can be
    /// verified. `before` is what it has shown.
    ///
    /// # Errors
    /// When it does not show one of them.
    pub fn shows_all(self, before: &Saved, script: &Script) -> Result<(), Failure> {
        for table in &script.tables {
            if let Some(words) = before.hidden.get(table.name) {
                let program = self.program(script.family, "save");
                let message = hidden::not_shown(script.family, table.name, &program, words);
                return Err(Failure::unchanged(message));
            }
        }
        Ok(())
    }

    /// Saves a text, as this program prints it, that has just been loaded where nothing else is: in a
    /// network namespace of its own, gone when the program ends.
    ///
    /// # Errors
    /// When namespaces are not permitted, or the text is refused.
    pub fn save_fresh(self, family: Family, text: &str) -> Result<Saved, Failure> {
        let (save, restore) = (
            self.program(family, "save"),
            self.program(family, "restore"),
        );
        let load_and = |then: &str| {
            let script = format!(r#""$0" --noflush --wait=20 && {then}"#);
            let shell = ["sh", "-c", &script, &restore, &save];
            start(&[&["unshare", "--net", "--"], &shell[..]].concat(), text)
        };
        let mut ended = load_and(r#"exec "$1" -c"#)?;
        if !ended.succeeded() && lacks_names(&ended.stderr) {
            let each = TABLES.map(|table| format!(r#""$1" -c -t {table}"#));
            ended = load_and(&each.join(" && "))?;
        }
        if ended.succeeded() {
            return parse(&ended);
        }
        Err(Failure::unchanged(format!(
            "the policy's ruleset could not be loaded aside, to compare it with the running one: {}",
            said(&restore, &ended)
        )))
    }

    /// Returns whether the program would take this text. Changes nothing.
    ///
    /// # Errors
    /// When the program refuses it.
    pub fn check(self, family: Family, text: &str) -> Result<(), Failure> {
        self.load(family, text, &["--test"])
    }

    /// Loads a text. Each table of it is one transaction.
    ///
    /// # Errors
    /// When the program fails. Tables before the one that was refused may have changed.
    pub fn restore(self, family: Family, text: &str) -> Result<(), Failure> {
        self.load(family, text, &[])
    }

    fn load(self, family: Family, text: &str, options: &[&str]) -> Result<(), Failure> {
        let program = self.program(family, "restore");
        // Another program may hold the lock of iptables-legacy for a moment.
        let command = [
            &[program.as_str(), "--noflush", "--counters", "--wait=20"],
            options,
        ]
        .concat();
        let ended = start(&command, text)?;
        if ended.succeeded() {
            keep_lists_private();
            return Ok(());
        }
        Err(Failure {
            message: format!("the ruleset was refused: {}", said(&program, &ended)),
            left: if text.matches("\nCOMMIT").count() > 1 || ended.signal.is_some() {
                Left::Unknown
            } else {
                Left::Unchanged
            },
        })
    }

    /// The number of our lists that others than root can read.
    pub fn readable_lists() -> usize {
        open_lists().len()
    }

    /// Returns whether rules of ours are in the kernel, whatever variant has loaded them: all of them mention
    /// lists, and one list always.
    ///
    /// # Errors
    /// When the kernel's lists cannot be read.
    pub fn has_rules() -> Result<bool, Failure> {
        let families = Family::BOTH.map(Iptables::has_rules_of);
        families
            .into_iter()
            .try_fold(false, |any, found| Ok(any | found?))
    }

    /// The same of one family.
    ///
    /// # Errors
    /// As for [`has_rules`](Iptables::has_rules).
    pub fn has_rules_of(family: Family) -> Result<bool, Failure> {
        let names = names().map_err(|error| unreadable(LISTS, &error))?;
        Ok(names.contains(&midway(family)))
    }

    /// All lists whose names begin like ours, and the time.
    ///
    /// # Errors
    /// When neither the kernel's clock can be read nor guessed.
    pub fn lists() -> Result<Lists, Failure> {
        let mut entries = BTreeMap::new();
        for name in names().map_err(|error| unreadable(LISTS, &error))? {
            if !name.starts_with("toctoc") {
                continue;
            }
            let path = Path::new(LISTS).join(&name);
            match fs::read_to_string(&path) {
                Ok(text) => {
                    entries.insert(name, parse_list(&text));
                }
                // A list may go while we look.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(unreadable(&path.display().to_string(), &error)),
            }
        }
        let newest = entries
            .values()
            .flatten()
            .map(|entry: &Entry| entry.last_seen)
            .max();
        let clock = clock(newest.unwrap_or(0));
        let clock = clock.ok_or_else(|| unreadable(CLOCK, &"the kernel's clock is not known"))?;
        Ok(Lists { entries, clock })
    }

    /// Puts a source on a list, as if it had been seen now.
    ///
    /// # Errors
    /// When there is no such list, or it may not be written (only root of the host may).
    pub fn add(list: &str, source: IpAddr) -> Result<(), Failure> {
        write(list, &format!("+{source}\n"))
    }

    /// Takes a source off a list.
    ///
    /// # Errors
    /// As for [`add`](Iptables::add).
    pub fn remove(list: &str, source: IpAddr) -> Result<(), Failure> {
        write(list, &format!("-{source}\n"))
    }
}

/// Where the kernel shows its clock to root.
const CLOCK: &str = "/proc/timer_list";

/// The kernel's clock, or the next best: as root of a container one has to guess.
fn clock(newest: u64) -> Option<Clock> {
    let shown = fs::read_to_string(CLOCK).ok();
    let read = shown.and_then(|text| Clock::parse(&text));
    read.or_else(|| {
        let since_start = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let since_start = std::time::Duration::try_from(since_start).ok()?;
        Clock::guess(newest, since_start)
    })
}

fn unreadable(path: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::unchanged(format!("{path} cannot be read: {error}"))
}

fn names() -> io::Result<Vec<String>> {
    match fs::read_dir(LISTS) {
        Ok(files) => {
            let names = files
                .flatten()
                .map(|file| file.file_name().to_string_lossy().into_owned());
            Ok(names.collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Lists of ours that every user can read, as the kernel makes them.
fn open_lists() -> Vec<PathBuf> {
    let names = names().unwrap_or_default().into_iter();
    let ours = names.filter(|name| is_our_list(name));
    let paths = ours.map(|name| Path::new(LISTS).join(name));
    let is_open = |path: &PathBuf| {
        let found = fs::metadata(path);
        found.is_ok_and(|found| found.permissions().mode() & 0o007 != 0)
    };
    paths.filter(is_open).collect()
}

/// Hides how addresses move from list to list: that tells a sequence knock by knock. Where it is not
/// permitted (root of a container), [`Iptables::readable_lists`] tells.
fn keep_lists_private() {
    for list in open_lists() {
        let _ = fs::set_permissions(list, Permissions::from_mode(0o600));
    }
}

fn write(list: &str, line: &str) -> Result<(), Failure> {
    let path: PathBuf = Path::new(LISTS).join(list);
    let file = fs::File::options().write(true).open(&path);
    file.and_then(|mut file| file.write_all(line.as_bytes()))
        .map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::PermissionDenied => ": only root may, and not in a container",
                _ => "",
            };
            Failure::unchanged(format!(
                "{} cannot be written: {error}{hint}",
                path.display()
            ))
        })
}

fn start(command: &[&str], stdin: &str) -> Result<Exit, Failure> {
    run(command, stdin).map_err(|error| {
        let program = command.first().copied().unwrap_or_default();
        Failure::unchanged(match error.kind() {
            io::ErrorKind::NotFound => {
                let package = if program == "unshare" {
                    "util-linux"
                } else {
                    "iptables"
                };
                format!("`{program}` is not installed (Debian, Ubuntu: apt install {package})")
            }
            _ => format!("`{program}` could not be started: {error}"),
        })
    })
}

/// Returns whether iptables-legacy says that it may not read `/proc/net/ip_tables_names` (or the like of IPv6).
fn lacks_names(stderr: &str) -> bool {
    stderr.contains("_tables_names") && stderr.contains("Permission denied")
}

fn parse(ended: &Exit) -> Result<Saved, Failure> {
    Saved::parse(&ended.stdout).map_err(|error| Failure::unchanged(error.to_string()))
}

/// The message of a program, with the way out where it is known.
fn said(program: &str, ended: &Exit) -> String {
    if let Some(signal) = ended.signal {
        return format!("`{program}` was killed by signal {signal}");
    }
    let lines: Vec<&str> = ended.stderr.trim().lines().take(8).collect();
    let said = lines.join("\n");
    let hint = hint::without_rights(&said).or_else(|| hint::unable_kernel(&said, MODULES));
    match hint {
        Some(hint) if hint::is_all(&hint) => hint,
        Some(hint) => format!("{hint}\n{program} says: {said}"),
        None => format!("{program} says: {said}"),
    }
}
