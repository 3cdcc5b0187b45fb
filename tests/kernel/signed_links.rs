//! The program of signed keys as a link of tcx, where there is a BPF file system. (The tests of `signed_keys` have none: they
//! see filters of clsact, or links, whichever the machine has.)

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use toctoc::client::Door;
use toctoc::lab::CLIENT;

use crate::signed_keys::{close, guarded, interface, opens, signed, warnings};
use crate::world::World;

/// A mount namespace with a BPF file system of its own, for as long as this lives.
struct Mounted<'w> {
    world: &'w World,
    holder: Child,
}

impl Mounted<'_> {
    fn new(world: &World) -> Mounted<'_> {
        let mut holder = Command::new("unshare")
            .args(["--mount", "sh", "-c"])
            .arg("mount -t bpf bpf /sys/fs/bpf && echo && read -r _")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0];
        let out = holder.stdout.as_mut().unwrap();
        std::io::Read::read_exact(out, &mut ready).expect("a BPF file system");
        Mounted { world, holder }
    }

    fn toctoc(&self, arguments: &[&str]) -> String {
        self.run(&[&[env!("CARGO_BIN_EXE_toctoc")], arguments].concat())
    }

    /// Runs a program there, on the server. It must succeed.
    fn run(&self, arguments: &[&str]) -> String {
        let mut command = self.world.command("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id()));
        command.args(arguments);
        let server = &self.world.lab.server;
        let output = server.inside(|| command.output().unwrap()).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned() + &said
    }

    fn apply(&self) {
        self.toctoc(&["apply", &self.world.path().display().to_string()]);
    }

    fn warnings(&self) -> String {
        let path = self.world.path().display().to_string();
        let status = self.toctoc(&["status", "--json", &path]);
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        status["warnings"].to_string()
    }

    /// The files that hold links.
    fn files(&self) -> Vec<PathBuf> {
        let directory = format!("/proc/{}/root/sys/fs/bpf/toctoc", self.holder.id());
        let files = fs::read_dir(directory).into_iter().flatten().flatten();
        files.map(|file| file.path()).collect()
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

fn has_filter(world: &World) -> bool {
    let name = interface(world);
    let shown = world.server(&["tc", "filter", "show", "dev", &name, "ingress"]);
    shown.contains("toctoc")
}

/// It takes the place of a filter; the next apply replaces its program, and `remove` takes all of it away.
#[test]
fn a_link_takes_the_place_of_a_filter_and_opens() {
    let world = guarded();
    assert!(has_filter(&world));
    let mounted = Mounted::new(&world);
    mounted.apply();
    assert!(!has_filter(&world));
    assert_eq!(mounted.files().len(), 1);
    assert_eq!(mounted.warnings(), "[]");
    assert_eq!(warnings(&world), "[]", "seen without its file too");
    opens(&world);
    close(&world);
    let files = mounted.files();
    mounted.apply();
    assert_eq!(mounted.files(), files);
    assert_eq!(mounted.warnings(), "[]");
    opens(&world);
    close(&world);
    mounted.toctoc(&["remove"]);
    assert_eq!(mounted.files(), Vec::<PathBuf>::new());
    mounted.apply();
    opens(&world);
}

/// Its file gone, or its interface made anew: nothing opens there, it is told, and a healing puts it right.
#[test]
fn without_its_link_nothing_opens_and_a_healing_puts_it_there() {
    let world = guarded();
    let mounted = Mounted::new(&world);
    mounted.apply();
    for file in mounted.files() {
        fs::remove_file(file).unwrap();
    }
    let name = interface(&world);
    // The kernel lets go of it a moment later.
    world.until("it is told", || {
        let told = format!("signed keys do not open on {name}");
        mounted.warnings().contains(&told)
    });
    world.send(CLIENT[0], &signed(CLIENT[0]));
    assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
    mounted.toctoc(&["heal"]);
    assert_eq!(mounted.warnings(), "[]");
    assert_eq!(mounted.files().len(), 1);
    opens(&world);
    let late = [
        "ip", "link", "add", "late0", "type", "veth", "peer", "name", "late1",
    ];
    for _ in 0..2 {
        world.server(&late);
        assert!(mounted.warnings().contains("late0"));
        mounted.toctoc(&["heal"]);
        assert_eq!(mounted.warnings(), "[]");
        assert_eq!(mounted.files().len(), 3, "those of the old pair are gone");
        world.server(&["ip", "link", "del", "late0"]);
    }
}

/// `toctoc-refill.service` may do no more than BPF and CAP_NET_ADMIN: it cannot see which programs are there, and replaces ours
/// all the same.
#[test]
fn a_refill_with_the_rights_of_its_unit_keeps_the_link() {
    let world = guarded();
    let mounted = Mounted::new(&world);
    mounted.apply();
    let (files, program) = (mounted.files(), placed(&world));
    let said = mounted.run(&[
        "setpriv",
        "--no-new-privs",
        "--bounding-set=-all,+bpf,+net_admin",
        "--",
        env!("CARGO_BIN_EXE_toctoc"),
        "refill",
        &world.path().display().to_string(),
    ]);
    assert!(!said.contains("signed keys do not open"), "{said}");
    assert_ne!(placed(&world), program, "another program");
    assert_eq!(mounted.files(), files);
    assert!(!has_filter(&world));
    assert_eq!(mounted.warnings(), "[]");
    opens(&world);
    close(&world);
    // It is known as ours: from elsewhere it is named, and from here it is taken away.
    let output = world.toctoc(&["remove"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("is still at"), "{said}");
    mounted.toctoc(&["remove"]);
    mounted.apply();
    opens(&world);
}

/// The kernel's number of the program that was placed last.
fn placed(world: &World) -> serde_json::Value {
    let note = fs::read_to_string(world.sighting().with_extension("signed")).unwrap();
    let note: serde_json::Value = serde_json::from_str(&note).unwrap();
    note["program"].clone()
}

/// A link that another mount namespace holds cannot be taken away from here: it is told, and no other table begins with it.
#[test]
fn a_link_that_is_held_elsewhere_is_named() {
    let world = guarded();
    let mounted = Mounted::new(&world);
    mounted.apply();
    let path = world.path().display().to_string();
    let output = world.toctoc(&["apply"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("an older program is there too"), "{said}");
    assert!(
        warnings(&world).contains("is not that of this table"),
        "{}",
        warnings(&world)
    );
    // A new table knows nothing of what was spent: where the old program stays, it is not made.
    world.server(&["nft", "delete", "table", "inet", "toctoc"]);
    let output = world.toctoc(&["apply"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && said.contains("is still at"),
        "{path}: {said}"
    );
    assert!(!world.server(&["nft", "list", "tables"]).contains("toctoc"));
    mounted.apply();
    assert_eq!(mounted.warnings(), "[]");
    opens(&world);
}
