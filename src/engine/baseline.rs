//! Baseline: takes over a database that has a history of its own. Everything up to a version counts as applied.

use crate::decide::state::State;
use crate::engine::failure::{Failure, Outcome};
use crate::engine::{Engine, RUNNER_WAIT, Runner};
use crate::model::migration::list;
use crate::pg::adopt::{self, History};
use crate::pg::install;
use crate::words::version::Version;

/// What the baseline is now.
#[derive(Debug)]
pub(crate) struct Baseline {
    pub(crate) version: Version,
    /// The table that says so, if nobody named the version.
    pub(crate) history: Option<String>,
    /// Whether it was so before.
    pub(crate) unchanged: bool,
}

impl Engine {
    /// Sets the baseline: the version that is named, or the newest one that another tool's history table says is applied.
    pub(crate) async fn baseline(&self, named: Option<Version>) -> Outcome<Baseline> {
        let mut session = self.writing_session("migrate baseline").await?;
        let (version, history) = match named {
            Some(version) => (version, None),
            None => {
                let found = adopt::histories(&mut session, &self.settings.search_path).await?;
                let history = only(found)?;
                (newest(&history)?, Some(history.table))
            }
        };
        if let Some(newest) = self.newest_file()?.filter(|newest| *newest < version) {
            let next = match history {
                // Which of the files are applied is not known: another tool may have counted otherwise.
                Some(_) => format!(
                    "give files that are not applied numbers above {version}; if all up to {newest} are applied: migrate baseline {newest}"
                ),
                None => format!("if all files up to {newest} are applied: migrate baseline {newest}"),
            };
            return Err(Failure::usage(format!(
                "version {version} is above the newest file, {newest}: files that come later would never run"
            ))
            .next(next));
        }
        install::install(&mut session, &self.ledger.schema).await?;
        let mut runner = self.runner(session, "baseline", RUNNER_WAIT).await?;
        let set = runner.set_baseline(version).await;
        runner.release().await;
        Ok(Baseline { version, history, unchanged: !set? })
    }
}

impl Engine {
    /// The files that count as applied.
    fn files_up_to(&self, version: Version) -> Outcome<Vec<i64>> {
        if !self.folder.is_dir() {
            return Ok(Vec::new());
        }
        let numbers = list(&self.folder)?.into_iter().map(|(version, ..)| version.number());
        Ok(numbers.filter(|number| *number <= version.number()).collect())
    }

    /// None where the folder is missing or empty: the files may be gone.
    fn newest_file(&self) -> Outcome<Option<Version>> {
        if !self.folder.is_dir() {
            return Ok(None);
        }
        Ok(list(&self.folder)?.last().map(|(version, ..)| *version))
    }
}

/// The one history that there is.
fn only(mut found: Vec<History>) -> Outcome<History> {
    match (found.pop(), found.is_empty()) {
        (None, _) => Err(Failure::usage("no history of another tool is here, so the version must be named")
            .next("migrate baseline VERSION")),
        (Some(history), true) => Ok(history),
        (Some(last), false) => {
            let tables = found.iter().chain([&last]).map(|history| history.table.clone()).collect();
            Err(Failure::usage("more than one tool has kept a history here")
                .details(tables)
                .next("migrate baseline VERSION"))
        }
    }
}

fn newest(history: &History) -> Outcome<Version> {
    if history.broken {
        return Err(Failure::refused(format!("{} holds a migration that failed half way", history.table))
            .next("bring it to an end with the tool that began it, then migrate baseline"));
    }
    let Some(newest) = history.newest.as_deref() else {
        return Err(Failure::usage(format!("{} names no numbered migration as applied", history.table))
            .next("migrate baseline VERSION"));
    };
    newest.parse().map_err(|_| {
        Failure::usage(format!("{} has `{newest}` as its newest version, which is no number", history.table))
            .next("migrate baseline VERSION")
    })
}

impl Runner<'_> {
    /// False if it was so before.
    async fn set_baseline(&mut self, version: Version) -> Outcome<bool> {
        let engine = self.engine;
        self.begin().await?;
        let set = async {
            self.lock_gate(&format!("migrate baseline {version}")).await?;
            let before = engine.ledger.baseline(&mut self.session).await?;
            let files = engine.files_up_to(version)?;
            if before == version.number() {
                let known = engine.ledger.baseline_files(&mut self.session).await?;
                if known.is_some_and(|known| known == files) {
                    return Ok(false);
                }
            }
            if before > version.number() {
                return Err(Failure::refused(format!(
                    "the baseline is {}, and never goes back",
                    Version::from(before)
                ))
                .next("migrate status"));
            }
            let entries = engine.ledger.entries(&mut self.session).await?;
            let unfinished = entries.iter().find(|entry| {
                entry.version <= version && !matches!(entry.state, State::Done | State::Aborted)
            });
            if let Some(entry) = unfinished {
                return Err(Failure::refused(format!(
                    "migration {} is {}, and would count as applied",
                    entry.version, entry.state
                ))
                .next(format!("migrate contract {0}, or migrate abort {0}", entry.version)));
            }
            let older = engine.ledger.instances_below(&mut self.session, version).await?;
            if !older.is_empty() {
                return Err(Failure::refused(format!("instances older than {version} are alive"))
                    .details(older)
                    .next("migrate instances"));
            }
            engine.ledger.set_baseline(&mut self.session, version).await?;
            let detail = serde_json::json!({ "from": before, "to": version.number(), "files": files });
            engine.ledger.event(&mut self.session, None, "baseline", detail).await?;
            self.session.execute("COMMIT").await?;
            Ok(true)
        }
        .await;
        if !matches!(set, Ok(true)) {
            self.session.rollback().await;
        }
        set
    }
}
