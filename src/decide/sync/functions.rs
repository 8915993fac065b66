//! The functions of a mapping: the author's expressions bound once, and the test for consistency.
//!
//! Each is an SQL function with a parsed body (`RETURN …`), so that it is bound to object ids when it is made. A
//! later, hostile or merely different `search_path` changes nothing.

use std::collections::BTreeSet;

use super::{Mapping, Shape, Typed, Up};
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
            if let Up::Fill { on_insert: Some(default), .. } = &new.up {
                let function = self.function(&["default", new.column.name.as_str()]);
                self.push_function(&mut sql, &function, &BTreeSet::new(), &new.column.type_sql, default);
            }
        }
        for (old, down) in self.computed_old() {
            let function = self.down_function(&old.column.name);
            self.push_function(&mut sql, &function, &down.reads, &old.column.type_sql, &down.expression);
        }
        if self.has_up() || self.has_down() {
            let reads = self.all_reads();
            self.push_function(
                &mut sql,
                &self.consistent_function(),
                &reads,
                "boolean",
                &self.consistent_expression(),
            );
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
            "CREATE FUNCTION {function}({}) RETURNS {returns} LANGUAGE sql RETURN {expression}",
            parameters.join(", ")
        ));
        sql.push(format!("GRANT EXECUTE ON FUNCTION {function}({}) TO PUBLIC", types(&columns)));
    }

    /// A row is consistent if the old shape is what `down` makes of the new one, or the new shape what `up` makes of
    /// the old one. Values are compared by image (`*=`), which works for every type and treats nulls as equal; the
    /// casts to record keep the parser from comparing member by member.
    fn consistent_expression(&self) -> String {
        let up_holds = self.up_holds();
        if self.has_down() {
            let old: Vec<String> = self.computed_old().map(|(old, _)| old.column.name.to_string()).collect();
            let down: Vec<String> = self
                .computed_old()
                .map(|(old, down)| {
                    let call = self.call(&self.down_function(&old.column.name), &down.reads, "", Shape::Open);
                    format!("({call})::{}", old.column.type_sql)
                })
                .collect();
            let down_holds = format!("ROW({})::record *= ROW({})::record", old.join(", "), down.join(", "));
            return match up_holds {
                // `down` is tried first: where it holds, an `up` that raises is never evaluated.
                Some(up_holds) => format!("CASE WHEN {down_holds} THEN true ELSE {up_holds} END"),
                None => down_holds,
            };
        }
        // Without a `down` new code is free to differ; only an untouched row is inconsistent.
        let untouched: Vec<String> =
            self.new.iter().map(|new| format!("{} IS NULL", new.column.name)).collect();
        let up_holds = up_holds.unwrap_or_else(|| "true".to_owned());
        format!("CASE WHEN {} THEN {up_holds} ELSE true END", untouched.join(" AND "))
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
                        format!("ROW({name})::record *= ROW(({up})::{})::record", new.column.type_sql)
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
        let mut sql = Vec::new();
        let mut push = |function: QualifiedName, columns: &[Typed]| {
            sql.push(format!("DROP FUNCTION IF EXISTS {function}({})", types(columns)));
        };
        for kind in ["given", "derive", "note"] {
            push(self.function(&[kind]), &[]);
        }
        push(self.consistent_function(), &self.columns());
        for new in &self.new {
            push(self.up_function(&new.column.name), &self.columns_of(new.up.reads()));
            push(self.function(&["default", new.column.name.as_str()]), &[]);
        }
        for (old, down) in self.computed_old() {
            push(self.down_function(&old.column.name), &self.columns_of(&down.reads));
        }
        sql
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
                        "ROW({})::record *= ROW(({up})::{})::record",
                        new.column.name, new.column.type_sql
                    )
                }
                Up::Fill { .. } => "false".to_owned(),
            })
            .collect();
        let unlike = format!("NOT ({})", up.join(" AND "));
        format!("({}) AND {unlike}", some.join(" OR "))
    }

    /// True for a row that is not consistent.
    pub(crate) fn wrong(&self, shape: Shape) -> String {
        format!("NOT {}", self.call(&self.consistent_function(), &self.all_reads(), "", shape))
    }
}

fn types(columns: &[Typed]) -> String {
    columns.iter().map(|column| column.type_sql.as_str()).collect::<Vec<_>>().join(", ")
}
