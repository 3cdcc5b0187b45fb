//! The terms of a policy for a fleet, as one number.

use std::fmt::Write as _;

use super::name::id;
use super::{KeyKind, Policy};
use crate::single_use::Secret;

/// Which sets the table of a fleet has. Another release may have had others.
const FORM: u32 = 2;

impl Policy {
    /// A number for all that `toctoc fleet` goes by: doors and how long they open, what is shared and accepted,
    /// keys, the engine and what is signed with, and the group in which it is told. The agent reads the policy's file, and the kernel may run another
    /// policy (edited and not applied, or refused after a trial): this tells them apart. It says nothing of
    /// sequences, and of a secret no more than its [id](crate::single_use::Secret::id).
    pub fn terms(&self) -> u32 {
        let mut text = format!("{FORM} ");
        let named = |doors: &[super::DoorIndex]| -> Vec<String> {
            let names = doors.iter().map(|&door| self.door(door).name.to_string());
            names.collect()
        };
        if let Some(fleet) = &self.fleet {
            let (share, accept) = (named(&fleet.share), named(&fleet.accept));
            let (me, engine, group) = (&fleet.name, &fleet.engine, fleet.group);
            let secret = fleet.secret.as_ref().map(Secret::id);
            let _ = writeln!(
                text,
                "{me} {engine:?} {:?} {secret:?} {share:?} {accept:?} {group}",
                fleet.authority
            );
        }
        let _ = writeln!(text, "{:?} {}", self.grant, self.max_sources);
        for door in &self.doors {
            let _ = writeln!(text, "{} {:?}", door.name, door.open_for);
        }
        for key in &self.keys {
            let _ = write!(text, "{} {} {:?}", key.name, key.once, key.expires);
            for opening in &key.opens {
                let door = &self.door(opening.door).name;
                let _ = write!(text, " {door} {:?}", opening.open_for);
            }
            let _ = match &key.kind {
                KeyKind::Sequence(_) => writeln!(text),
                KeyKind::Token(secret) => writeln!(text, " {:08x}", secret.id()),
                KeyKind::Scratch(_) => writeln!(text, " scratch"),
                KeyKind::Signed(_) => writeln!(text, " signed"),
            };
        }
        let _ = write!(text, "{:?}", self.scratch_ids());
        id(&text)
    }
}
