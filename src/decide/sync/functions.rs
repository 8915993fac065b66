//! The functions of a mapping: the author's expressions bound once, and the test for consistency.
//!
//! Each is an SQL function with a parsed body (`RETURN …`), so that it is bound to object ids when it is made. A
//! later, hostile or merely different `search_path` changes nothing.

use std::collections::BTreeSet;

use super::{Mapping, NewSide, Shape, Typed, Up, typed_result};
use crate::words::ident::{Ident, QualifiedName};

impl Mapping {
    /// `CREATE FUNCTION` statements, in an order in which each finds those it calls.
    pub(crate) fn create_functions(&self) -> Vec<String> {
        let mut sql = Vec::new();
        for new in &self.new {
            let (expression, reads) = match &new.up {
                Up::Computed { expression, reads, .. } => (expression.clone(), reads),
                Up::Fill { expression, reads, condition: None, .. } => (expression.clone(), reads),
                Up::Fill { expression, reads, condition: Some(condition), .. } => {
                    (format!("CASE WHEN {condition} THEN {expression} END"), reads)
                }
            };
            self.push_function(
                &mut sql,
                &self.up_function(&new.column.name),
                reads,
                &new.column.type_sql,
                &expression,
            );
            if let Some(default) = new.up.on_insert() {
                let function = self.function(&["default", new.column.name.as_str()]);
                self.push_function(&mut sql, &function, &BTreeSet::new(), &new.column.type_sql, default);
            }
        }
        for (old, down) in self.computed_old() {
            let function = self.down_function(&old.column.name);
            let returns = &old.column.type_sql;
            if down.guarded {
                let inner = self.unguarded_function(&old.column.name);
                self.push_function(&mut sql, &inner, &down.reads, returns, &down.expression);
                self.push_guard(&mut sql, &function, &inner, &down.reads, returns);
            } else {
                self.push_function(&mut sql, &function, &down.reads, returns, &down.expression);
            }
        }
        if self.has_up() || self.has_down() {
            let reads = self.all_reads();
            let holds = [("holds_up", self.up_holds()), ("holds_down", self.down_holds())];
            for (name, expression) in holds.iter().filter_map(|(name, holds)| Some((name, holds.as_ref()?))) {
                self.push_function(&mut sql, &self.function(&[name]), &reads, "boolean", expression);
            }
            sql.push(self.consistent_create());
            let consistent = self.consistent_function();
            sql.push(format!("GRANT EXECUTE ON FUNCTION {consistent}({}) TO PUBLIC", types(&self.columns())));
        }
        sql
    }

    fn push_function(
        &self,
        sql: &mut Vec<String>,
        function: &QualifiedName,
        reads: &BTreeSet<Ident>,
        returns: &str,
        expression: &str,
    ) {
        let columns = self.columns_of(reads);
        let parameters: Vec<String> = columns.iter().map(|c| format!("{} {}", c.name, c.type_sql)).collect();
        sql.push(format!(
            "CREATE FUNCTION {function}({}) RETURNS {returns} LANGUAGE sql RETURN {}",
            parameters.join(", "),
            typed_result(expression, returns)
        ));
        sql.push(format!("GRANT EXECUTE ON FUNCTION {function}({}) TO PUBLIC", types(&columns)));
    }

    /// A function that gives what another gives, and null where that raises.
    fn push_guard(
        &self,
        sql: &mut Vec<String>,
        function: &QualifiedName,
        inner: &QualifiedName,
        reads: &BTreeSet<Ident>,
        returns: &str,
    ) {
        let types = types(&self.columns_of(reads));
        let arguments: Vec<String> = (1..=reads.len()).map(|at| format!("${at}")).collect();
        sql.push(format!(
            "CREATE FUNCTION {function}({types}) RETURNS {returns} LANGUAGE plpgsql AS $pontoon$\nBEGIN\n  \
             RETURN {inner}({});\nEXCEPTION WHEN OTHERS THEN\n  RETURN NULL;\nEND\n$pontoon$",
            arguments.join(", ")
        ));
        sql.push(format!("GRANT EXECUTE ON FUNCTION {function}({types}) TO PUBLIC"));
    }

    /// A row is consistent if the old shape is what `down` makes of the new one, or the new shape what `up` makes of
    /// the old one. Without a `down` new code is free to differ, and only an untouched row is inconsistent. Where an
    /// expression may raise, raising is not holding.
    fn consistent_create(&self) -> String {
        let parameters: Vec<String> =
            self.columns().iter().map(|c| format!("{} {}", c.name, c.type_sql)).collect();
        let head = format!(
            "CREATE FUNCTION {}({}) RETURNS boolean",
            self.consistent_function(),
            parameters.join(", ")
        );
        // By position: a parameter's name could be anything, a variable's too.
        let arguments: Vec<String> = (1..=parameters.len()).map(|at| format!("${at}")).collect();
        let call = |name: &str| format!("{}({})", self.function(&[name]), arguments.join(", "));
        let untouched: Vec<String> =
            self.new.iter().map(|new| format!("{} IS NULL", new.column.name)).collect();
        let untouched = untouched.join(" AND ");
        let (up, down) =
            (self.has_up().then(|| call("holds_up")), self.has_down().then(|| call("holds_down")));
        if !self.may_raise() {
            let expression = match (up, down) {
                (Some(up), Some(down)) => format!("CASE WHEN {down} THEN true ELSE {up} END"),
                (None, Some(down)) => down,
                (Some(up), None) => format!("CASE WHEN {untouched} THEN {up} ELSE true END"),
                (None, None) => "true".to_owned(),
            };
            return format!("{head} LANGUAGE sql RETURN {expression}");
        }
        let mut body = String::new();
        if let Some(down) = down {
            body.push_str(&format!(
                "  BEGIN\n    IF {down} THEN\n      RETURN true;\n    END IF;\n  EXCEPTION WHEN OTHERS THEN\n    NULL;\n  END;\n"
            ));
        } else {
            let touched: Vec<String> = (1..=self.new.len()).map(|at| format!("${at} IS NOT NULL")).collect();
            body.push_str(&format!("  IF {} THEN\n    RETURN true;\n  END IF;\n", touched.join(" OR ")));
        }
        let up = up.unwrap_or_else(|| "false".to_owned());
        body.push_str(&format!("  RETURN {up};\nEXCEPTION WHEN OTHERS THEN\n  RETURN false;\n"));
        format!("{head} LANGUAGE plpgsql AS $pontoon$\nBEGIN\n{body}END\n$pontoon$")
    }

    /// `old = down(new)` for all old columns that have one. Values are compared by image (`*=`), which works for every
    /// type and treats nulls as equal; the casts to record keep the parser from comparing member by member.
    fn down_holds(&self) -> Option<String> {
        let (old, down): (Vec<String>, Vec<String>) = self
            .computed_old()
            .map(|(old, down)| {
                let call = self.call(&self.down_function(&old.column.name), &down.reads, "", Shape::Open);
                (old.column.name.to_string(), format!("({call})::{}", old.column.type_sql))
            })
            .unzip();
        (!old.is_empty()).then(|| {
            format!(
                "pg_catalog.record_image_eq(ROW({})::record, ROW({})::record)",
                old.join(", "),
                down.join(", ")
            )
        })
    }

    /// `new = up(old)` for all new columns; for a fill: it is not null, or the row is none of those to be filled.
    fn up_holds(&self) -> Option<String> {
        let terms: Vec<String> = self
            .new
            .iter()
            .map(|new| {
                let name = &new.column.name;
                match &new.up {
                    Up::Computed { reads, .. } => {
                        let up = self.call(&self.up_function(name), reads, "", Shape::Open);
                        format!(
                            "pg_catalog.record_image_eq(ROW({name})::record, ROW(({up})::{})::record)",
                            new.column.type_sql
                        )
                    }
                    Up::Fill { condition: None, .. } => format!("{name} IS NOT NULL"),
                    Up::Fill { condition: Some(condition), .. } => {
                        format!("({name} IS NOT NULL OR ({condition}) IS NOT TRUE)")
                    }
                }
            })
            .collect();
        (!terms.is_empty()).then(|| terms.join(" AND "))
    }

    /// `DROP FUNCTION` statements for everything that [`Self::create_functions`] makes, and for trigger functions.
    pub(crate) fn drop_functions(&self) -> Vec<String> {
        let kinds = ["given", "derive", "moved", "note"].map(|kind| self.function(&[kind]));
        let mut all: Vec<QualifiedName> = kinds.into();
        all.extend([
            self.consistent_function(),
            self.function(&["holds_up"]),
            self.function(&["holds_down"]),
        ]);
        for new in &self.new {
            all.push(self.up_function(&new.column.name));
            all.push(self.function(&["default", new.column.name.as_str()]));
        }
        for (old, down) in self.computed_old() {
            all.push(self.down_function(&old.column.name));
            if down.guarded {
                all.push(self.unguarded_function(&old.column.name));
            }
        }
        all.iter().map(drop_function).collect()
    }

    /// The assignments of a batch, for rows of this mapping that need it.
    pub(crate) fn batch_set(&self, alone: bool) -> Vec<String> {
        self.new
            .iter()
            .map(|new| {
                let name = &new.column.name;
                let up = self.call(&self.up_function(name), new.up.reads(), "", Shape::Open);
                if alone {
                    format!("{name} = {up}")
                } else {
                    format!("{name} = CASE WHEN {} THEN {up} ELSE {name} END", self.batch_need())
                }
            })
            .collect()
    }

    /// The copy of a column that is renamed. While sealed it is what is hidden, and the column itself, under its new name, is
    /// right.
    fn shadow(&self) -> Option<&NewSide> {
        self.new.iter().find(|new| self.old.iter().any(|old| old.sealed_name == new.column.name))
    }

    /// The assignments that bring what is hidden up to the new columns, where those say something else.
    pub(crate) fn resync(&self) -> Vec<String> {
        if let Some(shadow) = self.shadow() {
            let up = self.call(&self.up_function(&shadow.column.name), shadow.up.reads(), "", Shape::Sealed);
            let name = &shadow.sealed_name;
            return vec![format!("{name} = CASE WHEN {} THEN {up} ELSE {name} END", self.need_resync())];
        }
        self.computed_old()
            .map(|(old, down)| {
                let name = &old.sealed_name;
                let value = self.call(&self.down_function(&old.column.name), &down.reads, "", Shape::Sealed);
                format!("{name} = CASE WHEN {} THEN {value} ELSE {name} END", self.need_resync())
            })
            .collect()
    }

    /// True for a row of which the hidden old columns are not what the new ones say: somebody wrote past the triggers.
    pub(crate) fn need_resync(&self) -> String {
        if self.shadow().is_some() {
            return self.wrong(Shape::Sealed);
        }
        let new = self.new.iter().map(|new| self.name_in(&new.column.name, Shape::Sealed));
        let some: Vec<String> = new.map(|name| format!("{name} IS NOT NULL")).collect();
        format!("({}) AND ({})", self.wrong(Shape::Sealed), some.join(" OR "))
    }

    /// True for a row that the backfill must convert: an inconsistent one, and one whose new columns are all null
    /// while `up` has a value. The second is more than consistency asks for (`down` of nulls may happen to equal the
    /// old value); no new code is serving yet whose nulls could be meant.
    pub(crate) fn batch_need(&self) -> String {
        let wrong = self.wrong(Shape::Open);
        if !self.has_down() {
            return wrong;
        }
        let null: Vec<String> = self.new.iter().map(|new| format!("{} IS NULL", new.column.name)).collect();
        let up: Vec<String> = self
            .new
            .iter()
            .map(|new| {
                let up = self.call(&self.up_function(&new.column.name), new.up.reads(), "", Shape::Open);
                format!("({up}) IS NULL")
            })
            .collect();
        format!("({wrong} OR ({} AND NOT ({})))", null.join(" AND "), up.join(" AND "))
    }

    /// True for a row whose new columns hold what the old shape does not: neither what `up` makes of it, nor, with a
    /// `down`, what it could be computed from.
    pub(crate) fn not_held(&self) -> String {
        let some: Vec<String> =
            self.new.iter().map(|new| format!("{} IS NOT NULL", new.column.name)).collect();
        let up: Vec<String> = self
            .new
            .iter()
            .map(|new| match &new.up {
                Up::Computed { reads, .. } => {
                    let up = self.call(&self.up_function(&new.column.name), reads, "", Shape::Open);
                    format!(
                        "pg_catalog.record_image_eq(ROW({})::record, ROW(({up})::{})::record)",
                        new.column.name, new.column.type_sql
                    )
                }
                Up::Fill { .. } => "false".to_owned(),
            })
            .collect();
        let unlike = format!("NOT ({})", up.join(" AND "));
        format!("({}) AND {unlike}", some.join(" OR "))
    }

    /// True for a row whose hidden old value does not make the new one again: what a reopen would lose.
    pub(crate) fn lost(&self) -> String {
        let same: Vec<String> = self
            .new
            .iter()
            .map(|new| {
                let name = self.name_in(&new.column.name, Shape::Sealed);
                let up = self.call(&self.up_function(&new.column.name), new.up.reads(), "", Shape::Sealed);
                // The cast is for a length; a type of the user has none, and may have another name by then.
                let of_user = new.column.type_sql.contains('.') && !new.column.type_sql.contains('(');
                let cast = if of_user { String::new() } else { format!("::{}", new.column.type_sql) };
                format!("pg_catalog.record_image_eq(ROW({name})::record, ROW(({up}){cast})::record)")
            })
            .collect();
        format!("NOT ({})", same.join(" AND "))
    }

    /// True for a row that is not consistent.
    pub(crate) fn wrong(&self, shape: Shape) -> String {
        format!("NOT {}", self.call(&self.consistent_function(), &self.all_reads(), "", shape))
    }
}

/// By its name alone, which no other function has: its types may have other names by then.
pub(super) fn drop_function(name: &QualifiedName) -> String {
    format!("DROP FUNCTION IF EXISTS {name}")
}

fn types(columns: &[Typed]) -> String {
    columns.iter().map(|column| column.type_sql.as_str()).collect::<Vec<_>>().join(", ")
}
