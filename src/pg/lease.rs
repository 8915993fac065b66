//! The right to be the only runner: a row with an epoch.
//!
//! Protocol: taking over raises the epoch, which is a key update and so cannot pass a step that holds the row FOR KEY
//! SHARE; renewing changes no key and waits for nobody. Each step's transaction checks its epoch. A runner that lost
//! the lease finds no row and stops. Nobody waits inside a statement: that would deadlock with a concurrent index
//! build of the holder.

use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::pg::error::PgError;
use crate::pg::session::{Session, Target};
use crate::pg::statements::query;
use crate::words::ident::Ident;

/// How long a lease lives without a renewal.
const TTL_MS: i64 = 10_000;

/// Between two renewals; three fit into the life of a lease.
const RENEW_EVERY: Duration = Duration::from_secs(3);

/// Between two tries to take it.
const RETRY_EVERY: Duration = Duration::from_millis(300);

/// The lease, renewed in the background on a connection of its own until it is released or dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) epoch: i64,
    renewal: tokio::task::JoinHandle<()>,
}

/// Who has the lease.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Holder {
    pub(crate) holder: String,
    pub(crate) command: String,
    pub(crate) held_seconds: i64,
}

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaseError {
    /// Another runner has it.
    #[error("another runner is at work: {}", .0.as_ref().map_or_else(|| "it has just started".to_owned(), |h| format!("`migrate {}` of {} for {} s", h.command, h.holder, h.held_seconds)))]
    Held(Option<Holder>),
    /// The row that is the lease was deleted.
    #[error("the lease's row in {0}.lease is gone")]
    Gone(Ident),
    #[error(transparent)]
    Pg(#[from] PgError),
}

impl Lease {
    /// Takes the lease, waiting for it up to `wait`.
    ///
    /// # Errors
    /// [`LeaseError::Held`] names the holder.
    pub(crate) async fn take(
        target: &Target,
        ledger: &Ident,
        command: &str,
        wait: Duration,
    ) -> Result<Self, LeaseError> {
        let mut session = Session::connect(target, "migrate lease").await?;
        let holder = format!("{}:{}", hostname(), std::process::id());
        let deadline = Instant::now() + wait;
        loop {
            let params = [holder.as_str().into(), command.into(), TTL_MS.into()];
            let taken: Result<Option<Epoch>, PgError> =
                session.optional(&query("lease_take", ledger), &params).await;
            match taken {
                Ok(Some(Epoch { value: epoch })) => {
                    let renewal = tokio::spawn(renew(target.clone(), session, ledger.clone(), epoch));
                    return Ok(Self { epoch, renewal });
                }
                Ok(None) => {}
                Err(error) if error.is_lock_conflict() => {}
                Err(error) => return Err(error.into()),
            }
            if Instant::now() >= deadline {
                if !session.one(&query("lease_is_there", ledger), &[]).await? {
                    return Err(LeaseError::Gone(ledger.clone()));
                }
                return Err(LeaseError::Held(holder_of(&mut session, ledger).await?));
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }

    /// Gives the lease back.
    pub(crate) async fn release(self, session: &mut Session, ledger: &Ident) {
        let released: Result<Option<Epoch>, PgError> =
            session.optional(&query("lease_release", ledger), &[self.epoch.into()]).await;
        if let Err(error) = released {
            tracing::warn!(%error, "the lease was not released; it expires by itself");
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

#[derive(Deserialize)]
struct Epoch {
    value: i64,
}

/// Who has the lease now.
///
/// # Errors
/// Whatever the server says.
pub(crate) async fn holder_of(session: &mut Session, ledger: &Ident) -> Result<Option<Holder>, PgError> {
    session.optional(&query("lease_holder", ledger), &[]).await
}

/// Whether the lease is still ours; inside a transaction it stays ours until the end of it.
///
/// # Errors
/// Whatever the server says.
pub(crate) async fn hold(session: &mut Session, ledger: &Ident, epoch: i64) -> Result<bool, PgError> {
    #[derive(Deserialize)]
    struct Held {}
    let held: Option<Held> = session.optional(&query("lease_hold", ledger), &[epoch.into()]).await?;
    Ok(held.is_some())
}

/// Keeps the lease until somebody else has it. A broken connection is made again; the row names the new one, so that
/// nobody takes the holder for dead.
async fn renew(target: Target, session: Session, ledger: Ident, epoch: i64) {
    let mut session = Some(session);
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        if session.is_none() {
            session = Session::connect(&target, "migrate lease").await.ok();
        }
        let Some(open) = &mut session else { continue };
        let renewed: Result<Option<Epoch>, PgError> =
            open.optional(&query("lease_renew", &ledger), &[epoch.into(), TTL_MS.into()]).await;
        match renewed {
            Ok(Some(_)) => {}
            // Somebody took it over: the next step sees it by its epoch.
            Ok(None) => return,
            Err(_) => session = None,
        }
    }
}

fn hostname() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "unknown".to_owned())
}
