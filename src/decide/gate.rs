//! The gate: decides from facts whether contract may close a migration. Pure; all reasons at once.
//!
//! The facts are gathered in the transaction that also closes, under the lock that a registration waits for, so a
//! verdict cannot be out of date when it is acted upon.

#![warn(clippy::wildcard_enum_match_arm)]

use serde::{Deserialize, Serialize};

use crate::words::version::Version;

/// An instance that counts against closing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InstanceFact {
    pub(crate) app: String,
    pub(crate) instance: String,
    pub(crate) schema_version: i64,
    /// Seconds since the last sign of life, by the database's clock.
    pub(crate) seen_seconds_ago: i64,
    /// Seconds until an expired lease stops counting.
    pub(crate) grace_seconds_left: i64,
    /// Whether it names the migration in `still_uses`.
    pub(crate) names_it: bool,
    pub(crate) role: String,
}

/// A session that holds a lock on one of the tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionFact {
    /// None for a prepared transaction.
    pub(crate) pid: Option<i32>,
    pub(crate) application: String,
    pub(crate) role: String,
    /// Age of the transaction; none where the runner's role may not see it.
    pub(crate) age_seconds: Option<i64>,
    /// The identifier of a prepared transaction.
    pub(crate) prepared: Option<String>,
}

/// Old-shape writes of one role and application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WriteFact {
    pub(crate) role: String,
    pub(crate) application: String,
    pub(crate) address: Option<String>,
    pub(crate) seconds_ago: i64,
}

/// Everything the gate looks at.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub(crate) struct Facts {
    /// Live instances that use the old schema.
    pub(crate) live: Vec<InstanceFact>,
    /// Expired instances that use the old schema, within their grace.
    pub(crate) expired: Vec<InstanceFact>,
    /// Instances at this migration or above since it was expanded.
    pub(crate) new_seen: i64,
    /// Applications from the configuration that have shown none at this migration or above.
    pub(crate) missing_apps: Vec<String>,
    pub(crate) old_writes: Vec<WriteFact>,
    pub(crate) sessions: Vec<SessionFact>,
    pub(crate) verified: bool,
}

/// Why the gate is closed. The kebab-case name is what `--override` takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub(crate) enum Reason {
    LiveInstance { instance: InstanceFact },
    ExpiredInstance { instance: InstanceFact },
    NoNewInstance,
    MissingApp { app: String },
    OldWrites { write: WriteFact },
    NotVerified,
    LongTransaction { session: SessionFact },
    PreparedTransaction { session: SessionFact },
    UnseenSession { session: SessionFact },
}

/// No reason of the gate's: contract itself refuses over rows that changed after a data job had read them.
pub(crate) const CHANGED_SOURCE: &str = "changed-source";

/// Names of the reasons that an operator may override.
pub(crate) const OVERRIDABLE: [&str; 9] = [
    "live-instance",
    "expired-instance",
    "no-new-instance",
    "missing-app",
    "old-writes",
    "long-transaction",
    "prepared-transaction",
    "unseen-session",
    CHANGED_SOURCE,
];

impl Reason {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::LiveInstance { .. } => "live-instance",
            Self::ExpiredInstance { .. } => "expired-instance",
            Self::NoNewInstance => "no-new-instance",
            Self::MissingApp { .. } => "missing-app",
            Self::OldWrites { .. } => "old-writes",
            Self::NotVerified => "not-verified",
            Self::LongTransaction { .. } => "long-transaction",
            Self::PreparedTransaction { .. } => "prepared-transaction",
            Self::UnseenSession { .. } => "unseen-session",
        }
    }

    /// The reason as a sentence, and what to do about it.
    pub(crate) fn explain(&self) -> (String, String) {
        let named = |instance: &InstanceFact| {
            format!(
                "{} {} (schema {})",
                instance.app,
                instance.instance,
                Version::from(instance.schema_version)
            )
        };
        match self {
            Self::LiveInstance { instance } => (
                format!(
                    "{} is running and uses the old schema, seen {} s ago",
                    named(instance),
                    instance.seen_seconds_ago
                ),
                if instance.names_it {
                    "deploy a version that no longer names this migration in still_uses".to_owned()
                } else {
                    "roll the new version out to it, or stop it".to_owned()
                },
            ),
            Self::ExpiredInstance { instance } => (
                format!(
                    "{} has not reported for {} s; it may be paused",
                    named(instance),
                    instance.seen_seconds_ago
                ),
                format!("stop it, or wait {} s", instance.grace_seconds_left.max(1)),
            ),
            Self::NoNewInstance => (
                "no instance of the new version has been seen since expand".to_owned(),
                "deploy it first; start it under `migrate run`, or let it call register()".to_owned(),
            ),
            Self::MissingApp { app } => (
                format!("application {app} has shown no instance of the new version"),
                format!("deploy {app}, or take it out of migrate.toml"),
            ),
            Self::OldWrites { write } => (
                format!(
                    "role {} ({}) wrote the old columns {} s ago from {}",
                    write.role,
                    or(&write.application, "no application_name"),
                    write.seconds_ago,
                    write.address.as_deref().unwrap_or("a local socket")
                ),
                "find that client: it is registered nowhere (a cron job? psql?)".to_owned(),
            ),
            Self::NotVerified => {
                ("the backfill is not verified".to_owned(), "run `migrate backfill`".to_owned())
            }
            Self::LongTransaction { session } => (
                format!(
                    "{} holds a lock on the table for {} s",
                    who(session),
                    session.age_seconds.unwrap_or_default()
                ),
                format!("let it end, or: SELECT pg_terminate_backend({})", session.pid.unwrap_or_default()),
            ),
            Self::PreparedTransaction { session } => {
                let id = session.prepared.as_deref().unwrap_or_default();
                (
                    format!("prepared transaction '{id}' holds a lock on the table"),
                    format!("COMMIT PREPARED '{id}' or ROLLBACK PREPARED '{id}'"),
                )
            }
            Self::UnseenSession { session } => (
                format!("{} holds a lock on the table, and its age may not be seen", who(session)),
                "GRANT pg_read_all_stats TO the role that runs migrate".to_owned(),
            ),
        }
    }
}

fn who(session: &SessionFact) -> String {
    format!(
        "session {} of {} ({})",
        session.pid.unwrap_or_default(),
        session.role,
        or(&session.application, "no application_name")
    )
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

/// Proof that the gate was open. Only [`decide`] makes one, and closing takes it away.
#[derive(Debug)]
#[must_use]
pub(crate) struct GatePass(());

/// What the gate says.
#[derive(Debug)]
pub(crate) enum Verdict {
    Open(GatePass),
    Closed(Vec<Reason>),
}

/// Decides. `overridden` are the kinds of reasons that an operator took upon themselves.
pub(crate) fn decide(facts: &Facts, overridden: &[String]) -> Verdict {
    let mut reasons = Vec::new();
    reasons.extend(facts.live.iter().cloned().map(|instance| Reason::LiveInstance { instance }));
    reasons.extend(facts.expired.iter().cloned().map(|instance| Reason::ExpiredInstance { instance }));
    if facts.new_seen == 0 {
        reasons.push(Reason::NoNewInstance);
    }
    reasons.extend(facts.missing_apps.iter().cloned().map(|app| Reason::MissingApp { app }));
    reasons.extend(facts.old_writes.iter().cloned().map(|write| Reason::OldWrites { write }));
    if !facts.verified {
        reasons.push(Reason::NotVerified);
    }
    for session in facts.sessions.iter().cloned() {
        reasons.push(match (&session.prepared, session.age_seconds) {
            (Some(_), _) => Reason::PreparedTransaction { session },
            (None, None) => Reason::UnseenSession { session },
            (None, Some(_)) => Reason::LongTransaction { session },
        });
    }
    // An unfinished backfill is no matter of judgement.
    let taken = |name: &str| overridden.iter().any(|one| one == name) && OVERRIDABLE.contains(&name);
    reasons.retain(|reason| !taken(reason.name()));
    if reasons.is_empty() { Verdict::Open(GatePass(())) } else { Verdict::Closed(reasons) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_facts() -> Facts {
        Facts { new_seen: 1, verified: true, ..Facts::default() }
    }

    fn instance() -> InstanceFact {
        InstanceFact {
            app: "web".to_owned(),
            instance: "web-1".to_owned(),
            schema_version: 6,
            seen_seconds_ago: 2,
            grace_seconds_left: 58,
            names_it: false,
            role: "app".to_owned(),
        }
    }

    fn closed(facts: &Facts, overridden: &[&str]) -> Vec<&'static str> {
        let overridden: Vec<String> = overridden.iter().map(ToString::to_string).collect();
        match decide(facts, &overridden) {
            Verdict::Open(_) => Vec::new(),
            Verdict::Closed(reasons) => reasons.iter().map(Reason::name).collect(),
        }
    }

    #[test]
    fn every_single_fact_closes_the_gate() {
        assert_eq!(closed(&open_facts(), &[]), [""; 0]);
        let session = |age_seconds, prepared: Option<&str>| SessionFact {
            pid: Some(1),
            application: String::new(),
            role: "app".to_owned(),
            age_seconds,
            prepared: prepared.map(str::to_owned),
        };
        let cases: [(&str, Facts); 9] = [
            ("live-instance", Facts { live: vec![instance()], ..open_facts() }),
            ("expired-instance", Facts { expired: vec![instance()], ..open_facts() }),
            ("no-new-instance", Facts { new_seen: 0, ..open_facts() }),
            ("missing-app", Facts { missing_apps: vec!["billing".to_owned()], ..open_facts() }),
            (
                "old-writes",
                Facts {
                    old_writes: vec![WriteFact {
                        role: "r".to_owned(),
                        application: String::new(),
                        address: None,
                        seconds_ago: 3,
                    }],
                    ..open_facts()
                },
            ),
            ("not-verified", Facts { verified: false, ..open_facts() }),
            ("long-transaction", Facts { sessions: vec![session(Some(90), None)], ..open_facts() }),
            ("unseen-session", Facts { sessions: vec![session(None, None)], ..open_facts() }),
            ("prepared-transaction", Facts { sessions: vec![session(None, Some("x"))], ..open_facts() }),
        ];
        for (name, facts) in &cases {
            assert_eq!(closed(facts, &[]), [*name]);
            let overridden = closed(facts, &[name]);
            assert_eq!(overridden.is_empty(), OVERRIDABLE.contains(name), "{name}");
        }
    }

    #[test]
    fn all_reasons_are_reported_at_once_and_one_override_leaves_the_others() {
        let facts = Facts { live: vec![instance()], new_seen: 0, ..open_facts() };
        assert_eq!(closed(&facts, &[]), ["live-instance", "no-new-instance"]);
        assert_eq!(closed(&facts, &["live-instance"]), ["no-new-instance"]);
        assert_eq!(closed(&facts, &["live-instance", "no-new-instance"]), [""; 0]);
    }
}
