//! A real OpenSSH server on the server.

use std::fs;

use tempfile::TempDir;

use crate::world::{Running, World, start};

/// A server that lets one user in with one key.
pub struct Sshd {
    directory: TempDir,
    _running: Running,
}

impl Sshd {
    pub fn on(world: &World) -> Sshd {
        Sshd::at(world, 22)
    }

    pub fn at(world: &World, port: u16) -> Sshd {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name).to_str().unwrap().to_string();
        for name in ["host", "user"] {
            let path = file(name);
            let command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", &path];
            assert!(world.client(&command).succeeded());
        }
        let config = format!(
            "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\nPort {port}\n\
             PasswordAuthentication no\nSubsystem sftp internal-sftp\n",
            file("host"),
            file("user.pub"),
        );
        fs::write(file("config"), config).unwrap();
        // sshd insists on its directory for privilege separation.
        let sshd = format!(
            "mkdir -p /run/sshd; exec /usr/sbin/sshd -D -e -f {} 2>{}",
            file("config"),
            file("log")
        );
        let running = start(&world.lab.server, &["sh", "-c", &sshd]);
        world.until("sshd listens", || {
            let listening = world.server(&["ss", "-Hltn", &format!("sport = :{port}")]);
            !listening.is_empty()
        });
        Sshd {
            directory,
            _running: running,
        }
    }

    pub fn file(&self, name: &str) -> String {
        self.directory
            .path()
            .join(name)
            .to_str()
            .unwrap()
            .to_string()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    /// The parts of a client's configuration beside the way in; `patience` in seconds.
    pub fn settings(&self, patience: u32) -> String {
        format!(
            "IdentityFile {}\nUserKnownHostsFile {}\nStrictHostKeyChecking no\n\
             ConnectTimeout {patience}\nBatchMode yes\nLogLevel ERROR\n",
            self.file("user"),
            self.file("known")
        )
    }
}
