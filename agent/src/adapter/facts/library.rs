//! What stands in an application's database: how far its schema is, how much its library holds, and the paths that it
//! has written down. Tables and columns are those of the applications' own migrations; one that is not there is no error,
//! because every version has others.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;

use super::told::said;
use crate::domain::library::Counts;
use crate::domain::plan::facts::{Schema, Stored, Use};

/// Tables whose rows are counted, with the word for them.
const COUNTED: [(&str, &str); 14] = [
    ("Series", "series"),
    ("EpisodeFiles", "episode files"),
    ("Movies", "movies"),
    ("MovieFiles", "movie files"),
    ("Artists", "artists"),
    ("TrackFiles", "track files"),
    ("Authors", "authors"),
    ("BookFiles", "book files"),
    ("Indexers", "indexers"),
    ("Users", "users"),
    ("table_shows", "shows"),
    ("table_episodes", "episodes"),
    ("table_movies", "films"),
    ("ApiKeys", "API keys"),
];
/// Tables whose rows lie in a directory each, in one of the root folders as a rule.
const PLACED: [(&str, &str); 6] = [
    ("Series", "Path"),
    ("Movies", "Path"),
    ("Artists", "Path"),
    ("Authors", "Path"),
    ("table_shows", "path"),
    ("table_movies", "path"),
];
/// So many different paths of a kind are told of.
const PATHS_MAX: usize = 50;
/// Keys of a provider's settings that hold a directory of this machine: black holes.
const PROVIDER_PATHS: [&str; 4] = ["torrentFolder", "nzbFolder", "watchFolder", "strmFolder"];

/// All that is told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Version of the schema.
    pub schema: Option<Schema>,
    /// How much there is; root folders are not looked at.
    pub counts: BTreeMap<String, u64>,
    /// Paths of root folders.
    pub roots: Vec<String>,
    /// All paths.
    pub stored: Vec<Stored>,
    /// When all of the media was last gone through; none: the database does not say.
    pub scanned: Option<String>,
}

impl Told {
    /// The counts, with `reached` telling whether a root folder is there and holds something.
    pub fn library(&self, reached: impl Fn(&str) -> bool) -> Counts {
        Counts {
            items: self.counts.clone(),
            roots: self
                .roots
                .iter()
                .map(|path| (path.clone(), reached(path)))
                .collect(),
        }
    }
}

/// Reads a database; `name` is its file's, for people.
pub fn tell(connection: &Connection, name: &str) -> rusqlite::Result<Told> {
    let columns = columns(connection)?;
    let has = |table: &str, column: &str| columns.contains(&(table.to_owned(), column.to_lowercase()));
    let mut told = Told {
        schema: schema(connection, &has)?,
        ..Told::default()
    };
    for (table, word) in COUNTED {
        if columns.iter().any(|(name, _)| name == table) {
            told.counts.insert(word.to_owned(), count(connection, table)?);
        }
    }
    if has("BaseItems", "Type") {
        items(connection, &mut told.counts)?;
    }
    if has("ScheduledTasks", "TypeName") && has("ScheduledTasks", "LastExecution") {
        told.scanned = scanned(connection)?;
    }
    if has("RootFolders", "Path") {
        for path in texts(connection, "SELECT Path FROM RootFolders")? {
            told.stored
                .push(said(path.clone(), Use::Library, format!("{name}: RootFolders")));
            told.roots.push(path);
        }
    }
    for (table, column) in PLACED {
        if has(table, column) {
            let found = placed(connection, table, column, &told.roots, name)?;
            told.stored.extend(found);
        }
    }
    if has("RemotePathMappings", "LocalPath") {
        for path in texts(connection, "SELECT LocalPath FROM RemotePathMappings")? {
            told.stored
                .push(said(path, Use::Downloads, format!("{name}: RemotePathMappings")));
        }
    }
    if has("Config", "Key") && has("Config", "Value") {
        told.stored.extend(configured(connection, name)?);
    }
    if has("DownloadClients", "Settings") {
        told.stored.extend(providers(connection, name)?);
    }
    if has("Notifications", "Settings") && has("Notifications", "Implementation") {
        told.stored.extend(scripts(connection, name)?);
    }
    Ok(told)
}

/// The columns of all real tables, in small letters. A view runs whatever its maker wrote into it, and is none.
fn columns(connection: &Connection) -> rusqlite::Result<BTreeSet<(String, String)>> {
    let mut question = connection.prepare(
        "SELECT m.name, lower(c.name) FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS c
         WHERE m.type = 'table' AND m.sql NOT LIKE 'CREATE VIRTUAL%'",
    )?;
    let rows = question.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

fn schema(connection: &Connection, has: &impl Fn(&str, &str) -> bool) -> rusqlite::Result<Option<Schema>> {
    if has("VersionInfo", "Version") {
        let number: Option<i64> =
            connection.query_row("SELECT max(Version) FROM VersionInfo", [], |row| row.get(0))?;
        return Ok(number.map(Schema::Number));
    }
    for (table, column) in [
        ("alembic_version", "version_num"),
        ("__EFMigrationsHistory", "MigrationId"),
    ] {
        if has(table, column) {
            let question = format!("SELECT max({column}) FROM {table}");
            let name: Option<String> = connection.query_row(&question, [], |row| row.get(0))?;
            return Ok(name.map(Schema::Name));
        }
    }
    Ok(None)
}

/// Servarr's task that refreshes everything and looks through the folders of each thing, as its scheduler wrote down that it
/// had run (TaskManager.cs: `LastExecution` is set when the command has ended). None: it has no such task, as Prowlarr.
fn scanned(connection: &Connection) -> rusqlite::Result<Option<String>> {
    connection.query_row(
        "SELECT max(substr(CAST(LastExecution AS TEXT), 1, 64)) FROM ScheduledTasks WHERE TypeName LIKE '%.RefreshSeriesCommand'
             OR TypeName LIKE '%.RefreshMovieCommand' OR TypeName LIKE '%.RefreshArtistCommand'
             OR TypeName LIKE '%.RefreshAuthorCommand'",
        [],
        |row| row.get(0),
    )
}

fn count(connection: &Connection, table: &str) -> rusqlite::Result<u64> {
    let many: i64 =
        connection.query_row(&format!("SELECT count(*) FROM \"{table}\""), [], |row| row.get(0))?;
    Ok(u64::try_from(many).unwrap_or(0))
}

/// Jellyfin's items by the last word of their type: `MediaBrowser.Controller.Entities.Movies.Movie`.
fn items(connection: &Connection, counts: &mut BTreeMap<String, u64>) -> rusqlite::Result<()> {
    let mut question = connection.prepare("SELECT Type, count(*) FROM BaseItems GROUP BY Type LIMIT 100")?;
    let rows = question.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
    for row in rows {
        let (kind, many) = row?;
        let word = kind.rsplit('.').next().unwrap_or(&kind);
        // What a library is made of; people, genres and placeholders come and go with each scan.
        if matches!(
            word,
            "Movie"
                | "Series"
                | "Season"
                | "Episode"
                | "MusicAlbum"
                | "Audio"
                | "AudioBook"
                | "Book"
                | "BoxSet"
                | "Playlist"
        ) {
            *counts.entry(word.to_owned()).or_default() += u64::try_from(many).unwrap_or(0);
        }
    }
    Ok(())
}

/// Directories that hold what lies in none of the root folders.
fn placed(
    connection: &Connection,
    table: &str,
    column: &str,
    roots: &[String],
    name: &str,
) -> rusqlite::Result<Vec<Stored>> {
    let mut question = connection.prepare(&format!("SELECT \"{column}\" FROM \"{table}\""))?;
    let mut rows = question.query([])?;
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let Some(path) = row.get::<_, Option<String>>(0)? else {
            continue;
        };
        let inside = |root: &String| {
            let rest = path.strip_prefix(root.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        if !path.starts_with('/') || roots.iter().any(inside) {
            continue;
        }
        let parent = match path.trim_end_matches('/').rsplit_once('/') {
            Some((parent, _)) if !parent.is_empty() => parent,
            _ => "/",
        };
        if found.len() < PATHS_MAX || found.contains_key(parent) {
            *found.entry(parent.to_owned()).or_default() += 1;
        }
    }
    let stored = found.into_iter().map(|(path, count)| Stored {
        count,
        ..said(path, Use::Library, format!("{name}: {table}"))
    });
    Ok(stored.collect())
}

/// Keys are kept in small letters (ConfigService.cs).
fn configured(connection: &Connection, name: &str) -> rusqlite::Result<Vec<Stored>> {
    let mut found = Vec::new();
    for (key, for_what) in [("recyclebin", Use::RecycleBin), ("backupfolder", Use::Backup)] {
        let mut question = connection.prepare("SELECT Value FROM Config WHERE lower(Key) = ? LIMIT 1")?;
        let mut rows = question.query([key])?;
        if let Some(row) = rows.next()? {
            let path: Option<String> = row.get(0)?;
            let path = path.filter(|path| path.starts_with('/'));
            found.extend(path.map(|path| said(path, for_what, format!("{name}: Config.{key}"))));
        }
    }
    Ok(found)
}

/// The settings of a provider are an object in JSON, with its password beside its directories.
fn providers(connection: &Connection, name: &str) -> rusqlite::Result<Vec<Stored>> {
    let mut found = Vec::new();
    for settings in texts(connection, "SELECT Settings FROM DownloadClients")? {
        for key in PROVIDER_PATHS {
            let path = member(&settings, key).filter(|path| path.starts_with('/'));
            found.extend(path.map(|path| said(path, Use::Watch, format!("{name}: DownloadClients.{key}"))));
        }
    }
    Ok(found)
}

fn scripts(connection: &Connection, name: &str) -> rusqlite::Result<Vec<Stored>> {
    let question = "SELECT Settings FROM Notifications WHERE Implementation = 'CustomScript'";
    let paths = texts(connection, question)?
        .into_iter()
        .filter_map(|settings| member(&settings, "path"))
        .filter(|path| path.starts_with('/'));
    Ok(paths
        .map(|path| said(path, Use::Script, format!("{name}: Notifications")))
        .collect())
}

fn member(object: &str, key: &str) -> Option<String> {
    use crate::adapter::settings::find;
    use crate::domain::plan::facts::Format;
    Some(find(Format::Json, object, &[key.to_owned()]).ok()??.value)
}

fn texts(connection: &Connection, question: &str) -> rusqlite::Result<Vec<String>> {
    let mut question = connection.prepare(question)?;
    let rows = question.query_map([], |row| row.get::<_, Option<String>>(0))?;
    let mut found = Vec::new();
    for row in rows {
        found.extend(row?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(sql: &str) -> Told {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(sql).unwrap();
        tell(&connection, "x.db").unwrap()
    }

    fn paths(told: &Told) -> Vec<String> {
        let line = |it: &Stored| format!("{} {} {}", it.from, it.path, it.count);
        told.stored.iter().map(line).collect()
    }

    #[test]
    fn sonarr_tells_of_its_paths_and_keeps_its_passwords() {
        let told = told(
            r#"CREATE TABLE VersionInfo (Version INTEGER NOT NULL, AppliedOn DATETIME, Description TEXT);
               INSERT INTO VersionInfo VALUES (9, '', ''), (217, '', ''), (100, '', '');
               CREATE TABLE Config (Id INTEGER PRIMARY KEY, Key TEXT NOT NULL, Value TEXT NOT NULL);
               INSERT INTO Config (Key, Value) VALUES ('recyclebin', '/mnt/bin'), ('backupfolder', 'Backups');
               CREATE TABLE RootFolders (Id INTEGER PRIMARY KEY, Path TEXT NOT NULL);
               INSERT INTO RootFolders (Path) VALUES ('/fun/tv/');
               CREATE TABLE Series (Id INTEGER PRIMARY KEY, Title TEXT, Path TEXT);
               INSERT INTO Series (Title, Path) VALUES ('a', '/fun/tv/a'), ('b', '/mnt/more/b'), ('c', '/mnt/more/c/'), ('d', '/fun/tvx/d'), ('e', NULL);
               CREATE TABLE EpisodeFiles (Id INTEGER PRIMARY KEY);
               INSERT INTO EpisodeFiles VALUES (1), (2);
               CREATE TABLE Users (Id INTEGER PRIMARY KEY);
               CREATE TABLE RemotePathMappings (Id INTEGER PRIMARY KEY, Host TEXT, RemotePath TEXT, LocalPath TEXT);
               INSERT INTO RemotePathMappings (LocalPath) VALUES ('/mnt/remote/');
               CREATE TABLE DownloadClients (Id INTEGER PRIMARY KEY, Settings TEXT);
               INSERT INTO DownloadClients (Settings) VALUES ('{"password": "hidden", "watchFolder": "/mnt/w"}'), ('{"tvDirectory": "/theirs"}');
               CREATE TABLE Notifications (Id INTEGER PRIMARY KEY, Implementation TEXT, Settings TEXT);
               INSERT INTO Notifications (Implementation, Settings) VALUES ('CustomScript', '{"path": "/usr/local/bin/x"}'), ('Email', '{"path": "/no"}');"#,
        );
        assert_eq!(told.schema, Some(Schema::Number(217)));
        let counts: Vec<_> = told
            .counts
            .iter()
            .map(|(what, many)| format!("{many} {what}"))
            .collect();
        assert_eq!(counts, ["2 episode files", "5 series", "0 users"]);
        assert_eq!(
            paths(&told),
            [
                "x.db: RootFolders /fun/tv/ 1",
                "x.db: Series /fun/tvx 1",
                "x.db: Series /mnt/more 2",
                "x.db: RemotePathMappings /mnt/remote/ 1",
                "x.db: Config.recyclebin /mnt/bin 1",
                "x.db: DownloadClients.watchFolder /mnt/w 1",
                "x.db: Notifications /usr/local/bin/x 1",
            ]
        );
        let library = told.library(|path| path == "/fun/tv/");
        assert_eq!(library.roots.get("/fun/tv/"), Some(&true));
    }

    #[test]
    fn the_last_scan_is_that_of_the_whole_library() {
        let tasks = "CREATE TABLE ScheduledTasks (Id INTEGER PRIMARY KEY, TypeName TEXT, Interval INTEGER, LastExecution DATETIME);
            INSERT INTO ScheduledTasks (TypeName, LastExecution) VALUES ('NzbDrone.Core.Backup.BackupCommand', '2026-11-29 03:00:00Z')";
        assert_eq!(told(tasks).scanned, None, "Prowlarr has no folders");
        let scan = "('NzbDrone.Core.Tv.Commands.RefreshSeriesCommand', '2026-11-28 15:00:00.1234567Z')";
        assert_eq!(
            told(&format!("{tasks}, {scan}")).scanned.as_deref(),
            Some("2026-11-28 15:00:00.1234567Z")
        );
    }

    #[test]
    fn bazarr_and_jellyfin_have_names_for_their_schemas() {
        let bazarr = told(
            "CREATE TABLE alembic_version (version_num VARCHAR(32)); INSERT INTO alembic_version VALUES ('dc09994b7e65');
             CREATE TABLE table_movies (radarrId INTEGER PRIMARY KEY, path TEXT); INSERT INTO table_movies VALUES (1, '/fun/films/a/a.mkv');",
        );
        assert_eq!(bazarr.schema, Some(Schema::Name("dc09994b7e65".into())));
        assert_eq!(bazarr.counts.get("films"), Some(&1));
        let jellyfin = told(
            "CREATE TABLE __EFMigrationsHistory (MigrationId TEXT, ProductVersion TEXT);
             INSERT INTO __EFMigrationsHistory VALUES ('20250609115616_B', ''), ('20200514181226_A', '');
             CREATE TABLE Users (Id TEXT); INSERT INTO Users VALUES ('1');
             CREATE TABLE BaseItems (Id TEXT, Type TEXT, Path TEXT);
             INSERT INTO BaseItems VALUES ('1', 'MediaBrowser.Controller.Entities.Movies.Movie', ''), ('2', 'MediaBrowser.Controller.Entities.TV.Series', ''),
                 ('3', 'Movie', ''), ('4', 'MediaBrowser.Controller.Entities.Person', '');",
        );
        assert_eq!(jellyfin.schema, Some(Schema::Name("20250609115616_B".into())));
        let counts: Vec<_> = jellyfin
            .counts
            .iter()
            .map(|(what, many)| format!("{many} {what}"))
            .collect();
        assert_eq!(counts, ["2 Movie", "1 Series", "1 users"]);
    }

    /// The application's user owns the file, and may have put anything into it.
    #[test]
    fn a_view_in_the_place_of_a_table_is_not_run() {
        let told = told(
            "CREATE VIEW RootFolders AS WITH RECURSIVE n(Path) AS (SELECT '/' UNION ALL SELECT Path || '/' FROM n) SELECT Path FROM n;
             CREATE TABLE Series (Id INTEGER); INSERT INTO Series VALUES (1);",
        );
        assert_eq!(told.roots, [""; 0]);
    }
}
