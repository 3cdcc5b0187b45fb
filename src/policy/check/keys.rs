//! Checks what each key opens and with what, and that no two keys get into each other's way.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Checker, Claims};
use crate::knock::Knock;
use crate::policy::diagnostic::Diagnostic;
use crate::policy::file::{Entry, KeyEntry, Spanned};
use crate::policy::nearest;
use crate::policy::{Host, LONGEST_SEQUENCE};
use crate::single_use::{Form, Secret};

impl Checker<'_> {
    pub(super) fn opens(&mut self, key: &KeyEntry) {
        let name = &key.name;
        let opens = match &key.opens {
            Entry::Wrong => return,
            Entry::Missing => {
                self.error(
                    Diagnostic::new(
                        name.at.clone(),
                        format!("key `{}` opens nothing", name.value),
                    )
                    .help("write for example `opens = [\"ssh\"]` below it"),
                );
                return;
            }
            Entry::Written(opens) => opens,
        };
        if opens.value.is_empty() {
            self.error(
                Diagnostic::new(opens.at.clone(), "a key opens at least one door")
                    .help("write for example `opens = [\"ssh\"]`"),
            );
        }
        self.doors_of(&opens.value);
    }

    /// Reports names of doors that there are not, or twice.
    pub(super) fn doors_of(&mut self, named: &[Spanned<String>]) {
        let file = self.file;
        let doors: Vec<&str> = file.doors.iter().map(|d| d.name.value.as_str()).collect();
        let mut seen = HashSet::new();
        for door in named {
            if doors.is_empty() {
                // That is the mistake, and it has been reported.
                break;
            }
            if file.misnamed.contains(&door.value) {
                continue;
            }
            if !doors.contains(&door.value.as_str()) {
                let help = match nearest(&door.value, &doors) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if doors.len() > 10 => format!("write `[door.{}]`?", door.value),
                    None => format!("the doors are: {}", doors.join(", ")),
                };
                self.error(
                    Diagnostic::new(
                        door.at.clone(),
                        format!("there is no door `{}`", door.value),
                    )
                    .label("unknown door")
                    .help(help),
                );
            } else if !seen.insert(&door.value) {
                self.error(
                    Diagnostic::new(door.at.clone(), format!("`{}` is named twice", door.value))
                        .label("again here"),
                );
            }
        }
    }

    /// Checks what a key opens with: one of three things.
    pub(super) fn means(&mut self, key: &KeyEntry, guarded: &Claims, ignored: &Claims) {
        let name = &key.name;
        let sequence = match &key.sequence {
            Entry::Written(sequence) => Some(sequence.at.clone()),
            _ => None,
        };
        let written = [
            ("a sequence", sequence),
            (
                "scratch sequences",
                key.scratch.as_ref().map(|s| s.at.clone()),
            ),
            ("a token", key.token.as_ref().map(|s| s.at.clone())),
            ("a signed secret", key.signed.as_ref().map(|s| s.at.clone())),
        ];
        let mut written = written
            .into_iter()
            .filter_map(|(what, at)| Some((what, at?)));
        match (written.next(), written.next()) {
            (Some((one, first)), Some((other, second))) => self.error(
                Diagnostic::new(second, format!("key `{}` has {other} and {one}", name.value))
                    .label(other)
                    .help("make two keys of them, or leave one out")
                    .also(first, one),
            ),
            (None, None) if matches!(key.sequence, Entry::Missing) => self.error(
                Diagnostic::new(
                    name.at.clone(),
                    format!("key `{}` has no sequence", name.value),
                )
                .help(
                    "write for example `sequence = [4431, 2387, 920, 18357, 50]` below it, or `token` \
                     with the file of a secret, or `scratch` with a list of sequences that open once",
                ),
            ),
            _ => {}
        }
        let of_tokens = [
            (
                &key.browser,
                "says how its tokens look",
                "leave it out: a page can knock a sequence without it",
            ),
            (
                &key.ping,
                "says how its tokens may come",
                "leave it out: a ping carries a token or nothing",
            ),
        ];
        for (setting, says, help) in of_tokens {
            if let Some(setting) = setting.as_ref().filter(|_| key.token.is_none()) {
                self.error(
                    Diagnostic::new(
                        setting.at.clone(),
                        format!("key `{}` has no tokens", name.value),
                    )
                    .label(says)
                    .help(help),
                );
            }
        }
        if let Some(binding) = key.binding.as_ref().filter(|_| key.signed.is_none()) {
            self.error(
                Diagnostic::new(
                    binding.at.clone(),
                    format!("key `{}` is not signed", name.value),
                )
                .label("says what its datagrams are bound to")
                .help("leave it out, or give the key `signed` with the file of a secret"),
            );
        }
        if let Some(scratch) = key.scratch.as_ref().filter(|s| s.value.is_empty()) {
            self.error(
                Diagnostic::new(
                    scratch.at.clone(),
                    "a scratch key has at least one sequence",
                )
                .label("empty")
                .help("all used up? Take the key out; `toctoc key new` makes another"),
            );
        }
        for (sequence, whole) in key.sequences() {
            self.sequence(sequence, whole, guarded, ignored);
        }
    }

    pub(super) fn sequence(
        &mut self,
        sequence: &Spanned<Vec<Spanned<Knock>>>,
        whole: bool,
        guarded: &Claims,
        ignored: &Claims,
    ) {
        let length = sequence.value.len();
        if length == 0 && whole {
            self.error(
                Diagnostic::new(sequence.at.clone(), "a sequence has at least one knock")
                    .label("empty"),
            );
        }
        if length > LONGEST_SEQUENCE {
            self.error(
                Diagnostic::new(
                    sequence.at.clone(),
                    format!("a sequence of {length} knocks is too long"),
                )
                .label(format!("at most {LONGEST_SEQUENCE}")),
            );
        }
        for knock in &sequence.value {
            for (claims, verb) in [(guarded, "guarded"), (ignored, "ignored")] {
                let Some((_, claim, by)) = claims.find(knock.value) else {
                    continue;
                };
                self.error(
                    Diagnostic::new(
                        knock.at.clone(),
                        format!("port {} is {verb} and cannot be a knock", knock.value),
                    )
                    .label("in a sequence here")
                    .help("take another port")
                    .also(claim.clone(), format!("{verb} by {by}")),
                );
            }
        }
        if !whole {
            return;
        }
        for pair in sequence.value.windows(2) {
            if pair[0].value == pair[1].value {
                self.error(
                    Diagnostic::new(
                        pair[1].at.clone(),
                        format!("the knock {} comes twice in a row", pair[1].value),
                    )
                    .label("the same again")
                    .help("networks repeat packets, so a repeated knock does not count"),
                );
            }
        }
    }

    /// No two keys share a sequence, and none contains another's whole: it would open both.
    pub(super) fn sequences_apart(&mut self) {
        let mut whole: HashMap<Vec<Knock>, &KeyEntry> = HashMap::new();
        let mut lengths = HashSet::new();
        let mut readable = Vec::new();
        for key in &self.file.keys {
            for (sequence, is_whole) in key.sequences() {
                if !is_whole || !(1..=LONGEST_SEQUENCE).contains(&sequence.value.len()) {
                    continue;
                }
                let knocks: Vec<Knock> = sequence.value.iter().map(|k| k.value).collect();
                lengths.insert(knocks.len());
                if let Some(other) = whole.get(&knocks) {
                    self.diagnostics.push(same_sequence(key, other, sequence));
                    continue;
                }
                whole.insert(knocks.clone(), key);
                readable.push((key, sequence, knocks));
            }
        }
        for (key, sequence, knocks) in readable {
            let shorter = lengths.iter().filter(|&&length| length < knocks.len());
            let mut inside: Vec<&KeyEntry> = shorter
                .flat_map(|&length| knocks.windows(length))
                .filter_map(|part| whole.get(part).copied())
                .collect();
            inside.sort_by_key(|other| other.name.at.start);
            inside.dedup_by_key(|other| other.name.at.start);
            for other in inside {
                self.diagnostics.push(
                    Diagnostic::new(
                        sequence.at.clone(),
                        format!(
                            "the sequence of `{}` contains that of `{}`",
                            key.name.value, other.name.value
                        ),
                    )
                    .label(format!("would open what `{}` opens too", other.name.value))
                    .help("change one of the two")
                    .also(other.name.at.clone(), "the other key"),
                );
            }
        }
    }

    /// The secrets of the token and signed keys, by the places of the keys.
    pub(super) fn secrets(&mut self, host: &Host) -> BTreeMap<usize, Secret> {
        let mut secrets: BTreeMap<usize, Secret> = BTreeMap::new();
        let file = self.file;
        for (index, key) in file.keys.iter().enumerate() {
            let (Some(written), setting) = (match &key.signed {
                Some(_) => (&key.signed, "signed"),
                None => (&key.token, "token"),
            }) else {
                continue;
            };
            if key.sequences().next().is_some() || key.signed.is_some() && key.token.is_some() {
                // That is a mistake, and it has been reported.
                continue;
            }
            let example = format!("{setting} = \"{}.secret\"", key.name.value);
            let Some(secret) = self.secret(host, written, &example, "`toctoc key new` makes it")
            else {
                continue;
            };
            let secret = secret.in_form(match key.browser {
                Some(Spanned { value: true, .. }) => Form::Letters,
                _ => Form::Bytes,
            });
            let same = secrets
                .iter()
                .find(|(_, other)| other.id() == secret.id() || other.is_same(&secret));
            if let Some((&other, _)) = same {
                let (before, other) = (&secrets[&other], &file.keys[other]);
                let (what, help) = match before.is_same(&secret) {
                    true => (
                        "secret",
                        "the log could not tell them apart; make a new one",
                    ),
                    // The kernel knows a secret by four bytes.
                    false => (
                        "number, which is made of their secrets",
                        "the kernel could not tell them apart; make another secret: `toctoc key new`",
                    ),
                };
                let (one, two) = (&other.name.value, &key.name.value);
                self.diagnostics.push(
                    Diagnostic::new(
                        written.at.clone(),
                        format!("`{one}` and `{two}` have the same {what}"),
                    )
                    .label(match before.is_same(&secret) {
                        true => "the same secret",
                        false => "the same number",
                    })
                    .help(help)
                    .also(other.name.at.clone(), "the other key"),
                );
                continue;
            }
            secrets.insert(index, secret);
        }
        secrets
    }

    /// The secret in a file that the policy names. `example` is how that is written, `from` where such a file comes from.
    pub(super) fn secret(
        &mut self,
        host: &Host,
        written: &Spanned<String>,
        example: &str,
        from: &str,
    ) -> Option<Secret> {
        let Spanned { value: path, at } = written;
        if Secret::parse(path).is_ok() {
            let what = "the secret itself is written where the name of its file belongs";
            self.error(
                Diagnostic::new(at.clone(), what)
                    .label("not shown here")
                    .help(format!(
                        "put it into a file beside the policy that nobody else may read (0600), and write \
                         `{example}`; whoever has read the policy has it"
                    )),
            );
            return None;
        }
        let read = match host.secrets.0 {
            Some(read) => read(path),
            None => Err(format!("{path} cannot be read here")),
        };
        match read {
            Ok(secret) => Some(secret),
            Err(message) => {
                self.error(
                    Diagnostic::new(at.clone(), message)
                        .label("the file of the secret")
                        .help(format!(
                            "a file of 64 hexadecimal digits that nobody else may read (0600), beside the \
                             policy; {from}"
                        )),
                );
                None
            }
        }
    }
}

fn same_sequence<T>(key: &KeyEntry, other: &KeyEntry, at: &Spanned<T>) -> Diagnostic {
    Diagnostic::new(
        at.at.clone(),
        format!(
            "`{}` and `{}` have the same sequence",
            other.name.value, key.name.value
        ),
    )
    .label("the same knocks")
    .help("the log could not tell them apart; change one")
    .also(other.name.at.clone(), "the other key")
}
