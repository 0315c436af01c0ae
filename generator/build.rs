//! Lists `catalog/` into `include_str!` rows, so that adding a service is adding a file. Parses nothing.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let manifest = env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    let mut code = String::new();
    for (name, dir) in [("ENTRIES", "catalog"), ("GENERIC", "catalog/generic")] {
        println!("cargo:rerun-if-changed={dir}");
        let mut files = Vec::new();
        for entry in fs::read_dir(Path::new(&manifest).join(dir))? {
            let path = entry?.path();
            if path.extension().is_some_and(|suffix| suffix == "toml") {
                files.push(path);
            }
        }
        files.sort();
        let _ = writeln!(code, "/// Name and text of each file in `{dir}/`, by name.");
        let _ = writeln!(code, "static {name}: &[(&str, &str)] = &[");
        for path in files {
            let stem = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let path = path.display().to_string();
            let _ = writeln!(code, "    ({stem:?}, include_str!({path:?})),");
        }
        code.push_str("];\n");
    }
    fs::write(Path::new(&out).join("catalog.rs"), code)
}
