//! The floors of the design, read from the source: a module names only its own floor and those below.

use std::path::{Path, PathBuf};

const FLOORS: [(&str, usize); 6] =
    [("words", 0), ("model", 1), ("decide", 2), ("pg", 3), ("engine", 4), ("cli", 5)];

fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    assert!(files.len() > 50, "the sources were not found");
    files
}

/// The first folder below `src`, if the file is on a floor.
fn floor(file: &Path) -> Option<(String, usize)> {
    let below = file.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap();
    let name = below.components().next().unwrap().as_os_str().to_str().unwrap().to_owned();
    FLOORS.iter().find(|(floor, _)| *floor == name).map(|(_, number)| (name, *number))
}

#[test]
fn a_module_names_only_its_own_floor_and_those_below() {
    let mut broken = Vec::new();
    for file in sources() {
        let Some((_, own)) = floor(&file) else { continue };
        let text = std::fs::read_to_string(&file).unwrap();
        for (at, line) in text.lines().enumerate() {
            for part in line.split("crate::").skip(1) {
                let name = part.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
                if FLOORS.iter().any(|(floor, number)| *floor == name && *number > own) {
                    broken.push(format!("{}:{}: {line}", file.display(), at + 1));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn libraries_are_named_where_the_design_says() {
    let mut broken = Vec::new();
    for file in sources() {
        let text = std::fs::read_to_string(&file).unwrap();
        let below =
            file.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/src/")).unwrap().display().to_string();
        let rules = [
            ("squawk_syntax", below.starts_with("model/sql/")),
            ("sqlx", below.starts_with("pg/")),
            ("AssertSqlSafe", below == "pg/session.rs"),
            ("clap", below.starts_with("cli/")),
            ("indicatif", below.starts_with("cli/")),
        ];
        for (library, allowed) in rules {
            let named = text
                .lines()
                .any(|line| !line.trim_start().starts_with("//") && line.contains(&format!("{library}::")));
            if named && !allowed {
                broken.push(format!("{below} names {library}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn files_stay_readable() {
    let long: Vec<String> = sources()
        .into_iter()
        .filter_map(|file| {
            let lines = std::fs::read_to_string(&file).unwrap().lines().count();
            (lines > 700).then(|| format!("{}: {lines} lines", file.display()))
        })
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}
