//! The registry's client for programs in Rust: what `migrate run` does, in-process.

use std::time::Duration;

use tokio::sync::watch;

use crate::engine::presence::{Identity, Presence, Sign};
use crate::pg::session::Target;
use crate::words::ident::Ident;
use crate::words::version::Version;

/// Who registers, and where.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The database, as `postgres://user@host:port/name`.
    pub database_url: String,
    /// The schema of the ledger.
    pub ledger: String,
    /// The application's name, at most 200 characters.
    pub app: String,
    /// The name of this process among its equals, at most 200 characters.
    pub instance: String,
    /// The newest migration that the program was written for.
    pub schema_version: String,
    /// Older migrations whose old schema it still uses.
    pub still_uses: Vec<String>,
    /// How long it counts as alive without a sign of life: 1 s to 1 h.
    pub ttl: Duration,
}

impl Options {
    /// Options with a ttl of 30 s and the ledger in its usual schema.
    pub fn new(database_url: &str, app: &str, instance: &str, schema_version: &str) -> Self {
        Self {
            database_url: database_url.to_owned(),
            ledger: "pontoon".to_owned(),
            app: app.to_owned(),
            instance: instance.to_owned(),
            schema_version: schema_version.to_owned(),
            still_uses: Vec::new(),
            ttl: Duration::from_secs(30),
        }
    }
}

/// Where a registration stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// The first answer is still awaited.
    Starting,
    /// Registered; not to serve yet, and why.
    Waiting(String),
    /// Registered, and free to serve.
    Serving,
    /// The database did not answer. What served goes on serving; registering is tried again.
    Silent(String),
    /// The version is closed: the program should end.
    Closed(String),
}

/// Why nothing was registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The options cannot be used.
    #[error("{0}")]
    Options(String),
    /// The version is closed.
    #[error("{0}")]
    Closed(String),
}

/// A registration that is kept alive in the background until it is left or dropped.
#[derive(Debug)]
pub struct Registration {
    status: watch::Receiver<Status>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

impl Registration {
    /// Starts to register; needs a tokio runtime. Returns at once: see [`Self::serving`].
    ///
    /// # Errors
    /// Options that cannot be used.
    pub fn start(options: Options) -> Result<Self, ClientError> {
        let target = Target::parse(&options.database_url).map_err(ClientError::Options)?;
        let parse = |version: &String| {
            version.parse::<Version>().map_err(|error| ClientError::Options(error.to_string()))
        };
        parse(&options.schema_version)?;
        for version in &options.still_uses {
            parse(version)?;
        }
        if !(1..=3_600).contains(&options.ttl.as_secs()) {
            return Err(ClientError::Options("ttl is between 1 s and 1 h".to_owned()));
        }
        let presence = Presence::new(Identity {
            target,
            ledger: Ident::new(options.ledger),
            app: options.app,
            instance: options.instance,
            schema_version: options.schema_version,
            still_uses: options.still_uses,
            ttl: options.ttl,
        });
        let (say, status) = watch::channel(Status::Starting);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(keep_alive(presence, options.ttl, say, stopped));
        Ok(Self { status, stop: Some(stop), task })
    }

    /// Where it stands now.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Every change of the status.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Waits until the version may serve.
    ///
    /// # Errors
    /// [`ClientError::Closed`] if it never will.
    pub async fn serving(&self) -> Result<(), ClientError> {
        let mut status = self.status.clone();
        let settled = |status: &Status| matches!(status, Status::Serving | Status::Closed(_));
        match status.wait_for(settled).await.map(|status| status.clone()) {
            Ok(Status::Serving) => Ok(()),
            Ok(Status::Closed(reason)) => Err(ClientError::Closed(reason)),
            _ => Err(ClientError::Closed("the registration has ended".to_owned())),
        }
    }

    /// Deregisters.
    pub async fn leave(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        let _ = (&mut self.task).await;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep_alive(
    mut presence: Presence,
    ttl: Duration,
    say: watch::Sender<Status>,
    mut stopped: tokio::sync::oneshot::Receiver<()>,
) {
    loop {
        let status = match presence.sign().await {
            Sign::Live { may_serve: true, .. } => Status::Serving,
            Sign::Live { reason, .. } => Status::Waiting(reason.unwrap_or_default()),
            Sign::Silent(reason) => Status::Silent(reason),
            Sign::Closed(reason) => Status::Closed(reason),
        };
        let (closed, serving) = (matches!(status, Status::Closed(_)), status == Status::Serving);
        say.send_if_modified(|now| {
            let changed = *now != status;
            *now = status;
            changed
        });
        if closed {
            return;
        }
        // Who waits to serve wants to know soon.
        let pause = if serving { ttl / 3 } else { (ttl / 3).min(Duration::from_millis(500)) };
        tokio::select! {
            _ = &mut stopped => break,
            () = tokio::time::sleep(pause) => {}
        }
    }
    presence.leave().await;
}
