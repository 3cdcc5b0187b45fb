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
                    "# good once, until {until}\n{} -sU -p {port} --data {} {host}{AS_ROOT}\n",
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
        Tool::Nmap => each(&|knock| {
            let (udp, mark) = match knock.protocol {
                Protocol::Tcp => ("", ""),
                Protocol::Udp => (" -sU", AS_ROOT),
            };
            format!("{}{udp} -p {} {host}{mark}\n", nmap(v6), knock.port)
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

/// Only root can send datagrams with nmap.
const AS_ROOT: &str = "  # as root";

/// No name is looked up, the host is not asked first, and nothing is sent twice.
fn nmap(v6: bool) -> String {
    format!("nmap{} -n -Pn --max-retries 0", if v6 { " -6" } else { "" })
}

/// What makes `ssh NAME` knock by itself, for `~/.ssh/config`. Begins with an empty line: the file that it is appended
/// to may not end its last one.
pub fn ssh_config(name: &str, profile: &Profile) -> String {
    let host = profile.host.replace('%', "%%");
    let mut text = format!("\nHost {name}\n    HostName {host}\n");
    if let Some(door) = profile.door.filter(|door| door.get() != 22) {
        text.push_str(&format!("    Port {door}\n"));
    }
    text.push_str(&format!(
        "    ProxyCommand toctoc connect --fdpass {name} %p\n    ProxyUseFdpass yes\n"
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(sequence: &str) -> Profile {
        let text = format!("host = \"192.0.2.1\"\ndoor = 22\nsequence = [{sequence}]\n");
        Profile::parse(&text).unwrap()
    }

    #[test]
    fn lines_that_only_root_can_run_are_marked() {
        let mixed = recipe(Tool::Nmap, "a", &profile("443, \"53/udp\", 920"), 0).unwrap();
        let marks: Vec<bool> = mixed
            .lines()
            .map(|line| line.ends_with("# as root"))
            .collect();
        assert_eq!(marks, [false, true, false], "{mixed}");
        let tcp = recipe(Tool::Nmap, "a", &profile("443, 920"), 0).unwrap();
        assert!(!tcp.contains("root"), "{tcp}");
        let secret = crate::single_use::Secret::new([5; 32].into());
        let token = Profile {
            way: Way::Token(secret, std::num::NonZeroU16::MIN),
            ..profile("443")
        };
        let token = recipe(Tool::Nmap, "a", &token, 0).unwrap();
        assert!(
            token.lines().last().unwrap().ends_with("# as root"),
            "{token}"
        );
    }

    #[test]
    fn what_is_appended_to_a_file_begins_a_line_of_its_own() {
        let text = format!(
            "Host old\n    Port 2222{}",
            ssh_config("server", &profile("443"))
        );
        assert!(text.contains("\n    Port 2222\nHost server\n"), "{text}");
    }
}
