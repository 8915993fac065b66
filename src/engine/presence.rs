//! A registration that is kept alive: what `migrate run` and the in-process client have in common.

use std::time::Duration;

use crate::pg::error::PgError;
use crate::pg::registry::{self, Beat};
use crate::pg::session::{Session, Target};
use crate::words::ident::Ident;

/// How long the database may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Who registers, and where.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) target: Target,
    pub(crate) ledger: Ident,
    pub(crate) app: String,
    pub(crate) instance: String,
    pub(crate) schema_version: String,
    pub(crate) still_uses: Vec<String>,
    pub(crate) ttl: Duration,
}

/// One process in the registry.
pub(crate) struct Presence {
    identity: Identity,
    session: Option<Session>,
    /// Zero while not registered.
    incarnation: i64,
}

/// What a sign of life brought.
pub(crate) enum Sign {
    Live {
        may_serve: bool,
        reason: Option<String>,
    },
    Closed(String),
    /// The database or the ledger is not there.
    Silent(String),
}

impl Presence {
    pub(crate) fn new(identity: Identity) -> Self {
        Self { identity, session: None, incarnation: 0 }
    }

    /// A sign of life, bounded: a network that swallows packets must not keep us from the child and from signals.
    pub(crate) async fn sign(&mut self) -> Sign {
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
        let who = self.identity.clone();
        let Some(session) = self.session().await else {
            return Sign::Silent(format!("cannot connect to {}", who.target.place()));
        };
        let ttl = who.ttl.as_secs();
        let registered = registry::register(
            session,
            &who.ledger,
            &who.app,
            &who.instance,
            &who.schema_version,
            ttl,
            &who.still_uses,
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
                Sign::Silent(format!("there is no ledger in {} yet", who.target.place()))
            }
            Err(error) => {
                self.session = None;
                Sign::Silent(error.to_string())
            }
        }
    }

    async fn beat(&mut self) -> Sign {
        let (who, incarnation) = (self.identity.clone(), self.incarnation);
        let Some(session) = self.session().await else {
            return Sign::Silent(format!("cannot connect to {}", who.target.place()));
        };
        let beat = registry::heartbeat(session, &who.ledger, &who.app, &who.instance, incarnation).await;
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
            self.session = Session::connect_plain(&self.identity.target, "migrate run").await.ok();
        }
        self.session.as_mut()
    }

    pub(crate) async fn leave(&mut self) {
        if self.incarnation == 0 {
            return;
        }
        let (who, incarnation) = (self.identity.clone(), self.incarnation);
        if let Some(session) = self.session().await {
            let left = registry::deregister(session, &who.ledger, &who.app, &who.instance, incarnation);
            // Where it is not heard the lease expires.
            if let Ok(Err(error)) = tokio::time::timeout(ANSWER_TIMEOUT, left).await {
                tracing::debug!(%error, "deregister");
            }
        }
        self.incarnation = 0;
    }
}
