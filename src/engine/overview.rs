//! What there is to see: the state of every migration. Reads only, waits for nobody.

use serde::Serialize;

use crate::decide::state::State;
use crate::engine::Engine;
use crate::engine::failure::{Failure, Outcome};
use crate::model::migration::{MigrationFile, read_folder};
use crate::pg::install;
use crate::pg::jobs::Progress;
use crate::pg::lease::{self, Holder};
use crate::pg::ledger::Entry;
use crate::pg::registry::{self, Instance};
use crate::words::version::Version;

/// A migration with what to do next about it.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) version: Version,
    pub(crate) name: String,
    pub(crate) state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) entry: Option<Entry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) jobs: Vec<Progress>,
    /// The command that brings it further.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// Everything that `status` shows.
#[derive(Debug)]
pub(crate) struct Overview {
    pub(crate) installed: bool,
    pub(crate) lines: Vec<Line>,
    pub(crate) holder: Option<Holder>,
    pub(crate) conflicts: Vec<String>,
}

impl Engine {
    pub(crate) async fn overview(&self) -> Outcome<Overview> {
        let mut session = self.session("migrate status").await?;
        let installed = install::is_installed(&mut session, &self.ledger.schema).await?;
        let (files, mut conflicts) = self.files_if_any();
        if conflicts.is_empty()
            && let Err(failure) = self.situation(&mut session, files.clone(), &[]).await
        {
            conflicts.push(failure.message.clone());
            conflicts.extend(failure.details);
        }
        let mut lines = Vec::new();
        let mut holder = None;
        let baseline = if installed { self.ledger.baseline(&mut session).await? } else { 0 };
        if installed {
            holder = lease::holder_of(&mut session, &self.ledger.schema).await?;
            for entry in self.ledger.entries(&mut session).await? {
                let jobs = match entry.state {
                    State::Backfilling => self.ledger.progress(&mut session, entry.version).await?,
                    _ => Vec::new(),
                };
                let file = files.iter().find(|file| file.version == entry.version);
                let next = match file {
                    Some(file) if entry.state == State::Aborted && file.checksum == entry.checksum => {
                        Some(format!("change or delete the file, or migrate expand --to {}", entry.version))
                    }
                    Some(_) if entry.state == State::Aborted => Some("migrate expand".to_owned()),
                    _ => next_command(&entry),
                };
                lines.push(Line {
                    version: entry.version,
                    name: entry.name.clone(),
                    state: entry.state,
                    entry: Some(entry),
                    jobs,
                    next,
                });
            }
        }
        // Up to the baseline everything counts as applied.
        for file in files.into_iter().filter(|file| file.version.number() > baseline) {
            if !lines.iter().any(|line| line.version == file.version) {
                let next = Some("migrate expand".to_owned());
                lines.push(Line {
                    version: file.version,
                    name: file.name,
                    state: State::Pending,
                    entry: None,
                    jobs: Vec::new(),
                    next,
                });
            }
        }
        lines.sort_by_key(|line| line.version);
        Ok(Overview { installed, lines, holder, conflicts })
    }

    /// The files as far as they can be read: what is in the database is shown in any case. The second part says what is wrong
    /// with them.
    pub(super) fn files_if_any(&self) -> (Vec<MigrationFile>, Vec<String>) {
        if !self.folder.is_dir() {
            let missing =
                format!("no folder `{}`: only what the ledger knows is shown", self.folder.display());
            return (Vec::new(), vec![missing]);
        }
        let failure = match read_folder(&self.folder) {
            Ok(files) => return (files, Vec::new()),
            Err(error) => Failure::from(error),
        };
        let mut lines = vec![failure.message];
        lines.extend(failure.details);
        lines.push(format!("next: {}", failure.next.unwrap_or_else(|| "migrate lint".to_owned())));
        (Vec::new(), lines)
    }

    /// The highest version that the ledger has, its baseline included; 0 if there is none.
    pub(crate) async fn newest_known(&self) -> Outcome<i64> {
        let mut session = self.session("migrate new").await?;
        if !install::is_installed(&mut session, &self.ledger.schema).await? {
            return Ok(0);
        }
        let newest =
            self.ledger.entries(&mut session).await?.last().map_or(0, |entry| entry.version.number());
        Ok(newest.max(self.ledger.baseline(&mut session).await?))
    }

    pub(crate) async fn instances(&self) -> Outcome<Vec<Instance>> {
        let mut session = self.session("migrate instances").await?;
        self.require_ledger(&mut session).await?;
        Ok(registry::instances(&mut session, &self.ledger.schema).await?)
    }
}

fn next_command(entry: &Entry) -> Option<String> {
    let version = entry.version;
    match entry.state {
        State::Pending | State::Expanding => Some("migrate expand".to_owned()),
        State::Expanded | State::Backfilling => Some(format!("migrate backfill {version}")),
        State::Ready if entry.verified != Some(true) => Some(format!("migrate backfill {version}")),
        State::Ready if entry.has_contract => Some(format!("roll out, then migrate contract {version}")),
        State::Ready | State::Closing | State::Dropping => Some(format!("migrate contract {version}")),
        State::Sealed => match entry.drop_due_in_seconds {
            Some(left) if left > 0 => {
                Some(format!("migrate contract {version} in {left} s, or migrate reopen {version}"))
            }
            _ => Some(format!("migrate contract {version}")),
        },
        State::Aborting => Some(format!("migrate abort {version}")),
        State::Done | State::Aborted => None,
    }
}
