//! Which tokens the kernel holds, whatever happens to the table, the clock or the state file in between:
//! none that was spent, and all others.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use toctoc::client::Door;
use toctoc::firewall::tokens::clocks;
use toctoc::lab::{CLIENT, STRANGER};
use toctoc::ruleset::nftables::{Listing, loaded};
use toctoc::single_use::journal::Clocks;
use toctoc::single_use::{Token, Window, token};

use crate::apply_under_stress::Stop;
use crate::token_world::{
    ALICE, OTHER, PORT, SECRET, good, guarded, guarded_without_a_wait, now, secret,
};
use crate::world::World;

/// Tokens are spent, and sent again, while the policy is applied and tokens are refilled: none opens a
/// second time, none is lost.
#[test]
fn applies_and_refills_while_tokens_are_spent_lose_none_and_revive_none() {
    let world = guarded();
    let changed = format!("ignore = [80]\n{ALICE}");
    let times: u32 = std::env::var("APPLIES").map_or(200, |number| number.parse().unwrap());
    let stop = AtomicBool::new(false);
    let spent = AtomicUsize::new(0);
    // Far enough ahead that none ends meanwhile, and within the horizon.
    let base = Window::at(now()).0 + 30;
    let of = |number: usize| {
        token(
            &secret(SECRET),
            Window(base + number as u64 / 4),
            (number % 4) as u32,
        )
    };
    let source =
        |number: usize, replay: u32| Ipv4Addr::from(0x0a00_0000 + (replay << 16) + number as u32);
    thread::scope(|scope| {
        scope.spawn(|| {
            world.inject(|injector| {
                for number in 0..1200 {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    injector.datagram(source(number, 0).into(), 4000, PORT, &of(number).0);
                    for old in [number, number / 2, number / 3] {
                        injector.datagram(source(old, 1).into(), 4000, PORT, &of(old).0);
                    }
                    spent.store(number + 1, Ordering::Relaxed);
                    // Spread over the whole time: what is sent after the last apply shows less.
                    thread::sleep(Duration::from_millis(40));
                }
            });
        });
        let _stop = Stop(&stop);
        let mut dice = 7_u32;
        for _ in 0..times {
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            match dice >> 30 {
                0 | 1 => world.yes(&["refill"]),
                2 => world.apply(ALICE),
                _ => world.apply(&changed),
            };
        }
    });
    let spent = spent.load(Ordering::Relaxed);
    assert!(spent > 100, "{spent}");
    world.until("all are listed", || world.holders("ssh").len() >= spent);
    let mut holders: Vec<u32> = world
        .holders("ssh")
        .iter()
        .map(|(source, _)| u32::from(source.parse::<Ipv4Addr>().unwrap()))
        .collect();
    holders.sort_unstable();
    let wanted: Vec<u32> = (0..spent)
        .map(|number| u32::from(source(number, 0)))
        .collect();
    assert_eq!(holders, wanted);
    println!("{spent} tokens were spent during {times} applies and refills");
}

/// The right windows are there an hour later, after a clock that was wrong, and after hours without a
/// refill; and not what was spent.
#[test]
fn refills_follow_the_clock() {
    let world = guarded();
    let began = clocks();
    let spent = good(0);
    world.send(CLIENT[0], &spent.0);
    world.yes(&["close"]);
    // The machine's own clock goes on meanwhile, or does not.
    for (seconds, since_start) in [
        (3600, 3600),
        (9 * 3600, 9 * 3600),
        (-3600, 60),
        (7200, 120),
        (200, 200),
    ] {
        let clocks = Clocks {
            now: began.now + seconds,
            since_start: began.since_start + Duration::from_secs(since_start),
            // No time passes for the kernel: the first is a suspend.
            ..began
        };
        world.refill_at(clocks);
        assert_eq!(world.refill_at(clocks).added, 0);
        let minute = Window::at(clocks.now).0;
        for (away, door) in [
            (3, Door::Open),
            (359, Door::Open),
            (361, Door::Silent),
            (-4, Door::Silent),
        ] {
            let token = token(&secret(SECRET), Window(minute.wrapping_add_signed(away)), 2);
            world.send(STRANGER[0], &token.0);
            assert_eq!(
                world.connect(STRANGER[0], 22),
                door,
                "{seconds} s, window {away}"
            );
            world.yes(&["close"]);
        }
        world.send(STRANGER[0], &spent.0);
        assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    }
}

#[test]
fn status_says_how_long_tokens_last_and_warns() {
    let world = guarded();
    let said = world.yes(&["status"]);
    assert!(
        said.contains("alice        no opening counted, tokens for 6h"),
        "{said}"
    );
    assert!(!said.contains(&good(0).hex()) && !said.contains(SECRET));
    // What an hour's refill leaves is less than a quarter of six.
    let text = std::fs::read_to_string(world.path()).unwrap();
    std::fs::write(world.path(), format!("token_horizon = \"1h\"\n{text}")).unwrap();
    world.forget_what_was_applied();
    world.yes(&["refill"]);
    std::fs::write(world.path(), text).unwrap();
    let output = world.toctoc(&["status"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("only: `toctoc refill` loads more"), "{said}");
    world.yes(&["refill"]);
    world.yes(&["status"]);
}

/// Only where there is a place for tokens.
#[test]
fn refill_says_when_nothing_is_applied() {
    let world = World::bare();
    world.private_file("alice.secret", SECRET);
    std::fs::write(world.path(), ALICE).unwrap();
    let output = world.toctoc(&["refill"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("apply the policy first"), "{said}");
    assert!(!world.state_directory().exists());
}

/// The tokens that the kernel holds, against those that it should: all tokens of these secrets from a window on up to
/// the horizon, each with the time that is left of it, but for those that were spent.
fn holds_what_it_should(world: &World, secrets: &[&str], from: u64, spent: &[Token], what: &str) {
    let now = now();
    let listed = world.server(&["nft", "-j", "list", "map", "inet", "toctoc", "tokens"]);
    let mut held = loaded(&Listing::parse(&listed).unwrap()).unwrap();
    let current = Window::at(now).0;
    for text in secrets {
        // The minute may have changed since.
        for window in (current - 1).max(from)..current + 360 {
            for number in 0..4 {
                let token = token(&secret(text), Window(window), number);
                let Some(found) = held.remove(&token) else {
                    assert!(spent.contains(&token), "{what}: {}", window - current);
                    continue;
                };
                assert!(!spent.contains(&token), "{what}");
                let wanted = Window(window).over() - now;
                let left = found.expires_in.unwrap().as_secs() as i64;
                assert!((left - wanted).abs() < 20, "{what}: {left} s for {wanted}");
                assert_eq!(found.id, secret(text).id(), "{what}");
            }
        }
    }
    // What is left is of the window before and the one after these.
    assert!(held.len() <= 12 * secrets.len(), "{what}: {}", held.len());
    assert!(held.values().all(|token| token.expires_in.is_some()));
}

/// Whose her tokens are, as nft writes it.
fn alice() -> String {
    let id = secret(SECRET).id();
    format!("{:x}:{:x}", id >> 16, id & 0xffff)
}

#[test]
fn a_refill_loads_what_is_missing_and_nothing_twice() {
    let world = guarded_without_a_wait();
    let began = clocks();
    // The next minute has another one.
    let spent = good(0);
    world.send(CLIENT[0], &spent.0);
    for minutes in [0, 1, 15, 16, 359] {
        let passed = Duration::from_secs(60 * minutes);
        let later = Clocks {
            now: began.now + passed.as_secs() as i64,
            since_start: began.since_start + passed,
            awake: began.awake + passed,
        };
        let before = world.server(&["nft", "-j", "list", "map", "inet", "toctoc", "tokens"]);
        let before = loaded(&Listing::parse(&before).unwrap()).unwrap();
        let done = world.refill_at(later);
        let after = world.server(&["nft", "-j", "list", "map", "inet", "toctoc", "tokens"]);
        let after = loaded(&Listing::parse(&after).unwrap()).unwrap();
        assert!(!done.all, "{minutes}");
        assert_eq!(after.len(), before.len() + done.added, "{minutes}");
        assert!(before.keys().all(|token| after.contains_key(token)));
        assert!(!after.contains_key(&spent));
        assert_eq!(world.refill_at(later).added, 0, "{minutes}");
    }
}

/// Whatever happened to the map or to what was noted of it.
#[test]
fn a_refill_finds_out_what_is_not_as_it_was_left() {
    let expires = |at: &str| ALICE.replace("open_for", &format!("expires = {at}\nopen_for"));
    let bob = format!("{ALICE}\n[key.bob]\nopens = [\"ssh\"]\ntoken = \"bob.secret\"\n");
    for damage in [
        "the map is flushed",
        "the last window is gone",
        "the state file is gone",
        "another life",
        "a key more",
        "a key less",
        "a key expires",
        "the horizon was longer",
    ] {
        let world = guarded_without_a_wait();
        world.private_file("bob.secret", OTHER);
        if damage == "a key less" {
            world.apply(&bob);
        }
        let spent = [good(0), token(&secret(SECRET), Window::at(now()), 0)];
        for token in &spent {
            world.send(CLIENT[0], &token.0);
        }
        let current = Window::at(now()).0;
        let mut from = 0;
        let mut secrets = vec![SECRET];
        match damage {
            "the map is flushed" => world.nft("flush map inet toctoc tokens\n"),
            "the last window is gone" => {
                for token in (0..12).map(|number| {
                    let window = Window(current + 359 + number / 4);
                    token(&secret(SECRET), window, number as u32 % 4).hex()
                }) {
                    world.nft(&format!(
                        "add element inet toctoc tokens {{ 0x{token} timeout 1h : {} }}\n\
                         delete element inet toctoc tokens {{ 0x{token} }}\n",
                        alice()
                    ));
                }
            }
            "the state file is gone" => {
                std::fs::remove_file(world.state_directory().join("state.json")).unwrap();
                from = current + 3;
            }
            "another life" => {
                world.nft("flush set inet toctoc spent\n");
                from = current + 3;
            }
            "a key more" => {
                std::fs::write(world.path(), &bob).unwrap();
                secrets.push(OTHER);
            }
            "a key less" => std::fs::write(world.path(), ALICE).unwrap(),
            "a key expires" => std::fs::write(world.path(), expires("2099-01-01")).unwrap(),
            _ => {
                let longer = format!("token_horizon = \"12h\"\n{ALICE}");
                world.apply(&longer);
                std::fs::write(world.path(), ALICE).unwrap();
            }
        }
        // What was spent under a table or a file that is gone is known by the other, or barred.
        let spent: Vec<Token> = match damage {
            "the state file is gone" => vec![good(0)],
            "another life" => vec![],
            _ => spent.to_vec(),
        };
        // Where nothing is noted, the file is what a refill goes by.
        world.forget_what_was_applied();
        let output = world.toctoc(&["refill"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("loaded all "), "{damage}: {said}");
        if damage != "another life" {
            holds_what_it_should(&world, &secrets, from, &spent, damage);
        }
        let said = world.yes(&["refill"]);
        assert!(!said.contains("all"), "{damage}: {said}");
        for token in &spent {
            world.send(STRANGER[0], &token.0);
        }
        assert_eq!(world.connect(STRANGER[0], 22), Door::Silent, "{damage}");
        world.send(STRANGER[0], &good(1).0);
        assert_eq!(world.connect(STRANGER[0], 22), Door::Open, "{damage}");
    }
}

/// A token of a window to come is there already, and said to be another's.
#[test]
fn a_refill_that_cannot_add_loads_all() {
    let world = guarded_without_a_wait();
    let began = clocks();
    let next = token(&secret(SECRET), Window(Window::at(began.now).0 + 362), 0);
    let element = format!("{{ 0x{} timeout 1h : 1:1 }}", next.hex());
    world.nft(&format!("add element inet toctoc tokens {element}\n"));
    let passed = Duration::from_secs(180);
    let later = Clocks {
        now: began.now + 180,
        since_start: began.since_start + passed,
        awake: began.awake + passed,
    };
    assert!(world.refill_at(later).all);
    assert!(!world.refill_at(later).all);
    world.send(CLIENT[0], &next.0);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
}

/// Elements that no refill looks for are removed by an apply.
#[test]
fn an_apply_takes_away_what_others_have_loaded() {
    let world = guarded_without_a_wait();
    let endless = good(2).hex();
    let id = alice();
    world.nft(&format!(
        "delete element inet toctoc tokens {{ 0x{endless} }}\n\
         add element inet toctoc tokens {{ 0x77 timeout 1h : {id}, 0x78 timeout 1h : 1:1 }}\n\
         add element inet toctoc tokens {{ 0x{endless} : {id}, 0x79 : {id} }}\n"
    ));
    let output = world.toctoc(&["status"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for wanted in [
        "map tokens has 3 tokens that no key of this policy has",
        "map tokens has 1 token that never ends",
    ] {
        assert!(said.contains(wanted), "{said}");
    }
    assert!(!said.contains(&endless), "{said}");
    world.yes(&["apply"]);
    world.yes(&["status"]);
    holds_what_it_should(&world, &[SECRET], 0, &[], "applied");
    world.send(STRANGER[0], &Token::from_hex("79").unwrap().0);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
}

/// The kernel's timeouts stand still while a machine sleeps, and go on when a clock is set. That is how
/// things are here, too: the tokens were loaded at another time than now, of which the kernel knows
/// nothing; the refill that follows is the real one.
#[test]
fn after_a_suspend_or_a_step_of_the_clock_refill_loads_the_right_tokens() {
    for (what, seconds, since_start) in [
        ("an hour's sleep", -3600_i64, -3600_i64),
        ("a night's sleep", -36_000, -36_000),
        ("a step forward", -3600, 0),
        ("a step back", 3600, 0),
    ] {
        let world = guarded_without_a_wait();
        let now = clocks();
        let then = Clocks {
            now: now.now + seconds,
            since_start: now
                .since_start
                .saturating_sub(Duration::from_secs(since_start.unsigned_abs())),
            ..now
        };
        assert!(world.refill_at(then).all, "{what}");
        let spent = good(0);
        let there = world.server(&["nft", "list", "map", "inet", "toctoc", "tokens"]);
        world.send(CLIENT[0], &spent.0);
        let spent: Vec<Token> = match there.contains(spent.hex().trim_start_matches('0')) {
            true => vec![spent],
            false => vec![],
        };
        let said = world.yes(&["refill"]);
        assert!(said.contains("loaded all 1"), "{what}: {said}");
        holds_what_it_should(&world, &[SECRET], 0, &spent, what);
        let old = token(&secret(SECRET), Window(Window::at(then.now).0), 1);
        if seconds < 0 {
            world.send(STRANGER[0], &old.0);
            assert_eq!(world.connect(STRANGER[0], 22), Door::Silent, "{what}");
        }
        let said = world.yes(&["refill"]);
        assert!(said.contains("no token had to be loaded"), "{said}");
    }
}
