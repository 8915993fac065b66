//! Repairs: an UPDATE that brings rows of existing columns within a rule which the same file then sets. Until contract a
//! trigger does to each written row what the backfill does to those that are there.

use std::collections::BTreeSet;
use std::ops::Range;

use super::functions::drop_function;
use super::{SKIP_SETTING, Typed, typed_result};
use crate::words::ident::{Ident, QualifiedName, literal};

/// One UPDATE.
#[derive(Debug, Clone)]
pub(crate) struct Repair {
    /// The prefix of every object made for it, such as `m7_r1`.
    pub(crate) id: String,
    /// The version, as the skip setting holds it.
    pub(crate) version: String,
    /// The schema that holds its functions.
    pub(crate) ledger: Ident,
    pub(crate) table: QualifiedName,
    /// The columns that it sets, with their new values.
    pub(crate) sets: Vec<(Typed, String)>,
    /// Its WHERE.
    pub(crate) condition: Option<String>,
    /// Every column that it names, with its type: the parameters of its functions.
    pub(crate) columns: Vec<Typed>,
    /// Where it stands in the file.
    pub(crate) span: Range<usize>,
}

impl Repair {
    fn function(&self, kind: &str) -> QualifiedName {
        QualifiedName::new(self.ledger.clone(), Ident::derived(&[&self.id, kind]))
    }

    fn value(&self, column: &Ident) -> QualifiedName {
        QualifiedName::new(self.ledger.clone(), Ident::derived(&[&self.id, "value", column.as_str()]))
    }

    fn parameters(&self) -> String {
        self.columns
            .iter()
            .map(|column| format!("{} {}", column.name, column.type_sql))
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn types(&self) -> String {
        self.columns.iter().map(|column| column.type_sql.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn arguments(&self, prefix: &str) -> String {
        self.columns.iter().map(|column| format!("{prefix}{}", column.name)).collect::<Vec<_>>().join(", ")
    }

    /// Functions, trigger function and triggers.
    pub(crate) fn create(&self) -> Vec<String> {
        let mut sql = Vec::new();
        let (parameters, types) = (self.parameters(), self.types());
        let mut bound = |name: QualifiedName, returns: &str, expression: &str| {
            sql.push(format!(
                "CREATE FUNCTION {name}({parameters}) RETURNS {returns} LANGUAGE sql RETURN {}",
                typed_result(expression, returns)
            ));
            sql.push(format!("GRANT EXECUTE ON FUNCTION {name}({types}) TO PUBLIC"));
        };
        for (column, expression) in &self.sets {
            bound(self.value(&column.name), &column.type_sql, expression);
        }
        bound(self.function("asks"), "boolean", self.condition.as_deref().unwrap_or("true"));
        let needs = self.function("needs");
        sql.push(format!(
            "CREATE FUNCTION {needs}({parameters}) RETURNS boolean LANGUAGE plpgsql AS $pontoon$\n{}$pontoon$",
            self.needs_body()
        ));
        sql.push(format!("GRANT EXECUTE ON FUNCTION {needs}({types}) TO PUBLIC"));
        let trigger = self.function("repair");
        sql.push(format!(
            "CREATE FUNCTION {trigger}() RETURNS trigger LANGUAGE plpgsql AS $pontoon$\n{}$pontoon$",
            self.trigger_body()
        ));
        sql.push(format!("REVOKE ALL ON FUNCTION {trigger}() FROM PUBLIC"));
        for (name, event) in self.triggers() {
            sql.push(format!(
                "CREATE TRIGGER {name} BEFORE {event} ON {} FOR EACH ROW\n  \
                 WHEN (coalesce(current_setting({}, true), '') <> {})\n  EXECUTE FUNCTION {trigger}()",
                self.table,
                literal(SKIP_SETTING),
                literal(&self.version)
            ));
            sql.push(format!("ALTER TABLE {} ENABLE ALWAYS TRIGGER {name}", self.table));
        }
        sql
    }

    /// Takes all of it away.
    pub(crate) fn remove(&self) -> Vec<String> {
        let mut sql: Vec<String> = self
            .triggers()
            .iter()
            .map(|(name, _)| format!("DROP TRIGGER IF EXISTS {name} ON {}", self.table))
            .collect();
        let kinds = ["repair", "needs", "asks"].map(|kind| self.function(kind));
        let values = self.sets.iter().map(|(column, _)| self.value(&column.name));
        sql.extend(kinds.into_iter().chain(values).map(|function| drop_function(&function)));
        sql
    }

    fn triggers(&self) -> [(Ident, &'static str); 2] {
        ["INSERT", "UPDATE"].map(|event| {
            let name = format!("~pontoon_{}", self.id);
            (Ident::derived(&[&name, "repair", &event.to_ascii_lowercase()]), event)
        })
    }

    /// The assignments of a batch, for rows that need it.
    pub(crate) fn batch_set(&self, alone: bool) -> Vec<String> {
        self.sets
            .iter()
            .map(|(column, _)| {
                let (name, arguments) = (&column.name, self.arguments(""));
                let value = format!("{}({arguments})", self.value(name));
                if alone {
                    format!("{name} = {value}")
                } else {
                    format!("{name} = CASE WHEN {} THEN {value} ELSE {name} END", self.need())
                }
            })
            .collect()
    }

    /// True for a row that the UPDATE would change.
    pub(crate) fn need(&self) -> String {
        format!("{}({})", self.function("needs"), self.arguments(""))
    }

    fn row(columns: &[String]) -> String {
        format!("ROW({})::record", columns.join(", "))
    }

    /// The UPDATE is done to a row once by the batch and again whenever the row is written, so its own result must be
    /// something that it leaves alone.
    fn needs_body(&self) -> String {
        let place =
            |name: &Ident| self.columns.iter().position(|column| &column.name == name).unwrap_or(0) + 1;
        let arguments: Vec<String> = (1..=self.columns.len()).map(|at| format!("${at}")).collect();
        let set: BTreeSet<&Ident> = self.sets.iter().map(|(column, _)| &column.name).collect();
        let variable = |at: usize| format!("v{at}");
        // The same arguments, with the columns that are set at their new values.
        let after: Vec<String> = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, column)| match set.contains(&column.name) {
                true => variable(at + 1),
                false => format!("${}", at + 1),
            })
            .collect();
        let declare: String = self
            .sets
            .iter()
            .map(|(column, _)| format!("  {} {};\n", variable(place(&column.name)), column.type_sql))
            .collect();
        let values = |arguments: &[String]| -> Vec<String> {
            let call = |(column, _): &(Typed, String)| {
                format!("({}({}))::{}", self.value(&column.name), arguments.join(", "), column.type_sql)
            };
            self.sets.iter().map(call).collect()
        };
        let assign: String = self
            .sets
            .iter()
            .zip(values(&arguments))
            .map(|((column, _), value)| format!("  {} := {value};\n", variable(place(&column.name))))
            .collect();
        let now: Vec<String> =
            self.sets.iter().map(|(column, _)| format!("${}", place(&column.name))).collect();
        let then: Vec<String> = self.sets.iter().map(|(column, _)| variable(place(&column.name))).collect();
        let asks = self.function("asks");
        format!(
            "DECLARE\n{declare}BEGIN\n  IF {asks}({}) IS NOT TRUE THEN\n    RETURN false;\n  END IF;\n{assign}  \
             IF pg_catalog.record_image_eq({}, {}) THEN\n    RETURN false;\n  END IF;\n  \
             IF {asks}({}) AND NOT pg_catalog.record_image_eq({}, {}) THEN\n    \
             RAISE EXCEPTION 'the UPDATE would change its own result again, so it cannot be repeated'\n      \
             USING ERRCODE = '22000', HINT = 'give it a WHERE that its result does not satisfy';\n  END IF;\n  \
             RETURN true;\nEND\n",
            arguments.join(", "),
            Self::row(&then),
            Self::row(&now),
            after.join(", "),
            Self::row(&then),
            Self::row(&values(&after)),
        )
    }

    /// Last pass: whoever wrote the row, it ends within the rule. What raises leaves the row to the backfill.
    fn trigger_body(&self) -> String {
        let declare: String = self
            .sets
            .iter()
            .enumerate()
            .map(|(at, (column, _))| format!("  v{at} {};\n", column.type_sql))
            .collect();
        let arguments = self.arguments("NEW.");
        let compute: String = self
            .sets
            .iter()
            .enumerate()
            .map(|(at, (column, _))| format!("      v{at} := {}({arguments});\n", self.value(&column.name)))
            .collect();
        let assign: String = self
            .sets
            .iter()
            .enumerate()
            .map(|(at, (column, _))| format!("      NEW.{} := v{at};\n", column.name))
            .collect();
        format!(
            "DECLARE\n{declare}BEGIN\n  BEGIN\n    IF {}({arguments}) THEN\n{compute}{assign}    END IF;\n  \
             EXCEPTION WHEN OTHERS THEN\n    NULL;\n  END;\n  RETURN NEW;\nEND\n",
            self.function("needs")
        )
    }
}
