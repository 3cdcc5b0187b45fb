//! The same way in with tools that people have already. Pure.

use std::fmt::Write;

use super::plan::tokens;
use super::profile::{Profile, Way};
use crate::knock::{Knock, Protocol};
use crate::single_use::Window;

/// A tool that can knock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    Nmap,
    Nc,
    /// The client of knockd.
    Knock,
    Ssh,
    /// Knock on Ports, an application for Android: a file that it imports.
    KnockOnPorts,
}

impl Tool {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Tool); 5] = [
        ("nmap", Tool::Nmap),
        ("nc", Tool::Nc),
        ("knock", Tool::Knock),
        ("ssh", Tool::Ssh),
        ("knockonports", Tool::KnockOnPorts),
    ];
}

/// What to type, or to import, to open the door of a profile. A token is good for one time, and for
/// some two minutes from `now` (seconds since 1970).
///
/// # Errors
/// A sentence, when the tool cannot do that.
pub fn recipe(tool: Tool, name: &str, profile: &Profile, now: i64) -> Result<String, String> {
    let host = profile.host.as_str();
    let v6 = host.contains(':');
    let knocks = match &profile.way {
        Way::Sequence(knocks) => knocks,
        Way::Token(secret, port) => {
            let token = &tokens(secret, now)[0];
            let octal = token.0.iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "\\{byte:03o}");
                text
            });
            let until = Window::at(now).over();
            let until = jiff::Timestamp::from_second(until)
                .map_or_else(|_| until.to_string(), |time| time.to_string());
            return match tool {
                Tool::Nc => Ok(format!(
                    "# good once, until {until}\nprintf '{octal}' | nc -u -w 1 {host} {port}\n"
                )),
                Tool::Nmap => Ok(format!(
                    "# good once, until {until}; as root\n{} -sU -p {port} --data {} {host}\n",
                    nmap(v6),
                    token.hex()
                )),
                _ => {
                    Err("a token is sixteen bytes over UDP: nc and nmap can send them".to_string())
                }
            };
        }
    };
    let tcp_only = knocks.iter().all(|knock| knock.protocol == Protocol::Tcp);
    let ports: Vec<String> = knocks.iter().map(|knock| knock.port.to_string()).collect();
    let ports = ports.join(" ");
    let each = |line: &dyn Fn(&Knock) -> String| knocks.iter().map(line).collect::<String>();
    Ok(match tool {
        Tool::Nmap if tcp_only => {
            format!("for p in {ports}; do {} -p $p {host}; done\n", nmap(v6))
        }
        // As root: only root can send datagrams with nmap.
        Tool::Nmap => each(&|knock| {
            let udp = match knock.protocol {
                Protocol::Tcp => "",
                Protocol::Udp => " -sU",
            };
            format!("{}{udp} -p {} {host}\n", nmap(v6), knock.port)
        }),
        Tool::Nc if tcp_only => format!("for p in {ports}; do nc -z -w 1 {host} $p; done\n"),
        Tool::Nc => each(&|knock| match knock.protocol {
            Protocol::Tcp => format!("nc -z -w 1 {host} {}\n", knock.port),
            Protocol::Udp => format!("echo | nc -u -w 1 {host} {}\n", knock.port),
        }),
        Tool::Knock => {
            let knocks: Vec<String> = knocks
                .iter()
                .map(|knock| format!("{}:{}", knock.port, knock.protocol))
                .collect();
            let delay = profile.gap.as_millis();
            format!("knock -d {delay} {host} {}\n", knocks.join(" "))
        }
        Tool::Ssh if tcp_only => format!(
            "for p in {ports}; do ssh -o BatchMode=yes -o ConnectTimeout=1 -p $p {host}; done\n"
        ),
        Tool::Ssh => return Err("ssh cannot knock over UDP: nmap, nc and knock can".to_string()),
        Tool::KnockOnPorts => {
            let steps: Vec<serde_json::Value> = knocks
                .iter()
                .map(|knock| {
                    serde_json::json!({
                        "type": knock.protocol.name(),
                        "port": knock.port,
                    })
                })
                .collect();
            let sequence = serde_json::json!({
                "name": name,
                "host": host,
                "delay": profile.gap.as_millis() as u64,
                "steps": steps,
            });
            format!(
                "{:#}\n",
                serde_json::json!({ "version": 1, "sequences": [sequence] })
            )
        }
    })
}

/// No name is looked up, the host is not asked first, and nothing is sent twice.
fn nmap(v6: bool) -> String {
    format!("nmap{} -n -Pn --max-retries 0", if v6 { " -6" } else { "" })
}

/// What makes `ssh NAME` knock by itself, for `~/.ssh/config`.
pub fn ssh_config(name: &str, profile: &Profile) -> String {
    let host = profile.host.replace('%', "%%");
    let mut text = format!("Host {name}\n    HostName {host}\n");
    if let Some(door) = profile.door.filter(|door| door.get() != 22) {
        text.push_str(&format!("    Port {door}\n"));
    }
    text.push_str(&format!(
        "    ProxyCommand toctoc connect --fdpass {name} %p\n    ProxyUseFdpass yes\n"
    ));
    text
}
