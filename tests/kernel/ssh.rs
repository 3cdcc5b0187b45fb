//! A real OpenSSH server behind the door, real clients in front of it, by every way in that the client
//! offers: knocked before, ProxyCommand, the connection handed over, Match exec.

use std::fs;
use std::process::Output;

use toctoc::lab::SERVER;

use crate::person::{Person, said};
use crate::sshd::Sshd;
use crate::world::{World, YVES};

/// A session that was opened in time is longer than its grant; nobody gets in without knocking.
fn ssh_through_the_door() {
    let world = World::with(&format!("open_for = \"3s\"\n{YVES}"));
    let sshd = Sshd::on(&world);
    let person = Person::on(&world);
    let config = person.home.path().join("config");
    fs::write(&config, sshd.settings(3)).unwrap();
    let config = config.to_str().unwrap();
    let ssh = |command| person.run(&["ssh", "-F", config, SERVER[0], command]);
    assert!(!ssh("true").status.success());
    let knocks = ["443", "2387", "920", "18357", "50"];
    person.yes(&[&["knock", SERVER[0]], &knocks[..], &["--door", "22"]].concat());
    let output = ssh("sleep 4; echo still here");
    assert_eq!(said(&output), "still here\n", "{}", sshd.log());
    assert!(world.nobody_is_in());
    let again = ssh("true");
    assert!(!again.status.success());
    assert!(said(&again).contains("timed out"), "{}", said(&again));
}

/// The ways in, as stanzas for the configuration of ssh.
fn ways(person: &Person) -> [(&'static str, String); 3] {
    let printed = person.yes(&["profile", "ssh-config", "server"]);
    assert!(printed.contains("ProxyUseFdpass yes"), "{printed}");
    [
        ("printed", printed),
        (
            "relayed",
            format!(
                "Host server\n    HostName {}\n    ProxyCommand toctoc connect %h %p\n",
                SERVER[0]
            ),
        ),
        (
            "match exec",
            format!(
                "Host server\n    HostName {}\nMatch exec \"toctoc knock --quiet %h\"\n",
                SERVER[0]
            ),
        ),
    ]
}

/// `ssh`, `scp`, `rsync` and `git` knock by themselves, each time anew; with the wrong sequence none of
/// them gets in.
fn ssh_knocks_by_itself() {
    let world = World::with(YVES);
    let sshd = Sshd::on(&world);
    let person = Person::with_profile(&world);
    let home = person.home.path();
    let file = |name: &str| home.join(name).to_str().unwrap().to_string();
    fs::write(file("letter"), "dear server\n").unwrap();
    let run = |words: &[&str]| -> Output {
        world.yes(&["close"]);
        person.run(words)
    };
    for (way, stanza) in ways(&person) {
        let config = file("config");
        fs::write(&config, format!("{stanza}Host *\n{}", sshd.settings(10))).unwrap();
        let ssh = format!("ssh -F {config}");
        let output = run(&["ssh", "-F", &config, "server", "echo hello; exit 7"]);
        assert!(
            said(&output).contains("hello\n"),
            "{way}: {} {}",
            said(&output),
            sshd.log()
        );
        assert_eq!(output.status.code(), Some(7));

        let there = file("there");
        let output = run(&[
            "scp",
            "-F",
            &config,
            &file("letter"),
            &format!("server:{there}"),
        ]);
        assert!(output.status.success(), "{way}: {}", said(&output));
        assert_eq!(fs::read_to_string(&there).unwrap(), "dear server\n");
        fs::remove_file(&there).unwrap();

        let output = run(&[
            "rsync",
            "-e",
            &ssh,
            &file("letter"),
            &format!("server:{there}"),
        ]);
        assert!(output.status.success(), "{way}: {}", said(&output));
        assert_eq!(fs::read_to_string(&there).unwrap(), "dear server\n");
        fs::remove_file(&there).unwrap();

        let (bare, clone) = (file("bare"), file("clone"));
        let output = person.run(&["git", "init", "--quiet", "--bare", &bare]);
        assert!(output.status.success(), "{}", said(&output));
        let setting = format!("core.sshCommand={ssh}");
        let output = run(&[
            "git",
            "-c",
            &setting,
            "clone",
            "--quiet",
            &format!("server:{bare}"),
            &clone,
        ]);
        assert!(output.status.success(), "{way}: {}", said(&output));
        fs::remove_dir_all(&bare).unwrap();
        fs::remove_dir_all(&clone).unwrap();
    }
    // The twin: nobody who does not know the sequence.
    person.yes(&["profile", "remove", "server"]);
    person.add_profile(&format!(
        "server --host {} --door 22 --sequence 443,2387",
        SERVER[0]
    ));
    for (way, stanza) in ways(&person) {
        let config = file("config");
        fs::write(&config, format!("{stanza}Host *\n{}", sshd.settings(10))).unwrap();
        let output = run(&["ssh", "-F", &config, "server", "echo hello"]);
        assert_eq!(output.status.code(), Some(255), "{way}: {}", said(&output));
        assert!(
            said(&output).contains("22/tcp at 192.0.2.1 stays shut"),
            "{way}: {}",
            said(&output)
        );
    }
    assert!(world.nobody_is_in());
}

#[test]
fn ssh_scp_rsync_and_git_knock_by_themselves() {
    ssh_knocks_by_itself();
}

on_every_firewall!(ssh_through_the_door);
