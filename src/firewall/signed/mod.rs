//! The program of signed keys at the interfaces: loaded with an apply, a refill and a healing, looked at by `status`.
//!
//! Each time it is loaded anew, keys, clock and all, and takes the place of the one before without a gap. The kernel holds it at
//! the interface (by a link of tcx with a file in the BPF file system, or by a filter of clsact), and no process stays; a new
//! interface has none until the next healing.
//! A packet that it has not judged has no mark, so whatever is missing here, nothing opens.
//!
//! What was spent is in the kernel's set. [`Note`] says since when, so that nothing from before opens: by the clock of the
//! machine since its start, and by the time of day, whichever is later. A clock that is set back does not make what was
//! spent good again.

mod kernel;
mod mark;
mod note;
mod tcx;

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use kernel::Loaded;
use note::Note;

use super::links::{Link, Links, named};
use super::seal::this_table;
use super::{Failure, Left};
use crate::policy::{Interfaces, Policy};
use crate::signed::program::{Entry, Settings, program};
use crate::signed::{Signer, Time};

/// The time for which the kernel certainly remembers what was spent: less than the two hours that its elements have.
const MEMORY: Duration = Duration::from_secs(3600);

/// The clocks of this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    /// The time of day.
    pub now: Time,
    /// Nanoseconds since the machine was started, also while it slept.
    pub since_boot: u64,
}

impl Moment {
    fn read() -> Moment {
        let nanoseconds = |id| {
            let time = rustix::time::clock_gettime(id);
            let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
            seconds.saturating_mul(1_000_000_000) + u64::try_from(time.tv_nsec).unwrap_or(0)
        };
        Moment {
            now: Time(nanoseconds(rustix::time::ClockId::Realtime)),
            since_boot: nanoseconds(rustix::time::ClockId::Boottime),
        }
    }

    /// The time of day at which the machine was started, by the clock as it is now.
    fn started(self) -> Time {
        Time(self.now.0.wrapping_sub(self.since_boot))
    }
}

/// Checks that this kernel takes the program. Nothing is changed.
///
/// # Errors
/// The reason.
pub fn probe(policy: &Policy) -> Result<(), String> {
    if !policy.has_signed() {
        return Ok(());
    }
    load(policy, Moment::read().started(), Time(u64::MAX)).map(drop)
}

/// Before the rules change: takes away a program that was placed for another table than the one that is there, or nobody
/// knows for which. The set of a new table does not hold what was spent.
pub(super) fn prepare() -> Result<(), Failure> {
    let is_of_this_table = match Note::read() {
        Some(note) => this_table().ok().flatten() == Some(note.table),
        None => unnoted().is_empty(),
    };
    match is_of_this_table {
        true => Ok(()),
        false => take_away(),
    }
}

/// The interfaces with a program of ours. Where the kernel does not say, there is none that we could have placed.
fn unnoted() -> Vec<String> {
    let links = Links::read().unwrap_or_default();
    let ours = links.0.into_iter().filter(|link| {
        let attached = kernel::attached(link);
        attached.is_ok_and(|attached| !attached.is_empty())
    });
    ours.map(|link| link.name).collect()
}

/// Puts the program of a policy at all its interfaces, in the place of the one before; or takes it away where no key is
/// signed. Returns why it is not at some, a sentence each.
///
/// # Errors
/// When the kernel does not take it, or does not say what it holds.
pub(super) fn place(policy: &Policy) -> Result<Vec<String>, Failure> {
    if !policy.has_signed() {
        if Note::read().is_some() || !unnoted().is_empty() {
            take_away()?;
        }
        return Ok(Vec::new());
    }
    let failed =
        |error: io::Error| Failure::unchanged(format!("no program of signed keys: {error}"));
    let policy = &*named(policy);
    let table = this_table().map_err(failed)?.ok_or_else(|| {
        Failure::unchanged("signed keys have no rules yet: apply the policy first (`toctoc apply`)")
    })?;
    let moment = Moment::read();
    let memory = note::Memory::of(Note::read().as_ref(), table, moment);
    let not_before = memory.not_before(moment);
    let mut loaded = load(policy, moment.started(), not_before).map_err(Failure::unchanged)?;
    let links = Links::read().map_err(failed)?;
    tcx::forget_vanished(&links.0);
    let mut note = Note {
        table,
        memory,
        program: loaded.id(),
        map: loaded.map(),
        keys: policy.signed_keys().count(),
        interfaces: match &policy.interfaces {
            Interfaces::AllButLoopback => None,
            Interfaces::Only(names) => Some(names.clone()),
        },
        ..Note::here()
    };
    // Before it is in force: whoever loads it next knows what this one took.
    note.write().map_err(Failure::unchanged)?;
    let mut refused = BTreeMap::new();
    for link in &links.0 {
        match note.guards(link) {
            true => {
                if let Err(why) = loaded.attach(link).and_then(|()| loaded.is_alone(link)) {
                    refused.insert(link.name.clone(), why);
                }
            }
            // No longer guarded, perhaps. (A refill has not the right to see it, and changes no interfaces.)
            false if kernel::attached(link).is_ok_and(|there| !there.is_empty()) => {
                kernel::detach(link)
                    .map_err(|why| Failure::unchanged(why).leaving(Left::Changed))?;
            }
            false => {}
        }
    }
    note.refused = refused;
    if !note.refused.is_empty() {
        note.write().map_err(Failure::unchanged)?;
    }
    let refused = note.refused.iter();
    Ok(refused
        .map(|(name, why)| format!("{name}: {why}"))
        .collect())
}

/// Takes the program away from all interfaces.
///
/// # Errors
/// When it is still somewhere.
pub(super) fn take_away() -> Result<(), Failure> {
    let links = match Links::read() {
        // Where the kernel cannot be asked and nothing is noted, nothing was placed.
        Err(_) if Note::read().is_none() => return Ok(()),
        read => read.map_err(|error| Failure::unchanged(format!("no interfaces: {error}")))?,
    };
    for link in &links.0 {
        kernel::detach(link).map_err(Failure::unchanged)?;
    }
    tcx::forget_vanished(&links.0);
    Note::forget();
    Ok(())
}

fn load(policy: &Policy, started: Time, not_before: Time) -> Result<Loaded, String> {
    let port = policy.token_port.ok_or("there is no port for tokens")?;
    let settings = Settings {
        port,
        mark: policy.signed_mark,
        started,
        not_before,
    };
    let keys = policy.signed_keys();
    let entries: Vec<Entry> = keys
        .map(|(_, signed)| Entry::of(&Signer::of(&signed.secret), signed.binding))
        .collect();
    Loaded::load(&program(&settings), &entries)
}

/// The state of the program, for people.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Guarded interfaces that are there and have another program of ours, or none; in parentheses why it was refused there.
    pub without: Vec<String>,
    /// Keys that the program lacks.
    pub lacking: usize,
    /// Until then (seconds since 1970) nothing opens: the clock was set back.
    pub waits_until: Option<i64>,
    /// `true` if the program was never placed for this table.
    pub absent: bool,
    /// Interfaces with a program that was placed for another table, or nobody knows for which.
    pub strange: Vec<String>,
    /// Programs and filters of others before ours, each with its interface: in words.
    pub before_ours: Vec<String>,
}

/// The others who use the mark of a policy with signed keys: a sentence each.
pub fn conflicts(policy: &Policy) -> Vec<String> {
    let mark = policy.signed_mark;
    let others = mark::others(mark).into_iter();
    let sentence = |other| {
        format!(
            "{other} uses the mark of signed keys ({:#x}), which is taken off at guarded interfaces: choose another \
             `signed_mark`",
            mark.get()
        )
    };
    others.map(sentence).collect()
}

impl Seen {
    /// Reads the kernel.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn read() -> io::Result<Seen> {
        let table = this_table()?;
        let Some(note) = Note::read().filter(|note| table == Some(note.table)) else {
            return Ok(Seen {
                absent: true,
                strange: unnoted(),
                ..Seen::default()
            });
        };
        let moment = Moment::read();
        let not_before = note.memory.not_before(moment);
        let ahead = crate::signed::SKEW.as_nanos() as u64;
        let mut seen = Seen {
            // A map that is gone has taken its program along.
            lacking: kernel::count(note.map).map_or(0, |there| note.keys.saturating_sub(there)),
            waits_until: (not_before.0 > moment.now.0.saturating_add(ahead))
                .then(|| not_before.seconds()),
            ..Seen::default()
        };
        for link in Links::read()?.0.iter().filter(|link| note.guards(link)) {
            let attached = kernel::attached(link)?;
            if attached.iter().any(|program| *program != note.program) {
                seen.strange.push(link.name.clone());
            }
            if !attached.contains(&note.program) {
                let why = note.refused.get(&link.name);
                let why = why.map_or_else(String::new, |why| format!(" (refused: {why})"));
                seen.without.push(format!("{}{why}", link.name));
            }
            let others = kernel::before_ours(link)?.into_iter();
            let named = others.map(|other| format!("{other} at {}", link.name));
            seen.before_ours.extend(named);
        }
        Ok(seen)
    }

    /// Returns whether a healing has nothing to do here.
    fn is_well(&self) -> bool {
        self.without.is_empty() && self.lacking == 0 && !self.absent && self.strange.is_empty()
    }

    /// Sentences for an administrator.
    pub fn words(&self) -> Vec<String> {
        const BUT: &str = "everything else holds";
        let mut words = Vec::new();
        if self.absent && self.strange.is_empty() {
            words.push(format!(
                "signed keys open nowhere: their program is not there; {BUT} (`toctoc heal` loads it)"
            ));
        }
        if !self.strange.is_empty() {
            words.push(format!(
                "the program of signed keys on {} is not that of this table: datagrams that were spent may open once more; \
                 {BUT} (`toctoc heal` loads it anew, and its timer does)",
                self.strange.join(", ")
            ));
        }
        if !self.without.is_empty() {
            words.push(format!(
                "signed keys do not open on {}: their program is not there; {BUT} (`toctoc heal` puts it there, and \
                 its timer does)",
                self.without.join(", ")
            ));
        }
        for other in &self.before_ours {
            words.push(format!(
                "{other} is asked before the program of signed keys: where it decides about their datagrams, they open \
                 nothing; {BUT} (let it come later: a filter with a priority above {}, a program of tcx behind ours)",
                kernel::PRIORITY
            ));
        }
        if self.lacking > 0 {
            words.push(format!(
                "signed keys that do not open: {} are not in the kernel's map; {BUT} (`toctoc heal` puts them there)",
                self.lacking
            ));
        }
        if let Some(until) = self.waits_until {
            let until = jiff::Timestamp::from_second(until)
                .map_or_else(|_| until.to_string(), |time| time.to_string());
            words.push(format!(
                "signed keys open from {until} on: this clock was set back, and what was spent before is not known; {BUT} \
                 (`toctoc remove` and `toctoc apply` forget that, if the clock was wrong before)"
            ));
        }
        words
    }
}

/// Returns whether the program is as it was placed; where no key is signed, it is.
pub(super) fn is_well(has_signed: bool) -> bool {
    !has_signed || Seen::read().is_ok_and(|seen| seen.is_well())
}

/// Guarded: all but loopback, or the named ones.
impl Note {
    fn guards(&self, link: &Link) -> bool {
        match &self.interfaces {
            None => !link.is_loopback,
            Some(names) => names.contains(&link.name),
        }
    }
}
