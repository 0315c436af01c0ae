//! A root directory, a manager that takes notifications, and the gate called below the one with the other.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A root directory of its own.
pub struct Machine {
    pub root: PathBuf,
}

/// What the gate did.
pub struct Done {
    pub code: i32,
    /// Standard error.
    pub said: String,
    /// All notifications, one line each.
    pub told: String,
    pub took: Duration,
}

/// What the test sends itself when the gate has ended, so that the manager knows that nothing follows.
const END: &[u8] = b"the gate has ended";

impl Machine {
    pub fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("dagger-gate-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir(&root).unwrap();
        let root = root.canonicalize().unwrap();
        Self { root }
    }

    pub fn run(&self, words: &[&str]) -> Done {
        self.run_with(words, &[])
    }

    pub fn run_with(&self, words: &[&str], environment: &[(&str, &str)]) -> Done {
        let socket = self.root.join("notify");
        let _ = std::fs::remove_file(&socket);
        let manager = UnixDatagram::bind(&socket).unwrap();
        // As systemd does, the manager reads while the gate runs: the queue of such a socket is ten messages long.
        let manager = std::thread::spawn(move || listen(&manager));
        let begin = Instant::now();
        let output = Command::new(env!("CARGO_BIN_EXE_dagger-gate"))
            .args(words)
            .env("DAGGER_ROOT", &self.root)
            .env("NOTIFY_SOCKET", &socket)
            .env_remove("MAINPID")
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        let took = begin.elapsed();
        end(&socket);
        Done {
            code: output.status.code().unwrap(),
            said: String::from_utf8(output.stderr).unwrap(),
            told: manager.join().unwrap(),
            took,
        }
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.join(path)).unwrap()
    }
}

fn listen(manager: &UnixDatagram) -> String {
    let mut told = String::new();
    let mut bytes = [0; 4096];
    loop {
        let count = manager.recv(&mut bytes).unwrap();
        if &bytes[..count] == END {
            return told;
        }
        told.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
}

fn end(socket: &Path) {
    UnixDatagram::unbound().unwrap().send_to(END, socket).unwrap();
}
