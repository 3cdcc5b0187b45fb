//! What the agent makes of what comes from the engine.

use super::agent::{Agent, Teller, seconds};
use super::engine::{Heard, Look, now};
use super::message::{Message, News};

impl Agent<'_> {
    pub(super) fn hear(&mut self, heard: Heard) {
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
                self.unread = true;
                self.broke(why);
            }
            Heard::Mute(why) => {
                self.teller = Teller::Down;
                self.unread = true;
                self.broke(why);
            }
            Heard::Message(bytes) => self.take(&bytes, false),
            Heard::Kept { texts, last } => {
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
                    let before = self.unkept.len();
                    self.unkept.extend(unkept);
                    if let Some(why) = why.filter(|_| before == 0) {
                        (self.say)(&format!(
                            "the engine does not keep what it is told: {why}; other hosts hear of it \
                             while they listen"
                        ));
                        self.why = Some(why);
                    }
                }
            }
        }
    }

    fn looked(&mut self, look: Look) {
        self.clock.look(look.asked, look.told, look.heard);
    }

    fn broke(&mut self, why: String) {
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
    }

    /// Takes in what somebody has said, now or (when it was kept) some time ago.
    fn take(&mut self, bytes: &[u8], kept: bool) {
        let now = now();
        let refused = match Message::parse(bytes) {
            Err(odd) => odd.to_string(),
            Ok(message) => {
                let Some(since) = self.clock.since(message.at, now) else {
                    // It is kept, and read when the engine's clock is known.
                    return;
                };
                if message.from == self.ledger.rules.me {
                    if !kept {
                        self.lag = Some(since.1);
                    } else if matches!(message.news, News::Here { .. }) {
                        // An agent that is no more.
                        return;
                    }
                }
                match self.ledger.hear(&message, since, now, seconds()) {
                    Ok(()) => return,
                    Err(refusal) => refusal.to_string(),
                }
            }
        };
        self.all_refused += 1;
        self.last_refused = Some(refused.clone());
        *self.refused.entry(refused).or_default() += 1;
    }
}
