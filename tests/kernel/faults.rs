//! Faults of programs, kernel and files: each time it is said what, and in what state the
//! firewall was left; and it is as it was.

use std::process::{Command, Output};
use std::thread;

use toctoc::client::Door;
use toctoc::lab::{CLIENT, STRANGER};

use crate::lifecycle::{ANNA, TWO};
use crate::stand_in::{StandIn, here};
use crate::world::{Kind, SEQUENCE, World, YVES, by_nft};

const UNCHANGED: &str = "the running firewall was not changed";

/// A world with a guest, and another policy in the file.
fn guarded() -> World {
    let world = World::with(TWO);
    world.listen(22);
    world.knock(CLIENT[0], &SEQUENCE);
    std::fs::write(world.path(), YVES).unwrap();
    world
}

/// Whatever happens meanwhile: the rules are as before, the guest is in, a stranger is not.
fn unharmed(world: &World, fault: impl FnOnce()) {
    let before = world.all_rules();
    fault();
    assert_eq!(world.all_rules(), before);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
}

/// The answer is "could not", and all of that is said.
fn could_not(output: &Output, said: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    for words in said {
        assert!(stderr.contains(words), "`{words}` is missing in: {stderr}");
    }
}

/// The program that writes rules.
fn writer(world: &World) -> &'static str {
    match world.kind {
        Kind::Nftables => "nft",
        _ => "iptables-restore",
    }
}

/// When a command is to load something for good, and not only to try it or to compare with it.
const LOADS: &str = "loads() { [ \"$1\" = -f ] && $real list tables | grep -q toctoc || \
                     { [ \"$1\" = --noflush ] && case \"$*\" in *--counters*--test*) false;; \
                     *--counters*) true;; *) false;; esac; }; }\n";

/// No nft, no iptables: the directories of system programs are empty.
fn a_missing_program_is_named() {
    let world = guarded();
    let without = |arguments: &[&str]| {
        // Where the kernel takes messages, grants are given and ended without nft.
        let mut command = by_nft(&world.toctoc_command(arguments));
        let own = [command.get_program()]
            .into_iter()
            .chain(command.get_args());
        let own: Vec<_> = own.map(ToOwned::to_owned).collect();
        let hide = "for d in /sbin /usr/sbin /usr/local/sbin; do \
                    [ -L $d ] || [ ! -d $d ] || mount -t tmpfs none $d || exit 99; done; exec \"$0\" \"$@\"";
        command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", hide]).args(own);
        command.env("PATH", "/usr/bin:/bin");
        let server = &world.lab.server;
        server.inside(|| command.output().unwrap()).unwrap()
    };
    let named = match world.kind {
        Kind::Nftables => "`nft` is not installed (Debian, Ubuntu: apt install nftables)",
        _ => "`iptables-save` is not installed (Debian, Ubuntu: apt install iptables)",
    };
    unharmed(&world, || {
        could_not(&without(&["status"]), &[named]);
        for arguments in [
            &["apply"][..],
            &["open", "ssh", STRANGER[0]],
            &["close"],
            &["remove"],
        ] {
            could_not(&without(arguments), &[named, UNCHANGED]);
        }
    });
    // The twin: with the programs it works.
    world.yes(&["apply"]);
    assert_eq!(world.status()["doors"].as_array().unwrap().len(), 1);
}

/// An nft that does not know what we write, and one that cannot print JSON.
#[test]
fn an_old_nft_is_named() {
    let world = guarded();
    let needs = "toctoc needs 0.9.8 or later";
    for (version, refuses, said) in [
        (
            "0.8.2",
            "-j) echo \"nft: invalid option -- 'j'\" >&2; exit 1",
            "nft 0.8.2 is too old: ",
        ),
        (
            "0.9.3",
            "-f) echo 'Error: syntax error, unexpected th' >&2; exit 1",
            "nft 0.9.3 is too old: ",
        ),
    ] {
        let script = format!(
            "case \"$1\" in --version) echo 'nftables v{version} (Topsy)';; {refuses};; \
             *) exec $real \"$@\";; esac"
        );
        unharmed(&world, || {
            let _old = StandIn::new(&world, "nft", &script);
            could_not(&world.toctoc(&["apply"]), &[said, needs, UNCHANGED]);
            could_not(&world.toctoc(&["status"]), &[said, needs]);
        });
    }
    let script = "case \"$1\" in -j) echo 'Error: JSON support not compiled-in' >&2; exit 1;; \
                  *) exec $real \"$@\";; esac";
    unharmed(&world, || {
        let _small = StandIn::new(&world, "nft", script);
        let said = ["was built without JSON", UNCHANGED];
        could_not(&world.toctoc(&["apply"]), &said);
    });
    // An nft that only calls itself old, and does all, is good enough.
    let script =
        "case \"$1\" in --version) echo 'nftables v0.9.3 (Topsy)';; *) exec $real \"$@\";; esac";
    let _able = StandIn::new(&world, "nft", script);
    world.yes(&["apply"]);
}

/// Something in the script that this kernel refuses: the words are its own.
fn what_the_kernel_lacks_is_named() {
    let world = guarded();
    let (program, script) = match world.kind {
        // Names of bridges are for the family bridge alone, in every kernel.
        Kind::Nftables => (
            "nft",
            "[ \"$1\" = -f ] || exec $real \"$@\"\n\
             { cat; echo 'add rule inet toctoc judge meta ibrname \"x\"'; } | $real \"$@\""
                .to_string(),
        ),
        _ => (
            "iptables-restore",
            format!(
                "case \"$*\" in *--version*) exec $real \"$@\";; esac\n\
                 sed '/^\\*raw/,/^COMMIT/ s/^COMMIT/-A PREROUTING {}\\nCOMMIT/' | $real \"$@\"",
                lacking(&world)
            ),
        ),
    };
    unharmed(&world, || {
        let _lacking = StandIn::new(&world, program, &script);
        let said = ["refused", "this kernel (Linux ", "may lack", UNCHANGED];
        could_not(&world.toctoc(&["apply"]), &said);
    });
    world.yes(&["apply"]);
}

/// A match that this kernel has not, or (the last one) that none has there.
fn lacking(world: &World) -> &'static str {
    let candidates = [
        "-m ipvs --ipvs",
        "-j LED --led-trigger-id x",
        "-m cgroup --cgroup 5",
    ];
    let taken = |rule: &&str| {
        let mut command = world.command("iptables");
        command
            .args("-t raw -A OUTPUT".split(' '))
            .args(rule.split(' '));
        let added = world
            .lab
            .server
            .inside(|| command.output().unwrap().status.success());
        let added = added.unwrap();
        if added {
            let delete = format!("iptables -t raw -D OUTPUT {rule}");
            world.server(&delete.split(' ').collect::<Vec<_>>());
        }
        added
    };
    let lacking = candidates.into_iter().find(|rule| !taken(rule));
    lacking.expect("something that the kernel refuses")
}

/// nft is killed before its transaction, and after it; and so that nobody can tell.
#[test]
fn a_killed_nft_leaves_the_old_or_the_new() {
    let world = guarded();
    let killed = "`nft` was killed by signal 9";
    unharmed(&world, || {
        let script = format!("{LOADS} loads \"$@\" && kill -9 $$\nexec $real \"$@\"");
        let _nft = StandIn::new(&world, "nft", &script);
        could_not(&world.toctoc(&["apply"]), &[killed, UNCHANGED]);
        let open = world.toctoc_by_nft(&["open", "ssh", STRANGER[0]]);
        could_not(&open, &[killed, "is not known; see `toctoc status`"]);
    });
    unharmed(&world, || {
        let script = format!(
            "[ -e $here/dead ] && exit 1\n{LOADS} loads \"$@\" && {{ touch $here/dead; kill -9 $$; }}\n\
             exec $real \"$@\""
        );
        let _nft = StandIn::new(&world, "nft", &script);
        let said = [killed, "is not known; see `toctoc status`"];
        could_not(&world.toctoc(&["apply"]), &said);
    });
    // `exit 137` is what a shell in front of nft makes of it.
    for dies in ["kill -9 $$", "exit 137"] {
        world.apply(TWO);
        std::fs::write(world.path(), YVES).unwrap();
        let script =
            format!("{LOADS} loads \"$@\" && {{ $real \"$@\"; {dies}; }}\nexec $real \"$@\"");
        let nft = StandIn::new(&world, "nft", &script);
        let said = [killed, "the new ruleset is in the kernel"];
        could_not(&world.toctoc(&["apply"]), &said);
        drop(nft);
        assert_eq!(world.status()["matches_policy"], true);
    }
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
}

/// nft is killed after its transaction, and what is there then is neither the old nor the new: nobody is
/// told that nothing was changed.
#[test]
fn a_killed_nft_is_not_said_to_have_changed_nothing() {
    let world = guarded();
    let unknown = "whether the running firewall was changed is not known; see `toctoc status`";
    let not_unchanged = |arguments: &[&str]| {
        let output = world.toctoc_by_nft(arguments);
        could_not(&output, &["`nft` was killed by signal 9", unknown]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!said.contains(UNCHANGED), "{said}");
    };
    let dies = |after: &str| {
        let script = format!(
            "{LOADS} loads \"$@\" && {{ $real \"$@\"; {after}; kill -9 $$; }}\nexec $real \"$@\""
        );
        StandIn::new(&world, "nft", &script)
    };
    let nft = dies("$real add chain inet toctoc theirs");
    not_unchanged(&["apply"]);
    drop(nft);
    // It had been changed.
    assert_eq!(world.status()["doors"].as_array().unwrap().len(), 1);
    world.yes(&["apply"]);
    for arguments in [&["open", "ssh", STRANGER[0]][..], &["close"], &["remove"]] {
        let nft = dies("true");
        not_unchanged(arguments);
        drop(nft);
    }
    assert!(!world.server(&["nft", "list", "tables"]).contains("toctoc"));
}

/// Strangers who are midway by the ten thousand take nft long to list. Nobody waits for that to change
/// something: grants are kept and ended as ever.
#[test]
fn a_listing_that_takes_long_is_not_waited_for() {
    let world = guarded();
    world.knock(STRANGER[0], &ANNA);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
    // Where the policy is loaded aside, to be compared with, there is no eth0.
    let slow = "case \"$*\" in '-j list table'*) grep -q eth0 /proc/self/net/dev && \
                echo >> $here/slow && sleep 60;; esac\nexec $real \"$@\"";
    let slow = StandIn::new(&world, "nft", slow);
    assert_eq!(world.yes(&["close", "web"]), "ended 1 grant\n");
    // Anna is gone in the file, and what is left of hers ends; so does what is strange.
    world.nft("add counter inet toctoc theirs");
    let said = world.yes(&["apply"]);
    assert!(said.contains("1 live grant kept, 1 ended"), "{said}");
    let waited = std::fs::read_to_string(here(&world).join("slow")).unwrap();
    assert_eq!(waited.lines().count(), 1);
    // What was started by the one that was ended does not keep the lock.
    world.yes(&["open", "ssh", "198.51.100.9"]);
    drop(slow);
    assert_eq!(world.status()["matches_policy"], true);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
}

/// While the kernel tidies up a set, because thousands of its elements have expired, a listing has gaps.
#[test]
fn close_does_not_believe_one_listing() {
    let world = guarded();
    world.knock(STRANGER[0], &ANNA);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
    // The first time, somebody else seems to be in.
    let gap = "case \"$*\" in *list*) [ -e $here/once ] || { grep -q eth0 /proc/self/net/dev && \
               $real \"$@\" | sed 's/\"192.0.2.9\", \"\\([0-9a-f:]*\\)\"]/\"192.0.2.99\", \"\\1\"]/' > $here/gap; \
               grep -q 192.0.2.99 $here/gap && : > $here/once; cat $here/gap; exit; };; esac\n\
               exec $real \"$@\"";
    let gap = StandIn::new(&world, "nft", gap);
    assert!(world.toctoc_by_nft(&["close"]).status.success());
    assert!(here(&world).join("once").exists());
    drop(gap);
    assert!(world.nobody_is_in());
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
}

/// iptables-restore is killed at each of its steps, before or after it has loaded: all goes back.
fn a_killed_iptables_leaves_all_as_it_was() {
    let world = guarded();
    // How many times it loads is seen by an apply that goes through.
    let count = format!("{LOADS} loads \"$@\" && echo >> $here/steps\nexec $real \"$@\"");
    let steps = || {
        let steps = std::fs::read(here(&world).join("steps")).unwrap_or_default();
        let _ = std::fs::remove_file(here(&world).join("steps"));
        steps.len()
    };
    let counting = StandIn::new(&world, "iptables-restore", &count);
    world.apply(TWO);
    drop(counting);
    let most = steps();
    assert!(most >= 4, "{most}");
    std::fs::write(world.path(), YVES).unwrap();
    for step in 1..most {
        for before in ["", "$real \"$@\";"] {
            unharmed(&world, || {
                let script = format!(
                    "{LOADS} loads \"$@\" && echo >> $here/steps && \
                     [ $(wc -l < $here/steps) = {step} ] && {{ {before} kill -9 $$; }}\n\
                     exec $real \"$@\""
                );
                let _killed = StandIn::new(&world, "iptables-restore", &script);
                let said = ["`iptables-restore` was killed by signal 9", UNCHANGED];
                could_not(&world.toctoc(&["apply"]), &said);
            });
            assert!(steps() >= step);
        }
    }
    // The last step only tidies up.
    let script = format!(
        "{LOADS} loads \"$@\" && echo >> $here/steps && \
         [ $(wc -l < $here/steps) = {most} ] && kill -9 $$\nexec $real \"$@\""
    );
    let killed = StandIn::new(&world, "iptables-restore", &script);
    let said = ["was killed by signal 9", "the new ruleset is in the kernel"];
    could_not(&world.toctoc(&["apply"]), &said);
    drop(killed);
    steps();
    // Killed on the way back too, nobody promises anything; what guards the door does so still.
    let script = format!(
        "{LOADS} loads \"$@\" && echo >> $here/steps && [ $(wc -l < $here/steps) -ge 2 ] && kill -9 $$\nexec $real \"$@\""
    );
    let killed = StandIn::new(&world, "iptables-restore", &script);
    let said = ["going back failed", "is not known; see `toctoc status`"];
    could_not(&world.toctoc(&["apply"]), &said);
    drop(killed);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    world.yes(&["apply"]);
    assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
    assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
}

/// The file is read once. Gone before that, nothing is applied; gone after that, all of it is.
fn a_policy_that_vanishes_is_applied_whole_or_not_at_all() {
    let world = guarded();
    world.yes(&["check"]);
    let script =
        "touch $here/waits\nwhile [ ! -e $here/go ]; do sleep 0.02; done\nexec $real \"$@\"";
    let slow = StandIn::new(&world, writer(&world), script);
    let mut command = world.toctoc_command(&["apply"]);
    let apply = world
        .lab
        .server
        .inside(|| command.stdout(std::process::Stdio::piped()).spawn());
    let mut apply = apply.unwrap().unwrap();
    world.until("it is being applied", || {
        here(&world).join("waits").exists()
    });
    std::fs::remove_file(world.path()).unwrap();
    std::fs::write(here(&world).join("go"), "").unwrap();
    assert_eq!(apply.wait().unwrap().code(), Some(0));
    drop(slow);
    std::fs::write(world.path(), YVES).unwrap();
    assert_eq!(world.status()["matches_policy"], true);

    std::fs::write(world.path(), TWO).unwrap();
    world.yes(&["check"]);
    std::fs::remove_file(world.path()).unwrap();
    unharmed(&world, || {
        could_not(&world.toctoc(&["apply"]), &["cannot be read", UNCHANGED]);
        // What runs is described all the same.
        let status = world.toctoc(&["status"]);
        let said = String::from_utf8_lossy(&status.stdout);
        assert_eq!(status.status.code(), Some(1), "{said}");
        assert!(
            said.contains("CANNOT BE USED") && said.contains("cannot be read"),
            "{said}"
        );
    });
}

/// Two policies at the same moment, again and again: one of them holds, whole.
fn two_policies_at_once_leave_one_of_them() {
    let world = guarded();
    let other = world.path().with_file_name("other.toml");
    std::fs::write(&other, TWO.replace("[443,", "[441, 442,")).unwrap();
    let own = world.path().as_os_str().to_owned();
    let apply = |path: &std::ffi::OsStr, verb: &str| {
        let mut command = world.toctoc_command(&[verb]);
        let words: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let words = words
            .into_iter()
            .map(|word| if word == own { path.to_owned() } else { word });
        command = world.command(env!("CARGO_BIN_EXE_toctoc"));
        command.args(words);
        let server = &world.lab.server;
        server
            .inside(|| command.output().unwrap())
            .unwrap()
            .status
            .code()
    };
    for _ in 0..3 {
        thread::scope(|scope| {
            let both = [&own, other.as_os_str()].map(|path| scope.spawn(|| apply(path, "apply")));
            for done in both {
                assert_eq!(done.join().unwrap(), Some(0));
            }
        });
        let hold = [&own, other.as_os_str()].map(|path| apply(path, "status"));
        assert!(
            hold == [Some(0), Some(1)] || hold == [Some(1), Some(0)],
            "{hold:?}"
        );
        assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
        assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
    }
}

on_every_firewall!(
    a_missing_program_is_named,
    what_the_kernel_lacks_is_named,
    a_policy_that_vanishes_is_applied_whole_or_not_at_all,
    two_policies_at_once_leave_one_of_them,
);

mod iptables_alone {
    use super::a_killed_iptables_leaves_all_as_it_was;
    on_each_iptables!(a_killed_iptables_leaves_all_as_it_was);
}
