//! Objects besides columns that contract makes, changes or takes away: views, functions, types, policies and their like.
//!
//! What such a statement means depends on which others came before it, so within a file, and until a migration in flight is
//! contracted, nothing else may name the object: but for what stands in its place, and grants and comments on that.

use std::collections::BTreeMap;
use std::ops::Range;

use super::steps::{step, table_step};
use super::{Draft, TableDraft};
use crate::decide::change::mapping::hidden_name;
use crate::decide::plan::{Step, TableLock};
use crate::model::catalog::{Dependant, Object, ObjectRef};
use crate::model::problem::Problem;
use crate::model::sql::{CreateObject, NewName, ObjectKind, RenameObject, Statement, StatementKind, Target};
use crate::words::ident::QualifiedName;
use crate::words::lock_mode::LockMode;

/// An object that contract takes away; something may stand in its place.
pub(crate) struct Going {
    /// The statement that says so.
    at: usize,
    kind: ObjectKind,
    object: ObjectRef,
    /// What the server calls it once it is hidden.
    hidden: String,
    hide: Vec<String>,
    unhide: Vec<String>,
    /// What takes it away for good; nothing if hiding did.
    drop: Vec<String>,
    drop_locks: Vec<TableLock>,
    /// What stands in its place: the statement's number, what makes it, what takes that back.
    made: Vec<(usize, String, String)>,
}

/// Steps of contract that objects need.
pub(super) struct ObjectSteps {
    /// Policies and triggers, which change in the transaction that seals their table.
    pub(super) by_table: BTreeMap<QualifiedName, Changes>,
    /// After every table is sealed.
    pub(super) last: Vec<Step>,
    /// What goes for good, by statement.
    pub(super) drops: Vec<(usize, Step)>,
    /// The same, but columns may stand on it that go themselves.
    pub(super) drops_last: Vec<(usize, Step)>,
}

impl Draft<'_> {
    /// Refuses a statement that names what contract makes, changes or takes away, here or in a migration before.
    pub(crate) fn check_objects(&self, statement: &Statement) -> Result<(), Problem> {
        let named =
            |object: &ObjectRef| object.is_named_in(statement) && !self.means_others(object, statement);
        let busy = self.catalog.busy_objects.iter().find(|(object, _)| named(object));
        if let Some((object, version)) = busy {
            let title = format!("migration {version} is to change or take away the {}", object.what);
            let label = "this concerns it as well";
            return Err(Problem::in_flight(statement.span.clone(), title, label, Some(*version)));
        }
        let touched = self.touched.iter().find(|object| named(object) && !self.may_follow(object, statement));
        let Some(object) = touched else { return Ok(()) };
        let title = format!("the file changes the {} in contract, and names it again here", object.what);
        let problem = Problem::new("order", statement.span.clone(), title, "this statement");
        let another =
            matches!(&statement.kind, StatementKind::CreateObject(new) if new.kind == ObjectKind::Type);
        Err(problem.help(if another {
            "give the new type a name of its own, change the columns, drop the old type, and let the new one take its name: \
             `DROP TYPE old; ALTER TYPE new RENAME TO old`"
        } else {
            "split the file: this statement goes into a migration of its own"
        }))
    }

    /// Whether a statement drops or renames only objects that share no more than the name.
    fn means_others(&self, object: &ObjectRef, statement: &Statement) -> bool {
        let other = |kind: ObjectKind, target: &Target| {
            let meant = self.catalog.object(kind, target, &self.settings.search_path);
            meant.is_some_and(|meant| meant.what != object.what)
        };
        match &statement.kind {
            StatementKind::DropObjects(drop) => drop.targets.iter().all(|target| other(drop.kind, target)),
            StatementKind::Rename(rename) => other(rename.kind, &rename.target),
            _ => false,
        }
    }

    fn may_follow(&self, object: &ObjectRef, statement: &Statement) -> bool {
        match &statement.kind {
            StatementKind::CreateObject(create) if self.place_of(create).is_some() => true,
            StatementKind::Rename(rename) if self.place_of_renamed(rename).is_some() => true,
            StatementKind::CreateOnTable(create) => self.objects.iter().any(|going| {
                going.object.what == object.what && going.kind == create.kind && going.made.is_empty()
            }),
            StatementKind::Describe(_) | StatementKind::Revoke
                if self.rewritten.iter().any(|(what, _)| *what == object.what) =>
            {
                true
            }
            _ => self.in_place(statement).is_some(),
        }
    }

    /// Notes that contract makes, changes or takes away an object. Refused where a statement above that runs at its end
    /// names it.
    pub(crate) fn touch(&mut self, object: ObjectRef, span: &Range<usize>) -> Result<(), Problem> {
        if let Some(late) = self.late.iter().find(|late| object.is_named_in(late)) {
            let title = format!("a statement that runs at the end of contract names the {}", object.what);
            return Err(Problem::new("order", span.clone(), title, "which goes before that")
                .and(late.span.clone(), "this statement")
                .help("split the file"));
        }
        self.touched.push(object);
        Ok(())
    }

    /// Notes the same for later migrations only: in this file the server takes one such statement after the other.
    pub(crate) fn reserve_object(&mut self, object: ObjectRef) {
        self.reserved.push(object);
    }

    /// The object that a name means, but for one that a statement above takes away.
    pub(crate) fn object(&self, kind: ObjectKind, target: &Target) -> Option<Object> {
        let found = self.catalog.object(kind, target, &self.settings.search_path).cloned();
        found.filter(|object| !self.objects.iter().any(|going| going.object.what == object.what))
    }

    /// Whether this file itself makes an object.
    pub(crate) fn makes(&self, kind: ObjectKind, target: &Target) -> bool {
        let table = target.table.as_ref().map(|table| &table.name);
        self.made.iter().any(|object| {
            object.kind == kind.word()
                && object.name.name == target.name.name
                && object.on_table.as_ref().map(|on| &on.name) == table
        })
    }

    /// Hides an object in the seal by a new name, or by taking it away where it has no name to hide under.
    pub(crate) fn hide_object(
        &mut self,
        object: &Object,
        kind: ObjectKind,
        span: &Range<usize>,
        mut drop_locks: Vec<TableLock>,
    ) -> Result<(), Problem> {
        let (word, name) = (kind.sql(), &object.name);
        let version = self.file.version.number().to_string();
        let hidden = hidden_name(&version, &name.name);
        let then = QualifiedName::new(name.schema.clone(), hidden.clone());
        let arguments = &object.arguments;
        let (mut hide, mut unhide, drop) = match &object.on_table {
            Some(table) => {
                (vec![format!("DROP {word} {} ON {table}", name.name)], object.definition.clone(), Vec::new())
            }
            None => (
                vec![format!("ALTER {word} {name}{arguments} RENAME TO {hidden}")],
                vec![format!("ALTER {word} {then}{arguments} RENAME TO {}", name.name)],
                vec![format!("DROP {word} {then}{arguments}")],
            ),
        };
        // What stands in the place of a materialized view has indexes of the same names.
        for index in object.indexes.iter().filter(|_| kind == ObjectKind::MaterializedView) {
            let (schema, hidden) = (&name.schema, hidden_name(&version, index));
            hide.push(format!("ALTER INDEX {schema}.{index} RENAME TO {hidden}"));
            unhide.push(format!("ALTER INDEX {schema}.{hidden} RENAME TO {index}"));
        }
        if kind == ObjectKind::Table || kind.is_view() {
            drop_locks.push(TableLock { table: then.clone(), mode: LockMode::AccessExclusive });
        }
        self.touch(object.reference(), span)?;
        self.objects.push(Going {
            at: self.at,
            kind,
            object: object.reference(),
            hidden: object.what.replacen(&name.to_string(), &then.to_string(), 1),
            hide,
            unhide,
            drop,
            drop_locks,
            made: Vec::new(),
        });
        Ok(())
    }

    /// Notes that a view stands in for a table until contract, and another one while it is sealed.
    pub(crate) fn stands_in(&mut self, open: &QualifiedName, sealed: &QualifiedName) {
        self.touched.push(ObjectRef::new("view", open));
        self.touched.push(ObjectRef::new("table", sealed));
        self.stand_ins.insert(format!("view {open}"), format!("view {sealed}"));
    }

    /// Notes that the seal takes a table out of another one, which a reopen takes back.
    pub(crate) fn sets_apart(&mut self, table: &QualifiedName) {
        let what = format!("table {table}");
        self.stand_ins.insert(what.clone(), what);
    }

    /// The object that a statement above takes away and in whose place a new one stands.
    pub(crate) fn place_of(&self, create: &CreateObject) -> Option<usize> {
        let name = self.new_name(create.name.as_ref()?);
        let function = matches!(create.kind, ObjectKind::Function | ObjectKind::Procedure);
        let meant = create.signature.as_ref().and_then(|signature| self.catalog.signatures.get(signature));
        self.objects.iter().position(|going| {
            going.kind == create.kind
                && going.object.name == name
                && going.made.is_empty()
                && (!function || meant == Some(&going.object.what))
        })
    }

    /// The same for one that gets its name.
    pub(crate) fn place_of_renamed(&self, rename: &RenameObject) -> Option<usize> {
        let NewName::Name(new) = &rename.to else { return None };
        if matches!(rename.kind, ObjectKind::Function | ObjectKind::Procedure) {
            return None;
        }
        let name = QualifiedName::new(self.new_name(&rename.target.name).schema, new.clone());
        self.objects
            .iter()
            .position(|going| going.kind == rename.kind && going.object.name == name && going.made.is_empty())
    }

    /// The same for a policy or trigger.
    pub(crate) fn place_on(
        &self,
        kind: ObjectKind,
        name: &QualifiedName,
        table: &QualifiedName,
    ) -> Option<usize> {
        self.objects.iter().position(|going| {
            going.kind == kind
                && &going.object.name == name
                && going.object.on_table.as_ref() == Some(table)
                && going.made.is_empty()
        })
    }

    /// What stands in the place of something and what a grant, a comment, an index or another view speaks of.
    pub(crate) fn in_place(&self, statement: &Statement) -> Option<usize> {
        let speaks = matches!(&statement.kind, StatementKind::Describe(_) | StatementKind::CreateIndex(_))
            || matches!(&statement.kind, StatementKind::CreateObject(create)
                if matches!(create.kind, ObjectKind::View | ObjectKind::MaterializedView));
        self.objects
            .iter()
            .rposition(|going| speaks && !going.made.is_empty() && going.object.is_named_in(statement))
    }

    /// Whether the file drops a table.
    pub(crate) fn hides_table(&self, table: &QualifiedName) -> bool {
        self.objects.iter().any(|going| going.kind == ObjectKind::Table && &going.object.name == table)
    }

    /// Lets statements run in the transaction that hides a table, and others in that which brings it back.
    pub(crate) fn with_hidden_table(&mut self, table: &QualifiedName, sql: &[String], undo: &[String]) {
        let goes = |going: &&mut Going| going.kind == ObjectKind::Table && &going.object.name == table;
        if let Some(going) = self.objects.iter_mut().find(goes) {
            going.hide.extend_from_slice(sql);
            going.unhide.extend_from_slice(undo);
        }
    }

    /// Lets statements run behind the one that drops a table.
    pub(crate) fn with_dropped_table(&mut self, table: &QualifiedName, sql: Vec<String>) {
        let goes = |going: &&mut Going| going.kind == ObjectKind::Table && &going.object.name == table;
        if let Some(going) = self.objects.iter_mut().find(goes) {
            going.drop.extend(sql);
        }
    }

    /// Puts a statement in the place of an object that goes, with what takes it back: all change in one transaction.
    pub(crate) fn replace(&mut self, at: usize, sql: String, undo: String) {
        let number = self.at;
        if let Some(going) = self.objects.get_mut(at) {
            going.made.push((number, sql, undo));
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
            let with_table = |how: &str| what.ends_with(&format!(" {how} table {}", going.object.name));
            going.object.what == what
                || going.kind == ObjectKind::Table && (with_table("on") || with_table("of"))
        };
        let with_column = |work: &TableDraft| {
            let dropped = work.dropped.iter().map(|dropped| &dropped.column);
            let mut columns = dropped.chain(work.retyped.iter().map(|retyped| &retyped.column));
            // A column of a partition goes with that of the whole.
            let partitions = self.catalog.table(&work.name).and_then(|known| known.partitions.as_ref());
            let leaves = partitions.into_iter().flat_map(|partitions| &partitions.leaves);
            let tables: Vec<String> =
                leaves.map(|leaf| &leaf.name).chain([&work.name]).map(ToString::to_string).collect();
            columns.any(|column| {
                let of = format!("column {} of table ", column.as_str());
                tables.iter().any(|table| what.ends_with(&format!("{of}{table}")))
            })
        };
        self.objects.iter().any(with_object)
            || self.tables.iter().any(with_column)
            || self.gone_constraints.contains(what)
    }

    /// The one table whose columns leave a type that goes: both change in one transaction, so that a cast to its name means
    /// what the column takes.
    fn only_user(&self, going: &Going) -> Option<QualifiedName> {
        if going.kind != ObjectKind::Type {
            return None;
        }
        let leaves = |work: &&TableDraft| {
            let known = self.catalog.table(&work.name);
            let types = work.retyped.iter().filter_map(|retyped| known?.column(&retyped.column));
            types.map(|column| column.type_sql.as_str()).any(|sql| sql == going.object.name.to_string())
        };
        let mut users = self.tables.iter().filter(leaves);
        users.next().filter(|_| users.next().is_none()).map(|work| work.name.clone())
    }

    /// What the seal hides, as the server calls it before and then.
    pub(super) fn hidden_objects(&self) -> BTreeMap<String, String> {
        let going = self.objects.iter().map(|going| (going.object.what.clone(), going.hidden.clone()));
        going.chain(self.stand_ins.clone()).collect()
    }

    /// Everything but tables changes in one transaction, in the order of the file, so that nobody meets the half of it; a
    /// policy or trigger in its table's.
    pub(super) fn object_steps(&mut self) -> ObjectSteps {
        let mut steps = ObjectSteps {
            by_table: BTreeMap::new(),
            last: Vec::new(),
            drops: Vec::new(),
            drops_last: Vec::new(),
        };
        let (mut together, mut locks) = (Changes::default(), Vec::new());
        for going in std::mem::take(&mut self.objects) {
            if going.kind == ObjectKind::Table {
                let lock = TableLock { table: going.object.name, mode: LockMode::AccessExclusive };
                let title = format!("hide {}", going.object.what);
                steps.last.push(step(title, going.hide, going.unhide, vec![lock]));
            } else {
                let changes = match going.object.on_table.clone().or_else(|| self.only_user(&going)) {
                    Some(table) => steps.by_table.entry(table).or_default(),
                    None => {
                        if going.kind.is_view() {
                            let (table, mode) = (going.object.name.clone(), LockMode::AccessExclusive);
                            locks.push(TableLock { table, mode });
                        }
                        &mut together
                    }
                };
                let last = going.kind == ObjectKind::Type;
                changes.add(going.at, going.object.what.clone(), last, going.hide, going.unhide);
                for (at, sql, undo) in going.made {
                    changes.add(at, String::new(), true, vec![sql], vec![undo]);
                }
            }
            if !going.drop.is_empty() {
                let title = format!("drop {}", going.object.what);
                let carries =
                    matches!(going.kind, ObjectKind::Type | ObjectKind::Domain | ObjectKind::Schema);
                let drops = if carries { &mut steps.drops_last } else { &mut steps.drops };
                drops.push((going.at, step(title, going.drop, Vec::new(), going.drop_locks)));
            }
        }
        if !together.parts.is_empty() {
            let (title, sql, undo) = together.finish();
            steps.last.push(step(title, sql, undo, locks));
        }
        steps
    }
}

/// Statements of one transaction, by the number of the statement in the file that asks for them.
#[derive(Default)]
pub(super) struct Changes {
    parts: Vec<Change>,
    what: Vec<String>,
}

struct Change {
    at: usize,
    sql: Vec<String>,
    undo: Vec<String>,
    /// Whether it comes behind the change of the columns: what makes something, and what they no longer need.
    last: bool,
}

impl Changes {
    fn add(&mut self, at: usize, what: String, last: bool, sql: Vec<String>, undo: Vec<String>) {
        self.what.extend((!what.is_empty()).then_some(what));
        self.parts.push(Change { at, sql, undo, last });
    }

    fn finish(mut self) -> (String, Vec<String>, Vec<String>) {
        self.parts.sort_by_key(|change| change.at);
        let undo = self.parts.iter().rev().flat_map(|change| change.undo.clone());
        let undo = undo.filter(|sql| !sql.is_empty()).collect();
        let sql = self.parts.into_iter().flat_map(|change| change.sql).collect();
        (format!("hide or replace {}", self.what.join(", ")), sql, undo)
    }

    /// A step of its own, for a table that has no other seal.
    pub(super) fn step(self, table: &QualifiedName) -> Step {
        let (title, sql, undo) = self.finish();
        table_step(table, title, sql, undo)
    }

    /// Puts them around the seal of their table: what goes before the columns change, what comes after that. Both steps
    /// begin with the table's lock.
    pub(super) fn around(mut self, mut seal: Step) -> Step {
        self.parts.sort_by_key(|change| change.at);
        let (last, first): (Vec<Change>, Vec<Change>) =
            self.parts.into_iter().partition(|change| change.last);
        let unmake = last.iter().rev().flat_map(|change| change.undo.clone()).collect::<Vec<_>>();
        seal.sql.splice(1..1, first.iter().flat_map(|change| change.sql.clone()));
        seal.sql.extend(last.into_iter().flat_map(|change| change.sql));
        seal.undo.splice(1..1, unmake);
        seal.undo.extend(first.into_iter().rev().flat_map(|change| change.undo));
        seal.title = format!("{}, replace {}", seal.title, self.what.join(", "));
        seal
    }
}
