//! Evidence of writes to a table that contract takes away as a whole.

use super::functions::drop_function;
use super::triggers::{EVIDENCE_OPTIONS, evidence, note_bucket, note_setting};
use crate::words::ident::{Ident, QualifiedName, literal};

/// A trigger, once for each statement, that notes who still writes a table.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    /// The prefix of its objects, such as `m7_w1`.
    pub(crate) id: String,
    pub(crate) version: String,
    /// The schema that holds its function.
    pub(crate) ledger: Ident,
    pub(crate) table: QualifiedName,
}

impl Watch {
    /// Statements that install it, each with the one that takes it back.
    pub(crate) fn create(&self) -> Vec<(String, String)> {
        let Self { id, table, .. } = self;
        let (function, trigger) = (self.function(), Ident::new(format!("~pontoon_{id}_note")));
        let body = evidence(&self.ledger, &self.version, id);
        // What a trigger or a foreign key of another table does here is no sign of old code.
        let quiet = format!(
            "pg_catalog.pg_trigger_depth() = 0 AND coalesce(pg_catalog.current_setting({}, true), '') <> {}",
            literal(&note_setting(id)),
            note_bucket()
        );
        vec![
            (
                format!(
                    "CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql {EVIDENCE_OPTIONS}AS $pontoon$\n\
                     BEGIN\n{body}  RETURN NULL;\nEND\n$pontoon$"
                ),
                self.drop_function(),
            ),
            (format!("REVOKE ALL ON FUNCTION {function}() FROM PUBLIC"), String::new()),
            (
                format!(
                    "CREATE TRIGGER {trigger} AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table} FOR EACH STATEMENT\n  \
                     WHEN ({quiet})\n  EXECUTE FUNCTION {function}()"
                ),
                format!("DROP TRIGGER IF EXISTS {trigger} ON {table}"),
            ),
            (format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}"), String::new()),
        ]
    }

    /// Takes away what does not go with the table.
    pub(crate) fn drop_function(&self) -> String {
        drop_function(&self.function())
    }

    fn function(&self) -> QualifiedName {
        QualifiedName::new(self.ledger.clone(), Ident::derived(&[&self.id, "note"]))
    }
}
