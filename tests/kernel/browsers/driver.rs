//! Two real browsers without a window, driven by a few lines each: Chromium over its pipe (the DevTools protocol, JSON
//! that ends with a zero byte), Firefox over its socket (Marionette, JSON with its length before it).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::world::World;

/// The time that a browser may take for anything on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Chromium,
    Firefox,
}

/// A browser on the client, with a profile of its own. It ends with this value, and all its processes.
pub struct Browser {
    child: Child,
    line: Line,
    calls: u64,
    _home: TempDir,
}

enum Line {
    Chromium {
        to: ChildStdin,
        from: Receiver<Value>,
        session: Value,
    },
    Firefox(BufReader<TcpStream>),
}

impl Drop for Browser {
    fn drop(&mut self) {
        let group = Pid::from_child(&self.child);
        let _is_gone = kill_process_group(group, Signal::KILL);
        let _ended = self.child.wait();
    }
}

impl Browser {
    pub fn start(world: &World, kind: Kind) -> Browser {
        let home = tempfile::tempdir().unwrap();
        let at = home.path().display().to_string();
        let mut command = match kind {
            Kind::Chromium => {
                let mut command = Command::new("sh");
                // It reads from 3 and writes to 4.
                command.args([
                    "-c",
                    "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1",
                    "sh",
                    "--headless",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-dev-shm-usage",
                    "--no-first-run",
                    "--disable-background-networking",
                    "--disable-component-update",
                    "--disable-sync",
                    "--remote-debugging-pipe",
                    &format!("--user-data-dir={at}"),
                    "about:blank",
                ]);
                command.stdin(Stdio::piped()).stdout(Stdio::piped());
                command
            }
            Kind::Firefox => {
                // What it asks its makers at the start would be in the middle of a sequence.
                let quiet = "user_pref(\"network.captive-portal-service.enabled\", false);\n\
                    user_pref(\"network.connectivity-service.enabled\", false);\n";
                std::fs::write(home.path().join("user.js"), quiet).unwrap();
                let mut command = Command::new("firefox-esr");
                command.args([
                    "--headless",
                    "--no-remote",
                    "--marionette",
                    "--profile",
                    &at,
                ]);
                command.stdin(Stdio::null()).stdout(Stdio::null());
                command
            }
        };
        command
            .env("HOME", &at)
            .stderr(Stdio::null())
            .process_group(0);
        let mut child = world
            .lab
            .client
            .inside(|| command.spawn().unwrap())
            .unwrap();
        let line = match kind {
            Kind::Chromium => Line::Chromium {
                to: child.stdin.take().unwrap(),
                from: messages(child.stdout.take().unwrap()),
                session: Value::Null,
            },
            Kind::Firefox => Line::Firefox(marionette(world)),
        };
        let mut browser = Browser {
            child,
            line,
            calls: 0,
            _home: home,
        };
        browser.greet();
        browser
    }

    fn greet(&mut self) {
        if let Line::Firefox(line) = &mut self.line {
            read_sized(line);
            self.call("WebDriver:NewSession", json!({ "capabilities": {} }));
            return;
        }
        let targets = self.call("Target.getTargets", json!({}));
        let targets = targets["targetInfos"].as_array().unwrap();
        let page = targets.iter().find(|target| target["type"] == "page");
        let page = &page.unwrap()["targetId"];
        let attached = self.call(
            "Target.attachToTarget",
            json!({ "targetId": page, "flatten": true }),
        );
        if let Line::Chromium { session, .. } = &mut self.line {
            *session = attached["sessionId"].clone();
        }
    }

    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        match &mut self.line {
            Line::Chromium { to, from, session } => {
                let mut message = json!({ "id": id, "method": method, "params": parameters });
                if !session.is_null() {
                    message["sessionId"] = session.clone();
                }
                to.write_all(format!("{message}\0").as_bytes()).unwrap();
                loop {
                    let answer = from.recv_timeout(PATIENCE).expect("Chromium answers");
                    if answer["id"] == id {
                        assert!(answer["error"].is_null(), "{method}: {answer}");
                        return answer["result"].clone();
                    }
                }
            }
            Line::Firefox(line) => {
                let message = json!([0, id, method, parameters]).to_string();
                let sized = format!("{}:{message}", message.len());
                line.get_mut().write_all(sized.as_bytes()).unwrap();
                let answer = read_sized(line);
                assert!(answer[2].is_null(), "{method}: {answer}");
                answer[3].clone()
            }
        }
    }

    /// The value of an expression of JavaScript in the page, or what it promises.
    pub fn ask(&mut self, expression: &str) -> Value {
        match self.line {
            Line::Chromium { .. } => {
                let asked = json!({
                    "expression": expression, "returnByValue": true, "awaitPromise": true,
                });
                self.call("Runtime.evaluate", asked)["result"]["value"].clone()
            }
            Line::Firefox(_) => {
                let asked = json!({ "script": format!("return {expression}"), "args": [] });
                self.call("WebDriver:ExecuteScript", asked)["value"].clone()
            }
        }
    }

    /// Loads a page of ours anew, whatever is there.
    pub fn visit(&mut self, url: &str) {
        let (method, blank) = match self.line {
            Line::Chromium { .. } => ("Page.navigate", "about:blank"),
            Line::Firefox(_) => ("WebDriver:Navigate", "about:blank"),
        };
        // A browser may answer before the new page is there.
        self.ask("window.isOld = true");
        self.call(method, json!({ "url": blank }));
        self.call(method, json!({ "url": url }));
        let ready =
            "document.readyState == 'complete' && !!document.getElementById('go') && !window.isOld";
        self.until(url, |browser| browser.ask(ready) == true);
    }

    /// Presses the button.
    pub fn click(&mut self) {
        self.ask("document.getElementById('go').click()");
    }

    /// The text of the page.
    pub fn said(&mut self) -> String {
        let said = self.ask("document.getElementById('said').textContent");
        said.as_str().unwrap().to_string()
    }

    /// Polls until something holds.
    pub fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Browser) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "not in time: {what}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The output of Chromium, message after message.
fn messages(from: impl Read + Send + 'static) -> Receiver<Value> {
    let (send, receive) = channel();
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut message = Vec::new();
        while from
            .read_until(0, &mut message)
            .is_ok_and(|length| length > 0)
        {
            message.pop();
            if let Ok(value) = serde_json::from_slice(&message) {
                let _nobody_listens = send.send(value);
            }
            message.clear();
        }
    });
    receive
}

/// Firefox listens at this port of the client's own namespace.
fn marionette(world: &World) -> BufReader<TcpStream> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let connected = world
            .lab
            .client
            .inside(|| TcpStream::connect(("127.0.0.1", 2828)));
        if let Ok(stream) = connected.unwrap() {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            return BufReader::new(stream);
        }
        assert!(Instant::now() < deadline, "Firefox does not start");
        thread::sleep(Duration::from_millis(50));
    }
}

fn read_sized(line: &mut BufReader<TcpStream>) -> Value {
    let mut length = Vec::new();
    line.read_until(b':', &mut length).expect("Firefox answers");
    length.pop();
    let length: usize = String::from_utf8(length).unwrap().parse().unwrap();
    let mut message = vec![0; length];
    line.read_exact(&mut message).unwrap();
    serde_json::from_slice(&message).unwrap()
}
