//! The write-ahead log of a transaction: one line a record, and what of the lines of a file may be believed.
//!
//! ```text
//! 5d0f1a3c {"v":1,"n":0,"at":1790000000000000,"record":"begin","transaction":{"id":...}}
//! 90cd3411 {"v":1,"n":1,"at":1790000000000417,"record":"intent","step":"pull"}
//! ```
//!
//! A line is the checksum of what follows the space (CRC-32C, eight hex digits) and JSON without a line break: its version,
//! its number from 0 (so that a line that is missing is noticed), when it was written (µs of the clock, for people only),
//! and the record. Each line is on disk before the next one is begun, so that a crash can hurt the last line only.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::step::Step;
use super::verb::Transaction;

/// Version of the lines that this program writes, and the only one that it reads.
pub const VERSION: u32 = 1;

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// The new world.
    Committed,
    /// The old one.
    Undone,
}

/// One fact about a transaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum Record {
    /// The first one.
    Begin {
        /// What is done.
        transaction: Transaction,
    },
    /// The step may have been begun.
    Intent {
        /// Which.
        step: Step,
    },
    /// The step is done, and on disk.
    Done {
        /// Which.
        step: Step,
        /// What its undoing will need to know.
        #[serde(default)]
        undo: Value,
    },
    /// From here on everything is undone.
    Back {
        /// Why.
        why: String,
    },
    /// The step may have begun to be undone.
    Undo {
        /// Which.
        step: Step,
    },
    /// The step is undone, on disk.
    Undone {
        /// Which.
        step: Step,
    },
    /// Undoing the step went wrong. It is tried again when somebody asks for it.
    Stuck {
        /// Which.
        step: Step,
        /// What went wrong.
        why: String,
    },
    /// The new world holds.
    Commit,
    /// Nothing is left to do.
    End {
        /// How it ended.
        result: Ending,
    },
}

/// A record and where it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Version of the format.
    v: u32,
    /// Number, from 0.
    pub n: u64,
    /// When it was written, in µs since 1970. Clocks are set: nothing is decided by it.
    pub at: u64,
    /// What it says.
    #[serde(flatten)]
    pub record: Record,
}

impl Line {
    /// A line of this version.
    pub fn new(n: u64, at: u64, record: Record) -> Self {
        Self {
            v: VERSION,
            n,
            at,
            record,
        }
    }

    /// As it stands in the file, with its line break.
    pub fn text(&self) -> Result<String, String> {
        let json = serde_json::to_string(self).map_err(|error| error.to_string())?;
        Ok(format!("{:08x} {json}\n", crc32c(json.as_bytes())))
    }
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reading {
    /// The lines that can be believed: all but one that a crash tore.
    pub lines: Vec<Line>,
    /// So many bytes of the file they are; the rest is to be cut off.
    pub whole: usize,
}

/// A log that cannot be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

/// Only the version, whatever else the line says.
#[derive(Deserialize)]
struct Version {
    v: u32,
}

/// Takes a file apart.
///
/// The last line is ignored when it looks as a crash leaves it: without its end, or with bytes in it that were never
/// written. Anything else that is wrong is damage, also in the last line.
pub fn read(bytes: &[u8]) -> Result<Reading, Damage> {
    let mut reading = Reading::default();
    for (index, piece) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let end = reading.whole + piece.len();
        let last = end == bytes.len();
        let torn = last && (!piece.ends_with(b"\n") || piece.contains(&0));
        match line(piece, index) {
            Ok(line) if piece.ends_with(b"\n") => reading.lines.push(line),
            Ok(_) => break,
            Err(_) if torn => break,
            Err(why) => return Err(Damage { line: index + 1, why }),
        }
        reading.whole = end;
    }
    Ok(reading)
}

fn line(piece: &[u8], index: usize) -> Result<Line, String> {
    let text = std::str::from_utf8(piece).map_err(|_| "it is not text".to_owned())?;
    let (sum, json) = text
        .trim_end_matches('\n')
        .split_once(' ')
        .ok_or("there is no checksum")?;
    if sum != format!("{:08x}", crc32c(json.as_bytes())) {
        return Err("its checksum does not match".into());
    }
    let said = |error: serde_json::Error| format!("it cannot be understood: {error}");
    let Version { v } = serde_json::from_str(json).map_err(said)?;
    if v != VERSION {
        return Err(format!(
            "it is of version {v}, and this program knows version {VERSION}"
        ));
    }
    let line: Line = serde_json::from_str(json).map_err(said)?;
    if usize::try_from(line.n) != Ok(index) {
        return Err(format!("it should be number {index} and is {}", line.n));
    }
    Ok(line)
}

/// CRC-32C (Castagnoli), as iSCSI and ext4 use it: RFC 3720, section 12.1, reflected polynomial 0x82f63b78.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three good lines.
    fn log() -> Vec<u8> {
        let records = [
            Record::Back { why: "a\nb".into() },
            Record::Undo { step: Step::Flip },
            Record::Commit,
        ];
        let line = |(n, record)| Line::new(n, 5, record).text().unwrap();
        (0..).zip(records).map(line).collect::<String>().into_bytes()
    }

    #[test]
    fn the_checksum_is_the_one_of_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn what_was_written_is_read() {
        let log = log();
        let reading = read(&log).unwrap();
        assert_eq!((reading.lines.len(), reading.whole), (3, log.len()));
        assert_eq!(reading.lines[1].record, Record::Undo { step: Step::Flip });
        assert_eq!(read(b"").unwrap(), Reading::default());
    }

    /// Wherever the file ends, the whole lines before that place count.
    #[test]
    fn a_torn_line_is_left_out() {
        let log = log();
        for cut in 0..=log.len() {
            let lines = log[..cut].split(|byte| *byte == b'\n').count() - 1;
            let reading = read(&log[..cut]).unwrap();
            assert_eq!(reading.lines.len(), lines, "{cut}");
            assert!(reading.whole <= cut);
            // Room that was given to the file and never written to reads as zeros.
            let mut padded = log[..cut].to_vec();
            padded.extend([0; 100]);
            assert_eq!(read(&padded).unwrap(), reading, "{cut}");
        }
        let last = read(&log[..log.len() - 1]).unwrap().whole;
        let mut holed = log.clone();
        holed[last + 2..last + 20].fill(0);
        assert_eq!(read(&holed).unwrap().lines.len(), 2);
    }

    /// No bit of a line that was once whole can change unnoticed.
    #[test]
    fn damage_is_found_and_placed() {
        let log = log();
        let newlines: Vec<usize> = (0..log.len()).filter(|at| log[*at] == b'\n').collect();
        for at in 0..log.len() - 1 {
            for bit in 0..8 {
                let mut bad = log.clone();
                bad[at] ^= 1 << bit;
                if bad[at] == 0 {
                    continue;
                }
                let line = newlines.iter().filter(|newline| **newline < at).count() + 1;
                let damage = read(&bad).expect_err("a flipped bit");
                assert_eq!(damage.line, line, "{at}: {}", damage.why);
            }
        }
    }

    #[test]
    fn a_line_that_is_missing_or_of_another_version_is_damage() {
        let log = log();
        let first = log.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        let why = read(&log[first..]).unwrap_err().why;
        assert!(why.contains("number 0"), "{why}");
        let json = r#"{"v":2,"n":0,"news":true}"#;
        let newer = format!("{:08x} {json}\n", crc32c(json.as_bytes()));
        let why = read(newer.as_bytes()).unwrap_err().why;
        assert!(why.contains("version 2"), "{why}");
    }
}
