//! The functions of a mapping across two tables: the author's expressions, and what the target's triggers do to the source.
//!
//! All of them have parsed bodies, so that they are bound to tables and columns by number when they are made.

use std::collections::BTreeSet;

use super::{Across, alike, triggers};
use crate::decide::sync::functions::drop_function;
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
            let present = self.required().map(|new| format!("({}) IS NOT NULL", new.up));
            let all: Vec<String> = condition.chain(present).collect();
            let expression = format!("coalesce({}, false)", all.join(" AND "));
            bound(&["asks"], &source(&self.up_reads()), "boolean", &expression);
        }
        if let Some((condition, reads)) = self.condition.as_ref().filter(|_| self.required().next().is_some())
        {
            bound(&["wanted"], &source(reads), "boolean", &format!("coalesce(({condition}), false)"));
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
        sql.extend(self.create_tests());
        sql.push(self.create_fetch());
        let writes = self.source_writes();
        sql.extend(writes.into_iter().map(|(name, statement)| {
            format!(
                "CREATE FUNCTION {}({}) RETURNS void LANGUAGE sql BEGIN ATOMIC\n  {statement};\nEND",
                self.function(&[name]),
                self.write_parameters(name).join(", ")
            )
        }));
        sql.extend(self.create_looks());
        sql
    }

    /// What tells whether two rows agree, with the types of everything that is compared.
    fn tests(&self) -> Vec<(&'static str, Vec<&Typed>, String)> {
        let numbered = |from: usize, count: usize| {
            (from..from + count).map(|at| format!("${}", at + 1)).collect::<Vec<_>>()
        };
        let typed = |value: &str, column: &Typed| format!("({value})::{}", column.type_sql);
        let source = self.read_by_ups();
        let source: Vec<&Typed> =
            self.read_from_source(&source).into_iter().map(|(column, _)| column).collect();
        let ups = |from: usize| -> Vec<String> {
            let up = |new: &super::Moved| {
                let arguments: Vec<String> = source
                    .iter()
                    .enumerate()
                    .filter(|(_, column)| new.reads.contains(&column.name))
                    .map(|(at, _)| format!("${}", from + at + 1))
                    .collect();
                let call =
                    format!("{}({})", self.function(&["up", new.column.name.as_str()]), arguments.join(", "));
                typed(&call, &new.column)
            };
            self.new.iter().map(up).collect()
        };
        let new: Vec<&Typed> = self.new.iter().map(|new| &new.column).collect();
        let old: Vec<&Typed> = self.old.iter().map(|old| &old.column).collect();
        let mut tests = Vec::new();
        let computed = ups(new.len());
        let mut holds = alike(&numbered(0, new.len()), &computed);
        for (column, up) in new.iter().zip(&computed) {
            // A cast would cut off what an assignment refuses.
            let Some(length) = column.length() else { continue };
            let untyped = up.rsplit_once("::").map_or(up.as_str(), |(value, _)| value);
            holds.push_str(&format!(" AND coalesce(length(rtrim(({untyped})::text)) <= {length}, true)"));
        }
        tests.push(("holds_up", new.iter().chain(&source).copied().collect(), holds));
        if self.old.is_empty() {
            let none: Vec<String> = ups(0).into_iter().map(|up| format!("{up} IS NULL")).collect();
            tests.push(("empty", source, none.join(" AND ")));
        } else {
            let empty: Vec<String> = self.old.iter().map(|old| typed(&old.empty, &old.column)).collect();
            tests.push(("empty", old.clone(), alike(&numbered(0, old.len()), &empty)));
        }
        if self.has_down() {
            let reads = self.read_by_downs();
            let target = self.read_from_target(&reads);
            let down = |old: &super::Left| {
                let (_, reads) = old.down.as_ref()?;
                let arguments: Vec<String> = target
                    .iter()
                    .enumerate()
                    .filter(|(_, column)| reads.contains(&column.name))
                    .map(|(at, _)| format!("${}", at + 1))
                    .collect();
                let call = format!(
                    "{}({})",
                    self.function(&["down", old.column.name.as_str()]),
                    arguments.join(", ")
                );
                Some(typed(&call, &old.column))
            };
            let downs: Vec<String> = self.old.iter().filter_map(down).collect();
            let holds = alike(&numbered(target.len(), old.len()), &downs);
            tests.push(("holds_down", target.into_iter().chain(old).collect(), holds));
        }
        tests
    }

    fn create_tests(&self) -> Vec<String> {
        let mut sql = Vec::new();
        for (name, parameters, expression) in self.tests() {
            let types: Vec<&str> = parameters.iter().map(|column| column.type_sql.as_str()).collect();
            let types = types.join(", ");
            let head = |name: &[&str]| {
                format!("CREATE FUNCTION {}({types}) RETURNS boolean LANGUAGE", self.function(name))
            };
            // Raising is not holding.
            let arguments: Vec<String> = (1..=parameters.len()).map(|at| format!("${at}")).collect();
            sql.extend(self.guarded(name, &head, &format!("sql RETURN {expression}"), &arguments.join(", ")));
        }
        sql
    }

    /// What tells of the source row of a row `t` of the target whether it stands, and whether it takes part.
    fn create_looks(&self) -> Vec<String> {
        let head = |name: &[&str]| {
            format!("CREATE FUNCTION {}(t {}) RETURNS boolean LANGUAGE", self.function(name), self.target)
        };
        let exists = |condition: &str| {
            let found = self.together("t", "s");
            format!(
                "sql BEGIN ATOMIC\n  SELECT EXISTS (SELECT FROM {} AS s WHERE {found}{condition});\nEND",
                self.source
            )
        };
        let mut sql = Vec::new();
        if self.target_shifts() || !self.makes_rows && (self.has_asks() || self.renumbers_across_partitions())
        {
            sql.push(format!("{} {}", head(&["stands"]), exists("")));
        }
        if self.has_asks() && self.has_down() {
            let asked = format!(" AND {}", self.asks("s", Shape::Open));
            sql.extend(self.guarded("asked", &head, &exists(&asked), "t"));
        }
        sql
    }

    /// A function that gives false where what it computes raises.
    fn guarded(
        &self,
        name: &str,
        head: &dyn Fn(&[&str]) -> String,
        body: &str,
        arguments: &str,
    ) -> Vec<String> {
        if !self.may_raise {
            return vec![format!("{} {body}", head(&[name]))];
        }
        vec![
            format!("{} {body}", head(&["unguarded", name])),
            format!(
                "{} plpgsql AS $pontoon$\nBEGIN\n  RETURN {}({arguments});\nEXCEPTION WHEN OTHERS THEN\n  RETURN false;\nEND\n$pontoon$",
                head(&[name]),
                self.function(&["unguarded", name]),
            ),
        ]
    }

    /// Locks a source row and gives what the target needs of it: whether it takes part, whether nothing was given to it, what
    /// `up` makes of it, and its columns that go.
    ///
    /// This and [`Self::source_writes`] are bound to the table and its columns by number, so that a writer of the target never
    /// meets a name that the seal has just changed.
    fn create_fetch(&self) -> String {
        let types =
            self.key.iter().filter_map(|(_, target)| self.target_columns.iter().find(|c| &c.name == target));
        // With names: the server writes the reference to one without any in a way that no dump can be restored from.
        let parameters: Vec<String> =
            types.enumerate().map(|(at, column)| format!("key_{at} {}", column.type_sql)).collect();
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

    /// A row of the target; for a key that changed, also the row as it was.
    fn write_parameters(&self, name: &str) -> Vec<String> {
        let row = format!("t {}", self.target);
        if name == "rekey" { vec![format!("was {}", self.target), row] } else { vec![row] }
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
                format!(
                    "UPDATE {source} AS s SET {} WHERE {at} AND NOT {not_empty} AND {}",
                    set(&empty),
                    self.left_free("t")
                ),
            ));
        }
        if self.has_down() {
            let differs = self.holds("t", "s", Shape::Open);
            let values = set(&self.downs("t"));
            writes.push(("write", format!("UPDATE {source} AS s SET {values} WHERE {at} AND NOT {differs}")));
        }
        if self.source_goes && self.one_to_one {
            writes.push((
                "remove",
                format!("DELETE FROM {source} AS s WHERE {at} AND {}", self.left_free("t")),
            ));
            writes.push(("withdraw", format!("DELETE FROM {source} AS s WHERE {at}")));
        }
        if self.source_goes && self.has_down() {
            let keys = self.key.iter().map(|(source, _)| source);
            let columns: Vec<String> =
                keys.chain(self.old_names(Shape::Open)).map(ToString::to_string).collect();
            let values = self.key.iter().map(|(_, target)| format!("t.{target}")).chain(self.downs("t"));
            writes.push((
                "add",
                format!(
                    "INSERT INTO {source} ({}) OVERRIDING SYSTEM VALUE SELECT {} WHERE NOT EXISTS (SELECT FROM {source} AS s WHERE {at}) \
                     ON CONFLICT ({}) DO NOTHING",
                    columns.join(", "),
                    values.collect::<Vec<_>>().join(", "),
                    self.source_unique.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
                ),
            ));
        }
        if self.source_goes && self.one_to_one {
            let keys = self.key.iter().map(|(source, target)| format!("{source} = t.{target}"));
            // With the values: what follows this write must not find the old ones under the new key.
            let values = if self.has_down() { set(&self.downs("t")) } else { String::new() };
            let all: Vec<String> = keys.chain([values].into_iter().filter(|set| !set.is_empty())).collect();
            writes.push((
                "rekey",
                format!("UPDATE {source} AS s SET {} WHERE {}", all.join(", "), self.together("was", "s")),
            ));
        }
        writes
    }

    /// `DROP FUNCTION` statements for all of its functions, those of the triggers too.
    pub(crate) fn drop_functions(&self) -> Vec<String> {
        let mut all: Vec<QualifiedName> = triggers::KINDS.iter().map(|kind| self.function(&[kind])).collect();
        all.push(self.function(&["fetch"]));
        all.extend(self.source_writes().iter().map(|(name, _)| self.function(&[name])));
        for (name, ..) in self.tests() {
            all.push(self.function(&[name]));
            all.push(self.function(&["unguarded", name]));
        }
        all.extend(self.new.iter().map(|new| self.function(&["up", new.column.name.as_str()])));
        let looks: [&[&str]; 5] = [&["asked"], &["unguarded", "asked"], &["stands"], &["asks"], &["wanted"]];
        all.extend(looks.map(|name| self.function(name)));
        let downs = self.old.iter().filter(|old| old.down.is_some());
        all.extend(downs.map(|old| self.function(&["down", old.column.name.as_str()])));
        all.extend(self.given.iter().map(|(column, _)| self.function(&["given", column.as_str()])));
        all.iter().map(drop_function).collect()
    }
}
