//! A word of the fleet, taken in: when it was said by this host's clock, and what follows. Pure.

use crate::clock::{Clock, Moment};
use crate::ledger::{Ledger, Refusal};
use crate::message::{Message, News};

/// The meaning of a word for the host that listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It was for the ledger, or for nobody any more.
    In,
    /// Nobody knows how old it is, since the engine's clock was not looked at yet. It is kept, and read then.
    Later,
    /// It is this host's own, and was so long under way, in milliseconds; `alive`: it says that this agent is there.
    Own { lag: i64, alive: bool },
}

/// No host says that it is there so long ago, in milliseconds: it is said again by somebody else.
const STALE: i64 = 60_000;

/// Takes in what somebody has said: now, or (when it was `kept`) some time ago. `seconds` is the time since 1970.
///
/// # Errors
/// When it does not count here.
pub fn take(
    ledger: &mut Ledger,
    clock: &Clock,
    message: &Message,
    kept: bool,
    now: Moment,
    seconds: i64,
) -> Result<Taken, Refusal> {
    let Some(since) = clock.since(message.at, now) else {
        return Ok(Taken::Later);
    };
    let own = message.from == ledger.rules.me;
    match message.news {
        // An agent that is no more.
        News::Here { .. } if own && (kept || since.0 > STALE) => return Ok(Taken::In),
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
