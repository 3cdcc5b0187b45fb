//! The same way in with tools that people have already. Pure.

use std::time::Duration;

use std::fmt::Write;
use std::num::NonZeroU16;

use super::outside::Outside;
use super::plan::tokens;
use super::profile::{Profile, Way};
use super::send::signed_now;
use crate::knock::{Knock, Protocol};
use crate::signed::Binding;
use crate::single_use::{Token, Window};

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
    /// bash alone, by its `/dev/tcp` and `/dev/udp`.
    Bash,
    Curl,
    PowerShell,
    Python,
    /// The ping of Linux, by its pattern.
    Ping,
}

impl Tool {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Tool); 10] = [
        ("nmap", Tool::Nmap),
        ("nc", Tool::Nc),
        ("knock", Tool::Knock),
        ("ssh", Tool::Ssh),
        ("knockonports", Tool::KnockOnPorts),
        ("bash", Tool::Bash),
        ("curl", Tool::Curl),
        ("powershell", Tool::PowerShell),
        ("python", Tool::Python),
        ("ping", Tool::Ping),
    ];
}

/// The text to type, or to import, to open the door of a profile. A token is good for one time, and for
/// some two minutes from `now` (seconds since 1970).
///
/// # Errors
/// A sentence, when the tool cannot do that.
pub fn recipe(tool: Tool, name: &str, profile: &Profile, now: i64) -> Result<String, String> {
    let host = profile.host.as_str();
    let v6 = host.contains(':');
    let knocks = match &profile.way {
        Way::Sequence(knocks) => knocks,
        Way::Signed(signed) => {
            let bytes = signed_now(host, signed)?;
            let command = token_command(tool, host, &bytes, signed.port)?;
            let source = match (signed.binding, &signed.from) {
                (Binding::Nothing, _) => "any address".to_string(),
                (_, Outside::Own) => "this host".to_string(),
                (_, Outside::Named(address)) => address.to_string(),
                (_, Outside::Asked(server)) => format!("the address that {server} told just now"),
            };
            return Ok(format!(
                "# good once, for two minutes, from {source}\n{command}\n"
            ));
        }
        Way::Token(secret, port) => {
            let until = Window::at(now).over();
            let until = jiff::Timestamp::from_second(until)
                .map_or_else(|_| until.to_string(), |time| time.to_string());
            let token = &tokens(secret, now)[0];
            if tool == Tool::KnockOnPorts {
                let step = serde_json::json!({
                    "type": "udp", "port": port, "content": token.hex(), "encoding": "hex",
                });
                return Ok(for_knock_on_ports(
                    &format!("{name}, once, until {until}"),
                    profile,
                    &[step],
                ));
            }
            let command = token_command(tool, host, &token.0, *port)?;
            return Ok(format!("# good once, until {until}\n{command}\n"));
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
            let delay = profile.gap.max(GAP_OF_ONE_TRY).as_millis();
            format!("knock -d {delay} {host} {}\n", knocks.join(" "))
        }
        Tool::Ssh if tcp_only => format!(
            "for p in {ports}; do ssh -o BatchMode=yes -o ConnectTimeout=1 -p $p {host}; done\n"
        ),
        Tool::Ssh => return Err("ssh cannot knock over UDP: nmap, nc and knock can".to_string()),
        Tool::Ping => {
            return Err(
                "a ping carries a token, and is no knock: the key needs tokens".to_string(),
            );
        }
        Tool::Bash => {
            let each = each(&|knock| match knock.protocol {
                // Ended before it repeats its SYN.
                Protocol::Tcp => format!(
                    "(exec 3<>/dev/tcp/{host}/{}) & sleep 0.2; kill $!; ",
                    knock.port
                ),
                Protocol::Udp => format!("echo >/dev/udp/{host}/{}; sleep 0.2; ", knock.port),
            });
            format!("bash -c '{}' 2>/dev/null\n", each.trim_end())
        }
        Tool::Curl if tcp_only => {
            let host = if v6 {
                format!("[{host}]")
            } else {
                host.to_string()
            };
            format!("for p in {ports}; do curl -gs -m 0.2 \"http://{host}:$p\"; done\n")
        }
        Tool::Curl => {
            return Err(
                "curl cannot knock over UDP: bash, python, nmap, nc and knock can".to_string(),
            );
        }
        Tool::PowerShell => {
            let family = if v6 { "InterNetworkV6" } else { "InterNetwork" };
            let each = each(&|knock| match knock.protocol {
                Protocol::Tcp => format!(
                    "$c = New-Object Net.Sockets.TcpClient {family}; \
                     $null = $c.BeginConnect('{host}', {}, $null, $null); sleep -m 200; $c.Close()\n",
                    knock.port
                ),
                Protocol::Udp => format!(
                    "$null = (New-Object Net.Sockets.UdpClient {family}).Send([byte[]]0, 1, '{host}', {}); \
                     sleep -m 200\n",
                    knock.port
                ),
            });
            format!("{NOT_RUN}{each}")
        }
        Tool::Python => {
            let knocks: Vec<String> = knocks
                .iter()
                .map(|knock| match knock.protocol {
                    Protocol::Tcp => format!("({}, s.SOCK_STREAM)", knock.port),
                    Protocol::Udp => format!("({}, s.SOCK_DGRAM)", knock.port),
                })
                .collect();
            // `k.connect` of a datagram sends nothing, `k.send` of a connection that has not begun neither.
            format!(
                "python3 -c \"import socket as s, time; \
                 [(a := s.getaddrinfo('{host}', p, type=t)[0], k := s.socket(*a[:3]), k.setblocking(False), \
                 k.connect_ex(a[4]), t == s.SOCK_DGRAM and k.send(b''), time.sleep(0.1), k.close()) \
                 for p, t in [{}]]\"\n",
                knocks.join(", ")
            )
        }
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
            for_knock_on_ports(name, profile, &steps)
        }
    })
}

/// A file that the application imports.
fn for_knock_on_ports(name: &str, profile: &Profile, steps: &[serde_json::Value]) -> String {
    let sequence = serde_json::json!({
        "name": name,
        "host": profile.host,
        "delay": profile.gap.max(GAP_OF_ONE_TRY).as_millis() as u64,
        "steps": steps,
    });
    let file = serde_json::json!({ "version": 1, "sequences": [sequence] });
    format!("{file:#}\n")
}

/// Sends a token, in one line.
///
/// # Errors
/// A sentence, when the tool cannot do that.
fn token_command(tool: Tool, host: &str, token: &[u8], port: NonZeroU16) -> Result<String, String> {
    let v6 = host.contains(':');
    let hex: String = token.iter().map(|byte| format!("{byte:02x}")).collect();
    let length = token.len();
    let octal = token.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "\\{byte:03o}");
        text
    });
    match tool {
        Tool::Nc => Ok(format!("printf '{octal}' | nc -u -w 1 {host} {port}")),
        Tool::Nmap => Ok(format!(
            "{} -sU -p {port} --data {} {host}{AS_ROOT}",
            nmap(v6),
            hex
        )),
        // One write of `dd` is one datagram; bash's own printf writes one for each line.
        Tool::Bash => Ok(format!(
            "bash -c 'printf \"{octal}\" | dd bs={length} iflag=fullblock >/dev/udp/{host}/{port}' 2>/dev/null"
        )),
        Tool::Python => Ok(format!(
            "python3 -c \"import socket as s; a = s.getaddrinfo('{host}', {port}, type=s.SOCK_DGRAM)[0]; \
             s.socket(*a[:3]).sendto(bytes.fromhex('{hex}'), a[4])\""
        )),
        Tool::PowerShell => {
            let family = if v6 { "InterNetworkV6" } else { "InterNetwork" };
            let bytes: Vec<String> = token.iter().map(u8::to_string).collect();
            Ok(format!(
                "{NOT_RUN}$null = (New-Object Net.Sockets.UdpClient {family}).Send([byte[]]({}), {length}, '{host}', \
                 {port})",
                bytes.join(",")
            ))
        }
        Tool::Ping => {
            let Ok(token) = <[u8; 16]>::try_from(token) else {
                return Err("a signed datagram is longer than the pattern of a ping".to_string());
            };
            let token = Token(token);
            let (head, tail) = token.0.split_at(8);
            let turned = Token([tail, head].concat().try_into().unwrap_or(token.0));
            let other = if v6 { "ping6" } else { "ping" };
            Ok(format!(
                "# the policy needs `ping = true` of the key\n\
                 # macOS, FreeBSD (not run by the tests of toctoc): {other} -c 1 -p {} {host}\n\
                 ping -c 1 -W 1 -p {} {host}",
                turned.hex(),
                token.hex()
            ))
        }
        Tool::Knock | Tool::Ssh | Tool::Curl | Tool::KnockOnPorts => {
            Err(
                "a token is sixteen bytes over UDP: nc, nmap, bash, python, powershell, ping and knockonports can send \
                 them"
                    .to_string(),
            )
        }
    }
}

/// The shortest pause for tools that knock once: our own client tries again, and slower.
const GAP_OF_ONE_TRY: Duration = Duration::from_millis(20);

/// No machine with Windows was there to try it.
const NOT_RUN: &str = "# not run by the tests of toctoc\n";

/// Only root can send datagrams with nmap.
const AS_ROOT: &str = "  # as root";

/// No name is looked up, the host is not asked first, and nothing is sent twice.
fn nmap(v6: bool) -> String {
    format!("nmap{} -n -Pn --max-retries 0", if v6 { " -6" } else { "" })
}

/// The lines that make `ssh NAME` knock by itself, for `~/.ssh/config`. Begins with an empty line: the file that it is
/// appended to may not end its last one.
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
