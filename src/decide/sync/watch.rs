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
    /// Then whoever names a partition is seen too, of those that are there.
    pub(crate) is_partitioned: bool,
}

impl Watch {
    /// Statements that install it, each with the one that takes it back.
    pub(crate) fn create(&self) -> Vec<(String, String)> {
        let Self { id, table, .. } = self;
        let (function, trigger) = (self.function(), self.trigger());
        let body = evidence(&self.ledger, &self.version, id);
        // What a trigger or a foreign key of another table does here is no sign of old code.
        let quiet = format!(
            "pg_catalog.pg_trigger_depth() = 0 AND coalesce(pg_catalog.current_setting({}, true), '') <> {}",
            literal(&note_setting(id)),
            note_bucket()
        );
        let events = "AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE";
        let rest = format!("FOR EACH STATEMENT\n  WHEN ({quiet})\n  EXECUTE FUNCTION {function}()");
        let mut all = vec![
            (
                format!(
                    "CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql {EVIDENCE_OPTIONS}AS $pontoon$\n\
                     BEGIN\n{body}  RETURN NULL;\nEND\n$pontoon$"
                ),
                self.drop_function(),
            ),
            (format!("REVOKE ALL ON FUNCTION {function}() FROM PUBLIC"), String::new()),
            (
                format!("CREATE TRIGGER {trigger} {events} ON {table} {rest}"),
                format!("DROP TRIGGER IF EXISTS {trigger} ON {table}"),
            ),
            (format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}"), String::new()),
        ];
        if self.is_partitioned {
            let each = format!(
                "DO $pontoon$\nDECLARE\n  part regclass;\nBEGIN\n  \
                 FOR part IN SELECT p.relid FROM pg_partition_tree({}::regclass) AS p WHERE p.level > 0\n  LOOP\n    \
                 EXECUTE format('CREATE TRIGGER %I {events} ON %s %s', {name}, part, {});\n    \
                 EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', part, {name});\n  END LOOP;\nEND\n$pontoon$",
                literal(&table.to_string()),
                literal(&rest),
                name = literal(trigger.as_str()),
            );
            all.push((each, self.drop_from_parts()));
        }
        all
    }

    /// Takes away what does not go with the table.
    pub(crate) fn remove(&self) -> Vec<String> {
        let parts = self.is_partitioned.then(|| self.drop_from_parts());
        parts.into_iter().chain([self.drop_function()]).collect()
    }

    /// A partition may have been detached meanwhile.
    fn drop_from_parts(&self) -> String {
        format!(
            "DO $pontoon$\nDECLARE\n  part regclass;\nBEGIN\n  \
             FOR part IN SELECT t.tgrelid FROM pg_trigger AS t WHERE t.tgname = {name} AND t.tgrelid <> coalesce(to_regclass({}), 0)\n  LOOP\n    \
             EXECUTE format('DROP TRIGGER %I ON %s', {name}, part);\n  END LOOP;\nEND\n$pontoon$",
            literal(&self.table.to_string()),
            name = literal(self.trigger().as_str()),
        )
    }

    fn drop_function(&self) -> String {
        drop_function(&self.function())
    }

    fn trigger(&self) -> Ident {
        Ident::new(format!("~pontoon_{}_note", self.id))
    }

    fn function(&self) -> QualifiedName {
        QualifiedName::new(self.ledger.clone(), Ident::derived(&[&self.id, "note"]))
    }
}
