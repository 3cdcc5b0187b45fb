//! A policy on trial: `apply --confirm`. Unless it is confirmed in time, the firewall goes back to what
//! was there before.

use std::time::Duration;

use super::apply::{Applied, apply_locked, remove_locked};
use super::heal::note_applied;
use super::lock::Lock;
use super::record::{Moment, Origin, Record, Trial};
use super::sighting::Sighting;
use super::status::observe;
use super::{Failure, Firewall, Left};
use crate::policy::Policy;
use crate::single_use::journal::Clocks;

/// Makes the policy the running one, until the trial of this number ends. Returns what it would go back
/// to: `None` if nothing of ours was there. A trial that is under way ends, and the new one goes back to
/// what was there before both.
///
/// # Errors
/// Anything that stopped it, with the state the firewall was left in; before anything is done, when it
/// is not known what there would be to go back to.
pub fn begin(
    firewall: &Firewall,
    policy: &Policy,
    origin: Origin,
    id: u64,
    lasting: Duration,
    clocks: Clocks,
) -> Result<(Applied, Option<Origin>), Failure> {
    let _lock = Lock::take()?;
    let state = &firewall.state;
    let old = Record::read(state).map_err(|message| no_way_back(&message))?;
    let under_way = old.trial.clone();
    let mut trial = match under_way.filter(|trial| !trial.is_of_another_start(&Moment::now())) {
        Some(under_way) => under_way.again(id, lasting),
        None => Trial::new(id, before(firewall, &old, clocks)?, lasting),
    };
    let (grants, then) = (firewall.grants()?, Moment::now());
    let mut record = old.clone();
    record.runs(Some(origin.clone()));
    record.refused = None;
    record.trial = Some(trial.clone());
    record
        .write(state)
        .map_err(|message| no_way_back(&message))?;
    let mut applied = match apply_locked(firewall, policy, clocks, &[]) {
        Ok(applied) => applied,
        Err(failure) => {
            if failure.left == Left::Unchanged {
                // Otherwise the trial goes on, and will bring back what was there. One that was under way
                // goes on in any case: whoever was to end it has left for this one.
                let mut as_before = old;
                if let Some(trial) = &mut as_before.trial {
                    trial.id = id;
                }
                let _ = as_before.write(state);
            }
            return Err(failure);
        }
    };
    note_applied(&origin, policy, &mut applied);
    let goes_back = |failure: Failure| Failure {
        message: format!("{}; it goes back when the trial ends", failure.message),
        left: Left::Changed,
    };
    trial.note_ended(&grants, &then, &firewall.grants().map_err(goes_back)?);
    trial.extend(lasting);
    let to = trial.before.clone();
    record.trial = Some(trial);
    let noted = record.write(state).map_err(Failure::unchanged);
    noted.map_err(goes_back)?;
    Ok((applied, to))
}

/// The policy that ran until now, as far as it is known.
fn before(firewall: &Firewall, record: &Record, clocks: Clocks) -> Result<Option<Origin>, Failure> {
    if !firewall.is_guarded()? {
        return Ok(None);
    }
    let Some(origin) = &record.running else {
        return Err(no_way_back(
            "what runs now was applied where that was not noted",
        ));
    };
    let policy = origin.policy().map_err(|error| {
        no_way_back(&format!(
            "the policy that runs cannot be read any more: {error}"
        ))
    })?;
    let status = observe(firewall, &policy, clocks.now)?;
    match status.drift.first() {
        None => Ok(Some(origin.clone())),
        Some(drift) => Err(no_way_back(&format!(
            "what runs is not what was noted ({drift})"
        ))),
    }
}

fn no_way_back(why: &str) -> Failure {
    Failure::unchanged(format!(
        "{why}, so there would be no way back; `toctoc apply` without --confirm notes what it applies"
    ))
}

/// The result of a confirmation.
#[derive(Debug)]
pub enum Confirmed {
    /// It stays, and this is what it was read from.
    Stays(Option<Origin>, Box<Trial>),
    /// Nothing is on trial; so it stands.
    Nothing(Box<Record>),
}

/// Ends the trial: the policy stays.
///
/// # Errors
/// When the record cannot be read or written. The trial then goes on.
pub fn confirm(firewall: &Firewall) -> Result<Confirmed, Failure> {
    let _lock = Lock::take()?;
    let goes_on = |message| Failure::unchanged(format!("{message}; the trial goes on"));
    let mut record = Record::read(&firewall.state).map_err(goes_on)?;
    let now = Moment::now();
    let in_time = |trial: &mut Trial| !trial.left(&now).is_zero();
    let Some(trial) = record.trial.take_if(in_time) else {
        return Ok(Confirmed::Nothing(Box::new(record)));
    };
    record.write(&firewall.state).map_err(goes_on)?;
    Ok(Confirmed::Stays(record.running, Box::new(trial)))
}

/// Notes that the trial of this number could not go back, if it is noted still.
pub fn note_stuck(firewall: &Firewall, id: u64, failure: &Failure) -> Result<(), Failure> {
    let _lock = Lock::take()?;
    let mut record = Record::read(&firewall.state).map_err(Failure::unchanged)?;
    if let Some(trial) = record.trial.as_mut().filter(|trial| trial.id == id) {
        trial.note_stuck(&failure.to_string(), Moment::now());
        record.write(&firewall.state).map_err(Failure::unchanged)?;
    }
    Ok(())
}

/// The result of going back.
#[derive(Debug)]
pub struct Back {
    /// `None`: nothing of ours is there.
    pub to: Option<Origin>,
    /// The record as it should be, and why it could not be written, if so.
    pub unnoted: Option<(Record, String)>,
    /// Live grants that the trial had ended and that are there again.
    pub returned: usize,
}

/// Goes back from the policy on trial, if that is the trial of this number (or any). `known` is the record
/// as it was read last, should it be there no more. `None` when there is no such trial.
///
/// # Errors
/// Anything that stopped it, with the state the firewall was left in. The trial stays noted.
pub fn roll_back(
    firewall: &Firewall,
    id: Option<u64>,
    known: Option<&Record>,
    clocks: Clocks,
) -> Result<Option<Back>, Failure> {
    let _lock = Lock::take()?;
    let state = &firewall.state;
    let mut record = match (Record::found(state), known) {
        (Ok(Some(record)), _) => record,
        // Somebody has taken it away, or damaged it.
        (_, Some(known)) => known.clone(),
        (Ok(None), None) => return Ok(None),
        (Err(message), None) => return Err(Failure::unchanged(message)),
    };
    let meant = |trial: &mut Trial| id.is_none_or(|id| trial.id == id);
    let Some(trial) = record.trial.take_if(meant) else {
        return Ok(None);
    };
    let mut returned = 0;
    match &trial.before {
        None => {
            remove_locked(firewall, None, clocks)?;
            Sighting::forget();
        }
        Some(before) => {
            let policy = before.policy().map_err(|error| {
                Failure::unchanged(format!("the policy before cannot be had back: {error}"))
            })?;
            let there = firewall.grants()?;
            let returning = match firewall.ended_elsewhere() {
                Ok(ended) => trial.returning(&Moment::now(), &there, &ended),
                // Nobody knows who may come back. The way back is worth more.
                Err(_) => Vec::new(),
            };
            let mut applied = match apply_locked(firewall, &policy, clocks, &returning) {
                Ok(applied) => {
                    returned = returning.len();
                    applied
                }
                // There may be no room for those who return. The way back is worth more.
                Err(failure) if failure.left == Left::Unchanged && !returning.is_empty() => {
                    apply_locked(firewall, &policy, clocks, &[])?
                }
                Err(failure) => return Err(failure),
            };
            note_applied(before, &policy, &mut applied);
        }
    }
    record.refuse(&trial, clocks.now);
    record.runs(trial.before.clone());
    let unnoted = record.write(state).err();
    Ok(Some(Back {
        to: trial.before,
        unnoted: unnoted.map(|why| (record, why)),
        returned,
    }))
}
