//! A page with a passphrase, or with a QR code for a second device; and the things that no page can know.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use qrcode::{Color, EcLevel, QrCode};
use toctoc::lab::{CLIENT, SERVER};

use super::driver::{Browser, Kind};
use super::{ALL_TRIES, KNOCKED, SEQUENCE, Site, serve, site};
use crate::person::{Person, said};
use crate::terminal::Terminal;
use crate::world::{SHUT, World};

const WORDS: &str = "correct horse battery";
const HOSTED: &str = "https://pages.example/knock.html";

/// The output of `profile show`, with a passphrase on its standard input.
fn sealed(person: &Person, words: &[&str]) -> String {
    let arguments = [&["profile", "show"], words, &["--passphrase"]].concat();
    let output = person.toctoc_reading(&arguments, format!("{WORDS}\n").as_bytes());
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn type_words(browser: &mut Browser, words: &str) {
    browser.ask(&format!(
        "document.getElementById('words').value = '{words}'"
    ));
}

/// Clicks with a passphrase. Returns what the page says in the end, and whether the door is open.
fn unlock(site: &Site, browser: &mut Browser, url: &str, words: &str) -> (String, bool) {
    site.world.yes(&["close"]);
    browser.visit(url);
    assert_eq!(browser.ask("document.getElementById('lock').hidden"), false);
    type_words(browser, words);
    browser.click();
    browser.until("it has tried", |browser| {
        browser.said() != "Knocking…" && !browser.said().is_empty()
    });
    let patience = if words == WORDS { ALL_TRIES } else { SHUT };
    let deadline = Instant::now() + patience;
    while site.world.nobody_is_in() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    (browser.said(), !site.world.nobody_is_in())
}

/// With the passphrase the page opens the door, with another one it says so and sends nothing. The file shows neither the
/// key nor the host.
fn a_passphrase_is_needed(kind: Kind) {
    let site = site(2);
    let person = Person::on(&site.world);
    let keys = [
        ("token", SERVER[0], site.secrets[0].as_str()),
        ("token6", SERVER[1], site.secrets[1].as_str()),
        ("sequence", SERVER[0], SEQUENCE),
    ];
    let mut browser = Browser::start(&site.world, kind);
    for (name, host, key) in keys {
        site.add_profile(&person, name, host, key);
        let page = sealed(&person, &[name, "--as", "html"]);
        assert!(page.len() <= 8192, "{}", page.len());
        for secret in [key, "name=192", "name=2001", "&address=", "&door="] {
            assert!(!page.contains(secret), "{name}: {secret}");
        }
        let url = site.file(name, &page);
        let (wrong, opened) = unlock(&site, &mut browser, &url, "correct horse batterx");
        assert_eq!(
            (wrong.as_str(), opened),
            ("That is not the passphrase.", false)
        );
        let (right, opened) = unlock(&site, &mut browser, &url, WORDS);
        assert!(KNOCKED.contains(&right.as_str()), "{right}");
        assert!(opened, "{name}");
        // It is asked for once, and kept nowhere.
        assert_eq!(browser.ask("document.getElementById('lock').hidden"), true);
        assert_eq!(browser.ask("document.getElementById('words').value"), "");
        assert_eq!(
            browser.ask("localStorage.length + sessionStorage.length"),
            0
        );
    }
    // A page from http: has no WebCrypto. It says so, and sends nothing.
    let empty = person.yes(&["profile", "show", "token", "--as", "html-empty"]);
    let address = serve(&site.world, empty);
    let fragment = sealed(&person, &["token6", "--as", "fragment"]);
    let url = format!("{address}{}", fragment.trim());
    let (told, opened) = unlock(&site, &mut browser, &url, WORDS);
    assert!(
        told.starts_with("A passphrase needs this page from https:"),
        "{told}"
    );
    assert!(!opened);
}

#[test]
fn a_passphrase_is_needed_in_chromium() {
    a_passphrase_is_needed(Kind::Chromium);
}

#[test]
fn a_passphrase_is_needed_in_firefox() {
    a_passphrase_is_needed(Kind::Firefox);
}

/// A passphrase comes from standard input, and a short one or none makes no page and no key.
#[test]
fn a_short_passphrase_makes_no_page() {
    let world = World::bare();
    let policy = world.path();
    let door = "[door.ssh]\nports = [22]\n";
    fs::write(&policy, door).unwrap();
    let page = world.programs().join("phone.html");
    let page = page.to_str().unwrap();
    let words = [
        "key",
        "new",
        "phone",
        policy.to_str().unwrap(),
        "--host",
        SERVER[0],
        "--passphrase",
    ];
    let new_key = |more: &[&str], input: &str| {
        let input = fs::File::open(world.private_file("words", input)).unwrap();
        let mut command = world.toctoc_command(&[&words[..], more].concat());
        command.stdin(input);
        world
            .lab
            .server
            .inside(|| command.output().unwrap())
            .unwrap()
    };
    for (more, input, wanted) in [
        (&["--html", page][..], "short\n", "12 characters or more"),
        (&["--html", page], "", "12 characters or more"),
        (&[], WORDS, "are for a page"),
        (&["--qr"], WORDS, "are for a page"),
    ] {
        let output = new_key(more, input);
        assert_eq!(output.status.code(), Some(2), "{more:?}");
        assert!(said(&output).contains(wanted), "{}", said(&output));
        assert!(said(&output).contains("nothing was changed"));
        assert_eq!(fs::read_to_string(&policy).unwrap(), door);
        assert!(!std::path::Path::new(page).exists());
    }
    let output = new_key(&["--html", page], WORDS);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("whoever has it and the passphrase has the key"));
    let secret = fs::read_to_string(policy.with_file_name("phone.secret")).unwrap();
    assert!(!fs::read_to_string(page).unwrap().contains(secret.trim()));
}

/// On a terminal it is asked for twice, and not shown.
#[test]
fn a_passphrase_is_asked_for_twice_and_not_shown() {
    let world = World::bare();
    let policy = world.path();
    fs::write(&policy, "[door.ssh]\nports = [22]\n").unwrap();
    let page = world.programs().join("phone.html");
    let words = [
        "key",
        "new",
        "phone",
        policy.to_str().unwrap(),
        "--host",
        SERVER[0],
        "--passphrase",
        "--html",
        page.to_str().unwrap(),
    ];
    for (again, ended) in [("another horse battery", 2), (WORDS, 0)] {
        let command = world.toctoc_command(&words);
        let mut terminal = Terminal::of(&world.lab.server, command, 24, 100);
        terminal.prompt("passphrase for the page:");
        terminal.press(format!("{WORDS}\n").as_bytes());
        terminal.prompt("the same again:");
        terminal.press(format!("{again}\n").as_bytes());
        assert_eq!(terminal.ended(), Some(ended), "{}", terminal.printed);
        assert!(!terminal.printed.contains("horse"), "{}", terminal.printed);
        let refused = terminal
            .printed
            .contains("not the same\nnothing was changed");
        assert_eq!(refused, ended == 2, "{}", terminal.printed);
        assert_eq!(page.exists(), ended == 0);
    }
}

/// The path that a page draws for a QR code.
fn drawn(text: &str) -> String {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).unwrap();
    let (side, colours) = (code.width(), code.to_colors());
    let dark = colours
        .iter()
        .enumerate()
        .filter(|(_, colour)| **colour == Color::Dark);
    dark.map(|(at, _)| format!("M{} {}h1", at % side, at / side))
        .collect()
}

/// The page shows the link to itself on a web host; that link opens too. Without `--page` it shows none.
#[test]
fn a_page_shows_its_code_to_a_second_device() {
    let site = site(2);
    let person = Person::on(&site.world);
    site.add_profile(&person, "token", SERVER[0], &site.secrets[0]);
    let mut browser = Browser::start(&site.world, Kind::Chromium);
    let link = |page: &str| {
        let shown = person.yes(&["profile", "show", "token", "--qr", "--page", page]);
        shown.lines().last().unwrap().to_string()
    };
    let path = "document.querySelector('#other path').getAttribute('d')";
    for (form, page) in [("html", HOSTED), ("fragment", "http://192.0.2.1:8080/")] {
        let written = person.yes(&["profile", "show", "token", "--as", form, "--page", page]);
        let url = match form {
            "html" => {
                assert!(written.len() <= 8192, "{}", written.len());
                site.file("code", &written)
            }
            _ => {
                let empty = person.yes(&["profile", "show", "token", "--as", "html-empty"]);
                serve(&site.world, empty);
                written.trim().to_string()
            }
        };
        assert!(
            link(page).starts_with(&format!("{page}#name=")),
            "{}",
            link(page)
        );
        browser.visit(&url);
        assert_eq!(
            browser.ask("document.getElementById('other').hidden"),
            false
        );
        assert_eq!(browser.ask(path), drawn(&link(page)));
    }
    site.is(true, &mut browser, &link("http://192.0.2.1:8080/"));
    assert_eq!(browser.ask("document.getElementById('other').hidden"), true);
    // Under a passphrase, the code is too.
    let page = sealed(&person, &["token", "--as", "html", "--page", HOSTED]);
    assert!(page.len() <= 8192, "{}", page.len());
    browser.visit(&site.file("both", &page));
    let text = page
        .split_once("'sealed=")
        .unwrap()
        .1
        .split_once("&code=")
        .unwrap()
        .0;
    assert_eq!(browser.ask(path), drawn(&format!("{HOSTED}#sealed={text}")));
    for (words, wanted) in [
        (&["--page", HOSTED][..], "are for a page"),
        (
            &["--as", "html", "--page", "pages.example"],
            "no address of a page",
        ),
        (
            &["--as", "html", "--page", "https://a/#b"],
            "no address of a page",
        ),
    ] {
        let output = person.toctoc(&[&["profile", "show", "token"], words].concat());
        assert_eq!(output.status.code(), Some(2));
        assert!(said(&output).contains(wanted), "{}", said(&output));
    }
}

/// Why no page says that a door is open. A port of the door without a service would answer a guest with a reset. But a
/// browser tells a page the same of a reset by anybody, and at a shut door: of a firewall in front, say, which begins to
/// reject when it has seen enough.
#[test]
fn what_a_page_sees_of_an_open_door_it_sees_of_a_shut_one() {
    let site = site(1);
    let world = &site.world;
    let policy = fs::read_to_string(world.path()).unwrap();
    let empty = "<!doctype html><p id=go><p id=said>";
    let url = site.file("probe", empty);
    let probe = "window.seen = 'nothing', fetch('https://192.0.2.1:7022', {mode: 'no-cors'}).then(() => window.seen = \
                 'an answer', error => window.seen = String(error)), 0";
    let reject = "table inet beside { chain before { type filter hook prerouting priority -500; \
                  tcp dport 7022 reject with tcp reset\n}\n}";
    let with = |head: &str| world.apply(&format!("{head}{}", policy.replace("[22]", "[22, 7022]")));
    for kind in [Kind::Chromium, Kind::Firefox] {
        // A new browser each time: sockets of earlier questions are not in the way.
        let seen = |patience| {
            let mut browser = Browser::start(world, kind);
            browser.visit(&url);
            browser.ask(probe);
            let deadline = Instant::now() + patience;
            while browser.ask("window.seen") == "nothing" && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(20));
            }
            browser.ask("window.seen").as_str().unwrap().to_string()
        };
        with("");
        world.yes(&["open", "ssh", CLIENT[0]]);
        let open = seen(ALL_TRIES);
        assert!(open.contains("Error"), "{kind:?}: {open}");
        world.yes(&["close"]);
        assert_eq!(seen(SHUT), "nothing", "{kind:?}: a shut door is silent");
        world.nft(reject);
        assert_eq!(seen(ALL_TRIES), open, "{kind:?}: somebody else rejects");
        world.nft("delete table inet beside");
        with("closed = \"reject\"\n");
        assert_eq!(seen(ALL_TRIES), open, "{kind:?}: the shut door rejects");
        assert!(world.nobody_is_in());
    }
}
