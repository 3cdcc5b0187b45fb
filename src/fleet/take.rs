//! A word of the fleet, taken in: when it was said by this host's clock, and what follows. Pure.

use super::clock::{Clock, Moment};
use super::ledger::{Ledger, Refusal};
use super::message::{Message, News};

/// What a word was for whoever listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It was for the ledger or the clock.
    In,
    /// Nobody knows how old it is, since the engine's clock was not looked at yet. It is kept, and read then.
    Later,
    /// It is this host's own, and was so long under way, in milliseconds; `alive`: it says that this agent is there.
    Own { lag: i64, alive: bool },
}

/// Takes in what somebody has said: now, or (when it was `kept`) some time ago. `seconds` is the time since 1970.
///
/// # Errors
/// When it does not count here.
pub fn take(
    ledger: &mut Ledger,
    clock: &mut Clock,
    message: &Message,
    kept: bool,
    now: Moment,
    seconds: i64,
) -> Result<Taken, Refusal> {
    let since = match message.news {
        // It says when, and how long it was under way.
        News::Here { .. } | News::SetBack { .. } => clock.span(message.at, now),
        _ => clock.since(message.at, kept, now),
    };
    let Some(since) = since else {
        return Ok(Taken::Later);
    };
    let own = message.from == ledger.rules.me;
    match message.news {
        News::SetBack { by, before, ago } => {
            let noticed = now.saturating_sub(since.0).saturating_sub(ago);
            let grown = clock.learn_set_back(by, before, noticed);
            if grown > 0 {
                ledger.shorten_what_was_heard(grown);
            }
            return Ok(Taken::In);
        }
        // An agent that is no more.
        News::Here { .. } if own && kept => return Ok(Taken::In),
        News::Grant { .. } if clock.is_to_come(message.at, now) => return Err(Refusal::ToCome),
        _ => {}
    }
    ledger.hear(message, since, now, seconds)?;
    match own && !kept {
        true => Ok(Taken::Own {
            lag: since.1,
            alive: matches!(message.news, News::Here { run } if run == ledger.run),
        }),
        false => Ok(Taken::In),
    }
}
