//! `toctoc demo`: the whole of it in one narrated run, on two hosts that exist only for it.
//!
//! Each step is observed, not assumed; the first that is not as told ends the demo with status 1.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU16;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::{Answer, complain, now, own_namespace, say, status};
use crate::client::profile::Way;
use crate::client::{Door, Plan, enter, send_knock};
use crate::firewall::Firewall;
use crate::firewall::apply::apply;
use crate::firewall::status::{Status, observe};
use crate::firewall::tokens::clocks;
use crate::knock::Knock;
use crate::lab::{CLIENT, Lab, SERVER, STRANGER};
use crate::policy::{self, Backend, Host, Policy};

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    /// Already inside a user namespace of our own.
    #[arg(long, hide = true)]
    entered: bool,
    /// `nftables` or `iptables`.
    #[arg(long, value_name = "BACKEND", default_value = "nftables", value_parser = super::backend)]
    backend: Backend,
}

const POLICY: &str = "\
within   = \"2s\"
open_for = \"3s\"

[door.ssh]
ports = [22]

[key.yves]
opens    = [\"ssh\"]
sequence = [4431, 2387, 920, 18357, 50]
";

const DOOR: NonZeroU16 = NonZeroU16::new(22).unwrap();

/// The time to wait for a door that should not open.
const WAIT: Duration = Duration::from_millis(300);

pub(super) fn run(arguments: &Arguments) -> Answer {
    if !arguments.entered && !own_namespace::is_root() {
        return own_namespace::enter();
    }
    match tell(arguments.backend) {
        Ok(()) => Answer::Yes,
        Err(Ended::Untrue(message)) => {
            complain(&format!("this was not as told: {message}"));
            Answer::No
        }
        Err(Ended::Could(message)) => {
            complain(&message);
            Answer::CouldNot
        }
    }
}

/// Why the demo stopped.
enum Ended {
    Untrue(String),
    Could(String),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Ended {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => " (needs iproute2, nftables and util-linux)",
            io::ErrorKind::PermissionDenied => "; as root it works: sudo toctoc demo",
            _ => "",
        };
        Ended::Could(format!("{error}{hint}"))
    }
}

fn expect(observed: bool, message: &str) -> Result<(), Ended> {
    if observed {
        Ok(())
    } else {
        Err(Ended::Untrue(message.to_string()))
    }
}

fn tell(backend: Backend) -> Result<(), Ended> {
    let lab = Lab::new()?;
    let stage = Stage::set(&lab, backend)?;
    say(&format!(
        "Two hosts in namespaces: a server, {}, and a client, {}.\n\
         On the server a program listens on port 22. The policy:\n\n{}\n",
        SERVER[0],
        CLIENT[0],
        indented(POLICY)
    ));

    step("Before anything is applied, port 22 answers everyone.");
    expect(
        stage.connect(CLIENT[0])? == Door::Open,
        "port 22 did not answer",
    )?;
    seen("connected");

    step("toctoc apply: the door is closed, to the same client too.");
    stage.apply()?;
    expect(
        stage.connect(CLIENT[0])? == Door::Silent,
        "port 22 still answers",
    )?;
    seen("no answer");

    step("All the right knocks, but in the wrong order: it stays closed.");
    stage.knock(&[2387, 4431, 920, 18357, 50])?;
    expect(stage.connect(CLIENT[0])? == Door::Silent, "it opened")?;
    seen("no answer");

    step("The right order: 4431 2387 920 18357 50.");
    let session = stage.enter()?;

    step("Who is in? toctoc status:");
    let state = stage.status()?;
    expect(holds(&state), "the grant is not in the status")?;
    say(&indented(&status::text(&state, status::Words::OfThePolicy)));

    step("The grant is the client's alone: another address finds the door closed.");
    expect(stage.connect(STRANGER[0])? == Door::Silent, "it is open")?;
    seen("no answer");

    step("The grant ends after 3 seconds, by itself...");
    let patience = Instant::now() + Duration::from_secs(8);
    while holds(&stage.status()?) {
        expect(Instant::now() < patience, "the grant does not end")?;
        thread::sleep(Duration::from_millis(100));
    }
    seen("no grants");

    step("...and the session that came in through it lives on.");
    expect(stage.echoes(session)?, "the session is dead")?;
    seen("a line went there and came back");

    step("For everything new the door is closed again.");
    expect(stage.connect(CLIENT[0])? == Door::Silent, "it is open")?;
    seen("no answer");

    say("\nNo process of toctoc ran on the server while all this happened: the kernel did it.\n");
    Ok(())
}

fn step(text: &str) {
    say(&format!("* {text}\n"));
}

fn seen(text: &str) {
    say(&format!("    {text}\n"));
}

fn indented(text: &str) -> String {
    let indent = |line| match line {
        "" => "\n".to_string(),
        line => format!("    {line}\n"),
    };
    text.lines().map(indent).collect()
}

fn holds(status: &Status) -> bool {
    status.matches_policy && status.doors.iter().any(|door| !door.grants.is_empty())
}

/// The two hosts with the listener running.
struct Stage<'l> {
    lab: &'l Lab,
    policy: Policy,
}

impl Stage<'_> {
    fn set(lab: &Lab, backend: Backend) -> Result<Stage<'_>, Ended> {
        let host = Host {
            backend: Some(backend),
            default: None,
            ip_list_tot: None,
            ..Host::default()
        };
        let policy = policy::read_for("demo", POLICY, &host)
            .map_err(|report| Ended::Could(report.to_string()))?;
        let listener = lab.server.inside(|| TcpListener::bind(("0.0.0.0", 22)))??;
        thread::spawn(move || serve(&listener));
        Ok(Stage { lab, policy })
    }

    fn apply(&self) -> Result<(), Ended> {
        let applied = self
            .lab
            .server
            .inside(|| apply(&Firewall::default(), &self.policy, clocks()))?;
        let applied = applied.map_err(|failure| Ended::Could(failure.to_string()))?;
        expect(
            applied.drifts.is_empty(),
            "the kernel differs from the policy",
        )
    }

    fn status(&self) -> Result<Status, Ended> {
        let status = self
            .lab
            .server
            .inside(|| observe(&Firewall::default(), &self.policy, now()))?;
        status.map_err(|failure| Ended::Could(failure.to_string()))
    }

    fn knock(&self, ports: &[u16]) -> Result<(), Ended> {
        let knocks: Vec<Knock> = ports
            .iter()
            .filter_map(|&port| Knock::new(crate::knock::Protocol::Tcp, port))
            .collect();
        let sent = self.lab.client.inside(|| {
            knocks
                .iter()
                .try_for_each(|knock| send_knock(server(1), *knock))
        })?;
        Ok(sent?)
    }

    /// Connects to the door from an address of the client.
    fn connect(&self, from: &str) -> Result<Door, Ended> {
        let from: IpAddr = from.parse().map_err(io::Error::other)?;
        let door = self.lab.client.inside(|| connect_from(from))??;
        Ok(door)
    }

    /// Knocks with the key, and opens a session through the door.
    fn enter(&self) -> Result<TcpStream, Ended> {
        let way = Way::Sequence(self.policy.keys[0].sequences()[0].clone());
        let plan = Plan::new(&way, Duration::from_millis(1), None, now(), &[]);
        let stop = AtomicBool::new(false);
        let client = &self.lab.client;
        let entered = client.inside(|| enter(server(1), DOOR, &plan, &stop))??;
        let Ok(open) = entered else {
            return Err(Ended::Untrue("the door did not open".to_string()));
        };
        let milliseconds = open.after.as_secs_f64() * 1000.0;
        seen(&format!(
            "connected, {milliseconds:.1} ms after the first knock"
        ));
        Ok(open.stream)
    }

    fn echoes(&self, session: TcpStream) -> Result<bool, Ended> {
        session.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut reader = BufReader::new(&session);
        (&session).write_all(b"still here\n")?;
        let mut line = String::new();
        reader.read_line(&mut line)?;
        Ok(line == "still here\n")
    }
}

fn server(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from([192, 0, 2, 1]), port)
}

fn connect_from(from: IpAddr) -> io::Result<Door> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    match socket.connect_timeout(&server(DOOR.get()).into(), WAIT) {
        Ok(()) => Ok(Door::Open),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(Door::Silent),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(Door::Refused),
        Err(error) => Err(error),
    }
}

/// Sends every line back, to any number of sessions, until the process ends.
fn serve(listener: &TcpListener) {
    for session in listener.incoming().flatten() {
        thread::spawn(move || {
            let mut writer = &session;
            for line in BufReader::new(&session).lines().map_while(Result::ok) {
                if writer.write_all(format!("{line}\n").as_bytes()).is_err() {
                    break;
                }
            }
        });
    }
}
