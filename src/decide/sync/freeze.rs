//! Keeps writers out of columns that go, from the moment when the gate is closed to the seal.

use super::functions::drop_function;
use crate::words::ident::{Ident, QualifiedName, literal};

/// Triggers that refuse a row which says anything in what goes.
#[derive(Debug, Clone)]
pub(crate) struct Freeze {
    /// What its objects are called, such as `m7_freeze_1`: they come and go within contract, and are no sync objects.
    pub(crate) id: String,
    pub(crate) version: String,
    /// The schema that holds its function.
    pub(crate) ledger: Ident,
    pub(crate) table: QualifiedName,
    /// The columns, each with what a new row of new code's holds in it; none for null.
    pub(crate) untouched: Vec<(Ident, Option<String>)>,
    /// Whether foreign keys write them by themselves, which is no word of old code's.
    pub(crate) keys_act: bool,
}

impl Freeze {
    /// True for a row that says something in a column.
    pub(crate) fn says(row: &Ident, column: &Ident, default: Option<&str>) -> String {
        match default {
            Some(default) => format!("{row}.{column}::text IS DISTINCT FROM ({default})::text"),
            // A row with a null in it is no null and not `IS NOT NULL` either.
            None => format!("{row}.{column} IS DISTINCT FROM NULL"),
        }
    }

    pub(crate) fn create(&self) -> Vec<String> {
        let (function, table) = (self.function(), &self.table);
        let columns: Vec<&str> = self.untouched.iter().map(|(column, _)| column.as_str()).collect();
        let message =
            format!("migration {} is taking {}.{} away", self.version, table.plain(), columns.join(", "));
        let row = |of: &str| {
            let columns: Vec<String> =
                self.untouched.iter().map(|(column, _)| format!("{of}.{column}")).collect();
            format!("pg_catalog.record_send(ROW({}))", columns.join(", "))
        };
        let new = Ident::new("new");
        let any: Vec<String> = self
            .untouched
            .iter()
            .map(|(column, default)| Self::says(&new, column, default.as_deref()))
            .collect();
        // A foreign key takes away what it referred to; whatever else runs in a trigger is the application's.
        let any = any.join(" OR ");
        let by_code = if self.keys_act {
            format!("(pg_catalog.pg_trigger_depth() = 0 OR {any}) AND ")
        } else {
            String::new()
        };
        let [insert, update] = self.triggers();
        let trigger = |name: &Ident, event: &str, when: &str| {
            [
                format!(
                    "CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW\n  WHEN ({when})\n  EXECUTE FUNCTION {function}()"
                ),
                format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}"),
            ]
        };
        // Old code meets the error that it meets a moment later.
        let made = [
            format!(
                "CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $pontoon$\nBEGIN\n  \
                 RAISE EXCEPTION USING ERRCODE = '42703', MESSAGE = {};\nEND\n$pontoon$",
                literal(&message)
            ),
            format!("REVOKE ALL ON FUNCTION {function}() FROM PUBLIC"),
        ];
        let changed = format!("{by_code}{} <> {}", row("OLD"), row("NEW"));
        let triggers = [trigger(&insert, "INSERT", &any), trigger(&update, "UPDATE", &changed)];
        made.into_iter().chain(triggers.into_iter().flatten()).collect()
    }

    /// Lets writers go on.
    pub(crate) fn let_go(&self) -> Vec<String> {
        self.triggers().map(|name| format!("DROP TRIGGER IF EXISTS {name} ON {}", self.table)).to_vec()
    }

    pub(crate) fn remove(&self) -> Vec<String> {
        let mut all = self.let_go();
        all.push(self.forget());
        all
    }

    /// Takes away what is left of it when the triggers are gone.
    pub(crate) fn forget(&self) -> String {
        drop_function(&self.function())
    }

    fn triggers(&self) -> [Ident; 2] {
        ["insert", "update"].map(|event| Ident::derived(&[&format!("~pontoon_{}", self.id), event]))
    }

    fn function(&self) -> QualifiedName {
        QualifiedName::new(self.ledger.clone(), Ident::new(self.id.clone()))
    }
}
