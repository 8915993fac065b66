//! Keeps writers out of a table or of some columns, from the moment when the gate is closed to the seal.

use super::functions::drop_function;
use crate::words::ident::{Ident, QualifiedName, literal};

/// Triggers that refuse a row which says anything in what goes. What a foreign key does to it is no word of old code's.
#[derive(Debug, Clone)]
pub(crate) struct Freeze {
    /// What its objects are called, such as `m7_freeze_1`: they come and go within contract, and are no sync objects.
    pub(crate) id: String,
    pub(crate) version: String,
    /// The schema that holds its function.
    pub(crate) ledger: Ident,
    pub(crate) table: QualifiedName,
    /// What nobody may change.
    pub(crate) columns: Vec<Ident>,
    /// What a new row may hold in them; none where no row may come.
    pub(crate) untouched: Option<Vec<(Ident, Option<String>)>>,
}

impl Freeze {
    pub(crate) fn create(&self) -> Vec<String> {
        let (function, table) = (self.function(), &self.table);
        // Old code meets the error that it meets a moment later.
        let (code, what) = match self.untouched {
            Some(_) => {
                let columns: Vec<&str> = self.columns.iter().map(Ident::as_str).collect();
                ("42703", format!("{}.{}", table.plain(), columns.join(", ")))
            }
            None => ("42P01", table.plain()),
        };
        let message = literal(&format!("migration {} is taking {what} away", self.version));
        let new_row = self.untouched.as_ref().map_or(String::new(), |untouched| {
            let any: Vec<String> = untouched
                .iter()
                .map(|(column, default)| match default {
                    Some(default) => format!("NEW.{column}::text IS DISTINCT FROM ({default})::text"),
                    None => format!("NEW.{column} IS NOT NULL"),
                })
                .collect();
            format!("\n  WHEN ({})", any.join(" OR "))
        });
        let row = |of: &str| {
            let columns: Vec<String> = self.columns.iter().map(|column| format!("{of}.{column}")).collect();
            format!("pg_catalog.record_send(ROW({}))", columns.join(", "))
        };
        let changed =
            format!("\n  WHEN (pg_catalog.pg_trigger_depth() = 0 AND {} <> {})", row("OLD"), row("NEW"));
        let [insert, update] = self.triggers();
        let trigger = |name: &Ident, event: &str, when: &str| {
            [
                format!(
                    "CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW{when}\n  EXECUTE FUNCTION {function}()"
                ),
                format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}"),
            ]
        };
        let made = [
            format!(
                "CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $pontoon$\nBEGIN\n  \
                 RAISE EXCEPTION USING ERRCODE = '{code}', MESSAGE = {message};\nEND\n$pontoon$"
            ),
            format!("REVOKE ALL ON FUNCTION {function}() FROM PUBLIC"),
        ];
        let triggers = [trigger(&insert, "INSERT", &new_row), trigger(&update, "UPDATE", &changed)];
        made.into_iter().chain(triggers.into_iter().flatten()).collect()
    }

    /// Lets writers go on.
    pub(crate) fn let_go(&self) -> Vec<String> {
        self.triggers().map(|name| format!("DROP TRIGGER IF EXISTS {name} ON {}", self.table)).to_vec()
    }

    pub(crate) fn remove(&self) -> Vec<String> {
        let mut all = self.let_go();
        all.push(drop_function(&self.function()));
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
