//! The folder of migrations: `<version>_<name>.sql`, in the order of the versions.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::directive::FileOptions;
use crate::model::problem::{Problems, Source};
use crate::model::sql::{self, Statement};
use crate::words::checksum::{canonical, checksum};
use crate::words::version::Version;

/// One migration file, read and parsed.
#[derive(Debug, Clone)]
pub(crate) struct MigrationFile {
    pub(crate) version: Version,
    pub(crate) name: String,
    pub(crate) source: Source,
    pub(crate) checksum: String,
    pub(crate) statements: Vec<Statement>,
    pub(crate) options: FileOptions,
}

/// Why the folder cannot be read. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    #[error("there is no folder of migrations at `{}`", .0.display())]
    Missing(PathBuf),
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("`{}` is no migration: a file name is digits, an underscore, a name and `.sql`, as in `0007_split_name.sql`", .0.display())]
    Name(PathBuf),
    #[error("`{}` has the number 0: the first migration is 1, so it would never run", .0.display())]
    Zero(PathBuf),
    #[error("`{}` takes a migration back, which no file does here: it would run as one of its own", .0.display())]
    Down(PathBuf),
    #[error("version {version} is there twice: `{}` and `{}`", first.display(), second.display())]
    Duplicate { version: Version, first: PathBuf, second: PathBuf },
    #[error(transparent)]
    Problems(#[from] Problems),
}

/// The files of a folder with their versions, in order, not yet read.
///
/// # Errors
/// A missing folder, a `.sql` file that is not named like a migration, a version that is there twice.
pub(crate) fn list(folder: &Path) -> Result<Vec<(Version, String, PathBuf)>, FolderError> {
    if !folder.is_dir() {
        return Err(FolderError::Missing(folder.to_owned()));
    }
    let read = |source| FolderError::Read { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !name.to_ascii_lowercase().ends_with(".sql") {
            continue;
        }
        if name.to_ascii_lowercase().ends_with(".down.sql") {
            return Err(FolderError::Down(path));
        }
        if !name.ends_with(".sql") {
            return Err(FolderError::Name(path));
        }
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let Some((digits, name)) = stem.split_once('_') else { return Err(FolderError::Name(path)) };
        match digits.parse::<Version>() {
            Ok(version) if version.number() == 0 => return Err(FolderError::Zero(path)),
            Ok(version) if !name.is_empty() => files.push((version, name.to_owned(), path)),
            _ => return Err(FolderError::Name(path)),
        }
    }
    files.sort_by(|one, two| (one.0, &one.2).cmp(&(two.0, &two.2)));
    for pair in files.windows(2) {
        if pair[0].0 == pair[1].0 {
            let (version, first, second) = (pair[0].0, pair[0].2.clone(), pair[1].2.clone());
            return Err(FolderError::Duplicate { version, first, second });
        }
    }
    Ok(files)
}

/// Reads and parses every migration of a folder, in order.
///
/// # Errors
/// As [`list`]; and what the parser does not understand, with its position.
pub(crate) fn read_folder(folder: &Path) -> Result<Vec<MigrationFile>, FolderError> {
    list(folder)?.into_iter().map(|(version, name, path)| read_file(version, name, &path)).collect()
}

fn read_file(version: Version, name: String, path: &Path) -> Result<MigrationFile, FolderError> {
    let bytes = std::fs::read(path).map_err(|source| FolderError::Read { path: path.to_owned(), source })?;
    let text = String::from_utf8(bytes).map_err(|error| FolderError::Read {
        path: path.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, format!("not UTF-8: {error}")),
    })?;
    Ok(parse(version, name, &path.display().to_string(), &text)?)
}

/// Parses the text of a migration file.
///
/// # Errors
/// Broken SQL, statements that have no place in a migration, directives that are unknown or unused.
pub(crate) fn parse(
    version: Version,
    name: String,
    path: &str,
    text: &str,
) -> Result<MigrationFile, Problems> {
    let text = canonical(text);
    let checksum = checksum(&text);
    let source = Source { path: Arc::from(path), text: Arc::from(text) };
    match sql::parse(&source.text) {
        Ok((statements, options)) => {
            Ok(MigrationFile { version, name, source, checksum, statements, options })
        }
        Err(problems) => Err(Problems { source_file: source, problems }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_read_in_the_order_of_the_numbers() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["10_b.sql", "9_a.sql", "0011_c.sql", "README.md"] {
            std::fs::write(folder.path().join(name), "CREATE SCHEMA s;").unwrap();
        }
        let versions: Vec<i64> = list(folder.path()).unwrap().iter().map(|file| file.0.number()).collect();
        assert_eq!(versions, [9, 10, 11]);
        std::fs::write(folder.path().join("009_z.sql"), "").unwrap();
        assert!(matches!(list(folder.path()), Err(FolderError::Duplicate { .. })));
    }

    #[test]
    fn a_stray_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("seed.sql"), "").unwrap();
        assert!(matches!(list(folder.path()), Err(FolderError::Name(_))));
        std::fs::rename(folder.path().join("seed.sql"), folder.path().join("0000_seed.sql")).unwrap();
        assert!(matches!(list(folder.path()), Err(FolderError::Zero(_))));
        std::fs::rename(folder.path().join("0000_seed.sql"), folder.path().join("0001_seed.down.sql"))
            .unwrap();
        assert!(matches!(list(folder.path()), Err(FolderError::Down(_))));
        std::fs::rename(folder.path().join("0001_seed.down.sql"), folder.path().join("0001_seed.SQL"))
            .unwrap();
        assert!(matches!(list(folder.path()), Err(FolderError::Name(_))));
    }
}
