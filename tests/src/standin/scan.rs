//! `standin scan PATH`: the application goes through its media and finds all of it. `standin empty PATH`: it finds nothing, and
//! takes its whole library for deleted (jellyfin#17900). PATH is the state directory of one of the Servarr family, which may
//! run.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::clock::Civil;
use super::servarr::{Application, FAMILY};

/// What it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// Everything.
    There,
    /// Nothing.
    Gone,
}

/// The command.
pub fn main(arguments: &[String], media: Media) -> Result<u8, String> {
    let [path] = arguments else {
        return Err("one path is wanted".to_owned());
    };
    let files = FAMILY.iter().map(|application| {
        let name = application.name.to_lowercase();
        (Path::new(path).join(format!("{name}.db")), application)
    });
    let Some((file, application)) = files.into_iter().find(|(file, _)| file.is_file()) else {
        return Err(format!("{path} holds no database of the family"));
    };
    let rows = scan(&file, application, media).map_err(|error| format!("{}: {error}", file.display()))?;
    println!("{rows} rows of {} are gone", application.library);
    Ok(0)
}

/// Its scheduler writes down that a task has run when it has ended.
fn scan(file: &Path, application: &Application, media: Media) -> rusqlite::Result<usize> {
    let mut connection = Connection::open(file)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    let scan = connection.transaction()?;
    let rows = match media {
        Media::There => 0,
        Media::Gone => scan.execute(&format!("DELETE FROM \"{}\"", application.library), [])?,
    };
    scan.execute(
        "UPDATE \"ScheduledTasks\" SET \"LastExecution\" = ?",
        [Civil::now().iso()],
    )?;
    scan.commit()?;
    Ok(rows)
}
