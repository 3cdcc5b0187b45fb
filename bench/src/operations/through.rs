//! A gigabyte through a connection that our client relays, beside `nc`.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use toctoc::lab::SERVER;

use super::{FEW, Row, Samples, argument};
use crate::figures::Figures;
use crate::listener::Listener;
use crate::place::Place;

const SIZE: usize = 1_000_000_000;

const SINK: u16 = 9_001;
const SOURCE: u16 = 9_002;

pub fn measure(figures: &mut Figures) -> io::Result<()> {
    eprintln!("operations: a gigabyte through a connection");
    let mut samples = Samples::default();
    let place = Place::new("legacy")?;
    let _sink = Listener::with(&place.lab.server, SINK, swallow)?;
    let _source = Listener::with(&place.lab.server, SOURCE, pour)?;
    let server = SERVER[0];
    let profile = format!("host = \"{server}\"\nsequence = [5]\n");
    let profile = argument(&place.write("profile.toml", &profile)?);
    let connect = format!("toctoc connect {profile}");
    let zeros = format!("head -c {SIZE} /dev/zero");
    let (up, down) = ("a gigabyte up", "a gigabyte down");
    let (up_cpu, down_cpu) = ("a gigabyte up, processor", "a gigabyte down, processor");
    let lines = [
        (up, up_cpu, "nc", format!("{zeros} | nc -N {server} {SINK}")),
        (
            up,
            up_cpu,
            "toctoc connect",
            format!("{zeros} | {connect} {SINK}"),
        ),
        (
            down,
            down_cpu,
            "nc",
            format!("nc -d {server} {SOURCE} >/dev/null"),
        ),
        (
            down,
            down_cpu,
            "toctoc connect",
            format!("{connect} {SOURCE} >/dev/null"),
        ),
    ];
    for _ in 0..FEW {
        for (what, cpu, who, line) in &lines {
            let ended = place.measure(&place.lab.client, &["sh", "-c", line])?;
            for (what, took) in [(what, ended.wall), (cpu, ended.cpu)] {
                let (at, of, unit) = (0, "", "ms");
                samples.add(
                    Row {
                        what,
                        who,
                        at,
                        of,
                        unit,
                    },
                    took.as_secs_f64() * 1_000.0,
                );
            }
        }
    }
    samples.tell(figures);
    Ok(())
}

fn swallow(mut stream: TcpStream) {
    let mut room = vec![0; 1 << 18];
    while matches!(stream.read(&mut room), Ok(1..)) {}
}

fn pour(mut stream: TcpStream) {
    let zeros = vec![0; 1 << 18];
    let mut left = SIZE;
    while left > 0 {
        match stream.write(&zeros[..left.min(zeros.len())]) {
            Ok(sent) => left -= sent,
            Err(_) => return,
        }
    }
}
