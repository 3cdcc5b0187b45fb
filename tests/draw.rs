//! `toctoc draw`: what is drawn, and that others can read it.
//!
//! `SNAPSHOTS=overwrite cargo test --test draw` writes the drawings anew; look at them then.

#[path = "support/random.rs"]
#[allow(dead_code)] // Traces are not drawn.
mod random;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use proptest::prelude::*;
use toctoc::automaton::Automaton;
use toctoc::picture::{Drawing, Frame, MOST_THINGS, Of, Picture, Ports, dot, place, svg, text};
use toctoc::policy::diagnostic::Style;
use toctoc::policy::{Host, Policy, Secrets, read_for};
use toctoc::single_use::Secret;

/// 2026-06-01
const NOW: i64 = 1_780_272_000;

fn policies() -> Vec<PathBuf> {
    let files = ["tests/golden/draw", "examples"]
        .iter()
        .flat_map(|directory| fs::read_dir(directory).unwrap());
    let mut files: Vec<PathBuf> = files
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .collect();
    files.sort();
    files
}

fn read(path: &Path) -> Policy {
    // A secret of the tests is no secret, and git keeps no modes.
    let directory = path.parent().unwrap();
    let secret = |name: &str| {
        let text = fs::read_to_string(directory.join(name)).map_err(|e| e.to_string())?;
        Secret::parse(&text).map_err(|e| e.to_string())
    };
    let host = Host {
        secrets: Secrets(Some(&secret)),
        ..Host::default()
    };
    let text = fs::read_to_string(path).unwrap();
    read_for(&path.display().to_string(), &text, &host).unwrap_or_else(|e| panic!("{e}"))
}

fn picture(policy: &Policy, ports: Ports) -> Picture {
    Picture::of(policy, &Automaton::build(policy.sequences()), ports, NOW)
}

fn golden(path: &Path, drawn: &str) {
    let expected = snapbox::Data::read_from(path, None).raw();
    snapbox::Assert::new()
        .action_env("SNAPSHOTS")
        .normalize_paths(false)
        .eq(drawn, expected);
}

/// The output of a program for an input. It must take it without a word.
fn piped(program: &[&str], input: &str) -> String {
    let mut child = Command::new(program[0])
        .args(&program[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program[0]));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_string();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{program:?}");
    assert!(output.status.success(), "{program:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn toctoc(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_toctoc"));
    command.args(arguments).output().unwrap()
}

#[test]
fn policies_are_drawn_as_they_were() {
    for path in policies().iter().filter(|path| path.starts_with("tests")) {
        let picture = picture(&read(path), Ports::Shown);
        golden(&path.with_extension("txt"), &text(&picture, Style::Plain));
        golden(&path.with_extension("svg"), &svg(&picture).unwrap());
        golden(&path.with_extension("dot"), &dot(&picture).unwrap());
    }
}

#[test]
fn the_picture_in_the_documents_is_what_is_drawn_now() {
    let policy = "tests/golden/draw/shared-beginnings.toml";
    let drawn = toctoc(&["draw", policy, "--as", "svg"]);
    assert_eq!(drawn.status.code(), Some(0));
    let drawn = String::from_utf8(drawn.stdout).unwrap();
    golden(Path::new("docs/draw.svg"), &drawn);
    let shown = toctoc(&["draw", policy]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    let document = fs::read_to_string("docs/draw.md").unwrap();
    assert!(document.contains(&shown), "{shown}");
}

/// Every text of an SVG document, as Python's reader of XML finds it, and every tag.
const READ_XML: &str = "
import sys, xml.etree.ElementTree as tree
root = tree.fromstring(sys.stdin.buffer.read())
for element in root.iter():
    print(element.tag.removeprefix('{http://www.w3.org/2000/svg}'), '|', element.text or '')
";

#[test]
fn svg_is_xml_without_scripts_and_without_anything_from_elsewhere() {
    for path in policies() {
        let picture = picture(&read(&path), Ports::Shown);
        let svg = svg(&picture).unwrap();
        let found = piped(&["python3", "-c", READ_XML], &svg);
        let has = |tag: &str, text: &str| found.contains(&format!("{tag} | {text}\n"));
        assert!(has("title", &picture.title), "{found}");
        assert!(found.contains("desc | "));
        for name in names(&picture) {
            assert!(has("text", name), "{name}: {found}");
        }
        assert!(!found.contains("script |"));
        let linked = svg.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
        for word in ["http", "url(", "@import", "href", "onload"] {
            assert!(!linked.contains(word), "{word}");
        }
    }
}

fn names(picture: &Picture) -> impl Iterator<Item = &str> {
    let keys = picture.keys.iter().map(|key| key.name.as_str());
    keys.chain(picture.doors.iter().map(|door| door.name.as_str()))
}

/// Graphviz itself lays it out: each place is a node, and each line an edge.
#[test]
fn graphviz_takes_every_graph_without_a_word() {
    for path in policies() {
        let picture = picture(&read(&path), Ports::Shown);
        let found = piped(&["dot", "-Tplain"], &dot(&picture).unwrap());
        let lines = |what: &str| found.lines().filter(|l| l.starts_with(what)).count();
        let (nodes, edges) = counted(&picture);
        assert_eq!((lines("node "), lines("edge ")), (nodes, edges), "{found}");
    }
}

/// The number of things in a picture, and of lines between them.
fn counted(picture: &Picture) -> (usize, usize) {
    let knocks = match picture.keys.len() {
        0 => 0,
        _ => picture.knocks.len(),
    };
    let to_doors: usize = picture.keys.iter().map(|key| key.opens.len()).sum();
    let nodes = knocks + picture.keys.len() + picture.doors.len();
    (
        nodes,
        knocks.saturating_sub(1) + picture.keys.len() + to_doors,
    )
}

/// Frames stand apart and in the picture, and hold their text in the widest of usual fonts.
fn frames_are_apart(drawing: &Drawing) {
    let overlap = |a: &Frame, b: &Frame| {
        a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height
    };
    for (place, frame) in drawing.frames.iter().enumerate() {
        let others = &drawing.frames[place + 1..];
        let met = others.iter().find(|other| overlap(frame, other));
        assert_eq!(met, None, "{frame:?}");
        assert!(frame.x >= 0 && frame.y >= 0, "{frame:?}");
        assert!(frame.x + frame.width <= drawing.width, "{frame:?}");
        assert!(frame.y + frame.height <= drawing.height, "{frame:?}");
        for (number, row) in frame.rows.iter().enumerate() {
            let size = match (frame.of, number) {
                (Of::Knock(_), _) => 13.0,
                (_, 0) => 14.0,
                _ => 12.0,
            };
            let width = row.chars().count() as f64 * size * 0.62;
            assert!(width + 12.0 <= frame.width as f64, "{row}");
        }
    }
    // No line runs through a frame that it does not belong to; its ends touch two.
    for line in &drawing.lines {
        let (from, to) = (line.from, line.to);
        assert!(from.0 <= line.bend && line.bend <= to.0, "{line:?}");
        for frame in &drawing.frames {
            let inside = |x: (i64, i64), y: (i64, i64)| {
                let across = x.0.max(frame.x) < x.1.min(frame.x + frame.width);
                let down = y.0.max(frame.y) < y.1.min(frame.y + frame.height);
                across && down
            };
            let (high, low) = (from.1.min(to.1), from.1.max(to.1));
            assert!(
                !inside((from.0, line.bend), (from.1, from.1 + 1)),
                "{line:?} {frame:?}"
            );
            assert!(
                !inside((line.bend, line.bend + 1), (high, low)),
                "{line:?} {frame:?}"
            );
            assert!(
                !inside((line.bend, to.0), (to.1, to.1 + 1)),
                "{line:?} {frame:?}"
            );
        }
    }
}

#[test]
fn frames_of_every_policy_are_apart() {
    for path in policies() {
        for ports in [Ports::Shown, Ports::LeftOut] {
            frames_are_apart(&place(&picture(&read(&path), ports)).unwrap());
        }
    }
}

fn cases(usual: u32) -> ProptestConfig {
    match std::env::var("PROPTEST_CASES") {
        Ok(_) => ProptestConfig::default(),
        Err(_) => ProptestConfig::with_cases(usual),
    }
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn all_of_a_random_policy_is_drawn(policy in random::policy()) {
        let picture = picture(&policy, Ports::Shown);
        let drawing = place(&picture).unwrap();
        frames_are_apart(&drawing);
        let (frames, lines) = counted(&picture);
        prop_assert_eq!(drawing.frames.len(), frames);
        prop_assert_eq!(drawing.lines.len(), lines);
        let (svg, dot) = (svg(&picture).unwrap(), dot(&picture).unwrap());
        let text = text(&picture, Style::Plain);
        for name in names(&picture) {
            prop_assert!(text.contains(name) && dot.contains(name), "{}", name);
            let row = format!(">{name}</text>");
            prop_assert!(svg.contains(&row), "{}", name);
        }
        // Each way from the stranger to a key is its sequence.
        for (place, key) in picture.keys.iter().enumerate() {
            prop_assert_eq!(&way(&picture, place).join(", "), &key.way);
        }
    }
}

/// The labels from the stranger to a key.
fn way(picture: &Picture, key: usize) -> Vec<&str> {
    let mut place = picture
        .knocks
        .iter()
        .position(|k| k.makes == Some(key))
        .unwrap();
    let mut way = Vec::new();
    while place != 0 {
        way.push(picture.knocks[place].label.as_str());
        place = picture
            .knocks
            .iter()
            .position(|k| k.then.contains(&place))
            .unwrap();
    }
    way.reverse();
    way
}

#[test]
fn sequences_that_begin_alike_share_what_they_share() {
    let path = Path::new("tests/golden/draw/shared-beginnings.toml");
    let picture = picture(&read(path), Ports::Shown);
    // The stranger, and of 3 + 4 + 5 + 3 knocks five are another's too.
    assert_eq!(picture.knocks.len(), 1 + 15 - 5);
    let same = picture.knocks.iter().filter(|knock| knock.label == "1111");
    assert_eq!(same.count(), 1);
}

/// The knocks of scratch keys are never shown, and without ports no number of the policy.
#[test]
fn what_is_to_be_known_by_few_is_left_out() {
    let path = Path::new("tests/golden/draw/every-kind.toml");
    let policy = read(path);
    let all = |ports: Ports| {
        let picture = picture(&policy, ports);
        let drawn = [
            svg(&picture).unwrap(),
            dot(&picture).unwrap(),
            text(&picture, Style::Plain),
        ];
        // The numbers of places and colours are no ports.
        let numbers: Vec<String> = drawn
            .iter()
            .flat_map(|text| text.split(|c: char| !c.is_ascii_digit()))
            .map(str::to_string)
            .collect();
        (numbers, drawn.concat())
    };
    let (shown, text) = all(Ports::Shown);
    for secret in [
        "59052", "8220", "51778", "62678", "23943", "36110", "7283", "49001",
    ] {
        assert!(!shown.iter().any(|number| number == secret), "{secret}");
    }
    assert!(text.contains("18357") && text.contains("20123") && text.contains("198.51.100.0"));
    let (_, text) = all(Ports::LeftOut);
    for number in [
        "4443", "2387", "18357", "65535", "31007", "999", "33434", "5223", "20123", "51820",
        "1194", "1001/", "22/", "198.51", "2001:", "192.0", "80/", "udp",
    ] {
        let text = text.replace(".udp{", "");
        assert!(!text.contains(number), "{number}");
    }
}

/// A policy with so many keys of five knocks, and as many doors.
fn large(keys: usize) -> String {
    let mut text = String::new();
    for key in 0..keys {
        let (a, b) = (1000 + key / 100, 200 + key % 100);
        text += &format!(
            "[door.d{key}]\nports = [{}]\n[key.k{key}]\nopens = [\"d{key}\"]\n\
             sequence = [\"{a}/udp\", \"{b}/udp\", \"7/udp\", \"5/udp\", \"9/udp\"]\n",
            20_000 + key
        );
    }
    text
}

/// A policy that is too much for a drawing is no drawing, and no surprise.
#[test]
fn ten_thousand_keys_are_drawn_as_text_and_otherwise_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.toml");
    fs::write(&path, large(10_000)).unwrap();
    let path = path.to_str().unwrap();
    for form in ["svg", "dot"] {
        let output = toctoc(&["draw", path, "--as", form]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains("too much for a drawing") && said.contains("--as text"),
            "{said}"
        );
        assert!(output.stdout.is_empty());
    }
    let output = toctoc(&["draw", path]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("10,000 keys for 10,000 doors\n"));
    assert!(text.lines().count() > 20_000);
    let policy = toctoc::policy::read("p", &large(300)).unwrap();
    frames_are_apart(&place(&picture(&policy, Ports::Shown)).unwrap());
}

/// As many lines from one key as are drawn at all.
#[test]
fn a_key_for_thousands_of_doors_is_drawn() {
    let doors: Vec<String> = (0..4900).map(|door| format!("d{door}")).collect();
    let ports = doors.iter().zip(20_000..);
    let ports: String = ports
        .map(|(door, port)| format!("[door.{door}]\nports = [{port}]\n"))
        .collect();
    let key = format!("[key.all]\nopens = {doors:?}\nsequence = [443, 2387, 920]\n");
    let policy = toctoc::policy::read("p", &(ports + &key)).unwrap();
    let picture = picture(&policy, Ports::Shown);
    let drawing = place(&picture).unwrap();
    let (things, lines) = counted(&picture);
    assert_eq!((drawing.frames.len(), drawing.lines.len()), (things, lines));
    assert!(things + 4900 > MOST_THINGS - 200);
    assert!(
        svg(&picture)
            .unwrap()
            .contains(">4,900 doors for 1m</text>")
    );
}

/// Long sequences go on in the next line, and stay in their branch.
#[test]
fn long_sequences_are_broken_in_a_terminal() {
    let knocks = |from: usize| (from..from + 32).map(|n| n.to_string()).collect::<Vec<_>>();
    let key = |name: &str, from: usize| {
        let knocks = knocks(from).join(", ");
        format!(
            "[key.{name}]\nopens = [\"ssh\"]\nsequence = [9, {}]\n",
            &knocks[..knocks.len() - 7]
        )
    };
    let text_of = format!(
        "[door.ssh]\nports = [22]\n{}{}",
        key("a", 11111),
        key("b", 22221)
    );
    let policy = toctoc::policy::read("p", &text_of).unwrap();
    let drawn = text(&picture(&policy, Ports::Shown), Style::Plain);
    assert!(
        drawn.lines().all(|line| line.chars().count() <= 100),
        "{drawn}"
    );
    golden(Path::new("tests/golden/draw/long-sequences.txt"), &drawn);
    let widest = place(&picture(&policy, Ports::Shown)).unwrap();
    frames_are_apart(&widest);
}

#[test]
fn colours_are_for_terminals() {
    let path = "tests/golden/draw/one-key.toml";
    let picture = picture(&read(Path::new(path)), Ports::Shown);
    let coloured = text(&picture, Style::Coloured);
    assert!(coloured.contains("\x1b[1myves\x1b[0m"));
    assert_eq!(
        anstream::adapter::strip_str(&coloured).to_string(),
        text(&picture, Style::Plain)
    );
    assert!(!toctoc(&["draw", path]).stdout.contains(&0x1b));
}
