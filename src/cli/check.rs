//! `toctoc check`

use super::{Answer, PolicyPath, count, policy, say, warn_of_readers};

pub(super) fn run(path: &PolicyPath) -> Answer {
    let policy = match policy(path) {
        Ok(policy) => policy,
        Err(answer) => return answer,
    };
    say(&format!(
        "{}: {}, {}, no errors\n",
        path.path.display(),
        count(policy.doors.len(), "door"),
        count(policy.keys.len(), "key")
    ));
    warn_of_readers(path, &policy);
    Answer::Yes
}
