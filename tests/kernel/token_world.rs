//! The common part of the tests of token keys: alice's policy and her tokens.

use std::time::{SystemTime, UNIX_EPOCH};

use toctoc::firewall::tokens::{clocks, refill};
use toctoc::firewall::{Firewall, StateFile};
use toctoc::policy::load::load;
use toctoc::policy::{Host, Policy};
use toctoc::single_use::journal::Clocks;
use toctoc::single_use::{Journal, Secret, Token, Window, token};

use crate::world::{World, alone};

pub const PORT: u16 = 40_123;
pub const SECRET: &str = "5dc2a1f0b7e46983175c2f8e90ab3d64c8f10e7755a92b6d13f4e8c07a9b2d61";
pub const OTHER: &str = "e1907a5c3b8d24f6ea7710c95d3f6b82490c1e6d7fa3558b2096d4c7e8f13a0b";

pub const ALICE: &str = r#"
token_port = 40123

[door.ssh]
ports = [22]

[key.alice]
opens = ["ssh"]
token = "alice.secret"
open_for = "1h"
"#;

pub fn secret(text: &str) -> Secret {
    Secret::parse(text).unwrap()
}

pub fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs() as i64
}

/// A token that is loaded whatever came before: of a window in a few minutes.
pub fn good(number: u32) -> Token {
    token(
        &secret(SECRET),
        Window(Window::at(now()).0 + 3 + u64::from(number / 4)),
        number % 4,
    )
}

/// Alice's policy, applied for the first time.
pub fn guarded() -> World {
    guarded_by(ALICE)
}

pub fn guarded_by(policy: &str) -> World {
    let world = World::bare();
    world.private_file("alice.secret", SECRET);
    world.apply(policy);
    world.listen(22);
    world
}

/// The same after a clean stop: the tokens of this minute are good too.
pub fn guarded_without_a_wait() -> World {
    let (world, said) = after_a_clean_stop(ALICE, &[("alice.secret", SECRET)]);
    assert!(said.contains("loaded all 145"), "{said}");
    assert!(!said.contains("tokens open from"), "{said}");
    world
}

/// A policy and its secrets, applied after a clean stop; and what `apply` said.
pub fn after_a_clean_stop(policy: &str, secrets: &[(&str, &str)]) -> (World, String) {
    let world = World::bare();
    let (mut journal, _) = Journal::go_on(None, None, 1, clocks());
    journal.clean = true;
    journal.barred = None;
    StateFile::within(world.state_directory())
        .write(&journal)
        .unwrap();
    for (file, secret) in secrets {
        world.private_file(file, secret);
    }
    let said = world.apply(policy);
    world.listen(22);
    (world, said)
}

impl World {
    pub fn send(&self, from: &str, payload: &[u8]) {
        let from = from.parse().unwrap();
        self.inject(|injector| injector.datagram(from, 4000, PORT, payload));
    }

    pub fn policy(&self) -> Policy {
        load(&self.path(), &Host::default()).unwrap()
    }

    /// `toctoc refill` with clocks that are set by hand.
    pub fn refill_at(&self, clocks: Clocks) -> toctoc::firewall::tokens::Refilled {
        let firewall = Firewall {
            state: StateFile::within(self.state_directory()),
            ..Firewall::default()
        };
        let policy = self.policy();
        let _alone = alone();
        let done = self
            .lab
            .server
            .inside(|| refill(&firewall, &policy, clocks));
        done.unwrap().unwrap()
    }

    pub fn profile(&self, text: &str) -> String {
        let path = self.private_file("phone.toml", text);
        path.display().to_string()
    }
}
