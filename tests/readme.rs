//! The commands of the README and of the pages that show how things are done, run as they stand, with the output that stands beside them.
//!
//! `<!-- file: PATH -->` before a block makes it a file; `<!-- run: HOST -->` runs its lines that
//! begin with `#` or `$` on that host and holds what they print against what follows (`[..]` stands
//! for anything). A `console` block without such a mark fails.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use toctoc::lab::{Host, Lab, SERVER};

#[path = "support/document.rs"]
mod document;

use document::{blocks, sessions};

/// Runs a line of shell on a host as a user would: `toctoc` is in the PATH, /etc/toctoc is this
/// test's own.
fn shell(host: &Host, home: &Path, line: &str) -> (String, Option<i32>) {
    let program = Path::new(env!("CARGO_BIN_EXE_toctoc")).parent().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let etc = home.join("etc");
    let script = format!(
        "mkdir -p /etc/toctoc 2>/dev/null; mount --bind {} /etc/toctoc && cd {} && {{ {line}\n}} 2>&1",
        etc.display(),
        home.display()
    );
    let output = host.inside(|| {
        Command::new("unshare")
            .args(["--mount", "--", "sh", "-c", &script])
            .env(
                "PATH",
                format!("{}:{path}:/usr/sbin:/sbin", program.display()),
            )
            .env("HOME", home)
            .env_remove("XDG_CONFIG_HOME")
            .env("STATE_DIRECTORY", home.join("state"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    });
    let output = output.unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
    (said, output.status.code())
}

#[test]
fn the_readme_is_true() {
    is_true("README.md", 6);
}

#[test]
fn the_tour_is_true() {
    is_true("docs/tour.md", 20);
}

#[test]
fn the_page_of_commands_is_true() {
    is_true("docs/commands.md", 2);
}

/// A test for each page of docs/recipes, by its name.
macro_rules! recipes {
    ($($name:ident),*) => {
        mod recipes {
            $(
                #[test]
                fn $name() {
                    let name = stringify!($name).replace('_', "-");
                    super::is_true(&format!("docs/recipes/{name}.md"), 1);
                }
            )*

            #[test]
            fn each_page_is_tried_and_listed() {
                let tried = [$(stringify!($name)),*].map(|name| name.replace('_', "-"));
                super::are_all_recipes(&tried);
            }
        }
    };
}

recipes!(
    behind_nat,
    docker,
    firewalld,
    from_fwknop,
    from_knockd,
    from_the_classic_script,
    fwknop_nat,
    ipv6,
    locked_out,
    one_server,
    other_hosts,
    phone,
    stay_in,
    two_administrators,
    ufw,
    who_came_in,
    without_systemd
);

fn are_all_recipes(tried: &[String]) {
    let index = fs::read_to_string("docs/recipes/README.md").unwrap();
    let mut pages: Vec<String> = fs::read_dir("docs/recipes")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".md").map(str::to_string))
        .filter(|name| name != "README")
        .collect();
    pages.sort();
    assert_eq!(pages, tried);
    for page in pages {
        assert!(
            index.contains(&format!("({page}.md)")),
            "not in the index: {page}"
        );
    }
}

/// Runs the commands of a document on two hosts; there are so many at least.
fn is_true(document: &str, least: usize) {
    let lab = Lab::new().expect("needs root, or: unshare --user --map-root-user -- cargo test");
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("etc")).unwrap();
    follow(&lab, home.path(), document, least);
}

/// A newcomer has a door for ssh, a second key, a trial, a revocation and a list of who connected, with the commands of the
/// README and of one page of the site.
#[test]
fn a_newcomer_needs_the_readme_and_the_site_alone() {
    let begun = Instant::now();
    let lab = Lab::new().expect("needs root, or: unshare --user --map-root-user -- cargo test");
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    fs::create_dir(home.join("etc")).unwrap();
    // The door, on trial and confirmed, and the first key.
    let _listener = follow(&lab, home, "README.md", 6);
    let run = |host: &Host, command: &str| shell(host, home, command);
    let yes = |host: &Host, command: &str| {
        let (said, code) = run(host, command);
        assert_eq!(code, Some(0), "{command}: {said}");
        said
    };
    // A host that is no namespace has the kernel's log. Here the page names the way.
    let page = fs::read_to_string("docs/recipes/who-came-in.md").unwrap();
    assert!(page.contains("`log = \"nflog:5\"`") && page.contains("`toctoc log --follow`"));
    let policy = home.join("etc/policy.toml");
    let text = fs::read_to_string(&policy).unwrap();
    fs::write(&policy, format!("log = \"nflog:5\"\n{text}")).unwrap();
    // As the README names them, one after the other.
    let readme = fs::read_to_string("README.md").unwrap();
    let known = |command: &'static str| {
        assert!(
            readme.contains(&format!("`{command}`")),
            "not in the README: {command}"
        );
        command
    };
    yes(
        &lab.server,
        known("toctoc key new anna --sequence 5 --host 192.0.2.1"),
    );
    let said = yes(&lab.server, known("toctoc apply --confirm 10m"));
    assert!(said.contains("on trial: in 10m"), "{said}");
    // The first key let the client in, and would keep it in.
    yes(&lab.server, "toctoc close");
    bring_profiles(home);
    yes(&lab.client, "toctoc profile import anna.profile.toml anna");
    let seen = || fs::read_to_string(home.join("seen")).unwrap_or_default();
    thread::scope(|scope| {
        let follow = "timeout 60 sh -c 'echo $$ >pid; exec toctoc log --follow >seen'";
        scope.spawn(|| run(&lab.server, follow));
        let deadline = Instant::now() + Duration::from_secs(20);
        while !seen().contains("by anna") {
            assert!(Instant::now() < deadline, "nobody was listed: {}", seen());
            yes(&lab.client, "toctoc knock anna --always");
            thread::sleep(Duration::from_millis(50));
        }
        let pid = fs::read_to_string(home.join("pid")).unwrap();
        Command::new("kill").arg(pid.trim()).status().unwrap();
    });
    assert!(seen().contains("192.0.2.7"), "{}", seen());
    let said = yes(&lab.server, "toctoc confirm");
    assert!(said.contains("stays"), "{said}");
    let said = yes(&lab.server, "toctoc status");
    assert!(said.contains("by anna"), "{said}");
    // The key that is lost opens no more, and the other one does.
    let said = yes(&lab.server, known("toctoc key revoke anna"));
    assert!(said.contains("1 live grant ended"), "{said}");
    let (said, code) = run(&lab.client, "toctoc knock anna");
    assert!(code == Some(1) && said.contains("stays shut"), "{said}");
    yes(&lab.client, "toctoc knock yves");
    assert!(begun.elapsed() < Duration::from_secs(600));
}

/// Runs the commands of a document on the hosts of a lab. Returns what listens behind its door.
fn follow(lab: &Lab, home: &Path, document: &str, least: usize) -> std::net::TcpListener {
    let text = fs::read_to_string(document).unwrap();
    let listener = lab
        .server
        .inside(|| std::net::TcpListener::bind(("::", 22)));
    let listener = listener.unwrap().unwrap();
    let inner = text.contains("<!-- run: inner").then(|| behind(lab));
    let mut commands = 0;
    for block in blocks(&text) {
        if let Some(path) = block.mark.strip_prefix("file: ") {
            let path = path.replace("/etc/toctoc/", "etc/");
            let path = home.join(path);
            fs::write(&path, &block.text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            continue;
        }
        let Some(run) = block.mark.strip_prefix("run: ") else {
            assert_ne!(block.language, "console", "not run: {}", block.text);
            continue;
        };
        let (host, status) = run.split_once(", status ").unwrap_or((run, "0"));
        let host = match host {
            "server" => &lab.server,
            "client" => &lab.client,
            "inner" => inner.as_ref().unwrap(),
            other => panic!("no host {other}"),
        };
        if run.starts_with("client") {
            bring_profiles(home);
        }
        for session in sessions(&block.text) {
            let (said, code) = shell(host, home, &session.command);
            commands += 1;
            let code = code.unwrap().to_string();
            let right = status == "any" || code == status;
            assert!(right, "{} gave {code}: {said}", session.command);
            snapbox::Assert::new()
                .normalize_paths(false)
                .eq(said, snapbox::Data::text(session.output));
        }
    }
    assert!(commands >= least, "only {commands} commands found");
    listener
}

/// A host behind the server, with the addresses that the pages name. A service listens at its ports 22 and 5000.
fn behind(lab: &Lab) -> Host {
    let inner = Host::new().unwrap();
    let link = format!(
        "link add lan type veth peer name eth0 netns {}",
        inner.pid()
    );
    for words in [
        &link[..],
        "addr add 192.168.1.1/24 dev lan",
        "addr add 198.51.100.1/24 dev lan",
        "link set lan up",
    ] {
        lab.server.ip(words).unwrap();
    }
    for words in [
        "addr add 192.168.1.5/24 dev eth0",
        "addr add 198.51.100.50/24 dev eth0",
        "link set eth0 up",
        "route add default via 192.168.1.1",
    ] {
        inner.ip(words).unwrap();
    }
    lab.client
        .ip(&format!("route add 198.51.100.0/24 via {}", SERVER[0]))
        .unwrap();
    for port in [22, 5000] {
        let listener = inner.inside(|| std::net::TcpListener::bind(("::", port)));
        let listener = listener.unwrap().unwrap();
        thread::spawn(move || listener.incoming().flatten().collect::<Vec<_>>());
    }
    inner
}

/// Does what the text says between the blocks: the profiles come to the client, under the names that they have.
fn bring_profiles(home: &Path) {
    for entry in fs::read_dir(home.join("etc")).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name.ends_with(".profile.toml") {
            fs::rename(entry.path(), home.join(name)).unwrap();
        }
    }
}

/// The command that makes a trace of what comes in: it is left running while real packets come.
#[test]
fn what_tcpdump_sees_is_explained() {
    let lab = Lab::new().expect("needs root, or: unshare --user --map-root-user -- cargo test");
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("etc")).unwrap();
    let page = fs::read_to_string("docs/commands.md").unwrap();
    let blocks = blocks(&page);
    let of = |mark: &str| &blocks.iter().find(|block| block.mark == mark).unwrap().text;
    let policy = of("file: /etc/toctoc/policy.toml").replace("920", "\"53/udp\"");
    fs::write(home.path().join("etc/policy.toml"), policy).unwrap();
    let seen = || fs::read_to_string(home.path().join("seen")).unwrap_or_default();
    let until = |what: &str, holds: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Instant::now() < deadline, "not in time: {what}: {}", seen());
            thread::sleep(Duration::from_millis(50));
        }
    };
    // It can be ended, and ends by itself when this test fails.
    let ended = "sh -c 'echo $$ >pid; exec timeout 60 tcpdump \"$@\"' sh -";
    let command = of("capture").replace("tcpdump -", ended);
    let script = format!("{{ {command}}} >seen");
    thread::scope(|scope| {
        scope.spawn(|| shell(&lab.server, home.path(), &script));
        let knock = |words: &str| shell(&lab.client, home.path(), &format!("toctoc knock {words}"));
        until("tcpdump listens", &|| {
            knock("192.0.2.1 7");
            seen().contains("7/tcp")
        });
        for server in SERVER {
            knock(&format!("{server} 4431 2387 53/udp 18357 50"));
        }
        let opened = |source: &str| {
            let text = seen();
            let mut lines = text.lines().filter(|line| line.contains(source));
            lines.any(|line| line.contains("50/tcp") && line.contains("opens ssh"))
        };
        for client in ["192.0.2.", "2001:db8::"] {
            until("it opened", &|| opened(client));
        }
        let pid = fs::read_to_string(home.path().join("pid")).unwrap();
        Command::new("kill").arg(pid.trim()).status().unwrap();
    });
    assert!(seen().contains("ssh"), "{}", seen());
}

#[test]
fn every_example_is_a_valid_policy() {
    let mut examples = 0;
    let files = fs::read_dir("examples").unwrap();
    let files = files.map(|entry| entry.unwrap().path());
    for path in files.filter(|path| path.extension().is_some_and(|end| end == "toml")) {
        toctoc::policy::load::load(&path, &toctoc::policy::Host::default()).unwrap();
        examples += 1;
    }
    assert!(examples >= 2);
}
