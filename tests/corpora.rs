//! The inputs that fuzzing has found worth keeping, and the seeds it began with, each as it is and with
//! some bytes changed. `make verify` looks for new ones.

#[path = "support/corpora.rs"]
mod corpora;
#[path = "../fuzz/targets.rs"]
mod targets;

#[test]
fn kept_inputs_and_their_neighbours_hold() {
    for target in targets::ALL {
        eprintln!("{}", target.name);
        let own = format!("fuzz/corpus/{}", target.name);
        let more = target.more.iter().copied();
        let directories: Vec<&str> = more.chain([own.as_str()]).collect();
        corpora::try_all(&directories, target.holds);
    }
}
