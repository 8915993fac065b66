//! Expand: plans what is pending, stores each plan, runs it.

use std::time::{Duration, Instant};

use crate::decide::change::alter_type;
use crate::decide::draft::{Moving, compile};
use crate::decide::history::{Conflict, Due, EntryFact, FileFact, compare};
use crate::decide::plan::Plan;
use crate::decide::state::{Event, State};
use crate::engine::failure::{Failure, Outcome};
use crate::engine::step_runner::Running;
use crate::engine::{EXPAND_WAIT, Engine, Happening, Runner};
use crate::model::catalog::{Catalog, Conversion};
use crate::model::migration::{MigrationFile, read_folder};
use crate::model::sql::Statement;
use crate::pg::ledger::Entry;
use crate::pg::session::Session;
use crate::pg::{catalog, install};
use crate::words::fault;
use crate::words::version::Version;

/// How long `plan` looks at tables that somebody has locked.
const PLAN_WAIT: Duration = Duration::from_secs(1);

/// What to expand.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    /// The last version to expand; all that are due if none.
    pub(crate) to: Option<Version>,
    /// Run only the plan with this hash.
    pub(crate) plan: Option<String>,
    /// Do to the data again what an abort left in place.
    pub(crate) again: bool,
}

/// The folder and the ledger, compared.
pub(crate) struct Situation {
    pub(crate) files: Vec<MigrationFile>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) due: Due,
}

impl Engine {
    /// Expands everything that is due. Gives the versions, with what became of them.
    pub(crate) async fn expand(&self, request: &Request) -> Outcome<Vec<(Version, State)>> {
        let files = read_folder(&self.folder)?;
        let mut session = self.writing_session("migrate expand").await?;
        install::install(&mut session, &self.ledger.schema).await?;
        let mut runner = self.runner(session, "expand", EXPAND_WAIT).await?;
        let done = runner.expand_due(files, request).await;
        runner.release().await;
        done
    }

    pub(super) fn note_aborted(&self, version: Version) {
        self.note(format!(
            "migration {version} was aborted and its file is unchanged; to try it again: migrate expand --to {version}"
        ));
    }

    /// Compares the folder with the ledger.
    pub(crate) async fn situation(
        &self,
        session: &mut Session,
        files: Vec<MigrationFile>,
        named: &[Version],
    ) -> Outcome<Situation> {
        let installed = install::is_installed(session, &self.ledger.schema).await?;
        let (entries, served, baseline, adopted) = if installed {
            let ledger = &self.ledger;
            (
                ledger.entries(session).await?,
                ledger.highest_registered(session).await?,
                ledger.baseline(session).await?,
                ledger.baseline_files(session).await?,
            )
        } else {
            (Vec::new(), None, 0, None)
        };
        let late = |file: &&MigrationFile| {
            let number = file.version.number();
            number <= baseline
                && adopted.as_ref().is_some_and(|adopted| !adopted.contains(&number))
                && !entries.iter().any(|entry| entry.version == file.version)
        };
        if let Some(file) = files.iter().find(late) {
            let (baseline, path) = (Version::from(baseline), file.source.path.to_string());
            return Err(Failure::conflicts(&[Conflict::BelowBaseline { baseline, path }]));
        }
        let facts: Vec<FileFact> = files
            .iter()
            .map(|file| FileFact {
                version: file.version,
                checksum: file.checksum.clone(),
                path: file.source.path.to_string(),
                replaces: file.options.replaces,
            })
            .collect();
        let known: Vec<EntryFact> = entries
            .iter()
            .map(|entry| EntryFact {
                version: entry.version,
                checksum: entry.checksum.clone(),
                state: entry.state,
                untouched: entry.untouched,
            })
            .collect();
        let due = compare(&facts, &known, served, baseline, named)
            .map_err(|conflicts| Failure::conflicts(&conflicts))?;
        Ok(Situation { files, entries, due })
    }

    /// Plans everything that is due, each on top of the one before. Reads only.
    pub(crate) async fn plans(
        &self,
        session: &mut Session,
        named: &[Version],
    ) -> Outcome<Vec<(MigrationFile, Plan)>> {
        let situation = self.situation(session, read_folder(&self.folder)?, named).await?;
        let due: Vec<MigrationFile> = situation
            .files
            .iter()
            .filter(|file| situation.due.expand.contains(&file.version))
            .cloned()
            .collect();
        // One that is expanding right now, or again from where it stopped, runs the stored plan.
        let stored = |file: &MigrationFile| {
            situation.entries.iter().any(|entry| {
                entry.version == file.version
                    && entry.state == State::Expanding
                    && (!entry.untouched || entry.checksum == file.checksum)
            })
        };
        let fresh: Vec<MigrationFile> = due.iter().filter(|file| !stored(file)).cloned().collect();
        let others: Vec<Entry> = situation.entries.iter().filter(|entry| !entry.untouched).cloned().collect();
        let mut moving: Vec<Moving> = self.moving(session, &others).await?;
        let mut catalog = self.snapshot(session, &fresh, &moving, PLAN_WAIT).await?;
        let mut plans = Vec::new();
        for file in due {
            if stored(&file) {
                let (plan, _) = self.stored_plan(session, file.version).await?;
                plans.push((file, plan));
                continue;
            }
            let (plan, after, more) = compile(&file, &catalog, &moving, &self.settings)?;
            catalog = after;
            moving.extend(more);
            plans.push((file, plan));
        }
        Ok(plans)
    }

    /// The tables that the files speak of, and those whose rows are in flight: a file may read them through a view. Waits up to
    /// `wait` for tables that somebody has locked.
    pub(crate) async fn snapshot(
        &self,
        session: &mut Session,
        files: &[MigrationFile],
        moving: &[Moving],
        wait: Duration,
    ) -> Outcome<Catalog> {
        let statements = || files.iter().flat_map(|file| &file.statements);
        let mut words: Vec<String> = moving
            .iter()
            .filter(|moving| moving.is_about_rows())
            .map(|moving| moving.table.name.as_str().to_owned())
            .collect();
        words.extend(statements().flat_map(|statement| statement.words.iter().cloned()));
        let defined: Vec<String> = statements()
            .flat_map(Statement::needs_definitions_of)
            .map(|table| table.as_str().to_owned())
            .collect();
        let deadline = Instant::now() + wait;
        loop {
            match catalog::snapshot(session, words.clone(), defined.clone(), &self.ledger.schema).await {
                Err(error) if error.is_lock_conflict() && Instant::now() < deadline => {
                    self.note("waiting: a table is locked");
                    tokio::time::sleep(self.limits.lock_timeout).await;
                }
                snapshot => {
                    let mut catalog: Catalog = snapshot?;
                    self.try_conversions(session, statements(), &mut catalog).await?;
                    for signature in statements().flat_map(Statement::signatures) {
                        let path = &self.settings.search_path;
                        let what = catalog::function(session, path, signature).await?;
                        catalog.signatures.extend(what.map(|what| (signature.to_owned(), what)));
                    }
                    self.reserve_names(session, files, &mut catalog).await?;
                    return Ok(catalog);
                }
            }
        }
    }

    /// Names that migrations in flight are still to give are not free.
    async fn reserve_names(
        &self,
        session: &mut Session,
        files: &[MigrationFile],
        catalog: &mut Catalog,
    ) -> Outcome<()> {
        if !install::is_installed(session, &self.ledger.schema).await? {
            return Ok(());
        }
        for entry in self.ledger.entries(session).await? {
            if entry.state.is_in_flight() && !files.iter().any(|file| file.version == entry.version) {
                let (plan, _) = self.stored_plan(session, entry.version).await?;
                catalog.reserve(&plan.names);
                let busy = plan.objects.into_iter().map(|object| (object, entry.version));
                catalog.busy_objects.extend(busy);
            }
        }
        Ok(())
    }

    /// Asks the server about every change of a type, and of the columns that would change with it.
    async fn try_conversions<'a>(
        &self,
        session: &mut Session,
        statements: impl Iterator<Item = &'a Statement>,
        catalog: &mut Catalog,
    ) -> Outcome<()> {
        let path = &self.settings.search_path;
        let mut before = Vec::new();
        for statement in statements {
            if alter_type::may_need(statement) {
                before.push(statement.text.as_str());
            }
            for (table, column, asked) in alter_type::asked(statement, catalog, path) {
                let conversion = catalog::conversion(session, path, &before, &table, &column, &asked).await?;
                catalog.conversions.insert(Conversion::key(&table, &column, &asked), conversion);
            }
        }
        Ok(())
    }
}

impl Runner<'_> {
    pub(crate) async fn expand_due(
        &mut self,
        files: Vec<MigrationFile>,
        request: &Request,
    ) -> Outcome<Vec<(Version, State)>> {
        let named: Vec<Version> = request.to.into_iter().collect();
        let situation = self.engine.situation(&mut self.session, files, &named).await?;
        if let Some(entry) = situation.entries.iter().find(|entry| entry.state == State::Aborting) {
            // What it made is half gone: nothing may build on that.
            let title = format!("an abort of migration {} was begun and not finished", entry.version);
            return Err(Failure::refused(title).next(format!("migrate abort {}", entry.version)));
        }
        if let Some(to) = request.to
            && !situation.files.iter().any(|file| file.version == to)
        {
            return Err(Failure::usage(format!(
                "there is no migration {to} in `{}`",
                self.engine.folder.display()
            )));
        }
        let to_come = |version: &Version| {
            request.to.is_none_or(|to| *version <= to) && situation.due.expand.contains(version)
        };
        for version in &situation.due.aborted {
            let newest = situation.due.expand.iter().rfind(|newest| *newest > version && to_come(newest));
            if let Some(newest) = newest {
                let title = format!(
                    "migration {version} was aborted, its file is unchanged, and {newest} comes behind it: code at {newest} would count as \
                     knowing {version}"
                );
                let next = format!("migrate expand --to {version}; or change the file, or delete it");
                return Err(Failure::refused(title).next(next));
            }
            self.engine.note_aborted(*version);
        }
        for version in &situation.due.ahead {
            self.engine.note(format!("migration {version} is applied here and newer than the folder (a rolled-back deploy): left alone"));
        }
        let mut done = Vec::new();
        for file in situation.files.iter().filter(|file| situation.due.expand.contains(&file.version)) {
            if request.to.is_some_and(|to| file.version > to) {
                break;
            }
            match self.expand_one(file, request).await {
                Ok(state) => done.push((file.version, state)),
                Err(failure) if done.is_empty() => return Err(failure),
                Err(failure) => return Err(Failure { beside: Some(report(&done)), ..failure }),
            }
        }
        Ok(done)
    }

    /// What was done to the data once, and is there, is not done a second time without a word.
    async fn refuse_again(&mut self, plan: &Plan) -> Outcome<()> {
        let version = plan.version;
        let left = self.engine.ledger.left_by_abort(&mut self.session, version).await?;
        if left.is_empty() || !plan.is_once_only() {
            return Ok(());
        }
        let title =
            format!("migration {version} was aborted, and what it had done to the data is still there");
        Err(Failure::refused(title).details(left).next(format!(
            "bring the data back to what they were, or take those statements out of the file; then migrate expand --to {version} --again"
        )))
    }

    async fn expand_one(&mut self, file: &MigrationFile, request: &Request) -> Outcome<State> {
        let (engine, wanted) = (self.engine, request.plan.as_deref());
        let entries = engine.ledger.entries(&mut self.session).await?;
        let entry = entries.iter().find(|entry| entry.version == file.version);
        let half_way = entry.filter(|entry| entry.state == State::Expanding && !entry.untouched);
        let (plan, attempt) = match half_way {
            Some(entry) => (engine.stored_plan(&mut self.session, file.version).await?.0, entry.attempt),
            None => {
                let others: Vec<Entry> =
                    entries.iter().filter(|entry| entry.version != file.version).cloned().collect();
                let moving = engine.moving(&mut self.session, &others).await?;
                let catalog = engine
                    .snapshot(
                        &mut self.session,
                        std::slice::from_ref(file),
                        &moving,
                        engine.limits.lock_total,
                    )
                    .await?;
                let (plan, _, _) = compile(file, &catalog, &moving, &engine.settings)?;
                check_hash(&plan, wanted)?;
                if entry.is_some_and(|entry| entry.state == State::Aborted) && !request.again {
                    self.refuse_again(&plan).await?;
                }
                self.rehearse_plan(file, &plan).await?;
                self.begin().await?;
                let attempt = engine.ledger.insert(&mut self.session, &plan, &file.source.text).await?;
                self.commit().await?;
                fault::point("expand.stored");
                (plan, attempt)
            }
        };
        check_hash(&plan, wanted)?;
        engine.observer.saw(Happening::Phase {
            version: plan.version,
            name: plan.name.clone(),
            what: "expand",
        });
        for warning in &plan.warnings {
            engine.note(format!("warning: {warning}"));
        }
        let running = Running { plan: &plan, attempt };
        if let Err(failure) = self.run_steps(&running, &plan.expand).await {
            let untouched =
                engine.entry(&mut self.session, plan.version).await.is_ok_and(|entry| entry.untouched);
            let next = if untouched {
                "nothing was changed: correct the cause, in the file or in the database, and run `migrate expand` again".to_owned()
            } else {
                format!(
                    "correct the cause and run `migrate expand` again, or go back with `migrate abort {}`",
                    plan.version
                )
            };
            return Err(Failure { next: failure.next.or(Some(next)), ..failure });
        }
        fault::point("expand.steps_done");
        // In one transaction, so that a migration with nothing to backfill is never left half way.
        self.begin().await?;
        self.store_fingerprint(&plan).await?;
        let mut state = engine
            .ledger
            .advance(&mut self.session, plan.version, State::Expanding, Event::ExpandFinished, 0)
            .await?;
        if !plan.has_backfill() {
            engine.ledger.set_verified(&mut self.session, plan.version, true).await?;
            state = engine
                .ledger
                .advance(&mut self.session, plan.version, state, Event::BackfillFinished, 0)
                .await?;
        }
        fault::point("expand.before_expanded");
        self.commit().await?;
        fault::point("expand.expanded");
        Ok(state)
    }
}

fn check_hash(plan: &Plan, wanted: Option<&str>) -> Outcome<()> {
    let hash = plan.hash();
    match wanted {
        Some(wanted) if wanted != hash => Err(Failure::refused(format!(
            "the plan of migration {} is not the one that was reviewed",
            plan.version
        ))
        .details(vec![format!("reviewed: {wanted}"), format!("now:      {hash}")])
        .next("look at it again: migrate plan")),
        _ => Ok(()),
    }
}

/// What became of migrations, as a document and as lines.
pub(crate) fn report(done: &[(Version, State)]) -> (serde_json::Value, String) {
    let migrations: Vec<_> = done
        .iter()
        .map(|(version, state)| serde_json::json!({ "version": version, "state": state }))
        .collect();
    let lines: Vec<String> = done.iter().map(|(version, state)| format!("{version} is {state}")).collect();
    (serde_json::json!({ "migrations": migrations }), lines.join("\n"))
}
