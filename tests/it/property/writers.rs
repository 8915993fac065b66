//! Writers that speak every version which may live, one statement after the other, and know what each version must see.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::postgres::PgConnection;
use tokio::sync::RwLock;
use tokio::task::JoinHandle;

use super::schema::History;
use crate::support::traffic::{Manner, attempt};
use crate::support::{connect, run, text};

/// The versions of the code that live; a statement runs under the read lock, so that a change of it drains them.
pub(super) type Live = Arc<RwLock<Vec<usize>>>;

/// What was last written to a column: in which order, by code of which version, and what.
type Written = (u64, usize, Option<String>);

/// What is known of a row: by lineage of its columns.
type Known = BTreeMap<usize, Written>;

/// What a writer has done.
#[derive(Debug, Default)]
pub(super) struct Account {
    rows: BTreeMap<u64, Known>,
    pub(super) deleted: Vec<u64>,
    pub(super) statements: u64,
    pub(super) repeated: u64,
}

/// A writer at work.
pub(super) struct Writer {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Account>,
}

impl Writer {
    /// Starts one of two, `number` 0 or 1; its rows are its own.
    pub(super) fn start(url: &str, number: u64, history: Arc<History>, live: Live, manner: Manner) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (url, stopped) = (url.to_owned(), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            let mut connection = connect(&url).await;
            run(&mut connection, &manner.prepare).await;
            let mut session = Session { connection, manner, history, number, account: Account::default() };
            while !stopped.load(Ordering::SeqCst) {
                let live = live.read().await;
                session.write(&live).await;
                drop(live);
                tokio::time::sleep(Duration::from_micros(fastrand::u64(0..4_000))).await;
            }
            session.account
        });
        Self { stop, task }
    }

    /// Its account; a wrong read or an error has ended it in a panic that comes to light here.
    pub(super) async fn stop(self) -> Account {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap()
    }
}

struct Session {
    connection: PgConnection,
    manner: Manner,
    history: Arc<History>,
    number: u64,
    account: Account,
}

impl Session {
    async fn write(&mut self, live: &[usize]) {
        let version = live[fastrand::usize(0..live.len())];
        self.account.statements += 1;
        let number = self.account.statements;
        let own = 1_000_000 * (self.number + 1);
        let known = self.account.rows.len();
        let (id, insert) = match fastrand::u8(0..10) {
            0..3 => (own + number, true),
            // Rows that were there before, which the backfill may not have reached.
            3..5 => (201 + self.number * 100 + fastrand::u64(0..100), false),
            _ if known == 0 => return,
            other => {
                let id = *self.account.rows.keys().nth(fastrand::usize(0..known)).unwrap();
                if other == 9 && id > own {
                    self.run(&format!("DELETE FROM u WHERE id = {id}; DELETE FROM t WHERE id = {id}")).await;
                    self.account.rows.remove(&id);
                    self.account.deleted.push(id);
                    return;
                }
                (id, false)
            }
        };
        let written = self.values(id, version, insert);
        let mut by_table = BTreeMap::from([("t", Vec::new()), ("u", Vec::new())]);
        for (lineage, value) in &written {
            let column = self.history.versions[version].column(*lineage).unwrap();
            let literal = value.as_ref().map_or_else(|| "NULL".to_owned(), |value| format!("'{value}'"));
            by_table.entry(column.table).or_default().push((column.name.clone(), literal));
        }
        let statement = |(table, values): (&str, Vec<(String, String)>)| {
            if insert {
                let names: String = values.iter().map(|(name, _)| format!(", {name}")).collect();
                let literals: String = values.iter().map(|(_, literal)| format!(", {literal}")).collect();
                return Some(format!("INSERT INTO {table} (id{names}) VALUES ({id}{literals})"));
            }
            let sets: Vec<String> =
                values.iter().map(|(name, literal)| format!("{name} = {literal}")).collect();
            (!sets.is_empty()).then(|| format!("UPDATE {table} SET {} WHERE id = {id}", sets.join(", ")))
        };
        let sql = by_table.into_iter().filter_map(statement).collect::<Vec<_>>().join("; ");
        self.run(&sql).await;
        let row = self.account.rows.entry(id).or_default();
        row.extend(written.into_iter().map(|(lineage, value)| (lineage, (number, version, value))));
        let reader = live[fastrand::usize(0..live.len())];
        let wrong = self.account.wrong(&mut self.connection, &self.history, id, reader).await;
        assert_eq!(wrong, None, "version {reader} reads this after version {version} wrote {sql}");
    }

    /// What to write: all columns of an insert, some of an update. Code that knows of a computed column writes it too.
    fn values(&self, id: u64, version: usize, insert: bool) -> BTreeMap<usize, Option<String>> {
        let known = self.account.rows.get(&id);
        let columns = &self.history.versions[version].columns;
        let sure = fastrand::usize(0..columns.len());
        let mut chosen: Vec<usize> = columns
            .iter()
            .enumerate()
            .filter(|(at, _)| insert || *at == sure || fastrand::u8(0..3) == 0)
            .map(|(_, column)| column.lineage)
            .collect();
        for column in columns {
            let source = self.history.derivation(column.lineage).map(|(_, from)| from);
            if source.is_some_and(|from| chosen.contains(&from)) && !chosen.contains(&column.lineage) {
                chosen.push(column.lineage);
            }
        }
        chosen
            .into_iter()
            .map(|lineage| {
                let column = self.history.versions[version].column(lineage).unwrap();
                // An inserted NULL in a computed column, or for an old default, means that it was not given; NULL over
                // NULL is no write that anyone sees.
                let may_be_null = !column.not_null
                    && self.history.derivation(lineage).is_none()
                    && (insert && !self.history.has_default(lineage)
                        || known.is_some_and(|row| {
                            row.get(&lineage).is_some_and(|(_, _, value)| value.is_some())
                        }));
                let value = match may_be_null && fastrand::u8(0..5) == 0 {
                    true => None,
                    // Without a fraction: the type may be the one before.
                    false => Some((1_000 + self.account.statements).to_string()),
                };
                (lineage, value)
            })
            .collect()
    }

    async fn run(&mut self, sql: &str) {
        let repeated = attempt(&mut self.connection, &self.manner, sql).await;
        self.account.repeated += repeated.unwrap_or_else(|error| panic!("{error}: {sql}"));
    }
}

impl Account {
    pub(super) fn rows(&self) -> impl Iterator<Item = u64> {
        self.rows.keys().copied()
    }

    /// What was last written to a column, or computed from what was.
    fn last(&self, history: &History, id: u64, lineage: usize) -> Option<Written> {
        let row = self.rows.get(&id)?;
        let own = row.get(&lineage).cloned();
        let Some((at, from)) = history.derivation(lineage) else { return own };
        let Some((number, version, value)) = self.last(history, id, from) else { return own };
        if version >= at || own.as_ref().is_some_and(|(last, _, _)| *last >= number) {
            return own;
        }
        let value = history.translated(from, value, version, at - 1);
        Some((number, at, value.map(|value| value + "!")))
    }

    /// What code of a version sees in a row, if it is not what it must see.
    pub(super) async fn wrong(
        &self,
        connection: &mut PgConnection,
        history: &History,
        id: u64,
        version: usize,
    ) -> Option<String> {
        let mut tests = vec!["true".to_owned()];
        for column in &history.versions[version].columns {
            let Some((_, writer, value)) = self.last(history, id, column.lineage) else { continue };
            let Some(value) = history.translated(column.lineage, value, writer, version) else {
                if !history.is_repaired_after(column.lineage, version) {
                    tests.push(format!("{} IS NULL", column.name));
                }
                continue;
            };
            // A column that changes its type shows the new one only after the swap.
            let compared = match column.kind {
                "text" | "varchar(30)" | "varchar(40)" => "text",
                _ => "numeric",
            };
            tests.push(format!("coalesce({}::{compared} = '{value}', false)", column.name));
        }
        let both = format!("FROM t JOIN u USING (id) WHERE id = {id}");
        let sees = text(connection, &format!("SELECT ({})::text {both}", tests.join(" AND "))).await;
        if sees == "true" {
            return None;
        }
        let row = text(connection, &format!("SELECT (to_jsonb(t) || to_jsonb(u))::text {both}")).await;
        Some(format!("row {id}: {row}\nmust be: {}\nwritten: {:?}", tests.join(" AND "), self.rows[&id]))
    }
}
