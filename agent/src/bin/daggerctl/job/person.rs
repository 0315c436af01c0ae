//! Questions to the person at the terminal: whether to go on, what Ctrl-C means, and polkit's for a password.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tokio::sync::oneshot;

use crate::error::Error;

/// Has the person type a word. Without a terminal nobody can, and that is an error that says what to do.
pub fn confirm(what: &str, word: &str) -> Result<(), Error> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Error::Failed(format!(
            "{what}: nothing was begun, since there is no terminal to ask on; --yes goes on without asking"
        )));
    }
    say(&format!("{what}. Type {word} to go on: "));
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    match read {
        Ok(_) if line.trim() == word => Ok(()),
        Ok(_) => Err(Error::Failed("nothing was begun".into())),
        Err(error) => Err(Error::Failed(format!("the answer cannot be read: {error}"))),
    }
}

/// What is to become of a job after Ctrl-C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// It goes on, and nobody waits for it.
    Detach,
    /// It is asked to stop.
    Cancel,
    /// Nothing has happened.
    GoOn,
}

/// What Ctrl-C means. Where nobody can be asked, or Ctrl-C comes again, the job goes on without us: that is never wrong.
pub async fn interrupted(again: impl Future<Output = ()>) -> Wish {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Wish::Detach;
    }
    say("\nIt goes on. (d)etach and let it, (c)ancel and have it undone, or go on waiting (Enter)? ");
    let (send, answered) = oneshot::channel();
    // A thread of its own: whoever types nothing must not keep the program from ending.
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = io::stdin().lock().read_line(&mut line);
        // Nobody waits any more after a second Ctrl-C.
        let _ = send.send(read.map(|_| line));
    });
    tokio::select! {
        line = answered => match line {
            Ok(Ok(line)) => wish(&line),
            _ => Wish::Detach,
        },
        () = again => Wish::Detach,
    }
}

fn wish(line: &str) -> Wish {
    match line.trim().chars().next().map(|c| c.to_ascii_lowercase()) {
        Some('d') => Wish::Detach,
        Some('c') => Wish::Cancel,
        _ => Wish::GoOn,
    }
}

fn say(text: &str) {
    let mut err = io::stderr().lock();
    // Where it cannot be written nobody is there to read it.
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

/// polkit's password agent for this terminal, as long as this lives; systemctl does the same.
pub struct Agent(Option<Child>);

impl Agent {
    /// Starts it, where there is a terminal, somebody else than root, and the program (pkttyagent(1)).
    pub fn start() -> Self {
        if geteuid().is_root() || !io::stdin().is_terminal() {
            return Self(None);
        }
        // It asks on the terminal itself; what it is given as its output it closes when it is registered.
        let mut agent = Command::new("pkttyagent");
        agent.args(["--notify-fd", "1"]);
        // An agent of the session, which may have windows, is asked first; one that is only a fallback is never asked about a
        // process without a session (polkit 122 and 126).
        if std::env::var_os("XDG_SESSION_ID").is_some() {
            agent.arg("--fallback");
        }
        let started = agent
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut child) = started else {
            return Self(None);
        };
        if let Some(mut ready) = child.stdout.take() {
            let mut nothing = Vec::new();
            // Whether it is registered or has failed: the call that follows shows it.
            let _ = ready.read_to_end(&mut nothing);
        }
        Self(Some(child))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It gives the terminal back as it was.
            let _ = kill_process(Pid::from_child(child), Signal::TERM);
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_after_ctrl_c() {
        for (line, wanted) in [
            ("d\n", Wish::Detach),
            ("Detach\n", Wish::Detach),
            (" c \n", Wish::Cancel),
            ("\n", Wish::GoOn),
            ("", Wish::GoOn),
            ("x\n", Wish::GoOn),
        ] {
            assert_eq!(wish(line), wanted, "{line:?}");
        }
    }
}
