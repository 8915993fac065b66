//! `migrate new`.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cli::args::New;
use crate::cli::{Context, Exit};
use crate::engine::failure::{Failure, Outcome};
use crate::model::migration::{FolderError, list};
use crate::words::version::Version;

/// How long a database may take to say what it knows.
const ANSWER: std::time::Duration = std::time::Duration::from_secs(3);

const TEMPLATE: &str = "\
-- What changes, and why.
--
-- Write the migration that you would write if downtime were free. See what becomes of it: migrate plan
";

pub(crate) async fn run(context: &Context, args: &New) -> Outcome<Exit> {
    let folder = &context.config.migrations;
    // A number that the database has passed would never run. Without one, or if it does not answer, the folder must do.
    let known = match context.config.engine() {
        Ok(engine) => tokio::time::timeout(ANSWER, engine.newest_known()).await.ok().and_then(Result::ok),
        Err(_) => None,
    };
    let known = known.unwrap_or_default();
    let path = match (&args.renumber, &args.name) {
        (Some(file), _) => renumber(folder, file, known)?,
        (None, Some(name)) => create(folder, name, known)?,
        (None, None) => return Err(Failure::usage("a name is missing").next("migrate new \"split name\"")),
    };
    let text = path.display().to_string();
    context.output.result(json!({ "file": text }), &text);
    Ok(Exit::Done)
}

fn create(folder: &Path, name: &str, known: i64) -> Outcome<PathBuf> {
    let words: Vec<String> = name
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    if words.is_empty() {
        return Err(Failure::usage(format!("`{name}` holds no word for a file name")));
    }
    let newest = list(folder)?.last().map_or(0, |(version, _, _)| version.number()).max(known);
    let path = folder.join(format!("{}_{}.sql", Version::from(newest + 1), words.join("_")));
    std::fs::write(&path, TEMPLATE)
        .map_err(|error| Failure::failed(format!("cannot write `{}`: {error}", path.display())))?;
    Ok(path)
}

fn renumber(folder: &Path, file: &Path, known: i64) -> Outcome<PathBuf> {
    let name = file
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| name.split_once('_'))
        .map(|(_, rest)| rest.to_owned());
    let Some(name) = name.filter(|_| file.is_file()) else {
        return Err(Failure::usage(format!("`{}` is no migration file", file.display())));
    };
    // Two files of one number are the usual reason to be here.
    let newest = match list(folder) {
        Ok(files) => files.last().map_or(0, |(version, _, _)| version.number()),
        Err(FolderError::Duplicate { .. }) => newest_number(folder),
        Err(error) => return Err(error.into()),
    };
    let path = folder.join(format!("{}_{name}", Version::from(newest.max(known) + 1)));
    std::fs::rename(file, &path)
        .map_err(|error| Failure::failed(format!("cannot rename `{}`: {error}", file.display())))?;
    Ok(path)
}

fn newest_number(folder: &Path) -> i64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries
        .filter_map(|entry| entry.file_name().to_str()?.split_once('_')?.0.parse::<Version>().ok())
        .map(Version::number)
        .max()
        .unwrap_or(0)
}
