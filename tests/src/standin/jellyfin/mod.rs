//! Not there yet.
use super::options::Environment;
/// Runs it.
pub fn run(_arguments: &[String], _environment: &Environment) -> Result<u8, String> {
    Err("not there yet".to_owned())
}
