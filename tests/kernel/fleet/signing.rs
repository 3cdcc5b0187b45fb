//! Hosts that sign what they tell: nobody else speaks for them, whoever writes to the engine.

use toctoc::single_use::{Secret, mac};

use super::bottle::{DOORS, Fleet, until};

const FIRST: &str = "192.0.2.101";
const LATER: &str = "192.0.2.102";
const STRANGER: &str = "192.0.2.109";

const OURS: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const THEIRS: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e20";

/// A text as a host signs it that has this secret.
fn signed(secret: &Secret, text: &str) -> String {
    let mac = mac(secret, &[b"toctoc fleet v1", text.as_bytes()]);
    let digits = mac[..16].iter().map(|byte| format!("{byte:02x}"));
    format!("{} {text}", digits.collect::<String>())
}

fn signing(fleet: &Fleet, place: usize) -> String {
    format!("{}secret = \"fleet.secret\"\n", fleet.policy(place, DOORS))
}

fn start(number: usize, signs: impl Fn(usize) -> bool) -> Fleet {
    let mut fleet = Fleet::bare(number);
    fleet.start_engine(&[]);
    for place in 0..number {
        let policy = match signs(place) {
            true => signing(&fleet, place),
            false => fleet.policy(place, DOORS),
        };
        fleet.file(place, "fleet.secret", OURS);
        fleet.apply(place, &policy);
        fleet.start_agent(place);
        fleet.listen(place, 22);
    }
    fleet
}

#[test]
fn what_is_not_signed_by_a_host_counts_for_nothing() {
    let mut fleet = start(2, |_| true);
    fleet.until_all_know_each_other();
    fleet.knock(0, FIRST);
    fleet.until_open(1, FIRST, 22);
    let whole = fleet.redis(&["GET", &format!("toctoc:grant:a:ssh:{FIRST}")]);
    let (mac, plain) = whole.trim().split_once(' ').unwrap();
    assert_eq!(mac.len(), 32, "{whole}");
    let of = |source: &str| plain.replace(FIRST, source);
    let closing = |source: &str| {
        let (begin, _) = plain.split_once("\"news\":").unwrap();
        format!(
            "{begin}\"news\":{{\"closed\":{{\"door\":\"ssh\",\"source\":\"{source}/32\",\"age\":0}}}}}}"
        )
    };
    let [ours, theirs] = [OURS, THEIRS].map(|text| Secret::parse(text).unwrap());
    let forged = [
        of(STRANGER),
        format!("{mac} {}", of(STRANGER)),
        signed(&theirs, &of(STRANGER)),
        closing(FIRST),
        signed(&theirs, &closing(FIRST)),
    ];
    for (number, text) in forged.iter().enumerate() {
        fleet.redis(&["PUBLISH", "toctoc:fleet", text]);
        fleet.redis(&["SET", &format!("toctoc:forged:{number}"), text]);
    }
    fleet.until_said(1, "it is not signed with the `secret` of this host");
    // Those who begin later read what is kept.
    fleet.kill_agent(1);
    fleet.start_agent(1);
    fleet.until_connected(1);
    until("all that is forged was refused", || {
        let refused = &fleet.status(1)["fleet"]["report"]["refused"];
        refused.as_u64().is_some_and(|refused| refused >= 5)
    });
    // The same by a host counts, and has arrived after all that was forged.
    let real = signed(&ours, &of(LATER));
    fleet.redis(&["PUBLISH", "toctoc:fleet", &real]);
    fleet.until_open(1, LATER, 22);
    assert!(!fleet.is_in(1, STRANGER) && !fleet.is_in(0, STRANGER));
    assert!(fleet.is_in(1, FIRST) && fleet.is_in(0, FIRST));
    let ended = signed(&ours, &closing(FIRST));
    fleet.redis(&["PUBLISH", "toctoc:fleet", &ended]);
    fleet.until_shut(1, FIRST, 22);
    // The secret is nowhere to be seen.
    let status = fleet.status(1).to_string();
    let kept = fleet.redis(&["GET", &format!("toctoc:grant:a:ssh:{FIRST}")]);
    for text in [fleet.said(1), status, kept] {
        assert!(
            !text.contains(OURS) && !text.contains(&OURS[..32]),
            "{text}"
        );
    }
}

#[test]
fn a_host_without_the_secret_is_alone_and_both_sides_say_so() {
    let mut fleet = start(2, |place| place == 0);
    (0..2).for_each(|place| fleet.until_connected(place));
    fleet.knock(0, FIRST);
    fleet.knock(1, LATER);
    fleet.until_open(0, FIRST, 22);
    fleet.until_open(1, LATER, 22);
    fleet.until_said(0, "it is not signed with the `secret` of this host");
    fleet.until_said(1, "it is signed, and this host has no `secret`");
    assert!(!fleet.is_in(0, LATER) && !fleet.is_in(1, FIRST));
    let report = &fleet.status(1)["fleet"]["report"];
    assert_eq!(report["hosts"], serde_json::json!([]), "{report}");
    // It is given the secret.
    let policy = signing(&fleet, 1);
    fleet.apply(1, &policy);
    fleet.kill_agent(1);
    fleet.start_agent(1);
    fleet.until_open(1, FIRST, 22);
    fleet.until_open(0, LATER, 22);
    assert!(!fleet.is_in(0, STRANGER) && !fleet.is_in(1, STRANGER));
}
