//! The plan: a migration compiled into phases and steps. It is data: printed, hashed, stored in the ledger, run.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::catalog::ObjectRef;
use crate::words::checksum::checksum;
use crate::words::ident::{Ident, QualifiedName, literal};
use crate::words::lock_mode::LockMode;
use crate::words::version::Version;

/// The format of stored plans. Another number is refused, never half read.
pub(crate) const FORMAT: u32 = 1;

/// A compiled migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    pub(crate) format: u32,
    pub(crate) version: Version,
    pub(crate) name: String,
    /// Of the file's canonical text.
    pub(crate) checksum: String,
    /// How unqualified names in the author's text resolve.
    pub(crate) search_path: Vec<Ident>,
    pub(crate) serve_expanded: bool,
    pub(crate) soak_seconds: Option<u64>,
    /// One line for each change of the file.
    pub(crate) changes: Vec<ChangeLine>,
    pub(crate) warnings: Vec<String>,
    /// Existing tables whose shape changes, with their columns as they were planned against.
    pub(crate) before: BTreeMap<String, Vec<String>>,
    pub(crate) tables: Vec<QualifiedName>,
    /// The columns that its mappings name, as `schema.table` and column.
    pub(crate) touches: Vec<(String, Ident)>,
    /// Partitions that contract takes out of their tables, and a reopen puts back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) apart: Vec<QualifiedName>,
    /// Columns from which others are computed until contract; without a column, tables whose rows make those of another one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) followed: Vec<(QualifiedName, Ident)>,
    /// Tables and columns that expand brings into being, as `schema.table` and `schema.table.column`.
    pub(crate) adds: Vec<String>,
    /// Columns that its changes name, as `schema.table.column`.
    pub(crate) uses: BTreeSet<String>,
    /// Identifiers in statements that run as written: what they may build on.
    pub(crate) mentions: BTreeSet<String>,
    /// Names of indexes and constraints that it makes, in whatever phase, as `schema.name`.
    pub(crate) names: BTreeSet<String>,
    pub(crate) expand: Vec<Step>,
    pub(crate) jobs: Vec<Job>,
    /// Backfill steps that need the data in place: indexes, statistics.
    pub(crate) settle: Vec<Step>,
    /// Contract steps behind the closed gate that may fail on data: constraints, unique indexes.
    pub(crate) restrict: Vec<Step>,
    /// The reversible half of contract.
    pub(crate) seal: Vec<Step>,
    /// The irreversible half of contract.
    pub(crate) drop: Vec<Step>,
    /// Columns that the seal hides.
    pub(crate) sealed: Vec<SealedColumn>,
    /// Other objects that the seal hides, as the server describes them, with what it then calls them.
    pub(crate) hidden: BTreeMap<String, String>,
    /// Other objects that contract makes, changes or takes away.
    pub(crate) objects: Vec<ObjectRef>,
    /// What an abort would throw away, and what is in its way.
    pub(crate) losses: Vec<Loss>,
}

/// What one change of the file becomes, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChangeLine {
    /// From 1.
    pub(crate) line: usize,
    pub(crate) what: String,
    pub(crate) becomes: String,
}

/// The smallest recorded unit: one statement or one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Step {
    /// Unique in the plan, for instance `expand-2`.
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) mode: Mode,
    pub(crate) sql: Vec<String>,
    /// Takes the step back; empty if nothing can or nothing needs to.
    pub(crate) undo: Vec<String>,
    /// A condition on the catalog without which there is nothing to take back.
    pub(crate) undo_when: Option<String>,
    pub(crate) locks: Vec<TableLock>,
    /// Whether it reads or writes every row of a table.
    pub(crate) scans: bool,
    /// What an abort leaves of it, where to run it again is not the same as to run it once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stays: Option<String>,
}

/// How a step runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// All statements in one transaction, together with the step's record.
    Transaction,
    /// One statement that cannot run in a transaction. `verify` is a query that gives true if it took effect,
    /// `leftover` one that gives true if a failed run left something, which `clean_up` then removes.
    /// `moot` is one that gives true if what it is done to is gone.
    Alone { verify: String, leftover: String, clean_up: String, moot: String },
    /// No row of the table may satisfy the predicate; those that do are listed by their key.
    Require(Require),
}

/// A condition on the rows of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Require {
    pub(crate) table: QualifiedName,
    pub(crate) predicate: String,
    pub(crate) says: String,
    /// What names a row, where its key does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) named: Option<String>,
    /// Makes the condition hold by believing the operator that those rows are seen to; none where nobody may say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) accept: Option<String>,
}

/// A lock that a step takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableLock {
    pub(crate) table: QualifiedName,
    pub(crate) mode: LockMode,
}

/// The data work of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) table: QualifiedName,
    pub(crate) work: Work,
}

/// What batches do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Work {
    /// Brings rows into step, by pages of the table. To do it again changes nothing.
    Convert(Convert),
    /// Changes each row that was there at the start exactly once, by its place in a list of keys.
    Once(Box<Once>),
    /// Brings rows of one table into step with those of another, by pages. To do it again changes nothing.
    Across(Box<Across>),
}

/// Rows of two tables that must agree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Across {
    /// What first copies the rows that are there, where rows of one table make those of the other.
    pub(crate) copy: Option<Once>,
    /// The table whose pages are read, and what it is called while sealed.
    pub(crate) rows_of: QualifiedName,
    pub(crate) rows_of_sealed: QualifiedName,
    /// Locks the rows of the other side that a batch reads.
    pub(crate) lock: Ranged,
    /// Locks the batch's own rows without waiting, where they are there already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hold: Option<Ranged>,
    /// Computes the batch's rows.
    pub(crate) change: Ranged,
    /// True for a row `r` that does not agree: what the last sweep and verification count.
    pub(crate) wrong: String,
    /// The same with the names while sealed.
    pub(crate) wrong_sealed: String,
    /// Whether nothing tells a null of new code from a value that is missing, so that rows are looked at for the last time when
    /// the gate is closed, and while sealed only those of a partition that has come since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) last_looked_at_closed: bool,
    /// The value of the session setting that makes this migration's sync triggers skip the batch.
    pub(crate) skip: String,
}

/// A statement of a batch, around the table whose pages it reads, if it does, and the condition that picks its rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ranged {
    pub(crate) head: String,
    pub(crate) rows_of: Option<QualifiedName>,
    pub(crate) middle: String,
    pub(crate) tail: String,
}

impl Ranged {
    pub(crate) fn at(&self, range: &str) -> String {
        let rows_of = self.rows_of.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("{}{rows_of}{}{range}{}", self.head, self.middle, self.tail)
    }
}

/// Rows that old and new columns must agree in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Convert {
    /// The assignments of the batch's UPDATE.
    pub(crate) set: String,
    /// True for a row that the batch must convert.
    pub(crate) need: String,
    /// True for a row that is not consistent: what the last sweep and verification count.
    pub(crate) wrong: String,
    /// The same with the names that the columns have while sealed.
    pub(crate) wrong_sealed: String,
    /// The assignments that, while sealed, bring the hidden columns up to what the new ones say; none if nothing does.
    pub(crate) resync: String,
    /// True for a row that they may be done to: it is wrong, and its new columns say something.
    pub(crate) need_resync: String,
    /// The value of the session setting that makes this migration's sync triggers skip the batch.
    pub(crate) skip: String,
    /// Whether no statement of the file updates the rows, so that no trigger of the user's is to fire for them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) quiet: bool,
}

/// A data job: a list of keys, and the statement that changes the rows of some of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Once {
    /// The list: numbers from 0, each with the key of a row.
    pub(crate) list: QualifiedName,
    /// The columns of the key.
    pub(crate) key: Vec<Ident>,
    /// The statements that make it.
    pub(crate) make: Vec<String>,
    /// Locks the rows that a batch reads, where another side could change them meanwhile.
    pub(crate) lock: Option<Ranged>,
    /// Notes in the list what the batch's rows hold, where contract must know whether that was their last word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mark: Option<Ranged>,
    /// The batch up to its WHERE.
    pub(crate) before: String,
    /// What must lie within the batch's range.
    pub(crate) number: String,
    /// The batch behind the range.
    pub(crate) after: String,
}

impl Once {
    /// The statement that changes the rows of which a condition holds in the list. What it notes of them is of the same moment.
    pub(crate) fn change(&self, condition: &str) -> String {
        let mark = self.mark.as_ref().map(|mark| format!("WITH _pontoon_seen AS ({}) ", mark.at(condition)));
        format!("{}{} WHERE {condition}{}", mark.unwrap_or_default(), self.before, self.after)
    }

    /// Names a row of the list for people, by its key.
    pub(crate) fn named_key(&self) -> String {
        let named: Vec<String> = self
            .key
            .iter()
            .enumerate()
            .map(|(at, column)| format!("{} || _pontoon_k{at}", literal(&format!("{} = ", column.as_str()))))
            .collect();
        format!("concat_ws(', ', {})", named.join(", "))
    }
}

impl Job {
    /// The list of rows that it goes by, where it does.
    pub(crate) fn once(&self) -> Option<&Once> {
        match &self.work {
            Work::Convert(_) => None,
            Work::Once(once) => Some(once),
            Work::Across(across) => across.copy.as_ref(),
        }
    }

    /// Whether each partition of its table is work of its own.
    pub(crate) fn is_by_partition(&self) -> bool {
        match &self.work {
            Work::Convert(_) => true,
            Work::Once(_) => false,
            Work::Across(across) => across.copy.is_none(),
        }
    }

    /// The part of it that concerns one partition of its table. One that was dropped and made again is another one.
    pub(crate) fn of_partition(&self, partition: QualifiedName, oid: i64) -> Self {
        let id = format!("{}/{}#{oid}", self.id, partition.plain());
        let mut work = self.work.clone();
        if let Work::Across(across) = &mut work {
            for name in [&mut across.rows_of, &mut across.rows_of_sealed] {
                name.clone_from(&partition);
            }
            for statement in [&mut across.lock, &mut across.change].into_iter().chain(&mut across.hold) {
                statement.rows_of = Some(partition.clone());
            }
        }
        Self { id, table: partition, work }
    }

    /// The table whose partitions are work of their own, and what it is called while sealed.
    pub(crate) fn parted(&self) -> (&QualifiedName, &QualifiedName) {
        match &self.work {
            Work::Across(across) => (&across.rows_of, &across.rows_of_sealed),
            Work::Convert(_) | Work::Once(_) => (&self.table, &self.table),
        }
    }

    /// Whether rows can be found afterwards that still need it, or that it missed.
    pub(crate) fn can_be_checked(&self) -> bool {
        !matches!(self.work, Work::Once(_))
    }

    /// Whether its rows are checked once more when no old code writes, before the seal.
    pub(crate) fn is_checked_closed(&self) -> bool {
        matches!(&self.work, Work::Across(across) if across.last_looked_at_closed)
    }

    /// The table whose rows, as `r`, are checked, and what is true for a wrong one.
    pub(crate) fn check(&self, sealed: bool) -> Option<(&QualifiedName, &str)> {
        match &self.work {
            Work::Convert(convert) if sealed => Some((&self.table, &convert.wrong_sealed)),
            Work::Convert(convert) => Some((&self.table, &convert.wrong)),
            Work::Across(across) if sealed => Some((&across.rows_of_sealed, &across.wrong_sealed)),
            Work::Across(across) => Some((&across.rows_of, &across.wrong)),
            Work::Once(_) => None,
        }
    }

    /// What is counted out to batches: pages of the table, or numbers of the list.
    pub(crate) fn counted(&self) -> &QualifiedName {
        match (&self.work, self.once()) {
            (_, Some(once)) => &once.list,
            (Work::Across(across), None) => &across.rows_of,
            (Work::Convert(_) | Work::Once(_), None) => &self.table,
        }
    }
}

/// A column that the seal renames out of reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SealedColumn {
    pub(crate) table: QualifiedName,
    /// Its name for the old code.
    pub(crate) column: Ident,
    /// The column that goes, under its name before the seal: the shadow of a rename, else the same.
    pub(crate) going: Ident,
    /// The name of the column that goes while sealed.
    pub(crate) hidden: Ident,
    /// Whether rows written while it is sealed still get a value in it.
    pub(crate) kept_current: bool,
    /// What a change of type must know of it; another column has its name while sealed.
    pub(crate) replaced: Option<Replaced>,
}

/// A column that another one of another type replaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Replaced {
    /// True for a row whose old value does not say what the new one does; with the names while sealed.
    pub(crate) lost: String,
    /// Whether the old column must not be null, so that no row may lack its value.
    pub(crate) not_null: bool,
    /// The indexes and constraints that name it, own and pointing: what the swap takes along.
    pub(crate) known: BTreeSet<String>,
}

/// Rows or values that an abort would throw away, or that are in its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Loss {
    pub(crate) what: String,
    /// A query that counts them.
    pub(crate) count: String,
    /// Whether the old schema does not even allow them, so that they have to be corrected first.
    pub(crate) blocks: bool,
}

impl Plan {
    /// The hash of everything that will run. Two plans with one hash do the same.
    pub(crate) fn hash(&self) -> String {
        checksum(&serde_json::to_string(self).unwrap_or_default())
    }

    /// The tables whose rows its data jobs and moves read or change.
    pub(crate) fn tables_of_jobs(&self) -> Vec<QualifiedName> {
        let jobs: Vec<&Job> = self.jobs.iter().filter(|job| !matches!(job.work, Work::Convert(_))).collect();
        if jobs.is_empty() {
            return Vec::new();
        }
        let touched = |table: &&QualifiedName| self.touches.iter().any(|(name, _)| name == &table.plain());
        let mut tables: Vec<QualifiedName> = self.tables.iter().filter(touched).cloned().collect();
        tables.extend(jobs.into_iter().map(|job| job.table.clone()));
        tables
    }

    /// The tables of which its UPDATEs fill or mend columns.
    pub(crate) fn filled(&self) -> impl Iterator<Item = &QualifiedName> {
        let says = |job: &&Job| matches!(&job.work, Work::Convert(convert) if !convert.quiet);
        self.jobs.iter().filter(says).map(|job| &job.table)
    }

    /// Whether to run it a second time, after an abort, would do something to the data a second time.
    pub(crate) fn is_once_only(&self) -> bool {
        self.jobs.iter().any(|job| matches!(job.work, Work::Once(_)))
            || self.expand.iter().any(|step| step.stays.is_some())
    }

    /// Whether contract has anything to do.
    pub(crate) fn has_contract(&self) -> bool {
        !(self.restrict.is_empty() && self.seal.is_empty() && self.drop.is_empty())
    }

    /// Whether there is anything between expanded and ready.
    pub(crate) fn has_backfill(&self) -> bool {
        !(self.jobs.is_empty() && self.settle.is_empty())
    }

    /// Every step, with the phase it belongs to.
    pub(crate) fn phases(&self) -> [(&'static str, &[Step]); 5] {
        [
            ("expand", &self.expand),
            ("backfill", &self.settle),
            ("contract: restrict", &self.restrict),
            ("contract: seal", &self.seal),
            ("contract: drop", &self.drop),
        ]
    }
}
