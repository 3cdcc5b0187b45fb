//! A host as a state machine: events in, effects out, and nothing else.

use std::net::IpAddr;

use toctoc::policy::{Host, Name, Secrets, read_for};
use toctoc::ruleset::nftables::Listing;
use toctoc_fleet::connection::PATIENCE;
use toctoc_fleet::exchange::{Ask, Heard, Look};
use toctoc_fleet::ledger::Work;
use toctoc_fleet::member::{BEAT, Effect, End, Event, Member};
use toctoc_fleet::message::{Message, News};
use toctoc_fleet::own_clock::Now;
use toctoc_fleet::reading::{Contents, Done, Opening, Reading, Told};
use toctoc_fleet::rules::Rules;

const POLICY: &str = r#"
[fleet]
url = "redis://192.0.2.10"
name = "a"
share = ["ssh"]
accept = ["ssh"]
[door.ssh]
ports = [22]
[key.yves]
opens = ["ssh"]
sequence = [4431, 2387, 920]
"#;

const START: i64 = 1_000_000;

/// The engine's clock is ahead of this host's by so much.
const ENGINE: i64 = 987_654_321;

/// A host, and the time.
struct Play {
    member: Member,
    now: i64,
    /// The effects of its start, that nobody has looked at.
    begun: Vec<Effect>,
}

impl Play {
    fn begin(reading: Reading) -> Play {
        let host = Host {
            secrets: Secrets(None),
            ..Host::default()
        };
        let policy = read_for("p", POLICY, &host).unwrap_or_else(|report| panic!("{report}"));
        let rules = Rules::of(&policy).unwrap();
        let now = at(START);
        let (member, begun) = Member::begin(rules, 1, "the engine".into(), Ok(reading), now);
        Play {
            member,
            now: START,
            begun,
        }
    }

    /// One whose policy the kernel runs, connected, and that has told all there is.
    fn connected() -> Play {
        let mut play = Play::begin(ours());
        play.step(Event::Heard(Heard::Listening));
        let look = play.look(0);
        play.step(Event::Heard(Heard::Ready(look)));
        assert!(asked(&play.time(), |ask| matches!(ask, Ask::Read)));
        play.step(Event::Heard(Heard::Kept {
            texts: Vec::new(),
            last: true,
            cut: false,
        }));
        play.answer();
        play
    }

    fn step(&mut self, event: Event) -> Vec<Effect> {
        self.member.step(event, at(self.now))
    }

    fn time(&mut self) -> Vec<Effect> {
        self.step(Event::Time)
    }

    fn pass(&mut self, milliseconds: i64) -> Vec<Effect> {
        self.now += milliseconds;
        self.time()
    }

    /// A look at the engine's clock, which was set ahead by so much.
    fn look(&self, ahead: i64) -> Look {
        Look {
            asked: self.now,
            told: self.now + ENGINE + ahead,
            heard: self.now,
            offset: Vec::new(),
        }
    }

    /// The engine does what it is asked, as long as it is asked to be told something. Returns all of that.
    fn answer(&mut self) -> Vec<String> {
        let mut texts = Vec::new();
        loop {
            let told = self.time().into_iter().find_map(|effect| match effect {
                Effect::Ask(Ask::Tell(tellings)) => Some(tellings),
                _ => None,
            });
            let Some(told) = told else { return texts };
            texts.extend(told.into_iter().filter_map(|telling| telling.text));
            let look = self.look(0);
            self.step(Event::Heard(Heard::Told {
                look,
                refused: Vec::new(),
                why: None,
            }));
        }
    }

    /// Two seconds pass, and the engine takes what it is told. Returns all else.
    fn beat(&mut self) -> Vec<Effect> {
        let effects = self.pass(BEAT);
        if asked(&effects, |ask| matches!(ask, Ask::Tell(_))) {
            let look = self.look(0);
            self.step(Event::Heard(Heard::Told {
                look,
                refused: Vec::new(),
                why: None,
            }));
        }
        self.answer();
        effects
    }

    fn hear(&mut self, from: &str, news: News) -> Vec<Effect> {
        let message = Message::new(name(from), self.now + ENGINE, news);
        self.step(Event::Heard(Heard::Message(message.text().into_bytes())))
    }
}

fn at(moment: i64) -> Now {
    Now {
        moment,
        seconds: 1_783_350_030,
    }
}

fn ours() -> Reading {
    Reading::This(Box::new(Contents {
        listing: Listing::default(),
        asked: START,
        heard: START,
    }))
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn source() -> IpAddr {
    "192.0.2.7".parse().unwrap()
}

/// The kernel says that yves has let somebody in.
fn opening(since: i64) -> Event {
    Event::Told(Told {
        openings: vec![Opening {
            door: name("ssh"),
            key: name("yves"),
            source: source(),
            token: None,
        }],
        since,
        ..Told::default()
    })
}

fn grant() -> News {
    News::Grant {
        door: name("ssh"),
        source: source(),
        key: None,
        age: 0,
        left: 60_000,
    }
}

fn asked(effects: &[Effect], fits: impl Fn(&Ask) -> bool) -> bool {
    let mut effects = effects.iter();
    effects.any(|effect| matches!(effect, Effect::Ask(ask) if fits(ask)))
}

fn said(effects: &[Effect], words: &str) -> bool {
    let mut effects = effects.iter();
    effects.any(|effect| matches!(effect, Effect::Say(said) if said.contains(words)))
}

fn work(effects: Vec<Effect>) -> Option<Work> {
    let mut effects = effects.into_iter();
    effects.find_map(|effect| match effect {
        Effect::Work(work) => Some(work),
        _ => None,
    })
}

#[test]
fn an_opening_is_told_once_and_again_to_an_engine_that_comes_back() {
    let mut play = Play::connected();
    play.step(opening(play.now));
    let told = play.answer();
    assert!(
        told.iter().any(|text| text.contains("192.0.2.7")),
        "{told:?}"
    );
    assert_eq!(play.answer(), [""; 0]);
    // Both connections break, and come again.
    play.step(Event::Heard(Heard::Deaf("it broke".into())));
    let broke = play.step(Event::Heard(Heard::Mute("it broke".into())));
    assert!(!said(&broke, "it broke"), "it is said once");
    assert!(!asked(&play.pass(BEAT), |_| true));
    play.step(Event::Heard(Heard::Listening));
    let look = play.look(0);
    play.step(Event::Heard(Heard::Ready(look)));
    assert!(asked(&play.time(), |ask| matches!(ask, Ask::Read)));
    let connected = play.step(Event::Heard(Heard::Kept {
        texts: Vec::new(),
        last: true,
        cut: false,
    }));
    assert!(said(&connected, "connected to the engine"));
    let told = play.answer();
    assert!(
        told.iter().any(|text| text.contains("192.0.2.7")),
        "{told:?}"
    );
}

#[test]
fn the_word_of_another_host_is_work_for_the_kernel() {
    let mut play = Play::connected();
    play.hear("b", grant());
    let work = work(play.time()).unwrap();
    let until = play.now + 60_000;
    assert_eq!(work.elsewhere[0].1, Some(until));
    // It is not told again: that is for its host to do.
    let told = play.answer();
    assert!(
        !told.iter().any(|text| text.contains("192.0.2.7")),
        "{told:?}"
    );
}

#[test]
fn while_another_policy_runs_nothing_is_told_and_nothing_done() {
    let mut play = Play::begin(Reading::Another);
    assert!(said(&play.begun, "is not the one that runs"));
    play.step(Event::Heard(Heard::Listening));
    let look = play.look(0);
    play.step(Event::Heard(Heard::Ready(look)));
    play.time();
    play.step(Event::Heard(Heard::Kept {
        texts: Vec::new(),
        last: true,
        cut: false,
    }));
    play.step(opening(play.now));
    play.hear("b", grant());
    let effects = play.pass(BEAT);
    assert!(effects.contains(&Effect::Read), "it looks again");
    assert_eq!(work(effects), None);
    let told = play.answer();
    assert!(
        !told.iter().any(|text| text.contains("192.0.2.7")),
        "{told:?}"
    );
    // When it is ours it begins anew: what was heard before is to be done too.
    let effects = play.step(Event::Read(Ok(ours())));
    assert!(effects.contains(&Effect::End(End::Applied)));
}

#[test]
fn an_apply_ends_it() {
    let mut play = Play::connected();
    let effects = play.step(Event::Told(Told {
        applied: true,
        ..Told::default()
    }));
    assert_eq!(effects, [Effect::End(End::Applied)]);
}

#[test]
fn what_the_kernel_refuses_is_done_again_after_a_pause() {
    let mut play = Play::connected();
    play.hear("b", grant());
    let first = work(play.time()).unwrap();
    let effects = play.step(Event::Done(Done {
        again: first,
        failure: Some("no room".into()),
        ..Done::default()
    }));
    assert!(said(&effects, "no room") && effects.contains(&Effect::Read));
    assert_eq!(work(play.pass(500)), None);
    assert!(play.member.next() <= play.now + 500);
    let again = work(play.pass(500)).unwrap();
    assert_eq!(again.elsewhere.len(), 1);
    // It is said once a minute.
    let effects = play.step(Event::Done(Done {
        again,
        failure: Some("no room".into()),
        ..Done::default()
    }));
    assert!(!said(&effects, "no room"));
}

#[test]
fn what_was_lost_is_read() {
    let mut play = Play::connected();
    for event in [
        Event::Told(Told {
            lost: true,
            ..Told::default()
        }),
        Event::Seen(None),
    ] {
        let effects = play.step(event);
        assert!(said(&effects, "not all that happened was heard"));
        assert!(effects.contains(&Effect::Read));
    }
}

/// An engine that takes all and passes on nothing is no engine.
#[test]
fn a_host_that_does_not_hear_itself_goes_on_alone() {
    let mut play = Play::connected();
    let mut broke = Vec::new();
    let patience = PATIENCE / BEAT + 2;
    for _ in 0..patience {
        broke.extend(play.beat());
    }
    assert!(said(&broke, "it passes on nothing of what it is told"));
    // Its own word comes: nobody knows what was kept back meanwhile.
    play.hear("a", News::Here { run: 1 });
    assert!(asked(&play.time(), |ask| matches!(ask, Ask::Read)));

    // The twin: one that hears itself says nothing.
    let mut play = Play::connected();
    let mut effects = Vec::new();
    for _ in 0..patience {
        effects.extend(play.beat());
        effects.extend(play.hear("a", News::Here { run: 1 }));
    }
    assert!(!said(&effects, "passes on nothing"));
}

/// At once, and when every other host has noticed it too.
#[test]
fn after_the_clock_was_set_ahead_all_is_told_twice() {
    let mut play = Play::connected();
    play.step(opening(play.now));
    play.answer();
    play.now += BEAT;
    assert!(asked(&play.time(), |ask| matches!(ask, Ask::Tell(_))));
    let look = play.look(20_000);
    let effects = play.step(Event::Heard(Heard::Told {
        look,
        refused: Vec::new(),
        why: None,
    }));
    assert!(said(&effects, "set ahead"));
    let is_told = |play: &mut Play| {
        let kept = Event::Heard(Heard::Kept {
            texts: Vec::new(),
            last: true,
            cut: false,
        });
        // It reads first.
        if asked(&play.time(), |ask| matches!(ask, Ask::Read)) {
            play.step(kept);
        }
        let effects = play.time();
        let telling = effects.into_iter().find_map(|effect| match effect {
            Effect::Ask(Ask::Tell(tellings)) => Some(tellings),
            _ => None,
        });
        let look = play.look(20_000);
        play.step(Event::Heard(Heard::Told {
            look,
            refused: Vec::new(),
            why: None,
        }));
        let texts = telling
            .into_iter()
            .flatten()
            .filter_map(|telling| telling.text);
        texts.into_iter().any(|text| text.contains("192.0.2.7"))
    };
    assert!(is_told(&mut play));
    play.now += BEAT;
    assert!(!is_told(&mut play), "not yet again");
    play.now += PATIENCE + 2 * BEAT;
    assert!(is_told(&mut play));
}

/// The engine publishes what it does not keep: it is told again at the next beat, and people once.
#[test]
fn what_is_not_kept_is_told_again() {
    let mut play = Play::connected();
    play.step(opening(play.now));
    assert!(asked(&play.time(), |ask| matches!(ask, Ask::Tell(_))));
    let full = |play: &Play| {
        Event::Heard(Heard::Told {
            look: play.look(0),
            refused: vec![0],
            why: Some("it is full".into()),
        })
    };
    let event = full(&play);
    assert!(said(
        &play.step(event),
        "does not keep what it is told: it is full"
    ));
    assert_eq!(play.answer(), [""; 0]);
    play.now += BEAT;
    let told = play.answer();
    assert!(
        told.iter().any(|text| text.contains("192.0.2.7")),
        "{told:?}"
    );
}
