//! `migrate run`: keeps one process registered. The database's absence never stops it; a closed version does.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::engine::Engine;
use crate::engine::failure::{Failure, Kind, Outcome};
use crate::pg::error::PgError;
use crate::pg::registry::{self, Beat};
use crate::pg::session::Session;

/// How often the reason for not serving yet is repeated.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// How long the database may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

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

/// A registration that is kept alive.
struct Registration<'a> {
    engine: &'a Engine,
    request: &'a Request,
    session: Option<Session>,
    incarnation: i64,
}

/// What a sign of life brought.
enum Sign {
    Live {
        may_serve: bool,
        reason: Option<String>,
    },
    Closed(String),
    /// The database or the ledger is not there.
    Silent(String),
}

impl Engine {
    /// Registers, waits until the version may serve, runs the command, keeps the registration alive until it ends.
    pub(crate) async fn run(&self, request: &Request) -> Outcome<Ended> {
        let mut registration = Registration { engine: self, request, session: None, incarnation: 0 };
        let mut signals = Signals::new()?;
        if let Some(signal) = registration.wait_to_serve(&mut signals).await? {
            registration.leave().await;
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
                registration.leave().await;
                return Err(failure);
            }
        };
        let ended = registration.accompany(child, &mut signals).await;
        registration.leave().await;
        ended
    }
}

impl Registration<'_> {
    /// A sign of life, bounded: a network that swallows packets must not keep us from the child and from signals.
    async fn sign(&mut self) -> Sign {
        let known = self.incarnation != 0;
        let sign = async { if known { self.beat().await } else { self.register().await } };
        match tokio::time::timeout(ANSWER_TIMEOUT, sign).await {
            Ok(sign) => sign,
            Err(_) => {
                self.session = None;
                Sign::Silent(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))
            }
        }
    }

    async fn register(&mut self) -> Sign {
        let (engine, request) = (self.engine, self.request);
        let Some(session) = self.session().await else {
            return Sign::Silent(format!("cannot connect to {}", engine.target.place()));
        };
        let ttl = request.ttl.as_secs();
        let registered = registry::register(
            session,
            &engine.ledger.schema,
            &request.app,
            &request.instance,
            &request.schema_version,
            ttl,
            &request.still_uses,
        )
        .await;
        match registered {
            Ok(registered) => {
                self.incarnation = registered.incarnation;
                Sign::Live { may_serve: registered.may_serve, reason: registered.reason }
            }
            Err(PgError::Refused(refusal)) if refusal.code == "PT004" => Sign::Closed(refusal.message),
            // No such schema or function: the ledger has not been installed yet.
            Err(PgError::Refused(refusal)) if ["3F000", "42883"].contains(&refusal.code.as_str()) => {
                Sign::Silent(format!("there is no ledger in {} yet", engine.target.place()))
            }
            Err(error) => {
                self.session = None;
                Sign::Silent(error.to_string())
            }
        }
    }

    async fn beat(&mut self) -> Sign {
        let (engine, request, incarnation) = (self.engine, self.request, self.incarnation);
        let Some(session) = self.session().await else {
            return Sign::Silent(format!("cannot connect to {}", engine.target.place()));
        };
        let beat =
            registry::heartbeat(session, &engine.ledger.schema, &request.app, &request.instance, incarnation)
                .await;
        match beat {
            Ok(Beat { state, may_serve, reason }) if state == "live" => Sign::Live { may_serve, reason },
            Ok(Beat { state, reason, .. }) if state == "closed" => Sign::Closed(reason.unwrap_or_default()),
            // Expired or unknown: the lease was lost, so register again.
            Ok(_) => self.register().await,
            Err(error) => {
                self.session = None;
                Sign::Silent(error.to_string())
            }
        }
    }

    async fn session(&mut self) -> Option<&mut Session> {
        if self.session.is_none() {
            self.session = Session::connect_plain(&self.engine.target, "migrate run").await.ok();
        }
        self.session.as_mut()
    }

    async fn wait_to_serve(&mut self, signals: &mut Signals) -> Outcome<Option<i32>> {
        let deadline = Instant::now() + self.request.wait;
        let mut said: Option<Instant> = None;
        let mut sign = self.sign().await;
        loop {
            let (why, unreachable) = match sign {
                Sign::Live { may_serve: true, .. } => return Ok(None),
                Sign::Live { reason, .. } => (reason.unwrap_or_default(), false),
                Sign::Closed(reason) => {
                    self.leave().await;
                    return Err(Failure::refused(reason).next("deploy a newer version of the application"));
                }
                Sign::Silent(reason) => (reason, true),
            };
            if Instant::now() >= deadline {
                let kind = if unreachable { Kind::Environment } else { Kind::Refused };
                self.leave().await;
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
            sign = self.sign().await;
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
                    match self.sign().await {
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

    async fn leave(&mut self) {
        if self.incarnation == 0 {
            return;
        }
        let (engine, request, incarnation) = (self.engine, self.request, self.incarnation);
        if let Some(session) = self.session().await {
            let left = registry::deregister(
                session,
                &engine.ledger.schema,
                &request.app,
                &request.instance,
                incarnation,
            );
            // Where it is not heard the lease expires.
            if let Ok(Err(error)) = tokio::time::timeout(ANSWER_TIMEOUT, left).await {
                tracing::debug!(%error, "deregister");
            }
        }
        self.incarnation = 0;
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
