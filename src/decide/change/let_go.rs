//! Foreign keys of what is sealed: in psql they would be gone, so new code may delete what they point at. Contract drops them
//! just before the seal. A reopen has them again for new rows, and for all rows unless new code has taken away what some point
//! at.

use crate::decide::change::constraint::lock;
use crate::decide::draft::{Draft, Phase, has_unproved, lock_tables, step, undo_only};
use crate::model::catalog::Constraint;
use crate::words::ident::{Ident, QualifiedName, literal};
use crate::words::lock_mode::LockMode;

/// Lets go of the keys of a table, or of those over one column of it, and gives their names. One that acts itself when a row is
/// deleted stops nobody, and stays.
pub(super) fn plan(draft: &mut Draft<'_>, table: &QualifiedName, column: Option<&Ident>) -> Vec<Ident> {
    let mut let_go = Vec::new();
    let Some(known) = draft.catalog.table(table) else { return let_go };
    let stops = |key: &&Constraint| {
        let definition = key.definition.to_ascii_uppercase();
        key.kind == "f"
            && key.parent.as_ref().is_some_and(|parent| parent != table)
            && column.is_none_or(|column| key.columns.contains(column))
            && !definition.is_empty()
            && !definition.contains("ON DELETE")
    };
    let keys: Vec<Constraint> = known.constraints.iter().filter(stops).cloned().collect();
    let is_partitioned = known.partitions.is_some();
    for key in keys {
        let Some(parent) = key.parent.clone() else { continue };
        let name = &key.name;
        if is_partitioned {
            draft.warnings.push(format!(
                "{} holds until the drop: while it is sealed new code cannot delete rows of {} that {} points at",
                name.as_str(),
                parent.plain(),
                table.plain()
            ));
            continue;
        }
        let (locked, locks) = lock_tables(&[table, &parent], LockMode::AccessExclusive);
        let gone = vec![locked.clone(), format!("ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}")];
        let definition = key.definition.trim_end_matches(" NOT VALID");
        let mut back =
            vec![locked, format!("ALTER TABLE {table} ADD CONSTRAINT {name} {definition} NOT VALID")];
        if let Some(comment) = &key.comment {
            back.push(format!("COMMENT ON CONSTRAINT {name} ON {table} IS {}", literal(comment)));
        }
        if key.validated {
            let validate = format!(
                "DO $pontoon$\nBEGIN\n  ALTER TABLE {table} VALIDATE CONSTRAINT {name};\nEXCEPTION WHEN foreign_key_violation THEN\n  \
                 RAISE WARNING 'rows of % point at nothing: % holds for new rows only', {}, {};\nEND\n$pontoon$",
                literal(&table.plain()),
                literal(name.as_str())
            );
            let title = format!("validate {} again", name.as_str());
            let lock = lock(table, LockMode::ShareUpdateExclusive);
            draft.push(Phase::Contract, undo_only(&title, has_unproved(table, name), vec![validate], lock));
        }
        let title = format!("let {} of {} go", name.as_str(), table.plain());
        draft.push_seal_first(step(title, gone, back, locks));
        let_go.push(key.name);
    }
    let_go
}
