//! Durations on the command line.

use std::time::Duration;

use crate::policy::show;

/// Reads a duration that lies between two others.
///
/// # Errors
/// A sentence.
pub(super) fn between(
    text: &str,
    shortest: Duration,
    longest: Duration,
) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|_| format!("`{text}` is not a duration: write 90s, 5m or 2h"))?;
    if duration < shortest || duration > longest {
        let (shortest, longest) = (show(shortest), show(longest));
        return Err(format!("`{text}` is not between {shortest} and {longest}"));
    }
    Ok(Duration::from_millis(duration.as_millis() as u64))
}
