//! Shape: any statement under `-- migrate: phase expand|contract`.
//! Phases: the one that the directive names; in contract at the very end, after the drop.
//! Locks: unknown, the statement is not analysed; waited for under the usual budget.
//! Undo: none. Abort and reopen leave its effect in place.
//! Limits: runs in a transaction.

use crate::decide::draft::Draft;
use crate::model::directive::AsWritten;
use crate::model::problem::Problem;
use crate::model::sql::Statement;

pub(crate) fn plan(draft: &mut Draft<'_>, statement: &Statement, phase: AsWritten) -> Result<(), Problem> {
    let first: String = statement.text.lines().next().unwrap_or_default().chars().take(50).collect();
    let title = format!("run as written (not analysed): {first}");
    let first_word = statement.text.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    if first_word == "vacuum"
        || statement.words.contains("concurrently")
        || statement.words.contains("database")
    {
        return Err(Problem::unsupported(
            statement.span.clone(),
            "a statement that cannot run in a transaction",
        )
        .help("run it by hand; a directive cannot make it part of a phase"));
    }
    draft.warnings.push(format!("{first}: nobody has looked at what it locks, and for how long"));
    match phase {
        AsWritten::Expand => {
            draft.note(
                &statement.span,
                first.clone(),
                "expand: run as written, not analysed; abort leaves it",
            );
            let stays = format!("what was run as written: {first}");
            draft.run_in_expand(statement, title, Vec::new(), Vec::new())?;
            draft.stays(stays);
            Ok(())
        }
        AsWritten::Contract => {
            draft.note(
                &statement.span,
                first,
                "contract: run as written, not analysed; reopen is over once it ran",
            );
            draft.run_in_contract(statement, title);
            Ok(())
        }
    }
}
