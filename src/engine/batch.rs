//! The statements of one batch, and how large the next one is.

use std::time::Duration;

use crate::decide::plan::{Job, Once, Work};
use crate::decide::sync::{KEEP_SETTING, SKIP_SETTING};
use crate::engine::step_runner::path;
use crate::words::ident::{Ident, literal};

/// Pages or rows of the largest batch; one transaction stays short even where nothing needs work.
const MAX_BATCH: i64 = 2_048;

/// How long a batch waits for a row that the application holds. Below the server's `deadlock_timeout`, so that in a
/// deadlock it is always the batch that gives way.
const ROW_WAIT_MS: u32 = 500;

/// The same once it holds rows of another table, for which writers of this one wait: they may have waited nearly as long as
/// that already.
const HELD_WAIT_MS: u32 = 10;

/// Keeps triggers of the user's from firing, where the role may, and from changing the rows where it may not: in psql a column
/// that gets another name or type fires none. Sync triggers are ENABLE ALWAYS.
fn silence(version: &str) -> String {
    format!(
        "DO $pontoon$ BEGIN SET LOCAL session_replication_role = replica; EXCEPTION WHEN insufficient_privilege THEN SET LOCAL \
         {KEEP_SETTING} = {}; END $pontoon$",
        literal(version)
    )
}

fn hurry() -> String {
    format!("SET LOCAL lock_timeout = '{HELD_WAIT_MS}ms'")
}

/// Opens a batch's transaction. A crash of the server may lose its last commits, data and marker together. A data job
/// means what its author's names mean, and fires every trigger, as an UPDATE of the file does. Triggers, checks and indexes of the user find what they name
/// without a schema.
pub(crate) fn batch_begin(job: &Job, search_path: &[Ident]) -> String {
    let skip = |version: &str| format!("; SET LOCAL {SKIP_SETTING} = {}", literal(version));
    let skip = match &job.work {
        Work::Convert(convert) if convert.quiet => {
            format!("{}; {}", skip(&convert.skip), silence(&convert.skip))
        }
        Work::Convert(convert) => skip(&convert.skip),
        Work::Once(_) => String::new(),
        Work::Across(across) => skip(&across.skip),
    };
    format!(
        "BEGIN; SET LOCAL synchronous_commit = off; SET LOCAL lock_timeout = '{ROW_WAIT_MS}ms'; SET LOCAL search_path = {}{skip}",
        path(search_path)
    )
}

/// Changes the rows of some pages, or of some numbers of a list; the last statement is the one that counts. The value is
/// computed by the statement that locks the row version, or by one behind that which locks what it reads.
pub(crate) fn batch_change(job: &Job, first: i64, end: i64) -> Vec<String> {
    match job.once() {
        Some(once) => listed(once, first, end),
        None => convert_rows(job, |row| range(row, first, end)),
    }
}

fn listed(once: &Once, first: i64, end: i64) -> Vec<String> {
    let numbers = format!("{0} >= {first} AND {0} < {end}", once.number);
    let lock = once.lock.iter().flat_map(|lock| [lock.at(&numbers), hurry()]);
    lock.chain([once.change(&numbers)]).collect()
}

/// Converts the rows that a condition picks; `which` makes it for what the rows are called, such as `r.`.
pub(crate) fn convert_rows(job: &Job, which: impl Fn(&str) -> String) -> Vec<String> {
    match &job.work {
        Work::Convert(convert) => vec![format!(
            "UPDATE ONLY {} SET {} WHERE {} AND ({})",
            job.table,
            convert.set,
            which(""),
            convert.need
        )],
        Work::Across(across) => {
            let mut statements = vec![across.lock.at(&which("r.")), hurry()];
            statements.extend(across.hold.iter().map(|hold| hold.at(&which("r."))));
            statements.push(across.change.at(&which("r.")));
            statements
        }
        Work::Once(_) => Vec::new(),
    }
}

/// Brings hidden old columns up to the new ones, in the rows that a condition picks.
pub(crate) fn resync_rows(job: &Job, which: &str) -> Vec<String> {
    match &job.work {
        Work::Convert(convert) => vec![format!(
            "UPDATE ONLY {} SET {} WHERE {which} AND ({})",
            job.table, convert.resync, convert.need_resync
        )],
        Work::Across(_) | Work::Once(_) => Vec::new(),
    }
}

/// Pages from `first` to before `end`, as a TID range scan.
pub(crate) fn range(row: &str, first: i64, end: i64) -> String {
    format!("{row}ctid >= '({first},0)'::tid AND {row}ctid < '({end},0)'::tid")
}

/// The size of the next batch: towards the target time, at most half as large again, never down by more than half.
pub(crate) fn next_size(pages: i64, took: Duration, target: Duration) -> i64 {
    let ratio = target.as_secs_f64() / took.as_secs_f64().max(0.000_1);
    let factor = ratio.clamp(0.5, 1.5);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "pages of a batch are a few thousand at most"
    )]
    let next = (pages as f64 * factor).round() as i64;
    // Without the extra page a single one could never grow.
    let next = if factor > 1.0 { next.max(pages + 1) } else { next };
    next.clamp(1, MAX_BATCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_grow_gently_shrink_fast_and_stay_in_bounds() {
        let target = Duration::from_millis(100);
        assert_eq!(next_size(16, Duration::from_millis(1), target), 24);
        assert_eq!(next_size(16, Duration::from_secs(5), target), 8);
        assert_eq!(next_size(16, target, target), 16);
        assert_eq!(next_size(1, Duration::from_millis(1), target), 2);
        assert_eq!(next_size(1, Duration::from_secs(5), target), 1);
        assert_eq!(next_size(MAX_BATCH, Duration::from_millis(1), target), MAX_BATCH);
    }
}
