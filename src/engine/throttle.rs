//! Throttle: a backfill pauses between two batches, with nothing held, while it would be too much for somebody else. As in
//! gh-ost, the limits are on what is seen from outside; what cannot be seen counts as too much.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::decide::state::State;
use crate::engine::failure::{Failure, Outcome};
use crate::engine::{Engine, Happening};
use crate::pg::error::PgError;
use crate::pg::session::Session;
use crate::words::version::Version;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Between two lines that say the same.
const SAY_EVERY: Duration = Duration::from_secs(30);

/// What a backfill pauses for.
#[derive(Debug, Clone)]
pub(crate) struct Throttles {
    /// How far behind a physical standby may be; none: nobody looks.
    pub(crate) max_replica_lag: Option<Duration>,
    /// Somebody asked for that limit: it must be possible to look.
    pub(crate) insists: bool,
    /// Application names of standbys that may be behind, such as delayed ones.
    pub(crate) ignored_replicas: Vec<String>,
    /// A query of one column, each value a reason to pause.
    pub(crate) pause_query: Option<String>,
}

/// When all workers of a process last saw that they may go on. One looks, and waits; the others wait behind it.
#[derive(Debug, Default)]
pub(crate) struct Looked(Mutex<Option<Instant>>);

impl Engine {
    /// Refuses to begin where a limit that somebody asked for can never be looked at.
    pub(crate) async fn check_throttles(&self, session: &mut Session) -> Outcome<()> {
        let throttles = &self.limits.throttles;
        if throttles.max_replica_lag.is_some() {
            let replicas = self.ledger.replicas(session, &throttles.ignored_replicas).await?;
            if replicas.iter().any(|replica| replica.state.is_none()) {
                let next = "GRANT pg_read_all_stats TO the role that runs migrate";
                if throttles.insists {
                    return Err(Failure::refused(
                        "this role cannot see how far behind the standbys are".to_owned(),
                    )
                    .next(format!("{next}; or max_replica_lag = \"off\"")));
                }
                self.note(format!("this role cannot see how far behind the standbys are: {next}"));
            }
        }
        if let Some(own) = &throttles.pause_query
            && let Err(error) = self.ledger.own_reasons(session, own).await
            && error.code().is_some_and(|code| code.starts_with("42"))
        {
            return Err(Failure::usage(format!("pause_query: {error}")).next(
                "give a query of one column, each value a reason to pause; name schemas, there is no search_path",
            ));
        }
        Ok(())
    }

    /// Returns when the next batch may begin, or when the migration is not backfilling any more.
    pub(crate) async fn pace(
        &self,
        session: &mut Session,
        version: Version,
        looked: &Looked,
    ) -> Result<(), PgError> {
        let mut looked = looked.0.lock().await;
        if looked.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return Ok(());
        }
        let since = Instant::now();
        let mut said: Option<Instant> = None;
        while let Some(reason) = self.reason_to_pause(session).await? {
            let entries = self.ledger.entries(session).await?;
            if !entries.iter().any(|entry| entry.version == version && entry.state == State::Backfilling) {
                break;
            }
            if said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
                said = Some(Instant::now());
                self.observer.saw(Happening::Paused { reason });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        *looked = Some(Instant::now());
        if said.is_some() {
            self.note(format!("goes on after a pause of {} s", since.elapsed().as_secs()));
        }
        Ok(())
    }

    /// Which signal is past which limit.
    async fn reason_to_pause(&self, session: &mut Session) -> Result<Option<String>, PgError> {
        let throttles = &self.limits.throttles;
        if let Some(limit) = throttles.max_replica_lag {
            for replica in self.ledger.replicas(session, &throttles.ignored_replicas).await? {
                let what = match replica.state.as_deref() {
                    None if throttles.insists => "cannot be looked at by this role".to_owned(),
                    Some("catchup") => "is catching up".to_owned(),
                    Some(_) if replica.seconds > limit.as_secs_f64() => {
                        format!("is {:.0} s behind", replica.seconds)
                    }
                    None | Some(_) => continue,
                };
                return Ok(Some(format!(
                    "standby {} {what} (max_replica_lag = {} s)",
                    replica.name,
                    limit.as_secs_f64()
                )));
            }
        }
        let Some(own) = &throttles.pause_query else { return Ok(None) };
        match self.ledger.own_reasons(session, own).await {
            Ok(reasons) if reasons.is_empty() => Ok(None),
            Ok(reasons) => Ok(Some(format!("{} (pause_query)", reasons.join("; ")))),
            Err(error) if error.is_lost() => Err(error),
            Err(error) => Ok(Some(format!("pause_query fails: {error}"))),
        }
    }
}
