//! Not there yet.
use super::options::Environment;
/// How a process is run.
pub enum Image {
    /// by s6
    Supervised,
    /// itself
    Plain,
}
impl Image {
    /// Guess.
    pub fn of(_name: &str, _environment: &Environment) -> Result<Self, String> {
        Ok(Self::Plain)
    }
}
/// Runs it.
pub fn supervise(_name: &str, _environment: &Environment) -> Result<u8, String> {
    Err("not there yet".to_owned())
}
