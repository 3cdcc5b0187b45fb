//! What the reader of the fleet's messages promises for any input, beyond not to panic. `fleet/tests/corpora.rs` runs the
//! kept inputs through it.

use std::sync::LazyLock;

use toctoc::policy::{Policy, read};
use toctoc_fleet::ledger::Ledger;
use toctoc_fleet::message::{LONGEST, Message, PREFIX};
use toctoc_fleet::rules::Rules;

/// What another host says is refused, or it is written and read as it was; and whatever it says, nobody is let
/// in at another door than is accepted, nor for longer than the policy gives.
pub fn fleet_message(data: &[u8]) {
    static FLEET: LazyLock<Policy> = LazyLock::new(|| {
        let text = "[fleet]\nurl = \"redis://h\"\nname = \"me\"\nshare = [\"ssh\", \"web\"]\n\
                    accept = [\"ssh\"]\n[door.ssh]\nports = [22]\n[door.web]\nports = [443]\n\
                    [key.yves]\nopens = [\"ssh\"]\nsequence = [4431, 2387, 920]\n";
        read("p", text).unwrap_or_else(|report| panic!("{report}"))
    });
    let Ok(message) = Message::parse(data) else {
        return;
    };
    let text = message.text();
    assert!(text.len() <= LONGEST);
    assert_eq!(Message::parse(text.as_bytes()).as_ref(), Ok(&message));
    let key = message.key();
    let plain = |c: char| c.is_ascii_alphanumeric() || ":._-/".contains(c);
    assert!(key.starts_with(PREFIX) && key.chars().all(plain), "{key}");
    let Some(rules) = Rules::of(&FLEET) else {
        panic!("it has a fleet");
    };
    let mut ledger = Ledger::new(rules, 7);
    let now = 5_000_000;
    let _ = ledger.hear(&message, (3, 5), now, 1_783_350_030);
    for ((door, _), end) in ledger.take_work(now).elsewhere {
        assert_eq!(door.as_str(), "ssh");
        assert!(end.is_none_or(|end| end <= now + 60_000));
    }
    assert!(
        ledger.to_tell.is_empty(),
        "what others say is not said again"
    );
}
