//! `migrate run`: keeps one process registered. The database's absence never stops it; a closed version does.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::engine::Engine;
use crate::engine::failure::{Failure, Kind, Outcome};
use crate::engine::presence::{Identity, Presence, Sign};

/// How often the reason for not serving yet is repeated.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// How long the child has to end after SIGTERM.
const TERM_GRACE: Duration = Duration::from_secs(30);

/// What to run.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) app: String,
    pub(crate) instance: String,
    pub(crate) schema_version: String,
    pub(crate) still_uses: Vec<String>,
    pub(crate) ttl: Duration,
    pub(crate) wait: Duration,
    pub(crate) command: Vec<String>,
}

/// How it ended.
pub(crate) enum Ended {
    /// The child's own code, or 128 and its signal.
    Child(i32),
    /// The version was closed under it, and it was told to end.
    Closed,
}

impl Engine {
    /// Registers, waits until the version may serve, runs the command, keeps the registration alive until it ends.
    pub(crate) async fn run(&self, request: &Request) -> Outcome<Ended> {
        let mut supervisor =
            Supervisor { engine: self, request, presence: Presence::new(self.identity(request)) };
        let mut signals = Signals::new()?;
        if let Some(signal) = supervisor.wait_to_serve(&mut signals).await? {
            supervisor.presence.leave().await;
            return Ok(Ended::Child(128 + signal));
        }
        let (program, arguments) =
            request.command.split_first().ok_or_else(|| Failure::usage("no command to run"))?;
        let child = Command::new(program)
            .args(arguments)
            .spawn()
            .map_err(|error| Failure::failed(format!("cannot run `{program}`: {error}")));
        let child = match child {
            Ok(child) => child,
            Err(failure) => {
                supervisor.presence.leave().await;
                return Err(failure);
            }
        };
        let ended = supervisor.accompany(child, &mut signals).await;
        supervisor.presence.leave().await;
        ended
    }

    fn identity(&self, request: &Request) -> Identity {
        Identity {
            target: self.target.clone(),
            ledger: self.ledger.schema.clone(),
            app: request.app.clone(),
            instance: request.instance.clone(),
            schema_version: request.schema_version.clone(),
            still_uses: request.still_uses.clone(),
            ttl: request.ttl,
        }
    }
}

/// A program with its registration.
struct Supervisor<'a> {
    engine: &'a Engine,
    request: &'a Request,
    presence: Presence,
}

impl Supervisor<'_> {
    async fn wait_to_serve(&mut self, signals: &mut Signals) -> Outcome<Option<i32>> {
        let deadline = Instant::now() + self.request.wait;
        let mut said: Option<Instant> = None;
        let mut sign = self.presence.sign().await;
        loop {
            let (why, unreachable) = match sign {
                Sign::Live { may_serve: true, .. } => return Ok(None),
                Sign::Live { reason, .. } => (reason.unwrap_or_default(), false),
                Sign::Closed(reason) => {
                    self.presence.leave().await;
                    return Err(Failure::refused(reason).next("deploy a newer version of the application"));
                }
                Sign::Silent(reason) => (reason, true),
            };
            if Instant::now() >= deadline {
                let kind = if unreachable { Kind::Environment } else { Kind::Refused };
                self.presence.leave().await;
                return Err(Failure::new(
                    kind,
                    format!("{} {} may not serve: {why}", self.request.app, self.request.instance),
                )
                .next("migrate expand, then migrate backfill"));
            }
            if said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
                self.engine.note(format!("waiting to serve: {why}"));
                said = Some(Instant::now());
            }
            tokio::select! {
                signal = signals.next() => return Ok(Some(signal)),
                () = tokio::time::sleep(Duration::from_millis(500).min(deadline.saturating_duration_since(Instant::now()))) => {}
            }
            sign = self.presence.sign().await;
        }
    }

    /// Keeps the lease alive while the child runs.
    async fn accompany(&mut self, mut child: Child, signals: &mut Signals) -> Outcome<Ended> {
        let every = self.request.ttl / 3;
        let mut next = Instant::now() + every;
        let mut silent = false;
        loop {
            tokio::select! {
                ended = child.wait() => return Ok(Ended::Child(code(&ended))),
                signal = signals.next() => pass_on(&child, signal),
                () = tokio::time::sleep(next.saturating_duration_since(Instant::now())) => {
                    next = Instant::now() + every;
                    match self.presence.sign().await {
                        Sign::Live { .. } => silent = false,
                        Sign::Silent(reason) if !silent => {
                            silent = true;
                            self.engine.note(format!("not registered for the moment, the program goes on: {reason}"));
                        }
                        Sign::Silent(_) => {}
                        Sign::Closed(reason) => {
                            self.engine.note(format!("{reason}: telling the program to end"));
                            pass_on(&child, nix::sys::signal::Signal::SIGTERM as i32);
                            if tokio::time::timeout(TERM_GRACE, child.wait()).await.is_err() {
                                let _ = child.kill().await;
                            }
                            return Ok(Ended::Closed);
                        }
                    }
                }
            }
        }
    }
}

/// The signals that are passed on to the child.
struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    fn new() -> Outcome<Self> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))
        };
        Ok(Self {
            term: listen(SignalKind::terminate())?,
            int: listen(SignalKind::interrupt())?,
            hup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.term.recv() => SignalKind::terminate().as_raw_value(),
            _ = self.int.recv() => SignalKind::interrupt().as_raw_value(),
            _ = self.hup.recv() => SignalKind::hangup().as_raw_value(),
        }
    }
}

fn pass_on(child: &Child, signal: i32) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    if let (Some(pid), Ok(signal)) = (pid, nix::sys::signal::Signal::try_from(signal)) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
    }
}

fn code(ended: &std::io::Result<ExitStatus>) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    match ended {
        Ok(status) => status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()),
        Err(_) => 1,
    }
}
