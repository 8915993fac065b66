//! The functions of a mapping across two tables: the author's expressions, and what the target's triggers do to the source.
//!
//! All of them have parsed bodies, so that they are bound to tables and columns by number when they are made.

use std::collections::BTreeSet;

use super::{Across, triggers};
use crate::decide::sync::{Shape, Typed, typed_result};
use crate::words::ident::{Ident, QualifiedName};

impl Across {
    /// `CREATE FUNCTION` statements for the author's expressions, bound once.
    pub(crate) fn create_functions(&self) -> Vec<String> {
        let mut sql = Vec::new();
        let mut bound = |name: &[&str], parameters: &[&Typed], returns: &str, expression: &str| {
            let parameters: Vec<String> =
                parameters.iter().map(|column| format!("{} {}", column.name, column.type_sql)).collect();
            sql.push(format!(
                "CREATE FUNCTION {}({}) RETURNS {returns} LANGUAGE sql RETURN {}",
                self.function(name),
                parameters.join(", "),
                typed_result(expression, returns)
            ));
        };
        let source = |reads: &BTreeSet<Ident>| -> Vec<&Typed> {
            self.read_from_source(reads).into_iter().map(|(column, _)| column).collect()
        };
        for new in &self.new {
            bound(&["up", new.column.name.as_str()], &source(&new.reads), &new.column.type_sql, &new.up);
        }
        if self.has_asks() {
            let condition = self.condition.iter().map(|(text, _)| format!("({text})"));
            let present =
                self.new.iter().filter(|new| new.not_null).map(|new| format!("({}) IS NOT NULL", new.up));
            let all: Vec<String> = condition.chain(present).collect();
            let expression = format!("coalesce({}, false)", all.join(" AND "));
            bound(&["asks"], &source(&self.up_reads()), "boolean", &expression);
        }
        for old in &self.old {
            let Some((down, reads)) = &old.down else { continue };
            let down = if old.not_null { format!("coalesce({down}, {})", old.empty) } else { down.clone() };
            bound(
                &["down", old.column.name.as_str()],
                &self.read_from_target(reads),
                &old.column.type_sql,
                &down,
            );
        }
        for (column, value) in &self.given {
            let type_sql = self.target_columns.iter().find(|known| &known.name == column);
            let type_sql = type_sql.map_or("text", |known| known.type_sql.as_str());
            bound(&["given", column.as_str()], &[], type_sql, value);
        }
        sql.push(self.create_fetch());
        let writes = self.source_writes();
        sql.extend(writes.into_iter().map(|(name, statement)| {
            format!(
                "CREATE FUNCTION {}(t {}) RETURNS void LANGUAGE sql BEGIN ATOMIC\n  {statement};\nEND",
                self.function(&[name]),
                self.target
            )
        }));
        sql
    }

    /// Locks a source row and gives what the target needs of it: whether it takes part, whether nothing was given to it, what
    /// `up` makes of it, and its columns that go.
    ///
    /// This and [`Self::source_writes`] are bound to the table and its columns by number, so that a writer of the target never
    /// meets a name that the seal has just changed.
    fn create_fetch(&self) -> String {
        let types =
            self.key.iter().filter_map(|(_, target)| self.target_columns.iter().find(|c| &c.name == target));
        let parameters: Vec<&str> = types.map(|column| column.type_sql.as_str()).collect();
        let mut results = vec!["asked boolean".to_owned(), "bare boolean".to_owned()];
        let mut values = vec![self.asks("s", Shape::Open), self.empty("s", Shape::Open)];
        for (at, (new, up)) in self.new.iter().zip(self.ups("s", Shape::Open)).enumerate() {
            results.push(format!("up_{at} {}", new.column.type_sql));
            values.push(up);
        }
        for (at, old) in self.old.iter().enumerate() {
            results.push(format!("old_{at} {}", old.column.type_sql));
            values.push(format!("s.{}", old.column.name));
        }
        let found: Vec<String> = self
            .key
            .iter()
            .enumerate()
            .map(|(at, (source, _))| format!("s.{source} OPERATOR(pg_catalog.=) ${}", at + 1))
            .collect();
        format!(
            "CREATE FUNCTION {}({}) RETURNS TABLE ({}) LANGUAGE sql BEGIN ATOMIC\n  SELECT {} FROM {} AS s WHERE {} FOR NO KEY UPDATE;\nEND",
            self.function(&["fetch"]),
            parameters.join(", "),
            results.join(", "),
            values.join(", "),
            self.source,
            found.join(" AND ")
        )
    }

    /// What a row `t` of the target does to the source, by name.
    fn source_writes(&self) -> Vec<(&'static str, String)> {
        let source = &self.source;
        let at = self.together("t", "s");
        let set = |values: &[String]| {
            let names = self.old_names(Shape::Open);
            names
                .iter()
                .zip(values)
                .map(|(name, value)| format!("{name} = {value}"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let mut writes = Vec::new();
        if !self.old.is_empty() {
            let empty: Vec<String> = self.old.iter().map(|old| old.empty.clone()).collect();
            let not_empty = self.empty("s", Shape::Open);
            writes.push((
                "clear",
                format!("UPDATE {source} AS s SET {} WHERE {at} AND NOT {not_empty}", set(&empty)),
            ));
        }
        if self.has_down() {
            let differs = self.holds("t", "s", Shape::Open);
            writes.push((
                "write",
                format!("UPDATE {source} AS s SET {} WHERE {at} AND NOT {differs}", set(&self.downs("t"))),
            ));
        }
        if self.source_goes {
            writes.push(("remove", format!("DELETE FROM {source} AS s WHERE {at}")));
        }
        if self.source_goes && self.has_down() {
            let keys = self.key.iter().map(|(source, _)| source);
            let columns: Vec<String> =
                keys.chain(self.old_names(Shape::Open)).map(ToString::to_string).collect();
            let values = self.key.iter().map(|(_, target)| format!("t.{target}")).chain(self.downs("t"));
            writes.push((
                "add",
                format!(
                    "INSERT INTO {source} ({}) SELECT {} WHERE NOT EXISTS (SELECT FROM {source} AS s WHERE {at}) ON CONFLICT DO NOTHING",
                    columns.join(", "),
                    values.collect::<Vec<_>>().join(", ")
                ),
            ));
        }
        writes
    }

    /// `DROP FUNCTION` statements for all of its functions, those of the triggers too.
    pub(crate) fn drop_functions(&self) -> Vec<String> {
        let types = |columns: Vec<&Typed>| {
            columns.iter().map(|column| column.type_sql.clone()).collect::<Vec<_>>().join(", ")
        };
        let source =
            |reads| types(self.read_from_source(reads).into_iter().map(|(column, _)| column).collect());
        let mut all: Vec<(QualifiedName, String)> =
            triggers::KINDS.iter().map(|kind| (self.function(&[kind]), String::new())).collect();
        let key =
            self.key.iter().filter_map(|(_, target)| self.target_columns.iter().find(|c| &c.name == target));
        all.push((self.function(&["fetch"]), types(key.collect())));
        let row = self.target.to_string();
        all.extend(self.source_writes().into_iter().map(|(name, _)| (self.function(&[name]), row.clone())));
        let ups =
            self.new.iter().map(|new| (self.function(&["up", new.column.name.as_str()]), source(&new.reads)));
        all.extend(ups);
        all.push((self.function(&["asks"]), source(&self.up_reads())));
        all.extend(self.old.iter().filter_map(|old| {
            let (_, reads) = old.down.as_ref()?;
            Some((self.function(&["down", old.column.name.as_str()]), types(self.read_from_target(reads))))
        }));
        let given =
            self.given.iter().map(|(column, _)| (self.function(&["given", column.as_str()]), String::new()));
        all.extend(given);
        all.into_iter().map(|(name, types)| format!("DROP FUNCTION IF EXISTS {name}({types})")).collect()
    }
}
