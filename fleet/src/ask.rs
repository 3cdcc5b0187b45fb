//! Questions to the engine, and why it may not answer.

use redis::{Cmd, Connection, RedisError, Value, cmd};

use crate::exchange::Look;
use crate::message::{CHANNEL, LONGEST, OFFSET, PREFIX};
use crate::own_clock::now;
use crate::tell::Telling;

const NONSENSE: &str = "it answers what no engine would";

const SENTINEL: &str = "it is a Sentinel, which keeps nothing: name the primary that it watches";

const CLUSTER: &str =
    "it is a node of a cluster, which keeps only a part: name an engine that stands alone";

/// The year 10000, in seconds since 1970.
const LATEST: i64 = 253_402_300_800;

/// So many names are asked for at once.
const PAGE: usize = 1000;

/// So many are read. No fleet has more.
const MOST_KEPT: usize = 1 << 20;

/// For so long, in milliseconds.
const LONGEST_READ: i64 = 120_000;

/// So long may it take until all of what was asked at once is answered, in milliseconds.
const LONGEST_EXCHANGE: i64 = 30_000;

/// Asks for the time there, and the offset that is kept.
pub(crate) fn look(connection: &mut Connection) -> Result<Look, String> {
    let asked = now();
    let mut bytes = cmd("TIME").get_packed_command();
    beginning(OFFSET.as_bytes()).write_packed_command(&mut bytes);
    let answers = answers(connection, &bytes, 2)?;
    let heard = now();
    let [time, offset] = <[Value; 2]>::try_from(answers).map_err(|_| NONSENSE)?;
    if let Value::ServerError(error) = time {
        return Err(words(&RedisError::from(error)));
    }
    let (seconds, microseconds): (i64, i64) =
        redis::from_redis_value(time).map_err(|_| NONSENSE)?;
    if !(0..LATEST).contains(&seconds) {
        return Err("it tells a time that makes no sense".to_string());
    }
    Ok(Look {
        asked,
        told: seconds
            .saturating_mul(1000)
            .saturating_add(microseconds / 1000),
        heard,
        offset: text(offset)?.unwrap_or_default(),
    })
}

/// Why a command failed. What makes no sense otherwise may come from a Sentinel: it answers to some commands of an
/// engine, and not to others. Each user may ask that.
pub(crate) fn why(connection: &mut Connection, error: String) -> String {
    if error != NONSENSE {
        return error;
    }
    let mode = cmd("HELLO")
        .query(connection)
        .ok()
        .and_then(|told: Value| mode(&told));
    match mode.as_deref() {
        Some("sentinel") => SENTINEL.to_string(),
        Some("cluster") => CLUSTER.to_string(),
        _ => error,
    }
}

/// The mode that an engine says it is in: the value after `mode`.
fn mode(told: &Value) -> Option<String> {
    let Value::Array(told) = told else {
        return None;
    };
    let text = |value: &Value| redis::from_redis_value_ref::<String>(value).ok();
    let mut pairs = told.chunks_exact(2);
    let found = pairs.find(|pair| text(&pair[0]).as_deref() == Some("mode"))?;
    text(&found[1])
}

/// Tells all of it at once. Returns what the engine did not keep, and why.
pub(crate) fn publish(
    connection: &mut Connection,
    tellings: &[Telling],
) -> Result<(Vec<usize>, Option<String>), String> {
    if tellings.is_empty() {
        return Ok((Vec::new(), None));
    }
    let mut bytes = Vec::new();
    let mut keeping = Vec::new();
    let mut count = 0;
    for telling in tellings {
        let Telling { key, text, lasting } = telling;
        let Some(text) = text else {
            cmd("DEL").arg(key).write_packed_command(&mut bytes);
            count += 1;
            keeping.push(None);
            continue;
        };
        let mut keep = cmd("SET");
        keep.arg(key).arg(text);
        if let Some(lasting) = lasting {
            keep.arg("PX").arg((*lasting).max(1));
        }
        let mut publish = Cmd::new();
        publish.arg("PUBLISH").arg(CHANNEL).arg(text);
        // Those who listen hear of it also when the engine has no room to keep it.
        publish.write_packed_command(&mut bytes);
        keep.write_packed_command(&mut bytes);
        keeping.push(Some(count + 1));
        count += 2;
    }
    let answers = answers(connection, &bytes, count)?;
    let mut why = None;
    let mut refused = Vec::new();
    for (place, at) in keeping.iter().enumerate() {
        let answers = at.map(|at| (answers.get(at), answers.get(at.saturating_sub(1))));
        let Some((kept, published)) = answers else {
            continue;
        };
        for answer in [kept, published] {
            if let Some(Value::ServerError(error)) = answer {
                refused.push(place);
                why = Some(words(&RedisError::from(error.clone())));
            }
        }
    }
    refused.dedup();
    Ok((refused, why))
}

/// Reads all that is kept, page after page; `tell` says whether anybody is still there, which is returned.
pub(crate) fn read(
    connection: &mut Connection,
    mut tell: impl FnMut(Vec<Vec<u8>>, bool, bool) -> bool,
) -> Result<bool, String> {
    let mut cursor = 0_u64;
    let mut count = 0;
    let until = now() + LONGEST_READ;
    loop {
        let (next, names): (u64, Vec<Vec<u8>>) = cmd("SCAN")
            .arg(cursor)
            .arg("MATCH")
            .arg(format!("{PREFIX}*"))
            .arg("COUNT")
            .arg(PAGE)
            .query(connection)
            .map_err(|error| words(&error))?;
        count += names.len();
        let texts = beginnings(connection, &names)?;
        let cut = next != 0 && (count > MOST_KEPT || now() > until);
        let last = next == 0 || cut;
        if !tell(texts, last, cut) {
            return Ok(false);
        }
        if last {
            return Ok(true);
        }
        cursor = next;
    }
}

/// The texts of these names, each as far as any message goes and a byte more, which tells that it is too long.
fn beginnings(connection: &mut Connection, names: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, String> {
    let mut bytes = Vec::new();
    for name in names {
        beginning(name).write_packed_command(&mut bytes);
    }
    let mut texts = Vec::new();
    for answer in answers(connection, &bytes, names.len())? {
        texts.extend(text(answer)?);
    }
    Ok(texts)
}

fn beginning(name: &[u8]) -> Cmd {
    let mut get = cmd("GETRANGE");
    get.arg(name).arg(0).arg(LONGEST);
    get
}

/// The text kept under a name; `None` when it is gone.
fn text(answer: Value) -> Result<Option<Vec<u8>>, String> {
    match answer {
        // A text that has gone meanwhile is empty: it is over.
        Value::BulkString(text) => Ok((!text.is_empty()).then_some(text)),
        Value::ServerError(error) if error.code() != "WRONGTYPE" => {
            Err(words(&RedisError::from(error)))
        }
        // Not even a text: what it is nobody wants to know, but it is refused.
        _ => Ok(Some(Vec::new())),
    }
}

/// Sends commands and reads what is answered to each. Gives up at the first that does not come: the library would
/// wait for each of the others too.
fn answers(connection: &mut Connection, bytes: &[u8], count: usize) -> Result<Vec<Value>, String> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let until = now() + LONGEST_EXCHANGE;
    let mut read = || {
        connection.send_packed_command(bytes)?;
        let mut answers = Vec::with_capacity(count);
        while answers.len() < count && now() < until {
            answers.push(connection.recv_response()?);
        }
        Ok(answers)
    };
    let answers = read().map_err(|error: RedisError| words(&error))?;
    match answers.len() == count {
        true => Ok(answers),
        false => Err("it takes too long to answer".to_string()),
    }
}

/// Why it did not work. Nothing that was sent is repeated.
pub(crate) fn words(error: &RedisError) -> String {
    let told = match error.code() {
        Some("WRONGPASS") => {
            "it refuses the password (when its file is right, start `toctoc fleet` anew)"
        }
        Some("NOAUTH") => "it asks for a password",
        Some("NOPERM") => "it does not permit its user what is needed (docs/fleet.md says what)",
        Some("OOM") => "it is full",
        Some("READONLY") => "it is a replica, and only its primary can be told anything",
        Some("MISCONF") => "it cannot write to its disk, and takes nothing",
        Some("LOADING") => "it is just starting",
        Some("MOVED" | "ASK" | "CLUSTERDOWN" | "CROSSSLOT" | "TRYAGAIN") => CLUSTER,
        _ if error.is_timeout() => "it does not answer",
        _ if error.is_connection_refusal() => "nothing listens there",
        _ if error.is_io_error() => "the connection broke",
        _ => NONSENSE,
    };
    match std::error::Error::source(error).or(Some(error)) {
        Some(error) if told == "the connection broke" => {
            let plain = |c: char| {
                if c == ' ' || c.is_ascii_graphic() {
                    c
                } else {
                    '?'
                }
            };
            let detail: String = error.to_string().chars().take(120).map(plain).collect();
            format!("{told}: {detail}")
        }
        _ => told.to_string(),
    }
}
