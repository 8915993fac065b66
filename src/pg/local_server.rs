//! A throwaway `PostgreSQL`, from binaries on this machine or fetched ones: for the demo and for tests.
//!
//! The server belongs to a small shell whose standard input we hold: when this process ends, however it ends, the
//! shell reads the end of it, stops the server and removes its folder.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;
use nix::unistd::{Uid, User};

use crate::pg::server_archive;

/// Free bytes of memory that a server may fill.
const ROOM: u64 = 8 * 1024 * 1024 * 1024;

/// What an allocator of glibc's keeps for the next statement, in bytes.
const KEPT_MEMORY: [(&str, &str); 3] = [
    ("MALLOC_TOP_PAD_", "4194304"),
    ("MALLOC_TRIM_THRESHOLD_", "67108864"),
    ("MALLOC_MMAP_THRESHOLD_", "67108864"),
];

/// How long the server may take to accept connections.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum LocalServerError {
    /// No binaries were found.
    #[error(
        "no PostgreSQL server binaries on this machine (looked in $PG_BINDIR, pg_config --bindir, PATH and the usual folders), and no npm to fetch them with"
    )]
    NoBinaries,
    /// The process runs as root and found nobody to run the server as.
    #[error("PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody`")]
    NoUser,
    /// A file or a program failed.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A program of the server failed; the text is its last words.
    #[error("{what} failed: {log}")]
    Failed {
        /// What was tried.
        what: String,
        /// The end of its log.
        log: String,
    },
}

/// A running server. Dropping it stops it and removes its data.
#[derive(Debug)]
pub struct LocalServer {
    keeper: Child,
    port: u16,
    password: String,
    log: PathBuf,
    data: PathBuf,
    /// What the server was started as, for one line to the user.
    pub described: String,
}

impl LocalServer {
    /// Starts a server with `settings` (`name=value`) in a folder of its own. Where the machine has no binaries they are
    /// fetched into a cache, after `say` was told so.
    ///
    /// # Errors
    /// Binaries that cannot be had, or a server that does not start, with the end of its log.
    pub fn start(settings: &[&str], say: &dyn Fn(&str)) -> Result<Self, LocalServerError> {
        Self::start_with(settings, &[], say)
    }

    /// The same, with `files` (name and text) in its data folder before it starts, such as a certificate.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(
        settings: &[&str],
        files: &[(&str, &str)],
        say: &dyn Fn(&str),
    ) -> Result<Self, LocalServerError> {
        let home = Home::make(say)?;
        let password: String = std::iter::repeat_with(fastrand::alphanumeric).take(20).collect();
        let password_file = home.folder.join("password");
        home.write(&password_file, &password)?;
        let initdb = home
            .run("initdb")
            .arg("--pgdata")
            .arg(home.data())
            .args([
                "--username=postgres",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ])
            .arg(format!("--pwfile={}", password_file.display()))
            .output()
            .map_err(io("run initdb"))?;
        if !initdb.status.success() {
            return Err(LocalServerError::Failed {
                what: "initdb".to_owned(),
                log: String::from_utf8_lossy(&initdb.stderr).into_owned(),
            });
        }
        for (name, text) in files {
            home.write(&home.data().join(name), text)?;
        }
        home.launch(settings, password)
    }

    /// A standby of this server that streams from it, from a copy of its files: nobody may write meanwhile.
    ///
    /// # Errors
    /// As [`Self::start`]; files that cannot be copied.
    pub fn standby(&self, settings: &[&str], say: &dyn Fn(&str)) -> Result<Self, LocalServerError> {
        let home = Home::make(say)?;
        let copied = Command::new("cp").arg("-a").arg(&self.data).arg(&home.folder).status();
        if !copied.map_err(io("copy the files"))?.success() {
            return Err(LocalServerError::Failed {
                what: "copying the files".to_owned(),
                log: String::new(),
            });
        }
        for file in ["postmaster.pid", "postmaster.opts"] {
            fs::remove_file(home.data().join(file)).map_err(io("make the copy a standby"))?;
        }
        home.write(&home.data().join("standby.signal"), "")?;
        let primary = format!(
            "primary_conninfo=host=127.0.0.1 port={} user=postgres password={} sslmode=disable",
            self.port, self.password
        );
        home.launch(&[settings, &[primary.as_str()]].concat(), self.password.clone())
    }

    /// What the server has written to its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn wait_until_ready(&self) -> Result<(), LocalServerError> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let text = self.log();
            // A standby says `read-only connections`.
            if text.contains("database system is ready to accept") {
                return Ok(());
            }
            if text.contains("database system is shut down")
                || text.contains("FATAL")
                || Instant::now() > deadline
            {
                return Err(LocalServerError::Failed { what: "starting the server".to_owned(), log: text });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The URL of a database on this server, as its superuser.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{}/{database}?sslmode=disable", self.password, self.port)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        // Closing the keeper's input is the signal; the flush only makes the order plain.
        if let Some(mut input) = self.keeper.stdin.take() {
            let _ = input.flush();
        }
        let _ = self.keeper.wait();
    }
}

/// The folder of a server that is to be, and who runs it.
struct Home {
    binaries: PathBuf,
    user: Option<User>,
    folder: PathBuf,
}

impl Home {
    fn make(say: &dyn Fn(&str)) -> Result<Self, LocalServerError> {
        let binaries = find_binaries().map_or_else(|| server_archive::fetch(say), Ok)?;
        let user = if Uid::effective().is_root() {
            Some(unprivileged().ok_or(LocalServerError::NoUser)?)
        } else {
            None
        };
        let folder = tempfile::Builder::new()
            .prefix("pontoon-pg-")
            .tempdir_in(fastest_folder())
            .map_err(io("make a folder"))?
            .keep();
        let home = Self { binaries, user, folder };
        home.hand_over(&home.folder).map_err(io("hand the folder over"))?;
        Ok(home)
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn hand_over(&self, path: &Path) -> std::io::Result<()> {
        let mode = if path.is_dir() { 0o700 } else { 0o600 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        self.user
            .as_ref()
            .map_or(Ok(()), |user| chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())))
    }

    fn write(&self, path: &Path, text: &str) -> Result<(), LocalServerError> {
        fs::write(path, text).and_then(|()| self.hand_over(path)).map_err(io("write the server's files"))
    }

    /// A program, as the user who runs the server.
    fn as_user(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.folder).env("LC_ALL", "C").stdin(Stdio::null());
        if let Some(user) = &self.user {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }

    fn run(&self, program: &str) -> Command {
        self.as_user(&self.binaries.join(program))
    }

    /// Starts the server on the files that are there.
    fn launch(self, settings: &[&str], password: String) -> Result<LocalServer, LocalServerError> {
        let port = free_port().map_err(io("find a free port"))?;
        let (log, data) = (self.folder.join("log"), self.data());
        // The keeper: starts the server, waits for the end of its input, stops the server, cleans up.
        let script = r#"log=$1; folder=$2; shift 2; "$@" >"$log" 2>&1 & server=$!; cat >/dev/null; kill -INT $server; wait $server; rm -rf "$folder""#;
        let mut command = self.as_user(Path::new("/bin/sh"));
        command
            .args(["-c", script, "keeper"])
            .arg(&log)
            .arg(&self.folder)
            .arg(self.binaries.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
            .args(["-c", "fsync=off", "-c", "full_page_writes=off", "-c", &format!("port={port}")]);
        // Else glibc gives the memory of each statement back, and takes it again page by page: 6 to 8 % of the server's time in the tests.
        for (name, bytes) in KEPT_MEMORY {
            command.env(name, bytes);
        }
        for setting in settings {
            command.args(["-c", setting]);
        }
        // A group of its own: Ctrl-C in the terminal is for us, not for the server.
        let keeper =
            command.stdin(Stdio::piped()).process_group(0).spawn().map_err(io("start the server"))?;
        let described = format!("{} on port {port}", self.binaries.display());
        let server = LocalServer { keeper, port, password, log, data, described };
        server.wait_until_ready()?;
        Ok(server)
    }
}

/// Says what failed.
fn io(what: &str) -> impl FnOnce(std::io::Error) -> LocalServerError {
    let what = what.to_owned();
    move |source| LocalServerError::Io { what, source }
}

/// Where a throwaway server lives: in memory where there is room for it, else on disk.
fn fastest_folder() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let free =
        statvfs(memory).ok().and_then(|known| known.blocks_available().checked_mul(known.fragment_size()));
    if free >= Some(ROOM) { memory.to_owned() } else { std::env::temp_dir() }
}

/// The folder that holds `postgres` and `initdb`.
fn find_binaries() -> Option<PathBuf> {
    let named = std::env::var_os("PG_BINDIR").map(PathBuf::from);
    let configured = Command::new("pg_config").arg("--bindir").output().ok();
    let configured = configured.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    let path: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    let mut versioned: Vec<PathBuf> =
        ["/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt", "/usr/local/opt"]
            .iter()
            .filter_map(|folder| fs::read_dir(folder).ok())
            .flat_map(|entries| entries.filter_map(Result::ok).map(|entry| entry.path().join("bin")))
            .collect();
    versioned.sort();
    versioned.reverse();
    named
        .into_iter()
        .chain(configured)
        .chain(path)
        .chain(versioned)
        .find(|folder| folder.join("postgres").is_file() && folder.join("initdb").is_file())
}

fn unprivileged() -> Option<User> {
    ["postgres", "nobody"].iter().find_map(|name| User::from_name(name).ok().flatten())
}

fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
