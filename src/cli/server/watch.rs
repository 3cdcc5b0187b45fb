//! `toctoc watch`

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::duration::between;
use super::log::{Names, deaf};
use super::{Answer, PolicyPath, applied_policy, complain, could_not_read, heard, host, now};
use crate::automaton::Automaton;
use crate::firewall::Firewall;
use crate::firewall::status::{Status, glance};
use crate::log::{Ear, Heard, Writers};
use crate::policy::load::{load_text, read_text};
use crate::policy::{Log, Policy};
use crate::watch::screen::View;
use crate::watch::terminal::Screen;
use crate::watch::{Event, Tracker};

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    policy: PolicyPath,
    /// A line of JSON for each event, and one for the state at each look.
    #[arg(long)]
    json: bool,
    /// Run this program when a door opens to somebody and when it closes. It finds TOCTOC_EVENT (`open` or
    /// `close`), TOCTOC_DOOR, TOCTOC_SOURCE and TOCTOC_KEY in its environment, and has a minute. 32 run at the same
    /// time and 10,000 events wait; more are dropped, and their number is told.
    #[arg(long, value_name = "PROGRAM")]
    exec: Option<PathBuf>,
    /// The time between two looks.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    every: Duration,
}

fn interval(text: &str) -> Result<Duration, String> {
    between(text, Duration::from_millis(100), Duration::from_secs(3600))
}

/// So many events are kept for the screen.
const KEPT: usize = 200;

/// So many notes are shown on the screen.
const NOTES: usize = 3;

/// The longest time for a program to run.
const PATIENCE: Duration = Duration::from_secs(60);

/// So many programs run at the same time; more wait for one to end.
const TOGETHER: usize = 32;

/// So many events wait for their program. More are dropped, and counted.
const MOST_WAITING: usize = 10_000;

/// The time between two looks whether a program has ended while others wait for it.
const BREATH: Duration = Duration::from_millis(2);

pub(super) fn run(arguments: &Arguments) -> Answer {
    let on_screen = !arguments.json && arguments.exec.is_none() && io::stdout().is_terminal();
    let mut watch = match Watch::begin(arguments) {
        Ok(watch) => watch,
        Err(answer) => return answer,
    };
    let ended = match on_screen {
        true => watch.on_screen(),
        false => watch.in_lines(),
    };
    watch.let_finish();
    ended.unwrap_or_else(|answer| answer)
}

struct Watch<'a> {
    arguments: &'a Arguments,
    firewall: Firewall,
    policy: Policy,
    automaton: Automaton,
    ear: Option<Ear>,
    names: Names<'a>,
    tracker: Tracker,
    notes: Vec<String>,
    /// Events that no program was started for yet, and programs that run.
    to_run: VecDeque<Event>,
    running: Vec<(Instant, Child)>,
    /// Events for which no program will be started, since too many waited.
    dropped: u64,
}

impl Watch<'_> {
    fn begin(arguments: &Arguments) -> Result<Watch<'_>, Answer> {
        if let Some(program) = &arguments.exec
            && !can_run(program)
        {
            complain(&format!(
                "{} is no program that can be run: nothing is watched",
                program.display()
            ));
            return Err(Answer::CouldNot);
        }
        let firewall = Firewall::default();
        let policy = applied(&firewall, &arguments.policy)?;
        let mut notes = Vec::new();
        let ear = match provable(policy.log, &mut notes) {
            Some(log) => Ear::listen(log).unwrap_or_else(|error| {
                notes.push(deaf(log, &error));
                None
            }),
            None => None,
        };
        let automaton = Automaton::build(policy.sequences());
        Ok(Watch {
            arguments,
            firewall,
            automaton,
            names: Names::new(&arguments.policy, &policy),
            policy,
            ear,
            tracker: Tracker::default(),
            notes,
            to_run: VecDeque::new(),
            running: Vec::new(),
            dropped: 0,
        })
    }

    /// Looks once: what is there, and what has happened.
    fn look(&mut self) -> Result<(Option<Status>, Vec<Event>), Answer> {
        let seen = glance(&self.firewall, &self.policy, &self.automaton, now());
        let status = seen.map_err(|failure| {
            complain(&failure.message);
            Answer::CouldNot
        })?;
        let at = Instant::now();
        // After the look: what was seen by then has been told by then.
        let mut events = self.heard(at);
        match &status {
            Some(status) => events.extend(self.tracker.look(status, at)),
            None => events.extend(self.tracker.nothing_is_there()),
        }
        self.run_for(&events);
        Ok((status, events))
    }

    /// The events that the kernel has told by now.
    fn heard(&mut self, at: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        while self.hear(Duration::ZERO, at, &mut events) {}
        events
    }

    /// Waits for something that the kernel tells. Returns whether it told anything.
    fn hear(&mut self, patience: Duration, at: Instant, events: &mut Vec<Event>) -> bool {
        let Some(ear) = &self.ear else {
            std::thread::sleep(patience);
            return false;
        };
        match ear.hear(patience) {
            Heard::Claim(claim) => {
                let opening = self.names.opening(&claim);
                events.extend(opening.and_then(|opening| self.tracker.tell(opening, at)));
                true
            }
            Heard::Nothing => false,
            Heard::Deaf(error) => {
                self.notes.push(deaf(self.policy.log, &error));
                self.ear = None;
                false
            }
        }
    }

    /// Until it is time to look again: what is told, and the programs for it.
    fn between_looks(&mut self, until: Instant) -> Vec<Event> {
        let left = until.saturating_duration_since(Instant::now());
        let patience = match self.to_run.is_empty() && self.running.is_empty() {
            true => left,
            false => left.min(BREATH),
        };
        let mut events = Vec::new();
        if self.hear(patience, Instant::now(), &mut events) {
            events.extend(self.heard(Instant::now()));
        }
        self.run_for(&events);
        events
    }

    fn run_for(&mut self, events: &[Event]) {
        if self.arguments.exec.is_none() {
            return;
        }
        let room = MOST_WAITING.saturating_sub(self.to_run.len());
        let fitting = events.len().min(room);
        self.to_run.extend(events[..fitting].iter().cloned());
        self.dropped += (events.len() - fitting) as u64;
        self.start_programs();
    }

    /// The losses since this was asked last.
    fn losses(&mut self) -> Vec<String> {
        let mut losses = Vec::new();
        let lost = self.ear.as_ref().map_or(0, Ear::take_lost);
        if lost > 0 {
            let what = match self.policy.log {
                Log::Nflog(_) => "openings came faster than they could be heard",
                _ => "lines of the kernel's log were written over before they could be read",
            };
            losses.push(format!(
                "{lost} {what}: of openings among them, those whose grants still last are found at the next look"
            ));
        }
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            losses.push(format!(
                "{dropped} events were dropped: no program is run for them, since {MOST_WAITING} others wait"
            ));
        }
        losses
    }

    fn start_programs(&mut self) {
        let Some(program) = &self.arguments.exec else {
            return;
        };
        self.running.retain_mut(|(began, child)| {
            let runs = matches!(child.try_wait(), Ok(None));
            if runs && began.elapsed() > PATIENCE {
                complain(&format!(
                    "{} took too long, and is ended",
                    program.display()
                ));
                let _ = child.kill();
            }
            runs
        });
        while self.running.len() < TOGETHER
            && let Some(event) = self.to_run.pop_front()
        {
            match start(program, &event) {
                Ok(child) => self.running.push((Instant::now(), child)),
                Err(error) => {
                    complain(&format!(
                        "{} could not be started: {error}",
                        program.display()
                    ));
                }
            }
        }
    }

    /// Starts what has not been started, and waits for it.
    fn let_finish(&mut self) {
        while !self.to_run.is_empty() || !self.running.is_empty() {
            self.start_programs();
            std::thread::sleep(BREATH);
        }
        for loss in self.losses() {
            complain(&loss);
        }
    }

    fn in_lines(&mut self) -> Result<Answer, Answer> {
        for note in &self.notes {
            complain(note);
        }
        loop {
            let began = Instant::now();
            let (status, events) = self.look()?;
            let time = Timestamp::now();
            if !self.all_heard(&events, time) {
                return Ok(Answer::Yes);
            }
            if self.arguments.json {
                let rates = self.tracker.rates();
                let state = json!({ "event": "state", "state": status, "per_second": rates });
                if !heard(&with_time(state, time)) {
                    return Ok(Answer::Yes);
                }
            }
            for loss in self.losses() {
                complain(&loss);
            }
            let until = began + self.arguments.every;
            while Instant::now() < until {
                let events = self.between_looks(until);
                if !self.all_heard(&events, Timestamp::now()) {
                    return Ok(Answer::Yes);
                }
            }
        }
    }

    /// Prints events. Returns whether somebody still reads them.
    fn all_heard(&self, events: &[Event], time: Timestamp) -> bool {
        let line = |event: &Event| match self.arguments.json {
            true => with_time(json!(event), time),
            false => format!("{} {}\n", clock(time), event.words()),
        };
        events.iter().all(|event| heard(&line(event)))
    }

    fn on_screen(&mut self) -> Result<Answer, Answer> {
        let could_not = |error: io::Error| {
            complain(&format!("this terminal cannot be drawn on: {error}"));
            Answer::CouldNot
        };
        let mut events: Vec<(String, Event)> = Vec::new();
        // Before the screen is taken: what goes wrong at once can be read.
        let mut seen = self.look()?;
        let mut screen = Screen::take().map_err(could_not)?;
        let path = self.arguments.policy.path.display().to_string();
        let ended = loop {
            let began = Instant::now();
            let time = clock(Timestamp::now());
            let new = seen.1.iter().map(|event| (time.clone(), event.clone()));
            events.splice(..0, new.collect::<Vec<_>>().into_iter().rev());
            events.truncate(KEPT);
            let view = View {
                policy: path.clone(),
                time: format!("{time} UTC"),
                status: seen.0.as_ref(),
                rates: self.tracker.rates(),
                events: &events,
                notes: &self.notes,
            };
            if let Err(error) = screen.show(&view) {
                break Err(error);
            }
            match screen.quits(self.arguments.every.saturating_sub(began.elapsed())) {
                Ok(true) => break Ok(()),
                Ok(false) => {}
                Err(error) => break Err(error),
            }
            match self.look() {
                Ok(again) => {
                    seen = again;
                    let losses = self.losses();
                    self.notes.extend(losses);
                    // The last ones are what a person wants to know.
                    let old = self.notes.len().saturating_sub(NOTES);
                    self.notes.drain(..old);
                }
                Err(answer) => return Err(answer),
            }
        };
        drop(screen);
        ended.map(|()| Answer::Yes).map_err(could_not)
    }
}

/// The policy that runs, where it is known; what the file says otherwise.
fn applied(firewall: &Firewall, path: &PolicyPath) -> Result<Policy, Answer> {
    let record = firewall.record().unwrap_or_default();
    if let Some(policy) = applied_policy(&record, path) {
        return Ok(policy);
    }
    let text = read_text(&path.path).map_err(could_not_read)?;
    let read = load_text(
        &path.path,
        &text,
        &host(path, firewall.running_backend().ok().flatten()),
    );
    read.map_err(could_not_read)
}

/// Where openings of this host are told so that nobody else can tell of them. What others can write is not listened
/// to: programs are run as root for what it says.
fn provable(log: Log, notes: &mut Vec<String>) -> Option<Log> {
    match (log, Writers::look()) {
        (Log::Kernel, Writers::All) => {
            notes.push(
                "net.netfilter.nf_log_all_netns is set: rules of every network namespace write to the kernel's log. \
                 It is not listened to; openings are seen at the next look (`log = \"nflog:5\"` tells at once)"
                    .to_string(),
            );
            None
        }
        // Silent, or the same.
        (Log::Kernel, Writers::NotOwn) => None,
        (log, _) => Some(log),
    }
}

/// Returns whether there is such a program. A name without a `/` is looked for where the shell would.
fn can_run(program: &Path) -> bool {
    let may_run = |path: &Path| {
        path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
    };
    if program.components().count() > 1 || program.is_absolute() {
        return may_run(program);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| may_run(&folder.join(program)))
}

fn start(program: &Path, event: &Event) -> io::Result<Child> {
    Command::new(program)
        .env("TOCTOC_EVENT", event.what.name())
        .env("TOCTOC_DOOR", &event.door)
        .env("TOCTOC_SOURCE", &event.source)
        .env("TOCTOC_KEY", event.key.as_deref().unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .spawn()
}

fn clock(time: Timestamp) -> String {
    time.strftime("%H:%M:%S").to_string()
}

fn with_time(mut line: serde_json::Value, time: Timestamp) -> String {
    line["at"] = json!(time.to_string());
    format!("{line}\n")
}
