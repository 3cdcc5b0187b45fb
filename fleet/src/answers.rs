//! The answers of a [`Member`] to what comes from the engine.

use crate::connection::{PATIENCE, Teller};
use crate::exchange::{Heard, Look};
use crate::ledger::{Item, Refusal};
use crate::member::{BEAT, Member};
use crate::message::{Message, News};
use crate::own_clock::Now;
use crate::signature::verified;
use crate::take::{Taken, take};

/// The time until every host has noticed that the engine's clock was set, and takes what is said for new again, in
/// milliseconds.
const SETTLING: i64 = PATIENCE + 2 * BEAT;

/// Set by less than this, a clock is only corrected, in milliseconds.
const SLIGHT: i64 = 250;

impl Member {
    /// Takes in what the engine says.
    pub(crate) fn hear(&mut self, heard: Heard, now: Now) {
        let connection = &mut self.connection;
        match heard {
            Heard::Listening => {
                connection.is_listening = true;
                connection.unread = true;
            }
            Heard::Ready(look) => {
                connection.teller = Teller::Idle;
                connection.unread = true;
                self.looked(look);
            }
            Heard::Deaf(why) => {
                connection.is_listening = false;
                connection.unheard = None;
                connection.unread = true;
                self.broke(why);
            }
            Heard::Mute(why) => {
                connection.teller = Teller::Down;
                connection.unheard = None;
                connection.unread = true;
                self.broke(why);
            }
            Heard::Message(bytes) => self.take(&bytes, false, now),
            Heard::Kept { texts, last, cut } => {
                if cut {
                    self.say(
                        "the engine keeps more than can be read in two minutes, and not all was: give the \
                         fleet a database of its own",
                    );
                }
                for text in texts {
                    self.take(&text, true, now);
                }
                if last {
                    self.connection.teller = Teller::Idle;
                    self.connected(now);
                }
            }
            Heard::Told { look, refused, why } => {
                self.looked(look);
                let teller = std::mem::replace(&mut self.connection.teller, Teller::Idle);
                if let Teller::Telling(items) = teller {
                    self.kept(&items, &refused, why);
                }
            }
        }
    }

    /// These items were told; those at these places the engine would not keep: why.
    fn kept(&mut self, items: &[Item], refused: &[usize], why: Option<String>) {
        let unkept = refused
            .iter()
            .filter_map(|&place| items.get(place).cloned());
        self.due.unkept.extend(unkept);
        match why {
            Some(why) if self.due.why_unkept.as_ref() != Some(&why) => {
                self.say(format!(
                    "the engine does not keep what it is told: {why}; other hosts hear of it while they listen"
                ));
                self.due.why_unkept = Some(why);
            }
            None if !items.is_empty()
                && self.due.unkept.is_empty()
                && self.due.why_unkept.take().is_some() =>
            {
                self.say("the engine keeps again what it is told");
            }
            _ => {}
        }
    }

    fn looked(&mut self, look: Look) {
        let kept = self.offset(&look.offset);
        let looked = self.clock.look(look.asked, look.told, look.heard, kept);
        self.due.offset = looked.tell;
        if looked.set_back >= SLIGHT {
            self.say("the engine's clock was set back: the hosts of the fleet make up for it");
        }
        // A clock that is bent to be right again is set a little at each look.
        if looked.ahead < SLIGHT {
            return;
        }
        // Or this machine stood still, and so did what the kernel counts.
        self.ledger.shorten(looked.ahead);
        if self.due.all_at.is_some() {
            return;
        }
        self.say(
            "the engine's clock was set ahead, this machine stood still, or it is another engine: telling \
             and reading all again",
        );
        // At once, and when all others have noticed it too: until then they reckon with the old one.
        self.ledger.tell_all();
        self.connection.unread = true;
        self.due.all_at = Some(look.heard + SETTLING);
    }

    /// Both connections are there, and all that is kept was read.
    fn connected(&mut self, now: Now) {
        if self.connection.why.take().is_some() {
            self.say(format!("connected to {}", self.connection.engine));
        }
        self.ledger.tell_all();
        self.due.here = true;
        self.report(now.moment);
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
    fn take(&mut self, bytes: &[u8], kept: bool, now: Now) {
        let message = verified(self.ledger.rules.secret.as_ref(), bytes).and_then(Message::parse);
        let (ledger, clock) = (&mut self.ledger, &self.clock);
        let taken =
            message.map(|message| take(ledger, clock, &message, kept, now.moment, now.seconds));
        let why = match taken {
            Ok(Ok(Taken::In | Taken::Later)) => return,
            Ok(Ok(Taken::Own { lag, alive })) => {
                self.connection.lag = Some(lag);
                if alive {
                    self.connection.came_back(now.moment);
                }
                return;
            }
            Ok(Err(refusal)) => {
                self.due.to_come |= refusal == Refusal::ToCome;
                refusal.to_string()
            }
            Err(odd) => odd.to_string(),
        };
        self.refusals.note(why, now.moment);
    }
}
