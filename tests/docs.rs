//! The words of the documents about the tests are true.

use std::fs;
use std::path::Path;

use toctoc::ruleset::nftables::{AtApply, Filler, Form, Row, SETS, Size, Time};

/// `file.rs::name`, as docs/security.md names a test.
fn named(text: &str) -> Vec<(&str, &str)> {
    let words = text.split('`').filter_map(|word| word.split_once(".rs::"));
    words.collect()
}

/// The files in which a test may be, for the name of one without its ending.
fn source(file: &str) -> Option<String> {
    let places = [
        format!("tests/{file}.rs"),
        format!("tests/kernel/{file}.rs"),
    ];
    places
        .iter()
        .find_map(|place| fs::read_to_string(place).ok())
}

/// Returns whether a file has a test of that name: a function with `#[test]`, or one that a macro makes a test on
/// each firewall.
fn is_test(source: &str, name: &str) -> bool {
    let head = format!("fn {name}()");
    let Some(start) = source.find(&head) else {
        return false;
    };
    let marked = source[..start].trim_end().ends_with("#[test]");
    let macros = source.split("on_every_firewall!(").skip(1);
    let mut macros = macros.chain(source.split("on_each_iptables!(").skip(1));
    let listed = macros.any(|rest| {
        let names = rest.split(')').next().unwrap_or_default();
        names.split(',').any(|listed| listed.trim() == name)
    });
    marked || listed
}

/// The tests that a document names and that are not there.
fn missing(named: &[(&str, &str)]) -> Vec<String> {
    let missing = named
        .iter()
        .filter(|(file, name)| !source(file).is_some_and(|source| is_test(&source, name)));
    missing
        .map(|(file, name)| format!("{file}.rs::{name}"))
        .collect()
}

#[test]
fn every_test_that_the_security_document_names_exists() {
    for (document, at_least) in [("docs/security.md", 60), ("docs/fleet-security.md", 20)] {
        let text = fs::read_to_string(document).unwrap();
        let named = named(&text);
        assert!(named.len() > at_least, "only {} are named", named.len());
        assert_eq!(missing(&named), [""; 0], "{document}");
    }
}

/// docs/proof.md names tests without their files, some of them in the library.
#[test]
fn every_test_that_the_proof_names_exists() {
    let text = fs::read_to_string("docs/proof.md").unwrap();
    let is_name = |word: &&str| {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        word.matches('_').count() >= 3 && word.chars().all(fits)
    };
    let names: Vec<&str> = text.split('`').filter(is_name).collect();
    assert!(names.len() >= 3, "{names:?}");
    let mut sources = Vec::new();
    let mut directories = vec![
        Path::new("tests").to_path_buf(),
        Path::new("src").to_path_buf(),
    ];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            match entry.path() {
                path if path.is_dir() => directories.push(path),
                path if path.extension().is_some_and(|end| end == "rs") => {
                    sources.push(fs::read_to_string(path).unwrap());
                }
                _ => {}
            }
        }
    }
    for name in names {
        let exists = sources.iter().any(|source| is_test(source, name));
        assert!(exists, "{name}");
    }
    assert_eq!(missing(&named(&text)), [""; 0]);
}

/// Each row of "What passes, in each state" names a test.
#[test]
fn every_state_of_the_security_document_has_a_test() {
    let text = fs::read_to_string("docs/security.md").unwrap();
    let (_, rest) = text
        .split_once("\n## What passes, in each state\n")
        .unwrap();
    let (states, _) = rest.split_once("\n## ").unwrap();
    let rows: Vec<&str> = states
        .lines()
        .filter(|line| line.starts_with("| "))
        .collect();
    assert!(rows.len() > 12, "{}", rows.len());
    for row in &rows[1..] {
        assert!(!named(row).is_empty(), "no test: {row}");
    }
}

/// Each bullet under "Promises" ends in a test that keeps it.
#[test]
fn every_promise_of_the_security_documents_has_a_test() {
    for (document, at_least) in [("docs/security.md", 60), ("docs/fleet-security.md", 8)] {
        let text = fs::read_to_string(document).unwrap();
        let (_, rest) = text.split_once("\n## Promises\n").unwrap();
        let promises = rest.split("\n## ").next().unwrap();
        let bullets: Vec<&str> = promises.split("\n- ").skip(1).collect();
        assert!(bullets.len() > at_least, "{document}: {}", bullets.len());
        for bullet in bullets {
            assert!(!named(bullet).is_empty(), "no test: {bullet}");
        }
    }
}

/// Files that the documents lead to are there.
#[test]
fn links_lead_somewhere() {
    let mut documents: Vec<_> = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
    ]
    .map(Into::into)
    .to_vec();
    for directory in ["docs", "docs/recipes"] {
        let files = fs::read_dir(directory).unwrap().flatten();
        documents.extend(files.map(|file| file.path()).filter(|path| path.is_file()));
    }
    let mut links = 0;
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let (file, _) = target.split_once('#').unwrap_or((target, ""));
            if file.is_empty() || file.contains("://") {
                continue;
            }
            links += 1;
            let path = document.parent().unwrap_or(Path::new("")).join(file);
            assert!(path.exists(), "{}: {target}", document.display());
        }
    }
    assert!(links > 5, "{links}");
}

/// The pages of a directory.
fn pages(directory: &str) -> impl Iterator<Item = std::path::PathBuf> {
    let files = fs::read_dir(directory).unwrap().flatten();
    let paths = files.map(|file| file.path());
    paths.filter(|path| path.extension().is_some_and(|end| end == "md"))
}

/// docs/README.md is the table of contents of the site: what it lacks, nobody finds.
#[test]
fn every_page_is_in_the_table_of_contents() {
    let contents = fs::read_to_string("docs/README.md").unwrap();
    let pages = pages("docs").chain(pages("docs/recipes"));
    for page in pages.map(|page| page.strip_prefix("docs").unwrap().to_path_buf()) {
        let link = format!("]({})", page.display());
        assert!(
            page == Path::new("README.md") || contents.contains(&link),
            "{link}"
        );
    }
}

/// A cell without the tests that it names and the targets of its links.
fn words(cell: &str) -> String {
    let mut words = String::new();
    for (number, part) in cell.split('[').enumerate() {
        let (inside, after) = match number {
            0 => ("", part),
            _ => part.split_once(']').unwrap_or(("", part)),
        };
        if !inside.contains(".rs::") {
            words.push_str(inside);
        }
        let target = after.starts_with('(').then(|| after.split_once(')'));
        words.push_str(target.flatten().map_or(after, |(_, after)| after));
    }
    words.trim().to_string()
}

#[test]
fn cells_of_tables_are_short() {
    let alone = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
    ]
    .map(Into::into);
    let mut cells = 0;
    for page in pages("docs").chain(pages("docs/recipes")).chain(alone) {
        let text = fs::read_to_string(&page).unwrap().replace("\\|", "/");
        for line in text.lines().filter(|line| line.starts_with('|')) {
            for cell in line.split('|') {
                cells += 1;
                let length = words(cell).chars().count();
                assert!(length <= 120, "{}: {length}: {cell}", page.display());
            }
        }
    }
    assert!(cells > 500, "{cells}");
}

/// A row of the table of sets, as docs/kernel.md has it.
fn row(row: &Row) -> String {
    let name = match row.form {
        Form::One => format!("`{}`", row.name),
        Form::Families => format!("`{}4/6`", row.name),
        Form::Networks => format!("`{}4/6[-pN]`", row.name),
    };
    let (address, filler) = (
        row.types.replace("ADDRESS", "address"),
        match row.filler {
            Filler::Policy => "the policy",
            Filler::Packets => "packets",
            Filler::PacketsAndCommands => "packets, commands",
            Filler::Fleet => "administrators, `toctoc fleet`",
            Filler::Commands => "commands",
        },
    );
    let at_apply = match row.at_apply {
        AtApply::Anew => "made anew",
        AtApply::Refilled => "refilled",
        AtApply::Kept => "kept",
        AtApply::Left => "kept always",
        AtApply::LeftWithoutFleet => "kept without `[fleet]`",
    };
    let drift = match row.filler {
        Filler::Policy => "yes",
        _ => "no",
    };
    let size = match row.size {
        Size::Any => "any".to_string(),
        Size::Sources => "`max_sources`".to_string(),
        Size::FirstKnocks => "groups and first knocks".to_string(),
        Size::Tokens => "twice the tokens".to_string(),
        Size::Exactly(size) => size.to_string(),
    };
    let time = match row.time {
        Time::Endless => "none".to_string(),
        Time::Each => "its own".to_string(),
        Time::Within => "`within`".to_string(),
        Time::LongestGrant => "longest `open_for`".to_string(),
        Time::Always(time) => format!("{} s", time.as_secs()),
    };
    format!("| {name} | `{address}` | {filler} | {at_apply} | {drift} | {size} | {time} |\n")
}

#[test]
fn the_sets_of_nftables_are_documented_as_they_are() {
    let text = fs::read_to_string("docs/kernel.md").unwrap();
    let rows: String = SETS.iter().map(row).collect();
    let head = "| set | key : data | filled by | at an apply | compared | size | time |\n\
                |---|---|---|---|---|---|---|\n";
    assert!(
        text.contains(&format!("{head}{rows}\n")),
        "put this table into docs/kernel.md:\n{head}{rows}"
    );
}
