//! Bytes through the door: `toctoc connect`.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use toctoc::lab::SERVER;

use crate::person::{Person, SEQUENCE, said};
use crate::world::{World, YVES};

/// A program behind the door that reads to the end, and then says how much that was.
fn counting(world: &World) {
    let server = &world.lab.server;
    let listener = server.inside(|| TcpListener::bind(("::", 22))).unwrap();
    let listener = listener.unwrap();
    thread::spawn(move || {
        for mut session in listener.incoming().flatten() {
            let mut bytes = Vec::new();
            let _ = session.read_to_end(&mut bytes);
            let _ = writeln!(session, "{} bytes", bytes.len());
        }
    });
}

#[test]
fn what_is_sent_has_an_end_and_the_answer_comes_after_it() {
    let world = World::with(YVES);
    counting(&world);
    let person = Person::with_profile(&world);
    for length in [0, 5, 3_000_000] {
        let output = person.toctoc_reading(&["connect", "server", "22"], &vec![7; length]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert_eq!(said(&output), format!("{length} bytes\n"));
    }
}

#[test]
fn every_byte_comes_back_as_it_was_sent() {
    let world = World::with(YVES);
    world.listen(22);
    let person = Person::with_profile(&world);
    let bytes: Vec<u8> = (0..20_000_000_u32).map(|n| (n % 251) as u8).collect();
    let output = person.toctoc_reading(&["connect", "server"], &bytes);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout == bytes, "{} bytes", output.stdout.len());
}

/// As a program leaves them that shares them with us.
#[test]
fn input_and_output_may_be_such_that_do_not_wait() {
    let world = World::with(YVES);
    world.listen(22);
    let person = Person::with_profile(&world);
    let script = "
import os, subprocess, sys, threading, time
(theirs, ours), (back, into) = os.pipe(), os.pipe()
os.set_blocking(theirs, False), os.set_blocking(into, False)
child = subprocess.Popen(['toctoc', 'connect', 'server'], stdin=theirs, stdout=into)
os.close(theirs), os.close(into)
sent = bytes(range(256)) * 4000
def write():
    for at in range(0, len(sent), 100000):
        time.sleep(0.02)
        os.write(ours, sent[at:at + 100000])
    os.close(ours)
threading.Thread(target=write).start()
time.sleep(1)
got = open(back, 'rb').read()
print(child.wait(), got == sent)";
    let output = person.run(&["python3", "-c", script]);
    assert_eq!(said(&output), "0 True\n");
}

#[test]
fn nobody_who_reads_any_more_is_no_error() {
    let world = World::with(YVES);
    world.listen(22);
    let person = Person::with_profile(&world);
    // The input never ends; the reader is content with little.
    let script = "yes | toctoc connect server | head -c 100 | wc -c; toctoc profile list | true; \
                  echo ${PIPESTATUS[0]}";
    let output = person.run(&["bash", "-c", script]);
    assert_eq!(said(&output), "100\n0\n");
}

#[test]
fn without_a_door_that_opens_nothing_is_relayed() {
    let world = World::with(YVES);
    counting(&world);
    let person = Person::on(&world);
    person.add_profile(&format!("wrong --host {} --sequence 443,50", SERVER[0]));
    let output = person.toctoc_reading(&["connect", "wrong", "22"], b"secret");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(output.stdout, b"");
    let output = person.toctoc(&["connect", "wrong"]);
    assert!(said(&output).contains("names no door"), "{}", said(&output));
    let output = person.toctoc(&["connect", "nobody", "22"]);
    assert!(
        said(&output).contains("there is no profile nobody"),
        "{}",
        said(&output)
    );
    // To a file, as nobody does.
    person.add_profile(&format!("right --host {} --sequence {SEQUENCE}", SERVER[0]));
    let output = person.toctoc(&["connect", "--fdpass", "right", "22"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("takes no connection"),
        "{}",
        said(&output)
    );
}
