//! Compiles `catalog/` in, so that adding a service is adding a file: each text, and the values that it holds as constants,
//! so that no boot has to read them again. A test of `src/catalog.rs` compares the two.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

fn main() -> io::Result<()> {
    let manifest = env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    let (mut code, mut files) = (String::new(), String::new());
    let mut number = 0;
    for (name, dir) in [("ENTRIES", "catalog"), ("GENERIC", "catalog/generic")] {
        println!("cargo:rerun-if-changed={dir}");
        let mut paths = Vec::new();
        for entry in fs::read_dir(Path::new(&manifest).join(dir))? {
            let path = entry?.path();
            if path.extension().is_some_and(|suffix| suffix == "toml") {
                paths.push(path);
            }
        }
        paths.sort();
        let _ = writeln!(code, "/// Name and values of each file in `{dir}/`, by name.");
        let _ = writeln!(code, "static {name}: &[(&str, BuiltIn)] = &[");
        for path in paths {
            let text = fs::read_to_string(&path)?;
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let table = DeTable::parse(&text)
                .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
            let values = File(number).table(table.get_ref());
            let _ = writeln!(code, "    ({stem:?}, {values}),");
            // Relative to what is being built, so that a build directory may be moved with its checkout.
            let file = format!("/{dir}/{stem}.toml");
            let _ = writeln!(
                files,
                "    (\"catalog/{stem}.toml\", include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {file:?}))),"
            );
            number += 1;
        }
        code.push_str("];\n");
    }
    let _ = writeln!(
        code,
        "/// Name and text of each file, in the order of the numbers in their spans.\npub(crate) static FILES: &[(&str, &str)] = &[\n{files}];"
    );
    fs::write(Path::new(&out).join("catalog.rs"), code)
}

/// A file by its number, and its values as Rust code.
struct File(u32);

impl File {
    fn span<T>(&self, of: &Spanned<T>) -> String {
        // Counted from the top: what is read at run time is counted from 0.
        let (file, at) = (0xffff - self.0, of.span());
        format!(
            "Span {{ file: 0xffff_{file:04x}, start: {}, end: {} }}",
            at.start, at.end
        )
    }

    fn table(&self, table: &DeTable<'_>) -> String {
        let mut code = String::from("&[");
        for (key, value) in table {
            let (key_at, name, node) = (self.span(key), key.get_ref(), self.node(value));
            let _ = write!(
                code,
                "(Cow::Borrowed({name:?}), Entry {{ key_at: {key_at}, node: {node} }}), "
            );
        }
        code + "]"
    }

    fn node(&self, value: &Spanned<DeValue<'_>>) -> String {
        let code = match value.get_ref() {
            DeValue::String(text) => format!("Text(Cow::Borrowed({text:?}))"),
            DeValue::Integer(number) => format!("Integer({number})"),
            DeValue::Boolean(it) => format!("Boolean({it})"),
            DeValue::Array(list) => {
                let nodes: String = list.iter().map(|node| self.node(node) + ", ").collect();
                format!("List(Cow::Borrowed(&[{nodes}]))")
            }
            DeValue::Table(table) => format!("Table(Table(Cow::Borrowed({})))", self.table(table)),
            DeValue::Float(_) | DeValue::Datetime(_) => "Other(\"a value of no use\")".to_owned(),
        };
        format!("Node {{ at: {}, value: Value::{code} }}", self.span(value))
    }
}
