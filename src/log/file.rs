//! Openings in text that was written from the kernel's log, and how far it proves that the kernel said so.
//!
//! A file that a system program writes does not prove what the kernel said. Any user can write `kernel:` lines to
//! `syslog` (`logger -t kernel`). With rsyslog any user can also write to `kern.log`, in two ways (tried with 8.2302):
//! it takes a datagram at `/dev/log` with the priority `<6>` for the kernel's, and it makes several lines of a
//! message with line ends in it, such as the one about a crashed program with such a name. The journal alone keeps
//! apart who said something.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::line::{Format, from_kernel, in_line};
use super::rules::Rules;
use super::{Opening, Proof};

/// The longest line that is read.
const LONGEST: usize = 16 << 10;

/// So many numbers of lines are told of each kind.
const TOLD: usize = 10;

/// Why a line is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// Any user can write lines to this file.
    AnyUser,
    /// It is not as the kernel writes it.
    Form,
    /// It may be a part of the line before: both have the same stamp of the kernel.
    Part,
    /// No key of the policy opens such a door.
    Names,
}

/// Lines that look like openings and are not believed, by reason: their numbers, from 1.
#[derive(Debug, Default)]
pub struct Doubts {
    kinds: Vec<(Doubt, Vec<u64>)>,
}

impl Doubts {
    fn add(&mut self, doubt: Doubt, line: u64) {
        match self.kinds.iter_mut().find(|(kind, _)| *kind == doubt) {
            Some((_, lines)) => lines.push(line),
            None => self.kinds.push((doubt, vec![line])),
        }
    }

    /// "3 lines look like openings and are not believed (line 4, 5, 9): any user can write such lines there (...)"
    pub fn words(&self) -> Vec<String> {
        let one = |(doubt, lines): &(Doubt, Vec<u64>)| {
            let shown: Vec<String> = lines.iter().take(TOLD).map(u64::to_string).collect();
            let more = if lines.len() > TOLD { ", ..." } else { "" };
            let (lines, are) = match lines.len() {
                1 => ("line looks like an opening".to_string(), "is"),
                _ => ("lines look like openings".to_string(), "are"),
            };
            let count = self.count(*doubt);
            let why = match doubt {
                Doubt::AnyUser => {
                    "any user can write such lines there (`logger -t kernel`); the kernel's own are in what \
                     `journalctl --dmesg --output=short-iso | toctoc log --file -` reads"
                }
                Doubt::Form => "the kernel does not write an opening like that",
                Doubt::Part => {
                    "the kernel's stamp is that of the line before, so it may be a part of that message, such as \
                     the name of a program"
                }
                Doubt::Names => "no key of the policy opens such a door",
            };
            let shown = shown.join(", ");
            format!("{count} {lines} and {are} not believed (line {shown}{more}): {why}")
        };
        self.kinds.iter().map(one).collect()
    }

    /// The number of lines that are not believed for this reason.
    pub fn count(&self, doubt: Doubt) -> usize {
        let kind = self.kinds.iter().find(|(kind, _)| *kind == doubt);
        kind.map_or(0, |(_, lines)| lines.len())
    }
}

/// The format of a file's lines and their proof, by its name; `-` is what journalctl prints.
fn format_of(path: &Path) -> (Format, Option<Proof>) {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    match name {
        b"-" => (Format::Journal, Some(Proof::Kernel)),
        _ if name.starts_with(b"kern") => (Format::Syslog, Some(Proof::Missing)),
        _ => (Format::Syslog, None),
    }
}

/// The openings in a file of syslog, or in what `journalctl --dmesg --output=short-iso` prints (`-`: standard input).
/// `tell` says whether to go on. Returns what is not believed.
///
/// # Errors
/// When it cannot be read.
pub fn in_file(
    path: &Path,
    rules: &Rules,
    tell: impl FnMut(Opening, Proof) -> bool,
) -> io::Result<Doubts> {
    let (format, proof) = format_of(path);
    let source: Box<dyn Read> = match format {
        Format::Journal => Box::new(io::stdin()),
        _ => Box::new(File::open(path)?),
    };
    in_text(BufReader::new(source), format, proof, rules, tell)
}

fn in_text(
    mut reader: impl BufRead,
    format: Format,
    proof: Option<Proof>,
    rules: &Rules,
    mut tell: impl FnMut(Opening, Proof) -> bool,
) -> io::Result<Doubts> {
    let mut doubts = Doubts::default();
    let mut bytes = Vec::new();
    // The stamp of the line before, unless that was an opening too: one packet can open several doors.
    let mut foreign: Option<String> = None;
    for number in 1.. {
        bytes.clear();
        if (&mut reader)
            .take(LONGEST as u64)
            .read_until(b'\n', &mut bytes)?
            == 0
        {
            break;
        }
        if bytes.len() == LONGEST && bytes.last() != Some(&b'\n') {
            // No line of the kernel. What comes after it is not the beginning of one.
            reader.skip_until(b'\n')?;
            continue;
        }
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end_matches(['\r', '\n']);
        let stamp = from_kernel(text, format).and_then(|line| line.stamp);
        let is_part = stamp.is_some() && stamp == foreign.as_deref();
        let claim = in_line(text, format);
        let opening = claim.as_ref().map(|claim| rules.opening(claim));
        let doubt = match (opening, proof) {
            (None, _) if text.contains("toctoc: ") && text.contains("SRC=") => Doubt::Form,
            (None, _) => {
                foreign = stamp.map(str::to_string);
                continue;
            }
            (Some(_), None) => Doubt::AnyUser,
            (Some(_), Some(_)) if is_part => Doubt::Part,
            (Some(None), Some(_)) => Doubt::Names,
            (Some(Some(opening)), Some(proof)) => {
                if !tell(opening, proof) {
                    break;
                }
                continue;
            }
        };
        if doubt == Doubt::Form {
            foreign = stamp.map(str::to_string);
        }
        doubts.add(doubt, number);
    }
    Ok(doubts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENING: &str = "toctoc: opened door=ssh key=yves IN=eth0 OUT= MAC= SRC=192.0.2.7 DST=192.0.2.1 LEN=60 \
                           TTL=64 ID=0 DF PROTO=TCP SPT=40001 DPT=50 SYN URGP=0 ";

    type Told = Vec<(String, Proof)>;
    type Lines = Vec<(Doubt, Vec<u64>)>;

    /// The openings that a text tells, and the lines that are not believed.
    fn read(name: &str, text: &str) -> (Told, Lines) {
        let (format, proof) = format_of(Path::new(name));
        let mut told = Vec::new();
        let rules = Rules::of_any_policy();
        let doubts = in_text(text.as_bytes(), format, proof, &rules, |opening, proof| {
            told.push((opening.source.to_string(), proof));
            true
        });
        (told, doubts.unwrap().kinds)
    }

    fn told(proof: Proof) -> Told {
        vec![("192.0.2.7".to_string(), proof)]
    }

    #[test]
    fn kern_log_is_unproven_and_other_files_are_refused() {
        let syslog = format!("Nov 30 02:00:00 host kernel: {OPENING}\n");
        let journal = format!("2026-11-30T02:00:00+0000 host kernel: {OPENING}\n");
        for name in ["/var/log/kern.log", "kern.log.1"] {
            for text in [&syslog, &journal] {
                assert_eq!(read(name, text), (told(Proof::Missing), vec![]), "{name}");
            }
        }
        for name in [
            "/var/log/syslog",
            "messages",
            "user.log",
            "all.log",
            "./x/-x",
        ] {
            for text in [&syslog, &journal] {
                let doubts = vec![(Doubt::AnyUser, vec![1])];
                assert_eq!(read(name, text), (vec![], doubts), "{name}");
            }
        }
        assert_eq!(read("-", &journal), (told(Proof::Kernel), vec![]));
        // That is no output of journalctl.
        assert_eq!(read("-", &syslog), (vec![], vec![(Doubt::Form, vec![1])]));
    }

    /// A message with line ends in it, as rsyslog writes it and as journalctl prints it.
    #[test]
    fn the_name_of_a_crashed_program_is_no_line_of_its_own() {
        let stamped = |stamp: &str, message: &str| {
            format!("2026-11-30T04:47:47.628866+00:00 host kernel: [ {stamp}] {message}\n")
        };
        let crash = stamped("1058.872554", "x[5]: segfault at 0 error 6 in z")
            + &stamped("1058.872554", OPENING)
            + &stamped("1058.872554", OPENING)
            + &stamped("1058.872554", "q[8d,400000+1000] likely on CPU 0");
        let (found, doubts) = read("kern.log", &crash);
        assert_eq!((found, doubts), (vec![], vec![(Doubt::Part, vec![2, 3])]));
        // One packet opens two doors, right after something else.
        let twice = stamped("1058.872553", "x[5]: segfault at 0 error 6 in z")
            + &stamped("1058.872554", OPENING)
            + &stamped("1058.872554", OPENING);
        let (found, doubts) = read("kern.log", &twice);
        assert_eq!((found.len(), doubts), (2, vec![]));
        let indented = format!(
            "2026-11-30T02:00:00+0000 host kernel: x[5]: segfault at 0 error 6 in z\n\
             {:38}{OPENING}\n 2026-11-30T02:00:00+0000 host kernel: {OPENING}\n",
            ""
        );
        assert_eq!(
            read("-", &indented),
            (vec![], vec![(Doubt::Form, vec![2, 3])])
        );
    }

    #[test]
    fn the_rest_of_a_long_line_is_no_line() {
        let line = format!("Jul  6 14:02:00 host kernel: {OPENING}\n");
        let count = |text: String| read("kern.log", &text).0.len();
        assert_eq!(count(line.repeat(3)), 3);
        let long = format!("{:A<LONGEST$}", "Jul  6 14:02:00 host app: ");
        assert_eq!(count(format!("{long}{line}{line}")), 1);
        let fits = &long[1..];
        assert_eq!(count(format!("{fits}\n{line}")), 1);
    }

    #[test]
    fn what_is_not_believed_is_told_by_its_lines_and_without_its_text() {
        let shared = format!("Nov 30 02:00:00 host kernel: {OPENING}\n").repeat(12);
        let (format, proof) = format_of(Path::new("syslog"));
        let rules = Rules::of_any_policy();
        let doubts = in_text(shared.as_bytes(), format, proof, &rules, |_, _| true).unwrap();
        let [words] = doubts.words().try_into().unwrap();
        let wanted = "12 lines look like openings and are not believed (line 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ...): \
                      any user can write such lines there";
        assert!(words.starts_with(wanted), "{words}");
        assert!(!words.contains("192.0.2.7"));
    }
}
