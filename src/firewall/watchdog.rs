//! The end of a trial when nobody is there any more: by a transient timer of systemd, or, where there is
//! none, by a process of its own that ends with the trial.

use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ChildStdin;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use super::exec::{run, start_apart};
use super::record::{Moment, Record};
use super::tokens::clocks;
use super::trial::{Back, note_stuck, roll_back};
use super::{Failure, Firewall, StateFile};

/// The time between two looks whether the trial is over.
const GLANCE: Duration = Duration::from_millis(250);

/// The line it prints when it is ready.
const READY: &[u8] = b"ready\n";

/// The pause before it tries again to go back, the number of such tries, and the pause after that.
const PAUSE: Duration = Duration::from_secs(5);
const TRIES: usize = 60;
const LONG_PAUSE: Duration = Duration::from_secs(60);

/// The system's log hears of every so manieth failure.
const LOUD: usize = 12;

/// The process or timer that ends the trial.
#[derive(Debug)]
pub enum Watchdog {
    Timer,
    /// Waits until this is closed, which it is at the latest when we end.
    Process(ChildStdin),
}

/// Arms it, before anything is changed: the trial of this number ends `lasting` from now or later, as the
/// record says.
///
/// # Errors
/// When neither can be started.
pub fn arm(state: &StateFile, id: u64, lasting: Duration) -> Result<Watchdog, Failure> {
    let failed = |error: io::Error| {
        Failure::unchanged(format!(
            "nothing that would go back can be started: {error}"
        ))
    };
    let program = env::current_exe().map_err(failed)?;
    let number = id.to_string();
    if has_systemd() && timer(&program, state, id, lasting).is_ok_and(|armed| armed) {
        return Ok(Watchdog::Timer);
    }
    let mut child = start_apart(
        &program,
        &["rollback", "--trial", &number, "--apart"],
        state.directory(),
    )
    .map_err(failed)?;
    let mut said = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout
            .take(READY.len() as u64)
            .read_to_end(&mut said)
            .map_err(failed)?;
    }
    match child.stdin.take() {
        Some(stdin) if said == READY => Ok(Watchdog::Process(stdin)),
        _ => Err(failed(io::Error::other("it ended at once"))),
    }
}

/// Returns whether systemd rules this host, and this network namespace.
fn has_systemd() -> bool {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
    let same = namespace("1").is_some_and(|of_init| Some(of_init) == namespace("self"));
    same && Path::new("/run/systemd/system").is_dir()
}

fn unit(id: u64) -> String {
    format!("toctoc-rollback-{id}")
}

fn timer(program: &Path, state: &StateFile, id: u64, lasting: Duration) -> io::Result<bool> {
    let (unit, number) = (format!("--unit={}", unit(id)), id.to_string());
    let active = format!("--on-active={}ms", lasting.as_millis());
    let program = program.display().to_string();
    let path = env::var("PATH").ok();
    let path = path.map(|path| format!("--setenv=PATH={path}"));
    let directory = format!("--setenv=STATE_DIRECTORY={}", state.directory().display());
    let variables: Vec<String> = path.into_iter().chain([directory]).collect();
    let mut command = vec![
        "systemd-run",
        "--quiet",
        "--collect",
        "--description=toctoc: go back from a policy on trial",
        "--timer-property=AccuracySec=100ms",
        &unit,
        &active,
    ];
    command.extend(variables.iter().map(String::as_str));
    command.extend([program.as_str(), "rollback", "--trial", &number]);
    run(&command, "").map(|ended| ended.succeeded())
}

/// The trial of this number is over: its timer is not needed. A process sees it by itself.
pub fn disarm(id: u64) {
    if has_systemd() {
        let timer = format!("{}.timer", unit(id));
        let _ = run(&["systemctl", "--quiet", "stop", &timer], "");
    }
}

/// Runs `toctoc rollback --trial`: waits for the end of the trial and goes back, unless it was
/// confirmed. Where it cannot go back, it says so and tries again, for as long as the trial is noted. `apart`
/// is said to the process that [`arm`] starts.
///
/// # Errors
/// When the process cannot leave the session that it was started in.
pub fn end_trial(firewall: &Firewall, id: u64, apart: bool) -> Result<Option<Back>, Failure> {
    let starter = match apart {
        true => Some(leave().map_err(|error| Failure::unchanged(error.to_string()))?),
        false => None,
    };
    // The record as it was last with the trial in it: somebody may take the file away.
    let mut known: Option<Record> = None;
    loop {
        let let_go = starter.as_ref().is_none_or(Starter::has_let_go);
        match Record::found(&firewall.state) {
            Ok(Some(record)) if record.trial.as_ref().is_some_and(|trial| trial.id == id) => {
                known = Some(record);
            }
            // Confirmed, or another trial has taken over.
            Ok(Some(_)) if known.is_some() => return Ok(None),
            _ if known.is_none() && let_go => return Ok(None),
            _ => {}
        }
        let trial = known.as_ref().and_then(|record| record.trial.as_ref());
        let left = trial.map_or(GLANCE, |trial| trial.left(&Moment::now()));
        if left.is_zero() {
            break;
        }
        thread::sleep(left.min(GLANCE));
    }
    let mut tried = 0;
    loop {
        let failure = match roll_back(firewall, Some(id), known.as_ref(), clocks()) {
            Ok(back) => {
                note_until_done(firewall, back.as_ref());
                return Ok(back);
            }
            Err(failure) => failure,
        };
        if tried % LOUD == 0 {
            cry(&failure);
        }
        // If not even this can be written, the log has it.
        let _ = note_stuck(firewall, id, &failure);
        tried += 1;
        thread::sleep(if tried < TRIES { PAUSE } else { LONG_PAUSE });
    }
}

/// Tells the system's log: nobody may be there who would look at `toctoc status`.
fn cry(failure: &Failure) {
    let what = format!(
        "the trial is over and the firewall COULD NOT GO BACK to what was before: {failure} (it is tried \
         again; `toctoc status`)"
    );
    let _ = run(
        &["logger", "-t", "toctoc", "-p", "auth.alert", "--", &what],
        "",
    );
}

/// It went back; that is noted as soon as it can be. Nothing else is done twice.
fn note_until_done(firewall: &Firewall, back: Option<&Back>) {
    let Some((record, _)) = back.and_then(|back| back.unnoted.as_ref()) else {
        return;
    };
    for _ in 0..TRIES {
        thread::sleep(PAUSE);
        // Whoever applies something meanwhile notes that himself.
        let noted = Record::found(&firewall.state).ok().flatten();
        let is_over = noted.is_some_and(|record| record.trial.is_none());
        if is_over || record.write(&firewall.state).is_ok() {
            return;
        }
    }
}

/// The program that started us, as long as its end of our input is open.
struct Starter(Receiver<()>);

impl Starter {
    fn has_let_go(&self) -> bool {
        !matches!(self.0.try_recv(), Err(TryRecvError::Empty))
    }
}

/// Leaves the session of whoever started us, so that its end is not ours.
fn leave() -> io::Result<Starter> {
    rustix::process::setsid()?;
    env::set_current_dir("/")?;
    let mut stdout = io::stdout();
    stdout.write_all(READY)?;
    stdout.flush()?;
    let nothing = fs::File::options().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&nothing)?;
    let (let_go, starter) = channel();
    thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        let _ = let_go.send(());
    });
    Ok(Starter(starter))
}
