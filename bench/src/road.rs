//! A bad road in the place of the cable between client and server. The kernel of the machine may have no netem.

use std::io::{self, Read};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal};
use toctoc::lab::{CLIENT, Host, Lab, SERVER, STRANGER};

/// The properties of a road, the same in both directions.
#[derive(Debug, Clone, Copy)]
pub struct Road {
    pub name: &'static str,
    /// The share of packets that is lost.
    pub loss: f64,
    /// Seconds that each packet takes.
    pub delay: f64,
    /// The share of packets that takes up to `jitter` seconds more.
    pub late: f64,
    pub jitter: f64,
}

/// A road that was built. When it is dropped, nothing gets through any more.
pub struct Built {
    carrier: Child,
    _between: Host,
}

impl Built {
    /// Does something while the road is a good one.
    ///
    /// # Errors
    /// When the carrier is gone; what `act` returns.
    pub fn while_good<T>(&self, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let tell = |signal| {
            let carrier = Pid::from_child(&self.carrier);
            rustix::process::kill_process(carrier, signal)
        };
        tell(Signal::USR1)?;
        let acted = act();
        tell(Signal::USR2)?;
        acted
    }
}

impl Drop for Built {
    fn drop(&mut self) {
        let _ = self.carrier.kill();
        let _ = self.carrier.wait();
    }
}

impl Road {
    /// Takes the client's end of the cable away, and gives the client a cable of its own that ends at the road. The
    /// server keeps its interface.
    ///
    /// # Errors
    /// When there is no Python or `ip`, or packet sockets are not permitted.
    pub fn build(self, lab: &Lab) -> io::Result<Built> {
        const MAC: [&str; 2] = ["02:00:00:00:00:01", "02:00:00:00:00:02"];
        let between = Host::new()?;
        let (road, client) = (between.pid(), lab.client.pid());
        lab.client.ip("link set eth0 down")?;
        lab.client
            .ip(&format!("link set eth0 netns {road} name far"))?;
        between.ip(&format!(
            "link add near type veth peer name eth0 address {} netns {client}",
            MAC[1]
        ))?;
        for interface in ["near", "far"] {
            between.ip(&format!("link set {interface} up"))?;
        }
        lab.client.ip("link set eth0 up")?;
        for [v4, v6] in [CLIENT, STRANGER] {
            lab.client.ip(&format!("addr add {v4}/24 dev eth0"))?;
            lab.client.ip(&format!("addr add {v6}/64 dev eth0 nodad"))?;
        }
        for address in SERVER {
            lab.client.ip(&format!(
                "neigh replace {address} lladdr {} dev eth0 nud permanent",
                MAC[0]
            ))?;
        }
        let numbers = [self.loss, self.delay, self.late, self.jitter].map(|n| n.to_string());
        let mut carrier = between.inside(|| {
            Command::new("python3")
                .args(["-c", include_str!("road.py"), "near", "far"])
                .args(numbers)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
        })??;
        let mut ready = [0];
        if let Some(told) = &mut carrier.stdout {
            told.read_exact(&mut ready)?;
        }
        Ok(Built {
            carrier,
            _between: between,
        })
    }
}
