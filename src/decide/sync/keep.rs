//! Keeps a row as it is while a batch converts it, whatever the user's triggers would make of it: an `updated_at` says when the
//! application wrote the row, not when it was migrated.

use super::KEEP_SETTING;
use super::functions::drop_function;
use crate::words::ident::{Ident, QualifiedName, literal};

/// A trigger that comes after the user's and lets a batch change nothing but its own columns. It fires in the batches of a
/// role that cannot keep triggers from firing.
#[derive(Debug, Clone)]
pub(crate) struct Keep {
    /// The prefix of its objects, such as `m7_k1`.
    pub(crate) id: String,
    pub(crate) version: String,
    /// The schema that holds its function.
    pub(crate) ledger: Ident,
    pub(crate) table: QualifiedName,
    /// What the batch sets.
    pub(crate) columns: Vec<Ident>,
}

impl Keep {
    pub(crate) fn create(&self) -> Vec<String> {
        let (function, trigger, table) = (self.function(), self.trigger(), &self.table);
        let own: String =
            self.columns.iter().map(|column| format!("  NEW.{column} := made.{column};\n")).collect();
        vec![
            format!(
                "CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $pontoon$\nDECLARE\n  made record;\nBEGIN\n  \
                 made := NEW;\n  NEW := OLD;\n{own}  RETURN NEW;\nEND\n$pontoon$"
            ),
            format!("REVOKE ALL ON FUNCTION {function}() FROM PUBLIC"),
            format!(
                "CREATE TRIGGER {trigger} BEFORE UPDATE ON {table} FOR EACH ROW\n  \
                 WHEN (coalesce(current_setting({}, true), '') = {})\n  EXECUTE FUNCTION {function}()",
                literal(KEEP_SETTING),
                literal(&self.version)
            ),
            format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}"),
        ]
    }

    pub(crate) fn remove(&self) -> Vec<String> {
        vec![
            format!("DROP TRIGGER IF EXISTS {} ON {}", self.trigger(), self.table),
            drop_function(&self.function()),
        ]
    }

    fn trigger(&self) -> Ident {
        Ident::derived(&[&format!("~pontoon_{}", self.id), "keep"])
    }

    fn function(&self) -> QualifiedName {
        QualifiedName::new(self.ledger.clone(), Ident::derived(&[&self.id, "keep"]))
    }
}
