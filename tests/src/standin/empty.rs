//! `standin empty PATH`: the application takes its whole library for deleted, as it does when it finds the media gone
//! (jellyfin#17900). PATH is the state directory of one of the Servarr family, which may run.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::servarr::FAMILY;

/// The command.
pub fn main(arguments: &[String]) -> Result<u8, String> {
    let [path] = arguments else {
        return Err("empty wants one path".to_owned());
    };
    let files = FAMILY.iter().map(|application| {
        let name = application.name.to_lowercase();
        (Path::new(path).join(format!("{name}.db")), application.library)
    });
    let Some((file, library)) = files.into_iter().find(|(file, _)| file.is_file()) else {
        return Err(format!("{path} holds no database of the family"));
    };
    let emptied = Connection::open(&file).and_then(|connection| {
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.execute(&format!("DELETE FROM \"{library}\""), [])
    });
    let rows = emptied.map_err(|error| format!("{}: {error}", file.display()))?;
    println!("{rows} rows of {library} are gone");
    Ok(0)
}
