//! The agent's answers to what comes from the engine.

use crate::agent::{Agent, BEAT, PATIENCE, Teller, seconds};
use crate::clock::Moment;
use crate::engine::{Heard, Look, now};
use crate::ledger::Refusal;
use crate::message::{Message, News};
use crate::signature::verified;
use crate::take::{Taken, take};

/// The time until every host has noticed that the engine's clock was set, and takes what is said for new again, in
/// milliseconds.
const SETTLING: i64 = PATIENCE + 2 * BEAT;

/// Set by less than this, a clock is only corrected, in milliseconds.
const SLIGHT: i64 = 250;

impl Agent<'_> {
    pub(crate) fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Listening => {
                self.listening = true;
                self.unread = true;
            }
            Heard::Ready(look) => {
                self.looked(look);
                self.teller = Teller::Idle;
                self.unread = true;
            }
            Heard::Deaf(why) => {
                self.listening = false;
                self.unheard = None;
                self.unread = true;
                self.broke(why);
            }
            Heard::Mute(why) => {
                self.teller = Teller::Down;
                self.unheard = None;
                self.unread = true;
                self.broke(why);
            }
            Heard::Message(bytes) => self.take(&bytes, false),
            Heard::Kept { texts, last, cut } => {
                if cut {
                    (self.say)(
                        "the engine keeps more than can be read in two minutes, and not all was: give the \
                         fleet a database of its own",
                    );
                }
                for text in texts {
                    self.take(&text, true);
                }
                if last {
                    self.teller = Teller::Idle;
                    self.connected();
                }
            }
            Heard::Told { look, refused, why } => {
                self.looked(look);
                if let Teller::Telling(items) = std::mem::replace(&mut self.teller, Teller::Idle) {
                    let unkept = refused
                        .iter()
                        .filter_map(|&place| items.get(place).cloned());
                    let told = items.len();
                    self.unkept.extend(unkept);
                    match why {
                        Some(why) if self.why_unkept.as_ref() != Some(&why) => {
                            (self.say)(&format!(
                                "the engine does not keep what it is told: {why}; other hosts hear of \
                                 it while they listen"
                            ));
                            self.why_unkept = Some(why);
                        }
                        None if told > 0
                            && self.unkept.is_empty()
                            && self.why_unkept.take().is_some() =>
                        {
                            (self.say)("the engine keeps again what it is told");
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    fn looked(&mut self, look: Look) {
        let kept = self.offset(&look.offset);
        let looked = self.clock.look(look.asked, look.told, look.heard, kept);
        self.is_untold = looked.tell;
        if looked.set_back >= SLIGHT {
            (self.say)("the engine's clock was set back: the hosts of the fleet make up for it");
        }
        // A clock that is bent to be right again is set a little at each look.
        if looked.ahead < SLIGHT {
            return;
        }
        // Or this machine stood still, and so did what the kernel counts.
        self.ledger.shorten(looked.ahead);
        if self.tell_all_at.is_some() {
            return;
        }
        (self.say)(
            "the engine's clock was set ahead, this machine stood still, or it is another engine: telling \
             and reading all again",
        );
        // At once, and when all others have noticed it too: until then they reckon with the old one.
        self.ledger.tell_all();
        self.unread = true;
        self.tell_all_at = Some(look.heard + SETTLING);
    }

    /// Notes that this host has heard what it said.
    fn came_back(&mut self, now: Moment) {
        if self.is_unheard(now) {
            // Nobody knows what was kept back meanwhile.
            self.unread = true;
        }
        self.unheard = None;
    }

    pub(crate) fn broke(&mut self, why: String) {
        if self.why.as_ref() != Some(&why) {
            (self.say)(&format!(
                "{}: {why}; this host goes on by itself",
                self.engine
            ));
        }
        self.lag = None;
        self.why = Some(why);
    }

    /// Both connections are there, and all that is kept was read.
    fn connected(&mut self) {
        if self.why.take().is_some() {
            (self.say)(&format!("connected to {}", self.engine));
        }
        self.ledger.tell_all();
        self.unsaid = true;
        self.report();
    }

    /// The offset of the fleet's clock that the engine keeps.
    fn offset(&self, text: &[u8]) -> Option<i64> {
        let secret = self.ledger.rules.secret.as_ref();
        let message = verified(secret, text).and_then(Message::parse).ok()?;
        match message.news {
            News::Offset { by } => Some(by),
            _ => None,
        }
    }

    /// Takes in what somebody has said, now or (when it was kept) some time ago.
    fn take(&mut self, bytes: &[u8], kept: bool) {
        let now = now();
        let message = verified(self.ledger.rules.secret.as_ref(), bytes).and_then(Message::parse);
        let refused = match message {
            Err(odd) => odd.to_string(),
            Ok(message) => {
                let (ledger, clock) = (&mut self.ledger, &self.clock);
                match take(ledger, clock, &message, kept, now, seconds()) {
                    Ok(Taken::Own { lag, alive }) => {
                        self.lag = Some(lag);
                        if alive {
                            self.came_back(now);
                        }
                        return;
                    }
                    Ok(Taken::In | Taken::Later) => return,
                    Err(refusal) => {
                        self.to_come |= refusal == Refusal::ToCome;
                        refusal.to_string()
                    }
                }
            }
        };
        self.all_refused += 1;
        self.last_refused = Some((refused.clone(), now));
        self.refused.entry(refused).or_insert((0, Moment::MIN)).0 += 1;
    }
}
