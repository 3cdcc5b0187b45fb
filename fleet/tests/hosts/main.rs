//! Cases of what hosts make of what they hear: here of sources let in, in `ends` of what is ended. `small_world` plays many of
//! them at random.

mod ends;
mod small_world;

use std::net::IpAddr;

use ipnet::IpNet;

use toctoc::policy::{Host, Name, Secrets, read_for};
use toctoc::single_use::{Secret, Token, Window};
use toctoc_fleet::clock::{Clock, Moment};
use toctoc_fleet::ledger::{Item, Ledger, Refusal, SpentToken};
use toctoc_fleet::message::{DAY, Message, News, Tag};
use toctoc_fleet::rules::Rules;

const POLICY: &str = r#"
token_port = 40123
[fleet]
url = "redis://192.0.2.10"
name = "NAME"
share = ["ssh", "vpn"]
accept = ["ssh"]
[door.ssh]
ports = [22]
[door.vpn]
ports = [1194]
[door.web]
ports = [443]
[key.yves]
opens = ["ssh", "vpn", "web"]
sequence = [4431, 2387, 920]
[key.short]
opens = ["ssh"]
sequence = [4432, 2388, 921]
open_for = "20s"
[key.single]
opens = ["ssh"]
sequence = [4433, 2389, 922]
once = true
[key.old]
opens = ["ssh"]
sequence = [4434, 2390, 923]
expires = 2020-01-01
[key.alice]
opens = ["ssh"]
token = "alice"
[key.paper]
opens = ["ssh"]
scratch = [[2387, 920, 18357], [7101, 640, 5223]]
"#;

const SECONDS: i64 = 1_783_350_030;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn ledger(me: &str, more: &str) -> Ledger {
    let secret = |file: &str| {
        let digits = match file {
            "phone" => "fedcba9876543210",
            _ => "0123456789abcdef",
        };
        Secret::parse(&digits.repeat(4)).map_err(|e| e.to_string())
    };
    let host = Host {
        secrets: Secrets(Some(&secret)),
        ..Host::default()
    };
    let policy = POLICY.replace("NAME", me);
    // Settings come first, sections behind.
    let text = match more.starts_with('[') {
        true => format!("{policy}{more}"),
        false => format!("{more}{policy}"),
    };
    let policy = read_for("p", &text, &host).unwrap_or_else(|report| panic!("{report}"));
    Ledger::new(Rules::of(&policy).unwrap(), 1)
}

fn says(from: &str, news: News) -> Message {
    Message::new(name(from), 0, news)
}

fn grant(door: &str, source: &str, key: Option<&str>, age: i64, left: i64) -> News {
    News::Grant {
        door: name(door),
        source: source.parse().unwrap(),
        key: key.map(name),
        age,
        left,
    }
}

/// Until when a host lets a source in at `ssh` that others have let in.
fn until(ledger: &mut Ledger, now: Moment) -> Option<Option<Moment>> {
    let work = ledger.take_work(now);
    assert!(work.elsewhere.len() <= 1);
    work.elsewhere.first().map(|(_, end)| *end)
}

const NOW: Moment = 1_000_000;

fn hear(ledger: &mut Ledger, from: &str, news: News, now: Moment) -> Result<(), Refusal> {
    ledger.hear(&says(from, news), (0, 0), now, SECONDS)
}

#[test]
fn a_grant_counts_for_what_is_left_and_no_longer_than_here() {
    for (key, age, left, lasting) in [
        (Some("yves"), 0, 60_000, Some(60_000)),
        (Some("yves"), 100, 59_900, Some(59_900)),
        // Elsewhere it lasts longer than the key gives here, the door, or anybody.
        (Some("short"), 0, 60_000, Some(20_000)),
        (Some("short"), 15_000, 60_000, Some(5_000)),
        (Some("stranger"), 0, DAY, Some(60_000)),
        (None, 0, 300_000, Some(60_000)),
        (None, 50_000, 250_000, Some(10_000)),
        // Over by what this host gives, or by what the other one gave.
        (None, 60_000, 250_000, None),
        (Some("yves"), 0, 0, None),
    ] {
        let mut b = ledger("b", "");
        let news = grant("ssh", "192.0.2.7", key, age, left);
        assert_eq!(hear(&mut b, "a", news, NOW), Ok(()));
        let wanted = lasting.map(|lasting| Some(NOW + lasting));
        assert_eq!(until(&mut b, NOW), wanted, "{key:?} {age} {left}");
    }
}

#[test]
fn what_was_under_way_loses_that_time() {
    let mut b = ledger("b", "");
    let message = says("a", grant("ssh", "192.0.2.7", None, 0, 60_000));
    b.hear(&message, (200, 700), NOW, SECONDS).unwrap();
    assert_eq!(until(&mut b, NOW), Some(Some(NOW + 59_300)));
}

#[test]
fn what_does_not_count_here_is_refused() {
    let mut b = ledger("b", "");
    let refused = |b: &mut Ledger, news| hear(b, "a", news, NOW).unwrap_err();
    for door in ["vpn", "web", "nowhere"] {
        let news = grant(door, "192.0.2.7", Some("yves"), 0, 60_000);
        assert_eq!(refused(&mut b, news), Refusal::Door, "{door}");
    }
    let expired = grant("ssh", "192.0.2.7", Some("old"), 0, 60_000);
    assert_eq!(refused(&mut b, expired), Refusal::Expired);
    let token = |key: &str, window, number| News::Spent {
        key: name(key),
        window,
        number,
    };
    let current = Window::at(SECONDS).0;
    for (window, number) in [(current + 2000, 0), (current, 4), (u64::MAX, 0)] {
        let news = token("alice", window, number);
        assert_eq!(refused(&mut b, news), Refusal::Token, "{window} {number}");
    }
    // Over long ago.
    assert_eq!(hear(&mut b, "a", token("alice", 0, 0), NOW), Ok(()));
    assert!(b.take_work(NOW).is_empty());
    assert_eq!(hear(&mut b, "a", token("alice", current, 3), NOW), Ok(()));
    assert_eq!(hear(&mut b, "a", token("nobody", current, 3), NOW), Ok(()));
    let spent = SpentToken {
        key: name("alice"),
        window: Window(current),
        number: 3,
    };
    assert_eq!(b.take_work(NOW).spend, [spent]);
    // A sequence of nobody here.
    assert_eq!(hear(&mut b, "a", News::Burnt { id: 7 }, NOW), Ok(()));
    assert!(b.take_work(NOW).is_empty());
    let own = *b.rules.scratch.first().unwrap();
    assert_eq!(hear(&mut b, "a", News::Burnt { id: own }, NOW), Ok(()));
    assert_eq!(b.take_work(NOW).burn, [own]);
}

const SIGNED: &str = "[key.phone]\nopens = [\"ssh\"]\nsigned = \"phone\"\n";

/// It is told once, taken in once, and remembered for two hours. Hosts without signed keys do not care.
#[test]
fn a_signed_datagram_is_told_and_taken_in_once() {
    let tag = Token([0xa5; 16]);
    let mut a = ledger("a", SIGNED);
    a.signed_here(tag, NOW);
    assert!(a.to_tell.remove(&Item::Signed(tag)));
    a.signed_here(tag, NOW + 5);
    assert!(a.to_tell.is_empty());
    a.tell_all();
    assert!(a.to_tell.contains(&Item::Signed(tag)));
    let news = || News::Signed { tag: Tag(tag) };
    let mut b = ledger("b", SIGNED);
    assert_eq!(hear(&mut b, "a", news(), NOW), Ok(()));
    assert_eq!(b.take_work(NOW).signed, [tag]);
    assert_eq!(hear(&mut b, "c", news(), NOW), Ok(()));
    assert!(b.take_work(NOW).is_empty());
    // Told by the kernel of this host, it is told on no more than once either.
    b.signed_here(tag, NOW);
    assert!(b.to_tell.is_empty());
    let mut c = ledger("c", "");
    assert_eq!(hear(&mut c, "a", news(), NOW), Ok(()));
    assert!(c.take_work(NOW).is_empty());
    const HOUR: i64 = 3_600_000;
    b.tidy(NOW + HOUR, SECONDS + 3600);
    assert_eq!(hear(&mut b, "a", news(), NOW + HOUR), Ok(()));
    assert!(b.take_work(NOW + HOUR).is_empty());
    b.tidy(NOW + 2 * HOUR, SECONDS + 7200);
    assert_eq!(hear(&mut b, "a", news(), NOW + 2 * HOUR), Ok(()));
    assert_eq!(b.take_work(NOW + 2 * HOUR).signed, [tag]);
}

#[test]
fn no_more_are_let_in_than_there_is_room_for() {
    let mut b = ledger("b", "max_sources = 256\n");
    for last in 0..=255 {
        let news = grant("ssh", &format!("192.0.2.{last}"), None, 0, 60_000);
        assert_eq!(hear(&mut b, "a", news, NOW), Ok(()), "{last}");
    }
    let one_more = grant("ssh", "192.0.3.1", None, 0, 60_000);
    assert_eq!(hear(&mut b, "a", one_more.clone(), NOW), Err(Refusal::Full));
    // Sources that are in may be let in again; and when they have gone, others.
    let again = grant("ssh", "192.0.2.3", None, 0, 60_000);
    assert_eq!(hear(&mut b, "a", again, NOW + 10_000), Ok(()));
    b.tidy(NOW + 65_000, SECONDS);
    assert_eq!(hear(&mut b, "a", one_more, NOW + 65_000), Ok(()));
}

#[test]
fn another_host_with_the_same_name_is_noticed() {
    let mut a = ledger("a", "");
    assert_eq!(hear(&mut a, "a", News::Here { run: 1 }, NOW), Ok(()));
    let other = News::Here { run: 2 };
    assert_eq!(hear(&mut a, "a", other, NOW), Err(Refusal::Twin));
}

#[test]
fn of_several_hosts_the_later_end_counts() {
    let mut c = ledger("c", "");
    let told = |left| grant("ssh", "192.0.2.7", Some("yves"), 60_000 - left, left);
    hear(&mut c, "a", told(40_000), NOW).unwrap();
    hear(&mut c, "b", told(50_000), NOW).unwrap();
    assert_eq!(until(&mut c, NOW), Some(Some(NOW + 50_000)));
    hear(&mut c, "a", told(45_000), NOW).unwrap();
    assert_eq!(until(&mut c, NOW), None, "nothing new");
    // A word that came later was said later; an older one changes nothing.
    hear(&mut c, "b", told(60_000), NOW + 30_000).unwrap();
    assert_eq!(until(&mut c, NOW + 30_000), Some(Some(NOW + 90_000)));
    hear(&mut c, "b", told(20_000), NOW + 30_000).unwrap();
    assert_eq!(until(&mut c, NOW + 30_000), None);
    assert_eq!(c.elsewhere(NOW + 30_000).count(), 1);
    assert_eq!(c.elsewhere(NOW + 90_000).count(), 0);
}

/// The news that `who` would tell now.
fn told(who: &mut Ledger, now: Moment) -> Vec<News> {
    let mut clock = Clock::default();
    clock.look(0, 0, 0, None);
    let items: Vec<Item> = std::mem::take(&mut who.to_tell).into_iter().collect();
    let tellings = items
        .iter()
        .filter_map(|item| who.telling(item, now, &clock, SECONDS));
    let texts = tellings.filter_map(|telling| telling.text);
    texts
        .map(|text| Message::parse(text.as_bytes()).unwrap().news)
        .collect()
}

#[test]
fn only_what_began_here_is_told() {
    let mut a = ledger("a", "");
    let source: IpAddr = "192.0.2.7".parse().unwrap();
    a.opened(&name("web"), &name("yves"), source, NOW);
    a.opened(&name("ssh"), &name("single"), source, NOW);
    a.opened(&name("ssh"), &name("nobody"), source, NOW);
    hear(&mut a, "b", grant("ssh", "192.0.2.8", None, 0, 60_000), NOW).unwrap();
    assert_eq!(told(&mut a, NOW), []);
    a.opened(&name("ssh"), &name("yves"), source, NOW);
    let news = grant("ssh", "192.0.2.7", Some("yves"), 500, 59_500);
    assert_eq!(told(&mut a, NOW + 500), [news]);
    a.tell_all();
    let news = grant("ssh", "192.0.2.7", Some("yves"), 1000, 59_000);
    assert_eq!(told(&mut a, NOW + 1000), [news]);
    a.tell_all();
    assert_eq!(told(&mut a, NOW + 60_000), []);
    // By hand, for longer than a day.
    a.grant(&name("ssh"), None, source, NOW, NOW + 3 * DAY);
    assert_eq!(told(&mut a, NOW), [grant("ssh", "192.0.2.7", None, 0, DAY)]);
}

#[test]
fn made_up_hosts_take_no_more_room_than_a_fleet_has() {
    let mut b = ledger("b", "");
    let news = || grant("ssh", "192.0.2.7", None, 0, 60_000);
    let refused = |b: &mut Ledger, from: usize| hear(b, &format!("host{from}"), news(), NOW);
    for from in 0..64 {
        assert_eq!(refused(&mut b, from), Ok(()));
    }
    assert_eq!(refused(&mut b, 64), Err(Refusal::Full));
    // A host that is known says more, and other sources have room of their own.
    assert_eq!(refused(&mut b, 63), Ok(()));
    let other = grant("ssh", "192.0.2.8", None, 0, 60_000);
    assert_eq!(hear(&mut b, "host64", other, NOW), Ok(()));
}

#[test]
fn hosts_that_are_silent_do_not_slow_those_that_are_there() {
    let mut b = ledger("b", "");
    for number in 0..1000 {
        let here = News::Here { run: 1 };
        hear(&mut b, &format!("host{number}"), here, NOW).unwrap();
    }
    assert_eq!(b.beat(NOW), 20_000);
    let minutes = |minutes: i64| NOW + minutes * 60_000;
    hear(&mut b, "a", News::Here { run: 1 }, minutes(4)).unwrap();
    assert_eq!(b.beat(minutes(4)), 20_020);
    assert_eq!(b.beat(minutes(5)), 2000);
    // They are still known: who looks wants to see who is gone.
    b.tidy(minutes(5), SECONDS);
    assert_eq!(b.hosts.len(), 1001);
}

/// An agent that was started anew knows the end of what it finds, and not whose it is.
#[test]
fn a_grant_that_was_made_shorter_is_shorter_where_the_agent_began_anew() {
    let place: (Name, IpNet) = (name("ssh"), "192.0.2.7/32".parse().unwrap());
    let mut b = ledger("b", "");
    b.found_elsewhere(place, NOW, NOW + 55_000);
    let news = grant("ssh", "192.0.2.7", None, 0, 10_000);
    hear(&mut b, "a", news, NOW).unwrap();
    assert_eq!(until(&mut b, NOW), Some(Some(NOW + 10_000)));
    // The same within a second: it is another grant, and the newer one.
    let longer = grant("ssh", "192.0.2.7", None, 0, 50_000);
    hear(&mut b, "a", longer.clone(), NOW + 500).unwrap();
    assert_eq!(until(&mut b, NOW + 500), Some(Some(NOW + 50_500)));
    let shorter = grant("ssh", "192.0.2.7", None, 0, 20_000);
    hear(&mut b, "a", shorter, NOW + 1000).unwrap();
    assert_eq!(until(&mut b, NOW + 1000), Some(Some(NOW + 21_000)));
    // Of another host the later end counts.
    hear(&mut b, "c", longer, NOW + 1000).unwrap();
    assert_eq!(until(&mut b, NOW + 1000), Some(Some(NOW + 51_000)));
}

#[test]
fn what_stood_still_loses_that_time_and_is_healed_by_who_gave_it() {
    let mut b = ledger("b", "");
    let news = grant("ssh", "192.0.2.7", None, 0, 60_000);
    hear(&mut b, "a", news, NOW).unwrap();
    b.take_work(NOW);
    b.shorten(30_000);
    assert_eq!(until(&mut b, NOW), Some(Some(NOW + 30_000)));
    let again = grant("ssh", "192.0.2.7", None, 5000, 55_000);
    hear(&mut b, "a", again, NOW + 5000).unwrap();
    assert_eq!(until(&mut b, NOW + 5000), Some(Some(NOW + 60_000)));
    b.rewrite_all();
    assert_eq!(until(&mut b, NOW + 6000), Some(Some(NOW + 60_000)));
}

/// nft deletes an opening only after it has added it; who hears of all that tells what is there at last.
#[test]
fn what_is_opened_by_hand_is_told_and_stays_told() {
    let mut a = ledger("a", "");
    let source: IpAddr = "192.0.2.7".parse().unwrap();
    a.grant(&name("ssh"), None, source, NOW, NOW + 60_000);
    a.forget_by_hand(&name("ssh"), source);
    let gone = Item::Gone(a.place(&name("ssh"), source), source);
    assert!(a.to_tell.contains(&gone));
    a.grant(&name("ssh"), None, source, NOW, NOW + 50_000);
    assert!(!a.to_tell.contains(&gone));
    assert_eq!(
        told(&mut a, NOW),
        [grant("ssh", "192.0.2.7", None, 0, 50_000)]
    );
}
