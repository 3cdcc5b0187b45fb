//! The page that knocks, in real browsers without a window. The kernel's grant is the verdict, not what the page says.

mod dress;
mod driver;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use toctoc::lab::{CLIENT, SERVER};

use crate::person::{Person, said};
use crate::token_world::{OTHER, SECRET, after_a_clean_stop, now};
use crate::world::{Running, SHUT, World};
use driver::{Browser, Kind};

const PORT: &str = "20123";
const SEQUENCE: &str = "443,2387,920,18357,50";

/// Longer than a page goes on with its tries.
const ALL_TRIES: Duration = Duration::from_secs(8);

/// All that a page says when it has knocked: never that a door is open.
const KNOCKED: [&str; 2] = [
    "Knocked. Connect now. If that fails, knock again.",
    "Knocked, but this browser says that it is offline.",
];

/// A host with a sequence, and so many keys with tokens for browsers: each click needs a token of its own, and there are
/// four a minute.
struct Site {
    world: World,
    secrets: Vec<String>,
    pages: PathBuf,
}

fn policy(head: &str, keys: usize) -> String {
    let mut policy = format!(
        "{head}token_port = {PORT}\ntoken_horizon = \"1h\"\nwithin = \"10s\"\n[door.ssh]\nports = [22]\n\
         [key.yves]\nopens = [\"ssh\"]\nsequence = [{SEQUENCE}]\n"
    );
    for number in 0..keys {
        policy.push_str(&format!(
            "[key.k{number}]\nopens = [\"ssh\"]\ntoken = \"k{number}.secret\"\nbrowser = true\n"
        ));
    }
    policy
}

fn site(keys: usize) -> Site {
    site_with("", keys)
}

fn site_with(head: &str, keys: usize) -> Site {
    let secrets: Vec<String> = (0..keys)
        .map(|number| format!("{number:04x}{}", &SECRET[4..]))
        .collect();
    let files: Vec<String> = (0..keys).map(|n| format!("k{n}.secret")).collect();
    let files = files.iter().map(String::as_str);
    let files: Vec<(&str, &str)> = files.zip(secrets.iter().map(String::as_str)).collect();
    let (world, _) = after_a_clean_stop(&policy(head, keys), &files);
    // Firefox sends nothing without one.
    for (version, server) in ["-4", "-6"].into_iter().zip(SERVER) {
        let route = format!("{version} route add default via {server}");
        world.lab.client.ip(&route).unwrap();
    }
    let pages = world.programs().join("pages");
    fs::create_dir(&pages).unwrap();
    Site {
        world,
        secrets,
        pages,
    }
}

impl Site {
    /// Adds a profile, with a secret or with a sequence.
    fn add_profile(&self, person: &Person, name: &str, host: &str, key: &str) {
        let door = ["profile", "add", name, "--host", host, "--door", "22"];
        let output = match key.contains(',') {
            true => person.toctoc(&[&door[..], &["--sequence", key]].concat()),
            false => {
                let token = ["--token", "-", "--token-port", PORT, "--browser"];
                person.toctoc_reading(&[&door[..], &token].concat(), key.as_bytes())
            }
        };
        assert!(output.status.success(), "{}", said(&output));
    }

    /// The page of a profile as a file, by its address.
    fn page(&self, person: &Person, name: &str, host: &str, key: &str) -> String {
        self.add_profile(person, name, host, key);
        let page = person.yes(&["profile", "show", name, "--as", "html"]);
        self.file(name, &page)
    }

    fn file(&self, name: &str, page: &str) -> String {
        let path = self.pages.join(format!("{name}.html"));
        fs::write(&path, page).unwrap();
        format!("file://{}", path.display())
    }

    /// Returns whether a click at a page opens the door. Where it does not, the page has knocked for the first time at least.
    fn opens(&self, browser: &mut Browser, url: &str, patience: Duration) -> bool {
        self.world.yes(&["close"]);
        browser.visit(url);
        assert!(self.world.nobody_is_in(), "{url}: before the click");
        browser.click();
        browser.until("it has knocked", |browser| {
            KNOCKED.contains(&browser.said().as_str()) || !self.world.nobody_is_in()
        });
        let deadline = Instant::now() + patience;
        while self.world.nobody_is_in() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        let said = browser.said();
        assert!(
            said == "Knocking…" || KNOCKED.contains(&said.as_str()),
            "{said}"
        );
        !self.world.nobody_is_in()
    }

    /// The same, with all the tries of the page where it shall open.
    fn is(&self, opens: bool, browser: &mut Browser, url: &str) {
        let patience = if opens { ALL_TRIES } else { SHUT };
        assert_eq!(self.opens(browser, url, patience), opens, "{url}");
    }
}

/// A web host that knows one page, whatever is asked for.
fn serve(world: &World, page: String) -> String {
    let listener = world
        .lab
        .server
        .inside(|| TcpListener::bind((SERVER[0], 8080)));
    let listener = listener.unwrap().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let page = page.clone();
            // On a slow line a browser opens a second connection, and asks nothing there.
            thread::spawn(move || {
                let _ = stream.read(&mut [0; 4000]);
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length:";
                let _ = write!(stream, "{head} {}\r\n\r\n{page}", page.len());
            });
        }
    });
    format!("http://{}:8080/", SERVER[0])
}

/// One click of each kind; beside each what must not open.
fn a_click_opens(kind: Kind) {
    let site = site(4);
    let person = Person::on(&site.world);
    let (keys, wrong_sequence) = (&site.secrets, "443,2387,920,18357,51");
    let pages = [
        ("wrong-sequence", SERVER[0], wrong_sequence, false),
        ("sequence", SERVER[0], SEQUENCE, true),
        ("sequence6", SERVER[1], SEQUENCE, true),
        ("wrong-token", SERVER[0], OTHER, false),
        ("token", SERVER[0], &keys[0], true),
        ("token6", SERVER[1], &keys[1], true),
    ];
    let mut browser = Browser::start(&site.world, kind);
    for (name, host, key, opens) in pages {
        let url = site.page(&person, name, host, key);
        site.is(opens, &mut browser, &url);
    }
    // The key is in the fragment.
    let empty = person.yes(&["profile", "show", "token", "--as", "html-empty"]);
    let address = serve(&site.world, empty);
    site.add_profile(&person, "hosted", SERVER[0], &keys[2]);
    for (name, opens) in [("wrong-token", false), ("hosted", true), ("sequence", true)] {
        let fragment = person.yes(&["profile", "show", name, "--as", "fragment"]);
        let url = format!("{address}{}", fragment.trim());
        site.is(opens, &mut browser, &url);
    }
    browser.visit(&address);
    assert_eq!(
        browser.said(),
        "There is no key in the address of this page."
    );
    assert_eq!(browser.ask("document.getElementById('go').disabled"), true);
}

#[test]
fn a_click_in_chromium_opens_the_door() {
    a_click_opens(Kind::Chromium);
}

#[test]
fn a_click_in_firefox_opens_the_door() {
    a_click_opens(Kind::Firefox);
}

/// The page takes the next token; the same one again, as a second tab would take it, opens nothing.
#[test]
fn a_used_token_opens_nothing_from_a_page() {
    let site = site(2);
    let person = Person::on(&site.world);
    for (kind, host) in [(Kind::Chromium, SERVER[0]), (Kind::Firefox, SERVER[1])] {
        let url = site.page(
            &person,
            &format!("{kind:?}"),
            host,
            &site.secrets[usize::from(kind == Kind::Firefox)],
        );
        let mut browser = Browser::start(&site.world, kind);
        // The page begins with another token each quarter of a minute.
        while now() % 15 > 7 {
            thread::sleep(Duration::from_millis(100));
        }
        site.is(true, &mut browser, &url);
        site.is(false, &mut browser, &url);
        site.world.yes(&["close"]);
        browser.click();
        site.world
            .until("the next token opens", || !site.world.nobody_is_in());
    }
}

/// A scratch sequence opens once. The page takes the next one then, also when it is loaded anew.
#[test]
fn a_scratch_sequence_opens_once_from_a_page() {
    let site = site(1);
    for kind in [Kind::Chromium, Kind::Firefox] {
        let name = format!("{kind:?}").to_lowercase();
        let path = site.pages.join(format!("{name}.html"));
        let (policy, page) = (site.world.path(), path.to_str().unwrap());
        let words = [
            "key",
            "new",
            &name,
            policy.to_str().unwrap(),
            "--scratch",
            "3",
        ];
        let made = site
            .world
            .toctoc(&[&words[..], &["--host", SERVER[0], "--html", page]].concat());
        assert!(made.status.success(), "{}", said(&made));
        assert_eq!(mode(&path), 0o600);
        site.world.yes(&["apply"]);
        let url = format!("file://{page}");
        let mut browser = Browser::start(&site.world, kind);
        site.is(true, &mut browser, &url);
        // Chromium forgets what its first page has stored, once in fifteen starts: then a second click opens.
        if !site.opens(&mut browser, &url, ALL_TRIES) {
            assert_eq!(kind, Kind::Chromium);
            browser.click();
            site.world
                .until("the next one opens", || !site.world.nobody_is_in());
        }
        let said = browser.ask("document.getElementById('left').textContent");
        assert_eq!(said, "Each sequence opens once. Unused here: 1 of 3.");
        // A browser that knows nothing of that.
        browser.ask("localStorage.clear()");
        site.is(false, &mut browser, &url);
    }
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The page makes tokens as the vectors have them, and keeps no key where others can read it.
#[test]
fn the_page_agrees_with_the_vectors_and_stores_no_key() {
    let site = site(1);
    let person = Person::on(&site.world);
    let url = site.page(&person, "token", SERVER[0], &site.secrets[0]);
    let mut browser = Browser::start(&site.world, Kind::Chromium);
    site.is(true, &mut browser, &url);
    let vectors: Value =
        serde_json::from_str(&fs::read_to_string("docs/protocol.json").unwrap()).unwrap();
    let tokens = vectors["tokens"].as_array().unwrap();
    for one in tokens {
        let secret = one["secret"].as_str().unwrap();
        let found = browser.ask(&format!(
            "token('{secret}'.match(/../g).map(pair => parseInt(pair, 16)), {}, {})",
            one["window"], one["number"]
        ));
        assert_eq!(found, one["letters"], "{one}");
    }
    assert!(tokens.len() > 3);
    let stored =
        browser.ask("localStorage.length + sessionStorage.length + document.cookie.length");
    assert_eq!(stored, 0);
    // What the policy of the page does not allow is not sent.
    browser.ask("fetch('https://192.0.2.1:8081').catch(() => window.blocked = true)");
    browser.until("it is refused", |browser| {
        browser.ask("window.blocked") == true
    });
}

/// `key new --for browser` and `--html` make keys that a browser can use; what none can is refused with the reason.
#[test]
fn only_what_a_browser_can_send_gets_a_page() {
    let world = World::bare();
    let policy = world.path();
    let policy = policy.to_str().unwrap();
    let new = |name: &str, more: &[&str]| {
        let words = ["key", "new", name, policy, "--host", SERVER[0]];
        world.toctoc(&[&words[..], more].concat())
    };
    let door = "[door.ssh]\nports = [22]\n";
    fs::write(policy, door).unwrap();
    let page = world.programs().join("phone.html");
    let made = new("phone", &["--html", page.to_str().unwrap()]);
    assert!(made.status.success(), "{}", said(&made));
    assert!(said(&made).contains("whoever has it has the key"));
    let written = fs::read_to_string(policy).unwrap();
    let (_, port) = written.split_once("token_port = ").unwrap();
    let port: u16 = port.lines().next().unwrap().parse().unwrap();
    assert!((1024..32_768).contains(&port), "{port}");
    assert!(written.contains("browser = true"), "{written}");
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains(&format!("port={port}&token=")) && page.len() <= 8192);
    // The port that is there already is none of theirs: nothing changes.
    let before = format!("token_port = 40123\n{door}");
    fs::write(policy, &before).unwrap();
    let refused = new("other", &["--for", "browser"]);
    assert!(!refused.status.success());
    let why = said(&refused);
    assert!(
        why.contains("no browser sends tokens to port 40123"),
        "{why}"
    );
    assert_eq!(fs::read_to_string(policy).unwrap(), before);
    let made = new("other", &[]);
    assert!(made.status.success(), "{}", said(&made));

    let person = Person::on(&world);
    let profile = |name: &str, text: &str| {
        let path = world.private_file(&format!("{name}.toml"), text);
        let output = person.toctoc(&["profile", "import", path.to_str().unwrap(), name]);
        assert!(output.status.success(), "{}", said(&output));
    };
    let token = format!("token = \"{SECRET}\"\ntoken_port");
    for (name, text, wanted) in [
        (
            "bad",
            "host = \"192.0.2.1\"\nsequence = [4431, 6667, 920]\n",
            "browsers refuse port 6667",
        ),
        (
            "udp",
            "host = \"192.0.2.1\"\nsequence = [\"53/udp\", 920]\n",
            "cannot knock over UDP",
        ),
        (
            "own",
            "host = \"127.0.0.1\"\nsequence = [4431, 920]\n",
            "no way to it from elsewhere",
        ),
        (
            "scope",
            "host = \"fe80::1%eth0\"\nsequence = [4431, 920]\n",
            "no browser knows interfaces",
        ),
        (
            "bytes",
            &format!("host = \"192.0.2.1\"\n{token} = 20123\n"),
            "needs `browser = true`",
        ),
        (
            "high",
            &format!("host = \"192.0.2.1\"\n{token} = 40123\nbrowser = true\n"),
            "browsers send no tokens to port 40123",
        ),
    ] {
        profile(name, text);
        for form in ["html", "fragment"] {
            let output = person.toctoc(&["profile", "show", name, "--as", form]);
            assert_eq!(output.status.code(), Some(2), "{name}");
            assert!(said(&output).contains(wanted), "{name}: {}", said(&output));
        }
    }
}

/// As many clicks as `CLICKS` says (`make verify`), each with a new browser and all in one; a few in one otherwise. Both
/// families, pages from a file and from a web host, doors that drop and that reject.
fn clicks_open_again_and_again(kind: Kind, line: Line) {
    let clicks = std::env::var("CLICKS")
        .ok()
        .map(|text| text.parse().unwrap());
    let ways: &[Start] = match clicks {
        Some(_) => &[Start::Once, Start::EachTime],
        None => &[Start::Once],
    };
    let clicks: usize = clicks.unwrap_or(4);
    for &start in ways {
        let site = match start {
            Start::Once => site(clicks),
            Start::EachTime => site_with("closed = \"reject\"\n", clicks),
        };
        let _ends = (line == Line::Bad).then(|| bad_line(&site.world));
        let person = Person::on(&site.world);
        let (mut tokens, mut sequences) = (0, 0);
        let mut browser = Browser::start(&site.world, kind);
        site.add_profile(&person, "any", SERVER[0], &site.secrets[0]);
        let empty = person.yes(&["profile", "show", "any", "--as", "html-empty"]);
        let address = serve(&site.world, empty);
        for click in 0..clicks {
            let host = SERVER[click % 2];
            let keys = [
                (format!("token{click}"), site.secrets[click].as_str()),
                (format!("sequence{click}"), SEQUENCE),
            ];
            for ((name, key), opened) in keys.iter().zip([&mut tokens, &mut sequences]) {
                let mut url = site.page(&person, name, host, key);
                if click % 4 > 1 {
                    let fragment = person.yes(&["profile", "show", name, "--as", "fragment"]);
                    url = format!("{address}{}", fragment.trim());
                }
                if start == Start::EachTime {
                    drop(browser);
                    browser = Browser::start(&site.world, kind);
                }
                *opened += usize::from(site.opens(&mut browser, &url, ALL_TRIES));
            }
        }
        println!(
            "{kind:?}, {line:?} line, {start:?}: {tokens} tokens and {sequences} sequences of {clicks} clicks each"
        );
        assert_eq!(tokens, clicks, "{kind:?} {line:?} {start:?}");
        if line == Line::Quiet {
            assert_eq!(sequences, clicks, "{kind:?} {start:?}");
        }
    }
}

#[test]
fn clicks_open_again_and_again_in_chromium() {
    clicks_open_again_and_again(Kind::Chromium, Line::Quiet);
}

#[test]
fn clicks_open_again_and_again_in_chromium_on_a_bad_line() {
    clicks_open_again_and_again(Kind::Chromium, Line::Bad);
}

#[test]
fn clicks_open_again_and_again_in_firefox() {
    clicks_open_again_and_again(Kind::Firefox, Line::Quiet);
}

#[test]
fn clicks_open_again_and_again_in_firefox_on_a_bad_line() {
    clicks_open_again_and_again(Kind::Firefox, Line::Bad);
}

/// When a browser starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Once,
    EachTime,
}

/// The line between the hosts. A bad one has a round trip of 150 ms and up to 30 ms more at random each way, and loses 3 of
/// 100 packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Quiet,
    Bad,
}

/// Puts a bad line in the place of the cable.
fn bad_line(world: &World) -> [Running; 2] {
    let socket = world.programs().join("line");
    let ends = [(&world.lab.server, SERVER), (&world.lab.client, CLIENT)];
    let ends = ends.map(|(host, [v4, v6])| {
        host.ip("link set eth0 down").unwrap();
        host.ip("address flush dev eth0").unwrap();
        let mut command = Command::new("python3");
        command.args(["-c", include_str!("line.py")]).arg(&socket);
        command.args([format!("{v4}/24"), format!("{v6}/64")]);
        (
            host,
            Running(host.inside(|| command.spawn().unwrap()).unwrap()),
        )
    });
    for (version, to) in ["-4", "-6"].into_iter().zip(SERVER) {
        let client = &world.lab.client;
        let route = format!("{version} route add default via {to} dev line0");
        world.until("the line is there", || client.ip(&route).is_ok());
        let answered = || {
            world
                .client(&["ping", "-c", "1", "-W", "1", to])
                .succeeded()
        };
        world.until("the line carries", answered);
    }
    ends.map(|(_, end)| end)
}
