//! Talking to the kernel through the `nft` program.

use std::io;
use std::time::{Duration, Instant};

use super::exec::{Exit, run, run_within};
use super::nft_messages::{lacks_nftables, masked, says_no_table};
use super::{Failure, Left, hint, nf_tables};
use crate::ruleset::Family;
use crate::ruleset::nftables::{
    Command, Listing, Part, Script, SetId, TABLE, TABLE_NAME, Transaction, if_there, tokens_among,
};
use crate::single_use::Token;

/// The longest time to list names.
const QUICK: Duration = Duration::from_millis(500);

/// The longest time for a whole listing where an outline will do.
const PATIENCE: Duration = Duration::from_secs(1);

/// The part of a table that a listing holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    Whole,
    /// A large table without its rules and without the elements that an apply makes anew.
    Outline,
    /// The same of a table that takes long to list, because strangers are midway by the ten thousand.
    /// An apply forgets them, and a moment later there are as many.
    Crowded,
}

/// The modules that a kernel needs besides nf_tables itself.
const MODULES: &str = "nf_tables, nft_fib_inet, nft_limit; for logging nft_log, for UDP nft_ct, for \
                       `closed = \"reject\"` nft_reject_inet";

/// The number of chains that makes a table large.
const LARGE: usize = 500;

/// The room for tokens that does.
const MANY_TOKENS: u32 = 8192;

/// The outcome of a transaction that was made from a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edited {
    Done,
    /// The set has no room, or no such element: not as it was listed.
    Outdated,
}

/// The kernel's errors then, as nft repeats them (`ENFILE`, `ENOENT`).
const OUTDATED: [&str; 2] = ["Too many open files in system", "No such file or directory"];

/// The same, as the kernel says it.
fn is_outdated(error: &io::Error) -> bool {
    let full = rustix::io::Errno::NFILE.raw_os_error();
    error.raw_os_error() == Some(full) || error.kind() == io::ErrorKind::NotFound
}

/// The `nft` program.
#[derive(Debug, Clone)]
pub struct Nft {
    program: String,
}

impl Default for Nft {
    fn default() -> Nft {
        Nft {
            program: "nft".to_string(),
        }
    }
}

impl Nft {
    /// Our table as it is now, `None` when there is none.
    ///
    /// # Errors
    /// When nft is missing, not permitted, or prints what is no listing.
    pub fn list(&self) -> Result<Option<Listing>, Failure> {
        let (family, table) = table_words();
        let ended = self.run(&[&self.program, "-j", "list", "table", family, table], "")?;
        self.listed(&ended)
    }

    /// Our table as the end of nft's listing tells.
    fn listed(&self, ended: &Exit) -> Result<Option<Listing>, Failure> {
        let dormant = || Ok(Some(Listing::dormant()));
        if ended.succeeded() {
            return match listing(ended) {
                // nft up to 1.0.6 prints the flags of a table as whatever memory holds.
                Err(_) if self.is_dormant()? => dormant(),
                Ok(listing) if listing.flagged && self.is_dormant()? => dormant(),
                listing => listing.map(|listing| Some(with_exact_times(listing))),
            };
        }
        if says_no_table(&ended.stderr) {
            return Ok(None);
        }
        if ended.signal.is_some() && self.is_dormant()? {
            return dormant();
        }
        Err(Failure::unchanged(self.said(ended)))
    }

    /// Our table for those who are going to change it: in whole, or, when it is large or takes long to
    /// list, in outline. `script` is what it is going to be. A dormant one is woken.
    ///
    /// # Errors
    /// As for [`list`](Nft::list).
    pub fn list_for_change(&self, script: &Script) -> Result<(Option<Listing>, Extent), Failure> {
        if let Ok(None) = nf_tables::table_number() {
            return Ok((None, Extent::Whole));
        }
        let (fewest, quick) = match self.is_large(script) {
            true => (1, 4 * QUICK),
            false => (LARGE, QUICK),
        };
        if let Some(outline) = self.outline(fewest, quick)? {
            return Ok((Some(outline), Extent::Outline));
        }
        let (family, table) = table_words();
        let command = [&self.program, "-j", "list", "table", family, table];
        let ended = run_within(&command, PATIENCE).map_err(|e| self.not_started(&command, &e))?;
        match ended {
            None => Ok((self.list_kept()?, Extent::Crowded)),
            Some(ended) => Ok((self.awake(self.listed(&ended)?)?, Extent::Whole)),
        }
    }

    /// Returns whether there is a table of ours; only names are read. There is none where there is no nft, or a kernel
    /// without nftables. For `list tables`, nft up to 1.0.6 reads all elements and all rules.
    ///
    /// # Errors
    /// As for [`list`](Nft::list).
    pub fn is_there(&self) -> Result<bool, Failure> {
        if let Ok(number) = nf_tables::table_number() {
            return Ok(number.is_some());
        }
        let command = [&self.program, "-t", "list", "chains", "inet"];
        let ended = match run(&command, "") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            ended => ended.map_err(|error| self.not_started(&command, &error))?,
        };
        if ended.succeeded() {
            let named = format!("table {TABLE} {{");
            return Ok(ended.stdout.lines().any(|line| line.trim() == named));
        }
        let said = self.said(&ended);
        match lacks_nftables(&said) {
            true => Ok(false),
            false => Err(Failure::unchanged(said)),
        }
    }

    /// That there is an nft at all: without one nobody sees what nftables holds.
    ///
    /// # Errors
    /// When there is none.
    pub fn installed(&self) -> Result<(), Failure> {
        self.run(&[&self.program, "--version"], "").map(|_| ())
    }

    /// Returns whether a script makes a table so large that only an outline of it is listed in a moment.
    pub fn is_large(&self, script: &Script) -> bool {
        script.chains.len() >= LARGE || script.token_room() > MANY_TOKENS
    }

    /// A table again, to the extent to which it was listed before.
    ///
    /// # Errors
    /// As for [`list`](Nft::list).
    pub fn list_again(&self, extent: Extent) -> Result<Option<Listing>, Failure> {
        match extent {
            Extent::Whole => self.list(),
            Extent::Outline | Extent::Crowded => match self.outline(1, 4 * QUICK)? {
                Some(outline) => Ok(Some(outline)),
                None => self.list(),
            },
        }
    }

    /// The doors and grants, which a change by hand needs to know. While strangers are midway by the ten
    /// thousand, the whole table takes seconds to list, and somebody wants to close a door.
    ///
    /// # Errors
    /// As for [`list`](Nft::list).
    pub fn list_grants(&self) -> Result<Option<Listing>, Failure> {
        match nf_tables::read(nf_tables::Portion::Grants) {
            Ok(listing) => Ok(listing),
            Err(_) => self.list_kept(),
        }
    }

    /// The same with how sets are declared.
    fn list_kept(&self) -> Result<Option<Listing>, Failure> {
        match self.outline(1, 4 * QUICK)? {
            Some(outline) => Ok(Some(outline)),
            None => self.list_awake(),
        }
    }

    /// The parts that change from one second to the next: the grants, the sources midway, and the counters.
    /// `None` when there is no table of ours.
    ///
    /// # Errors
    /// As for [`list`](Nft::list).
    pub fn glance(&self) -> Result<Option<Listing>, Failure> {
        if let Ok(listing) = nf_tables::read(nf_tables::Portion::Glance) {
            return Ok(listing);
        }
        match self.try_glance() {
            // It may go between two looks.
            Err(_) if !self.is_there()? => Ok(None),
            glanced => glanced,
        }
    }

    fn try_glance(&self) -> Result<Option<Listing>, Failure> {
        if !self.is_there()? {
            return Ok(None);
        }
        let Some(mut listing) = self.list_grants()? else {
            return Ok(None);
        };
        for family in Family::BOTH {
            let map = SetId::Progress.of_family(family);
            if let Some(progress) = self.list_named(SetId::Progress, &map)? {
                listing.merge(progress);
            }
        }
        let (family, table) = table_words();
        let ended = self.run(
            &[
                &self.program,
                "-j",
                "list",
                "counters",
                "table",
                family,
                table,
            ],
            "",
        )?;
        if !ended.succeeded() {
            return Err(Failure::unchanged(self.said(&ended)));
        }
        listing.merge(self::listing(&ended)?);
        Ok(Some(listing))
    }

    /// The parts of a table that a change needs to know: its chains and sets, and what is in the sets that it keeps.
    /// Rules and the elements of the automaton, which take seconds to list in a large one, are left out. `None` where the
    /// whole is listed faster: it has not even `fewest` chains, or its names alone take too long, as with nft 0.9.8, which
    /// reads the whole table for each part of it.
    fn outline(&self, fewest: usize, quick: Duration) -> Result<Option<Listing>, Failure> {
        let start = Instant::now();
        if nf_tables::count_chains().is_ok_and(|count| count < fewest) {
            return Ok(None);
        }
        let mut outline = Listing::default();
        for (words, enough) in [
            (["list", "chains", "inet"], fewest),
            (["list", "sets", "inet"], 0),
            (["list", "maps", "inet"], 0),
        ] {
            let ended = self.run(
                &[&[self.program.as_str(), "-j", "-t"], &words[..]].concat(),
                "",
            )?;
            if !ended.succeeded() {
                return Ok(None);
            }
            outline.merge(listing(&ended)?);
            if outline.chain_count() < enough || start.elapsed() > quick {
                return Ok(None);
            }
        }
        outline.expect_counters();
        for set in outline.kept_sets() {
            let (family, table) = table_words();
            let command = [&self.program, "-j", "list", "set", family, table, &set];
            let ended = self.run(&command, "")?;
            if !ended.succeeded() {
                return Ok(None);
            }
            outline.merge(listing(&ended)?);
        }
        Ok(Some(with_exact_times(outline)))
    }

    /// Like [`list`](Nft::list), for those who are going to change the table: a dormant one is woken.
    ///
    /// # Errors
    /// As for [`list`](Nft::list).
    pub fn list_awake(&self) -> Result<Option<Listing>, Failure> {
        self.awake(self.list()?)
    }

    fn awake(&self, listing: Option<Listing>) -> Result<Option<Listing>, Failure> {
        if listing.as_ref().is_some_and(|listing| listing.dormant) {
            self.load(&Command::Wake.into())?;
            return self.list();
        }
        Ok(listing)
    }

    fn is_dormant(&self) -> Result<bool, Failure> {
        let (family, table) = table_words();
        let ended = self.run(&[&self.program, "-t", "list", "table", family, table], "")?;
        let mut lines = ended.stdout.lines().map(str::trim);
        Ok(lines.any(|line| line.starts_with("flags ") && line.contains("dormant")))
    }

    /// The only set or map of its row in our table. `None` when there is none.
    ///
    /// # Errors
    /// As for [`list`](Nft::list).
    pub fn list_set(&self, id: SetId) -> Result<Option<Listing>, Failure> {
        self.list_named(id, id.name())
    }

    fn list_named(&self, id: SetId, name: &str) -> Result<Option<Listing>, Failure> {
        if let Ok(listing) = nf_tables::set(name) {
            return Ok(listing);
        }
        let (family, table) = table_words();
        let ended = self.run(
            &[&self.program, "-j", "list", id.word(), family, table, name],
            "",
        )?;
        if ended.succeeded() {
            return listing(&ended).map(Some);
        }
        match ended.stderr.starts_with("Error: No such file or directory") {
            true => Ok(None),
            false => Err(Failure::unchanged(self.said(&ended))),
        }
    }

    /// Which table ours is: the start of the machine and the number that the kernel gave it. One that
    /// was saved and loaded again has another. `None` when there is none.
    ///
    /// # Errors
    /// As for [`table_number`](nf_tables::table_number).
    pub fn table(&self) -> Result<Option<String>, Failure> {
        let number = nf_tables::table_number().map_err(|error| {
            Failure::unchanged(format!(
                "the kernel does not say which table ours is: {error}"
            ))
        })?;
        let start = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Ok(number.map(|number| format!("{} {number}", start.trim())))
    }

    /// Returns whether our table has the map of tokens. Its elements are not read.
    ///
    /// # Errors
    /// As for [`list`](Nft::list).
    pub fn has_tokens(&self) -> Result<bool, Failure> {
        let name = SetId::Tokens.name();
        if let Ok(listing) = nf_tables::look_up(name, &[]) {
            return Ok(listing.is_some_and(|listing| listing.has_map(name)));
        }
        let ended = self.run(&[&self.program, "-j", "-t", "list", "maps", "inet"], "")?;
        match ended.succeeded() {
            true => Ok(listing(&ended)?.has_map(name)),
            false => Err(Failure::unchanged(self.said(&ended))),
        }
    }

    /// Returns whether the kernel has all these tokens.
    pub fn holds_tokens(&self, tokens: &[Token]) -> bool {
        let keys: Vec<Vec<Part>> = tokens.iter().map(|&t| vec![Part::Token(t)]).collect();
        match nf_tables::look_up(SetId::Tokens.name(), &keys) {
            Ok(listing) => listing.is_some_and(|found| tokens_among(&found, tokens)),
            // A transaction that would be refused unless they are there.
            Err(_) => self.would_load(&if_there(tokens)),
        }
    }

    /// Returns whether the kernel would take a transaction. It is not loaded.
    fn would_load(&self, transaction: &Transaction) -> bool {
        let text = transaction.to_string();
        let ended = self.run(&[&self.program, "--check", "-f", "-"], &text);
        ended.is_ok_and(|ended| ended.succeeded())
    }

    /// The version that this nft prints. `None` when it does not work.
    pub fn version(&self) -> Option<String> {
        let ended = self.run(&[&self.program, "--version"], "").ok()?;
        ended.succeeded().then(|| ended.stdout.trim().to_string())
    }

    /// The chains that ask whether a scratch sequence is used up.
    ///
    /// # Errors
    /// As for [`list`](Nft::list).
    pub fn scratch_chains(&self) -> Result<Vec<String>, Failure> {
        if let Ok(listing) = nf_tables::read(nf_tables::Portion::Grants) {
            return Ok(listing.unwrap_or_default().scratch_chains());
        }
        let ended = self.run(&[&self.program, "-j", "-t", "list", "chains", "inet"], "")?;
        match ended.succeeded() {
            true => Ok(listing(&ended)?.scratch_chains()),
            false => Err(Failure::unchanged(self.said(&ended))),
        }
    }

    /// Lists a script, as this nft prints it, that has just been loaded where nothing else is: in a
    /// network namespace of its own, gone when nft ends.
    ///
    /// # Errors
    /// When namespaces are not permitted, or nft refuses the script.
    pub fn list_fresh(&self, script: &Script) -> Result<Listing, Failure> {
        let (family, table) = table_words();
        let load_and_list = r#""$0" -f - && exec "$0" -j list table "$1" "$2""#;
        let shell = ["sh", "-c", load_and_list, &self.program, family, table];
        let command = [&["unshare", "--net", "--"], &shell[..]].concat();
        let ended = self.run(&command, &script.to_string())?;
        if ended.succeeded() {
            return listing(&ended);
        }
        Err(Failure::unchanged(format!(
            "the policy's ruleset could not be loaded aside, to compare it with the running one: {}",
            self.said(&ended)
        )))
    }

    /// Changes elements as one transaction, all of it or nothing. nft reads the elements of all tables of all programs
    /// before it changes one: the kernel is told without it, unless it refuses.
    ///
    /// # Errors
    /// As for [`load`](Nft::load).
    pub fn edit(&self, transaction: &Transaction) -> Result<(), Failure> {
        match transaction.is_empty() || nf_tables::commit(transaction).is_ok() {
            true => Ok(()),
            false => self.load(transaction),
        }
    }

    /// The same of a transaction that was made from a listing. Nothing is changed where that is outdated: a set has no room,
    /// or what is deleted is gone already.
    ///
    /// # Errors
    /// As for [`load`](Nft::load).
    pub fn edit_as_listed(&self, transaction: &Transaction) -> Result<Edited, Failure> {
        match nf_tables::commit(transaction) {
            Ok(()) => return Ok(Edited::Done),
            Err(error) if is_outdated(&error) => return Ok(Edited::Outdated),
            Err(_) => {}
        }
        let ended = self.feed(transaction)?;
        match OUTDATED.iter().any(|words| ended.stderr.contains(words)) {
            true => Ok(Edited::Outdated),
            false => self.taken(&ended).map(|()| Edited::Done),
        }
    }

    /// Loads a transaction with nft: all of it or nothing.
    ///
    /// # Errors
    /// When nft fails. If it was killed, nobody can say whether the kernel had its message already.
    pub fn load(&self, transaction: &Transaction) -> Result<(), Failure> {
        self.taken(&self.feed(transaction)?)
    }

    fn feed(&self, transaction: &Transaction) -> Result<Exit, Failure> {
        self.run(&[&self.program, "-f", "-"], &transaction.to_string())
    }

    /// Fails unless nft has taken what it was fed with.
    fn taken(&self, ended: &Exit) -> Result<(), Failure> {
        if ended.succeeded() {
            return Ok(());
        }
        let left = match ended.signal {
            Some(_) => Left::Unknown,
            None => Left::Unchanged,
        };
        Err(Failure {
            message: format!("the ruleset was refused: {}", self.said(ended)),
            left,
        })
    }

    fn run(&self, command: &[&str], stdin: &str) -> Result<Exit, Failure> {
        run(command, stdin).map_err(|error| self.not_started(command, &error))
    }

    fn not_started(&self, command: &[&str], error: &io::Error) -> Failure {
        let program = command.first().copied().unwrap_or_default();
        let package = match program {
            "unshare" => "util-linux",
            _ => "nftables",
        };
        Failure::unchanged(match error.kind() {
            io::ErrorKind::NotFound => {
                format!("`{program}` is not installed (Debian, Ubuntu: apt install {package})")
            }
            _ => format!("`{program}` could not be started: {error}"),
        })
    }

    /// The message of nft, with the way out where it is known.
    fn said(&self, ended: &Exit) -> String {
        if let Some(signal) = ended.signal {
            return format!("`{}` was killed by signal {signal}", self.program);
        }
        let said = masked(ended.stderr.trim());
        let lines: Vec<&str> = said.lines().take(8).collect();
        let said = lines.join("\n");
        let version = || run(&[&self.program, "--version"], "").map_or(String::new(), |e| e.stdout);
        let hint = hint::without_rights(&said)
            .or_else(|| hint::unable_nft(&said, version))
            .or_else(|| hint::unable_kernel(&said, MODULES));
        match hint {
            Some(hint) if hint::is_all(&hint) => hint,
            Some(hint) => format!("{hint}\nnft says: {said}"),
            None => format!("nft says: {said}"),
        }
    }
}

/// A listing of nft, with the elements of the sets by source as the kernel tells them: nft rounds times to seconds, and of
/// two openings within one nobody would know whose a grant is.
fn with_exact_times(mut listing: Listing) -> Listing {
    if let Ok(Some(read)) = nf_tables::read(nf_tables::Portion::Grants) {
        listing.take_guests(read);
    }
    listing
}

fn listing(ended: &Exit) -> Result<Listing, Failure> {
    Listing::parse(&ended.stdout).map_err(|error| Failure::unchanged(error.to_string()))
}

fn table_words() -> (&'static str, &'static str) {
    ("inet", TABLE_NAME)
}
