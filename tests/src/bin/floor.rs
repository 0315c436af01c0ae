//! The least that a generator can do: writes files and links that are finished already. `floor PACK DIRECTORY`
//!
//! PACK is read piece by piece through one buffer, so that its size costs as little as it can; every entry is then one
//! call of `std::fs`. The benchmark makes PACK from what the generator wrote (`bench/pack.rs` describes the format) and
//! compares both directories afterwards.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Result};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

fn main() -> Result<()> {
    let mut words = std::env::args_os().skip(1);
    let (Some(pack), Some(directory)) = (words.next(), words.next()) else {
        return Err(std::io::Error::new(
            ErrorKind::InvalidInput,
            "usage: floor PACK DIRECTORY",
        ));
    };
    unpack(
        &mut BufReader::with_capacity(1 << 16, File::open(pack)?),
        Path::new(&directory),
    )
}

fn unpack(pack: &mut impl Read, directory: &Path) -> Result<()> {
    let (mut name, mut content) = (Vec::new(), Vec::new());
    let mut path = PathBuf::new();
    loop {
        let mut head = [0; 9];
        match pack.read_exact(&mut head) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        }
        let [kind, lengths @ ..] = head;
        let lengths = u64::from_le_bytes(lengths);
        fill(pack, &mut name, lengths & u64::from(u32::MAX))?;
        fill(pack, &mut content, lengths >> u32::BITS)?;
        path.clear();
        path.push(directory);
        path.push(text(&name)?);
        match kind {
            b'd' => std::fs::create_dir(&path)?,
            b'l' => symlink(text(&content)?, &path)?,
            _ => std::fs::write(&path, &content)?,
        }
    }
}

fn fill(pack: &mut impl Read, buffer: &mut Vec<u8>, length: u64) -> Result<()> {
    buffer.resize(usize::try_from(length).map_err(std::io::Error::other)?, 0);
    pack.read_exact(buffer)
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|error| std::io::Error::new(ErrorKind::InvalidData, error))
}
