//! One program that stands in for Sonarr, Radarr, Prowlarr, Lidarr, Readarr, Whisparr, Bazarr and Jellyfin.
//!
//! It keeps the same files, listens the same way, answers the same words and dies the same deaths as the originals, as
//! far as anything outside of them can tell; what the originals are *for* is missing. Everything that a test asserts about
//! the product rests on this, so each behaviour here is one that was read in the original's source.
//!
//! # Use
//! `standin sonarr [ARGUMENTS OF THE ORIGINAL]`, the image's entry point being that; or a link called `sonarr`.
//! The arguments are the original's own: `-data=DIR`, `--config DIR --port N`, `--datadir DIR`...
//! `standin verify PATH` checks what a stand-in left on disk ([`verify`]); `standin scan PATH` goes through its
//! media, and `standin empty PATH` finds none ([`scan`]).
//! Options for the start are in the environment ([`options`]), faults are a file in the state directory ([`fault`]),
//! and `GET /standin/state` tells how many rows were written, who writes them and how many requests came (never subject
//! to authorization).
//!
//! # A static program for images without a root file system
//! glibc's static form works for it (no name is ever resolved, users are numbers):
//! ```text
//! RUSTFLAGS='-C target-feature=+crt-static' cargo build --release -p dagger-tests --bin standin --target x86_64-unknown-linux-gnu
//! ```
//! `--target` must be said, or the flag would reach proc macros too. The program is
//! `$CARGO_TARGET_DIR/x86_64-unknown-linux-gnu/release/standin`, static-pie, and needs nothing else in the image.
//!
//! # Order of the modules
//! Plain values first, then files, sockets and processes, then the applications.

pub mod clock;
pub mod console;
pub mod fault;
pub mod http;
pub mod options;
pub mod xml;
pub mod yaml;

pub mod life;
pub mod server;
pub mod store;
pub mod verify;

pub mod bazarr;
pub mod image;
pub mod jellyfin;
pub mod scan;
pub mod servarr;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use self::console::complain;
use self::http::{Request, Response};
use self::image::Image;
use self::options::Environment;
use self::store::Store;

/// Runs the program: `words` is the command line with the program's name.
pub fn run(words: &[String]) -> ExitCode {
    let environment = Environment::of_process();
    let (program, arguments) = words
        .split_first()
        .map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let called = Path::new(program)
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
        .to_lowercase();
    let (name, arguments) = match arguments.split_first() {
        Some((first, rest)) if called.starts_with("standin") => (first.to_lowercase(), rest),
        _ => (called, arguments),
    };
    let result = match name.as_str() {
        "verify" => verify::main(arguments),
        "scan" => scan::main(arguments, scan::Media::There),
        "empty" => scan::main(arguments, scan::Media::Gone),
        name => Image::of(name, &environment).and_then(|image| match image {
            Image::Supervised => image::supervise(name, &environment),
            Image::Plain => {
                image::drop_privileges(&environment)?;
                application(name, arguments, &environment)
            }
        }),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            complain(format_args!("standin: {message}"));
            ExitCode::from(64)
        }
    }
}

/// Runs the application itself, in this process.
fn application(name: &str, arguments: &[String], environment: &Environment) -> Result<u8, String> {
    match name {
        "bazarr" => bazarr::wrapper::run(arguments, environment),
        bazarr::MAIN => bazarr::run(arguments, environment),
        "jellyfin" => jellyfin::run(arguments, environment),
        _ => match servarr::FAMILY
            .iter()
            .find(|known| known.name.eq_ignore_ascii_case(name))
        {
            Some(known) => servarr::run(known, arguments, environment),
            None => Err(format!(
                "{name:?} is no application; sonarr, radarr, prowlarr, lidarr, readarr, whisparr, bazarr, jellyfin or verify was expected"
            )),
        },
    }
}

/// So many random bytes, in hexadecimal digits.
pub fn random_hex(bytes: usize) -> io::Result<String> {
    let mut random = vec![0; bytes];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    Ok(random
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect())
}

/// Replaces `path` by `content`, whole or not at all.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("standin-new");
    fs::write(&beside, content)?;
    fs::rename(&beside, path)
}

/// The one answer that no original has: what was written, for tests that count it.
pub fn state_answer(request: &Request, store: &Store, application: &str) -> Option<Response> {
    if request.path != server::STATE {
        return None;
    }
    let (rows, last) = store.position().unwrap_or_default();
    let body = json!({
        "application": application,
        "rows": rows,
        "requests": server::requests(),
        "last": last,
        "schema": store.schema().ok().flatten(),
        "pid": std::process::id(),
        "uid": nix::unistd::getuid().as_raw(),
        "gid": nix::unistd::getgid().as_raw(),
    });
    Some(Response::new(200, "application/json", body.to_string()))
}

#[cfg(test)]
pub(crate) mod tests {
    //! What the tests of several modules share.

    use std::fs;
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A directory that vanishes with the value.
    pub struct Directory(PathBuf);

    impl Directory {
        pub fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let name = format!(
                "standin-{}-{}",
                std::process::id(),
                COUNT.fetch_add(1, Ordering::SeqCst)
            );
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        pub fn path(&self) -> &Path {
            &self.0
        }

        pub fn read(&self, name: &str) -> String {
            fs::read_to_string(self.0.join(name)).unwrap()
        }

        pub fn write(&self, name: &str, text: &str) {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}
