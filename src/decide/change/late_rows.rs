//! Shape: a data job that reads what the same file drops.
//! Phases: backfill keeps the list of rows and notes what each one held when its turn came; contract, behind the gate, refuses
//! to go on over rows that changed or went after their turn, and does those that came late: of a table before it is hidden and
//! once more under its hidden name, of a column when triggers have closed it to writers; the list goes with the drop.
//! Locks: ACCESS EXCLUSIVE on the table of a column that goes, for a moment; then it is read, and nobody waits.
//! Undo: what was closed is open again; rows that were done stay done.
//! Limits: what goes must be the table that is counted out, or columns of it; a column that goes must tell old code's rows from
//! new code's, so it may have no default of its own and no `down`. Late rows are done in one transaction. A row of another table
//! that comes to join one which is done is left out. Of columns, rows are not missed that are deleted or get another key.

use crate::decide::change::constraint::{lock, require_of};
use crate::decide::change::data_job::Rows;
use crate::decide::change::leaving::{Leaving, has_acting_keys};
use crate::decide::change::mapping::hidden_name;
use crate::decide::draft::{Draft, Phase, step, table_step};
use crate::decide::plan::{Once, Ranged, Require, Step};
use crate::decide::sync::Freeze;
use crate::model::sql::Verb;
use crate::words::ident::{Ident, QualifiedName};
use crate::words::lock_mode::LockMode;

/// What a row held when its turn came, in the list.
const SEEN: &str = "_pontoon_seen";

/// Makes a data job keep its list and note what it saw, and adds to contract what finds the late rows.
pub(super) fn plan(draft: &mut Draft<'_>, rows: &Rows<'_>, leaving: &Leaving, once: &mut Once) {
    note_what_is_seen(rows, leaving, once);
    once.make.push(format!("ALTER TABLE {} ADD COLUMN {SEEN} text", once.list));
    once.make.push(format!("CREATE INDEX ON {} ({})", once.list, rows.numbered_keys().join(", ")));
    let driving = &rows.known.name;
    let mut forget = vec![format!("DROP TABLE IF EXISTS {}", once.list)];
    match &leaving.untouched {
        Some(untouched) => {
            let freeze = Freeze {
                id: format!("m{}_freeze_{}", draft.file.version.number(), draft.data_jobs.len() + 1),
                version: draft.file.version.number().to_string(),
                ledger: draft.settings.ledger.clone(),
                table: driving.clone(),
                untouched: untouched.clone(),
                keys_act: has_acting_keys(rows.known, &leaving.columns),
            };
            let title = format!("close {} to writers of what goes", driving.plain());
            draft.push(Phase::Contract, table_step(driving, title, freeze.create(), freeze.remove()));
            for step in see_last_values(rows, leaving, once) {
                draft.push(Phase::Contract, step);
            }
            let late = late(rows, once, &written(rows, untouched));
            draft.push(Phase::Contract, late);
            // Under the name that the column has while sealed, nobody writes it.
            let let_go = freeze.let_go().into_iter().map(|sql| (sql, String::new()));
            draft.table(driving).seal.extend(let_go);
            forget.push(freeze.forget());
        }
        None => {
            // Most of the work while the table has its name; what still came is done where no name leads to it.
            for step in see_last_values(rows, leaving, once) {
                draft.push(Phase::Contract, step);
            }
            draft.push(Phase::Contract, late(rows, once, ""));
            let hidden = hidden_name(&draft.file.version.number().to_string(), &driving.name);
            let hidden = QualifiedName::new(driving.schema.clone(), hidden);
            let rows = Rows { hidden: Some(hidden), ..*rows };
            let mut once = rows.once(draft);
            note_what_is_seen(&rows, leaving, &mut once);
            draft.push_seal_last(late(&rows, &once, ""));
            for step in see_last_values(&rows, leaving, &once) {
                draft.push_seal_last(step);
            }
        }
    }
    let title = format!("forget which rows of {} there were", driving.plain());
    draft.push_drop_last(step(title, forget, Vec::new(), Vec::new()));
}

/// The batch locks its rows, and notes in the list what it reads of them.
fn note_what_is_seen(rows: &Rows<'_>, leaving: &Leaving, once: &mut Once) {
    once.lock = Some(rows.lock(once));
    once.mark = Some(Ranged {
        head: format!(
            "UPDATE {} AS {} SET {SEEN} = {} FROM {} WHERE ",
            once.list,
            Rows::LIST,
            held(leaving, rows.row()),
            rows.all()
        ),
        rows_of: None,
        middle: String::new(),
        tail: format!("{}{}", rows.matches(), rows.condition()),
    });
}

/// A hash of what a row holds. The binary form depends on no setting of the session.
fn held(leaving: &Leaving, row: &Ident) -> String {
    let columns: Vec<String> = leaving.columns.iter().map(|column| format!("{row}.{column}")).collect();
    format!("md5(record_send(ROW({})))", columns.join(", "))
}

/// True for a row that says something in what goes.
fn written(rows: &Rows<'_>, untouched: &[(Ident, Option<String>)]) -> String {
    let any: Vec<String> = untouched
        .iter()
        .map(|(column, default)| Freeze::says(rows.row(), column, default.as_deref()))
        .collect();
    format!(" AND ({})", any.join(" OR "))
}

/// Conditions: no row changed after its turn, and none of a table that goes was deleted.
fn see_last_values(rows: &Rows<'_>, leaving: &Leaving, once: &Once) -> Vec<Step> {
    if rows.change.verb == Verb::Delete {
        return Vec::new();
    }
    let (list, table, target) = (&once.list, rows.table(), rows.target);
    let (known_as, row) = (&rows.known.name, &table.name);
    let is_row = |list: &str| {
        let one = |(at, column): (usize, &Ident)| format!("{list}._pontoon_k{at} = {row}.{column}");
        once.key.iter().enumerate().map(one).collect::<Vec<_>>().join(" AND ")
    };
    let (own, now) = (is_row(Rows::LIST), held(leaving, row));
    let seen = format!("{}.{SEEN}", Rows::LIST);
    let changed = Require {
        table: table.clone(),
        predicate: format!("EXISTS (SELECT FROM {list} AS {} WHERE {own} AND {seen} <> {now})", Rows::LIST),
        says: format!("rows of {} changed after the data job had read them", known_as.plain()),
        named: None,
        accept: Some(format!(
            "UPDATE {list} AS {} SET {SEEN} = {now} FROM {table} WHERE {own} AND {seen} <> {now}",
            Rows::LIST
        )),
    };
    let title = format!("see that the data job on {} read the last value of each row", target.plain());
    let changed = require_of(title, changed);
    if leaving.untouched.is_some() {
        return vec![changed];
    }
    let own = is_row(&list.name.to_string());
    let missing = format!("{SEEN} IS NOT NULL AND NOT EXISTS (SELECT FROM {table} WHERE {own})");
    let went = Require {
        table: list.clone(),
        says: format!(
            "rows of {} were deleted after they had been copied to {}",
            known_as.plain(),
            target.plain()
        ),
        named: Some(once.named_key()),
        accept: Some(format!("DELETE FROM {list} WHERE {missing}")),
        predicate: missing,
    };
    let title = format!("see that no row of {} went after it was copied", known_as.plain());
    vec![changed, require_of(title, went)]
}

/// Lists what came since, and does all rows that were listed and not done.
fn late(rows: &Rows<'_>, once: &Once, written: &str) -> Step {
    let list = &once.list;
    let keys = rows.numbered_keys();
    let known: Vec<String> = keys.iter().map(|key| format!("{}.{key} = keys.{key}", Rows::LIST)).collect();
    let append = format!(
        "INSERT INTO {list} ({number}, {0}) SELECT (SELECT coalesce(max({number}), -1) FROM {list}) + row_number() OVER (ORDER BY \
         {0}), {0} FROM (SELECT DISTINCT {1} FROM {2} WHERE true{3}{written}) AS keys WHERE NOT EXISTS (SELECT FROM {list} AS {4} \
         WHERE {5})",
        keys.join(", "),
        rows.keys().join(", "),
        rows.all(),
        rows.condition(),
        Rows::LIST,
        known.join(" AND "),
        number = Rows::NUMBER,
    );
    // A row that is there again after it was deleted is another one.
    let open = match rows.change.verb {
        Verb::Delete => format!("true{written}"),
        Verb::Insert | Verb::Update => format!("{}.{SEEN} IS NULL{written}", Rows::LIST),
    };
    let take = once.lock.iter().map(|lock| lock.at(&open));
    let sql = [append].into_iter().chain(take).chain([once.change(&open)]).collect();
    let title = format!("do the rows of {} that came late", rows.known.name.plain());
    let locks = vec![lock(rows.target, LockMode::RowExclusive)];
    Step { scans: true, ..step(title, sql, Vec::new(), locks) }
}
