//! Objects besides columns that contract takes away or replaces: views, functions, types, policies and their like.

use std::ops::Range;

use super::steps::{step, table_step};
use super::{Draft, TableDraft};
use crate::decide::change::mapping::hidden_name;
use crate::decide::plan::{Step, TableLock};
use crate::model::catalog::{Dependant, Object};
use crate::model::problem::Problem;
use crate::model::sql::{ObjectKind, Statement, Target};
use crate::words::ident::{Ident, QualifiedName};
use crate::words::lock_mode::LockMode;

/// An object that contract takes away; something may stand in its place.
pub(crate) struct Going {
    /// The statement that says so.
    at: usize,
    pub(crate) kind: ObjectKind,
    pub(crate) name: QualifiedName,
    pub(crate) what: String,
    /// The same once it is hidden.
    pub(super) hidden: String,
    /// The table of a policy or trigger.
    pub(crate) on_table: Option<QualifiedName>,
    hide: Vec<String>,
    unhide: Vec<String>,
    /// What takes it away for good; nothing if hiding did.
    drop: Vec<String>,
    drop_locks: Vec<TableLock>,
    /// Statements that make what stands in its place, each with the one that takes it back.
    made: Vec<(String, String)>,
}

impl Draft<'_> {
    /// The object that a name means, refused if an earlier migration is to take it away or to replace it.
    pub(crate) fn object(&self, kind: ObjectKind, target: &Target) -> Result<Option<Object>, Problem> {
        let found = self.catalog.object(kind, target, &self.settings.search_path).cloned();
        let found = found.filter(|object| !self.objects.iter().any(|going| going.what == object.what));
        if let Some(object) = &found {
            self.check_free(object, &target.name.span)?;
        }
        Ok(found)
    }

    fn check_free(&self, object: &Object, span: &Range<usize>) -> Result<(), Problem> {
        let Some(version) = self.catalog.busy_objects.get(&object.what) else { return Ok(()) };
        let title = format!("migration {version} is to take away or replace the {}", object.what);
        Err(Problem::new("in-flight", span.clone(), title, "this concerns it as well")
            .help(format!("contract it first: `migrate contract {version}`")))
    }

    /// Hides an object in the seal by a new name, or by taking it away where it has no name to hide under.
    pub(crate) fn hide_object(&mut self, object: &Object, kind: ObjectKind, mut drop_locks: Vec<TableLock>) {
        let (word, name) = (kind.sql(), &object.name);
        let version = self.file.version.number().to_string();
        let hidden = hidden_name(&version, &name.name);
        let then = QualifiedName::new(name.schema.clone(), hidden.clone());
        let (hide, unhide, drop) = match &object.on_table {
            Some(table) => {
                (vec![format!("DROP {word} {} ON {table}", name.name)], object.definition.clone(), Vec::new())
            }
            None => {
                let arguments = &object.arguments;
                (
                    vec![format!("ALTER {word} {name}{arguments} RENAME TO {hidden}")],
                    vec![format!("ALTER {word} {then}{arguments} RENAME TO {}", name.name)],
                    vec![format!("DROP {word} {then}{arguments}")],
                )
            }
        };
        if kind == ObjectKind::Table {
            drop_locks.push(TableLock { table: then.clone(), mode: LockMode::AccessExclusive });
        }
        self.objects.push(Going {
            at: self.at,
            kind,
            name: name.clone(),
            what: object.what.clone(),
            hidden: object.what.replacen(&name.to_string(), &then.to_string(), 1),
            on_table: object.on_table.clone(),
            hide,
            unhide,
            drop,
            drop_locks,
            made: Vec::new(),
        });
    }

    /// Notes that an object becomes another one in contract, so that nobody else touches it until then.
    pub(crate) fn keep_object(&mut self, what: String) {
        self.kept_objects.push(what);
    }

    /// The object that a statement above takes away and whose name this one uses.
    pub(crate) fn going_named(&self, kind: ObjectKind, name: &QualifiedName) -> Option<&Going> {
        self.objects.iter().find(|going| going.kind == kind && &going.name == name)
    }

    /// The object that something of this file stands in the place of and that a statement names.
    pub(crate) fn replaced_in(&self, statement: &Statement) -> Option<usize> {
        let named = |going: &Going| {
            let word = |name: &Ident| statement.words.contains(name.as_str());
            word(&going.name.name) && going.on_table.as_ref().is_none_or(|table| word(&table.name))
        };
        self.objects.iter().rposition(|going| !going.made.is_empty() && named(going))
    }

    /// Puts a statement in the place of an object that goes: both change in one transaction.
    pub(crate) fn replace(&mut self, what: &str, sql: String, undo: String) {
        if let Some(going) = self.objects.iter_mut().find(|going| going.what == what) {
            going.made.push((sql, undo));
        }
    }

    /// The same by its position.
    pub(crate) fn replace_at(&mut self, at: usize, sql: String, undo: String) {
        if let Some(going) = self.objects.get_mut(at) {
            going.made.push((sql, undo));
        }
    }

    /// Whether something that depends on a column is taken away or changed by the statements above.
    pub(crate) fn is_out_of_the_way(&self, dependant: &Dependant) -> bool {
        self.takes_away(&dependant.what)
            || self.rewritten.iter().any(|(what, reads)| {
                what == &dependant.what
                    && reads.as_ref().is_some_and(|reads| !reads.contains(&dependant.column))
            })
    }

    /// Whether the statements above take away something that stands in an object's way, as the server describes it.
    pub(crate) fn takes_away(&self, what: &str) -> bool {
        let with_object = |going: &Going| {
            let with_table = |how: &str| what.ends_with(&format!(" {how} table {}", going.name));
            going.what == what || going.kind == ObjectKind::Table && (with_table("on") || with_table("of"))
        };
        let with_column = |work: &TableDraft| {
            let dropped = work.dropped.iter().map(|dropped| &dropped.column);
            let columns = dropped.chain(work.retyped.iter().map(|retyped| &retyped.column));
            columns
                .into_iter()
                .any(|column| what.ends_with(&format!("column {} of table {}", column.as_str(), work.name)))
        };
        self.objects.iter().any(with_object)
            || self.tables.iter().any(with_column)
            || self.gone_constraints.contains(what)
    }

    /// The steps of the seal that come before those of tables, those that come after, and the drops by statement.
    pub(super) fn object_steps(&mut self) -> (Vec<Step>, Vec<Step>, Vec<(usize, Step)>) {
        let (mut before, mut after, mut drops) = (Vec::new(), Vec::new(), Vec::new());
        for going in std::mem::take(&mut self.objects) {
            let made = !going.made.is_empty();
            let title = format!("{} {}", if made { "replace" } else { "hide" }, going.what);
            let (made, mut unmake): (Vec<String>, Vec<String>) = going.made.into_iter().unzip();
            unmake.reverse();
            unmake.retain(|sql| !sql.is_empty());
            let sql = going.hide.into_iter().chain(made).collect();
            let undo: Vec<String> = unmake.into_iter().chain(going.unhide).collect();
            match &going.on_table {
                Some(table) => before.push(table_step(table, title, sql, undo)),
                None if going.kind == ObjectKind::Table => {
                    let lock = TableLock { table: going.name, mode: LockMode::AccessExclusive };
                    after.push(step(title, sql, undo, vec![lock]));
                }
                None => after.push(step(title, sql, undo, Vec::new())),
            }
            if !going.drop.is_empty() {
                drops.push((
                    going.at,
                    step(format!("drop {}", going.what), going.drop, Vec::new(), going.drop_locks),
                ));
            }
        }
        (before, after, drops)
    }
}
