//! `toctoc watch`

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use jiff::Timestamp;
use ratatui::crossterm::event::{Event as Input, KeyCode, KeyModifiers, poll, read};
use serde_json::json;

use super::duration::between;
use super::log::deaf;
use super::{Answer, PolicyPath, applied_policy, complain, could_not_read, heard, host, now};
use crate::automaton::Automaton;
use crate::firewall::Firewall;
use crate::firewall::status::{Status, glance, running_backend};
use crate::log::Source;
use crate::policy::Policy;
use crate::policy::load::{load_text, read_text};
use crate::watch::screen::{View, draw};
use crate::watch::{Event, Tracker};

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    policy: PolicyPath,
    /// A line of JSON for each event, and one for the state at each look.
    #[arg(long)]
    json: bool,
    /// Run this program when a door opens to somebody and when it closes. It finds TOCTOC_EVENT (`open` or
    /// `close`), TOCTOC_DOOR, TOCTOC_SOURCE and TOCTOC_KEY in its environment, and has a minute.
    #[arg(long, value_name = "PROGRAM")]
    exec: Option<PathBuf>,
    /// How often to look.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    every: Duration,
}

fn interval(text: &str) -> Result<Duration, String> {
    between(text, Duration::from_millis(100), Duration::from_secs(3600))
}

/// So many events are kept for the screen.
const KEPT: usize = 200;

/// How long a program may run.
const PATIENCE: Duration = Duration::from_secs(60);

/// So many programs run at the same time; more wait for one to end.
const TOGETHER: usize = 32;

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
    source: Option<Source>,
    tracker: Tracker,
    notes: Vec<String>,
    /// Events that no program was started for yet, and programs that run.
    to_run: VecDeque<Event>,
    running: Vec<(Instant, Child)>,
}

impl Watch<'_> {
    fn begin(arguments: &Arguments) -> Result<Watch<'_>, Answer> {
        let firewall = Firewall::default();
        let policy = applied(&firewall, &arguments.policy)?;
        let mut notes = Vec::new();
        let source = Source::of(policy.log).unwrap_or_else(|error| {
            notes.push(deaf(policy.log, &error));
            None
        });
        let automaton = Automaton::build(policy.sequences());
        Ok(Watch {
            arguments,
            firewall,
            automaton,
            policy,
            source: source.map(without_past),
            tracker: Tracker::default(),
            notes,
            to_run: VecDeque::new(),
            running: Vec::new(),
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
        if self.arguments.exec.is_some() {
            self.to_run.extend(events.iter().cloned());
            self.start_programs();
        }
        Ok((status, events))
    }

    /// What the kernel has told.
    fn heard(&mut self, at: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(source) = &mut self.source {
            match source.hear() {
                Ok(Some(opening)) => events.extend(self.tracker.tell(opening, at)),
                Ok(None) => break,
                Err(error) => {
                    self.notes.push(deaf(self.policy.log, &error));
                    self.source = None;
                }
            }
        }
        events
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
            std::thread::sleep(Duration::from_millis(20));
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
            for event in &events {
                let line = match self.arguments.json {
                    true => with_time(json!(event), time),
                    false => format!("{} {}\n", clock(time), event.words()),
                };
                if !heard(&line) {
                    return Ok(Answer::Yes);
                }
            }
            if self.arguments.json {
                let rates = self.tracker.rates();
                let state = json!({ "event": "state", "state": status, "per_second": rates });
                if !heard(&with_time(state, time)) {
                    return Ok(Answer::Yes);
                }
            }
            std::thread::sleep(self.arguments.every.saturating_sub(began.elapsed()));
        }
    }

    fn on_screen(&mut self) -> Result<Answer, Answer> {
        let could_not = |error: io::Error| {
            complain(&format!("this terminal cannot be drawn on: {error}"));
            Answer::CouldNot
        };
        let mut events: Vec<(String, Event)> = Vec::new();
        // Before the screen is taken: what goes wrong at once can be read.
        let mut seen = self.look()?;
        let mut terminal = ratatui::try_init().map_err(could_not)?;
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
            if let Err(error) = terminal.draw(|frame| draw(frame, &view)) {
                break Err(error);
            }
            match quits(self.arguments.every.saturating_sub(began.elapsed())) {
                Ok(true) => break Ok(()),
                Ok(false) => {}
                Err(error) => break Err(error),
            }
            match self.look() {
                Ok(again) => seen = again,
                Err(answer) => {
                    ratatui::restore();
                    return Err(answer);
                }
            }
        };
        ratatui::restore();
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
    let read = load_text(&path.path, &text, &host(path, running_backend(firewall)));
    read.map_err(could_not_read)
}

/// Only what comes from now on.
fn without_past(mut source: Source) -> Source {
    while let Ok(Some(_)) = source.hear() {}
    source
}

/// Waits for a key, and says whether it is one that ends it. A change of the window's size ends the wait.
fn quits(patience: Duration) -> io::Result<bool> {
    if !poll(patience)? {
        return Ok(false);
    }
    Ok(match read()? {
        Input::Key(key) => {
            let control = key.modifiers.contains(KeyModifiers::CONTROL);
            matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
                || (control && key.code == KeyCode::Char('c'))
        }
        _ => false,
    })
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
