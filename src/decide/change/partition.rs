//! Shape: CREATE TABLE … PARTITION OF, ALTER TABLE … ATTACH PARTITION and DETACH PARTITION.
//! Phases: expand creates or attaches it, after a check that was validated says what the bound says, so that the server reads
//! nothing under a lock; contract validates such a check, detaches it in the seal, and drops the check in the end.
//! Locks: ACCESS EXCLUSIVE on the partition and the default one, SHARE UPDATE EXCLUSIVE on the whole, for a moment; creating
//! and detaching take ACCESS EXCLUSIVE on the whole. What is validated is read under SHARE UPDATE EXCLUSIVE.
//! Undo: DETACH, or DROP of what was created; a reopen attaches it again, if no row that fits it went elsewhere.
//! Limits: a table that holds rows needs the keys, foreign keys and indexes of the whole before; hash partitions by text and
//! trees below the partition are not done yet; no other migration may be moving the table.

use std::ops::Range;

use crate::decide::change::mapping::hidden_name;
use crate::decide::change::partition_rule::{check_hash, look, prove, with_rule};
use crate::decide::change::{partitioned, supported};
use crate::decide::draft::{Draft, Phase, lock_tables, step, validate};
use crate::decide::plan::{Loss, Step, TableLock};
use crate::model::catalog::{Constraint, Partitions, Table};
use crate::model::problem::Problem;
use crate::model::sql::{Name, Statement, StatementKind, rename_in_index};
use crate::words::ident::{Ident, QualifiedName, literal};
use crate::words::lock_mode::LockMode;

/// The locks that creating a partition of an existing table needs; none of a table that the file creates.
pub(super) fn locks_of_new(
    draft: &Draft<'_>,
    statement: &Statement,
    parent: &Name,
) -> Result<Vec<TableLock>, Problem> {
    let table = draft.existing(parent)?;
    if draft.created.contains(&table) {
        return Ok(Vec::new());
    }
    supported(draft, parent, &table)?;
    // The new one could take the place of the one that a reopen puts back.
    draft.refuse_while_detaching(&parent.span, &table)?;
    let partitions = partitions(draft, &parent.span, &table)?;
    if let Some(default) = &partitions.default_leaf {
        let title =
            format!("the server would read all of {} while `{}` is locked", default.plain(), table.plain());
        return Err(partitioned::refused(
            &statement.span,
            title,
            "write CREATE TABLE … (LIKE … INCLUDING ALL), then ATTACH PARTITION",
        ));
    }
    Ok(vec![TableLock { table, mode: LockMode::AccessExclusive }])
}

pub(super) fn attach(
    draft: &mut Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    partition: &Name,
    bound: &str,
) -> Result<(), Problem> {
    let part = draft.existing(partition)?;
    let whole = partitions(draft, span, table)?;
    refuse_in_flight(draft, span, table)?;
    refuse_in_flight(draft, span, &part)?;
    if !draft.created.contains(&part) {
        check_hash(draft, span, table, bound)?;
    }
    let indexed = draft.file.statements.iter().any(|statement| match &statement.kind {
        StatementKind::CreateIndex(index) => draft.existing(&index.table).is_ok_and(|on| &on == table),
        _ => false,
    });
    if indexed {
        let title = format!(
            "the file builds an index of `{}` as well, which the partition would get under the lock",
            table.plain()
        );
        return Err(partitioned::refused(span, title, "split the file"));
    }
    if draft.detaching.contains(table) {
        let title = format!(
            "a partition of `{}` goes in contract, and this one would come before that, in expand",
            table.plain()
        );
        return Err(partitioned::refused(span, title, "split the file"));
    }
    draft.repartitioned.insert(table.clone());
    let version = draft.file.version.number().to_string();
    let what = format!("ATTACH PARTITION {}", part.plain());
    let is_new = draft.created.contains(&part);
    let mut proofs: Vec<QualifiedName> = Vec::new();
    if is_new {
        draft.note(span, what, "expand: run it, the table is new");
    } else {
        supported(draft, partition, &part)?;
        if let (Some(known), Some(parent)) = (draft.catalog.table(&part), draft.catalog.table(table)) {
            check_parts(span, known, parent)?;
        }
        draft.note(span, what, "expand: a check is validated first, so that nothing is read under a lock");
        proofs.push(part.clone());
        draft.table(&part);
        draft.losses.push(Loss {
            what: format!("rows of {} would leave {}", part.plain(), table.plain()),
            count: format!("SELECT count(*) FROM {part}"),
            blocks: false,
        });
    }
    let default = whole.default_leaf.clone().filter(|_| !bound.eq_ignore_ascii_case("DEFAULT"));
    proofs.extend(default.clone());
    let check = hidden_name(&version, &part.name);
    let mut steps = Vec::new();
    for proof in &proofs {
        let is_default = default.as_ref() == Some(proof);
        if is_default {
            steps.push(look(table, proof, bound));
        }
        steps.push(prove(table, proof, &check, bound, is_default));
        steps.push(validate(proof, &check));
    }
    let mut tables = vec![&part];
    tables.extend(&default);
    let (lock, mut locks) = lock_tables(&tables, LockMode::AccessExclusive);
    locks.push(TableLock { table: table.clone(), mode: LockMode::ShareUpdateExclusive });
    let mut sql = vec![lock, format!("ALTER TABLE {table} ATTACH PARTITION {part} {bound}")];
    sql.extend(proofs.iter().map(|proof| format!("ALTER TABLE {proof} DROP CONSTRAINT {check}")));
    let undo = vec![
        format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"),
        format!("ALTER TABLE {table} DETACH PARTITION {part}"),
    ];
    let attached = step(format!("attach {} to {}", part.plain(), table.plain()), sql, undo, locks);
    // Somebody may have detached or dropped it by hand.
    steps.push(Step { undo_when: Some(is_part(&part, table)), ..attached });
    tables.push(table);
    draft.push_together(Phase::Expand, &tables, steps);
    draft.table(table);
    Ok(())
}

pub(super) fn detach(
    draft: &mut Draft<'_>,
    span: &Range<usize>,
    table: &QualifiedName,
    partition: &Name,
) -> Result<(), Problem> {
    let part = draft.existing(partition)?;
    let whole = partitions(draft, span, table)?;
    refuse_in_flight(draft, span, table)?;
    draft.repartitioned.insert(table.clone());
    draft.detaching.insert(table.clone());
    draft.apart.push(part.clone());
    let points = |key: &Constraint| key.parent.as_ref() == Some(table);
    let pointing = draft.catalog.tables.iter().find(|other| other.constraints.iter().any(points));
    if let Some(pointing) = pointing {
        let title = format!(
            "foreign keys of `{}` point at `{}`: the server would look for rows that point at the partition under the lock",
            pointing.name.plain(),
            table.plain()
        );
        return Err(partitioned::refused(
            span,
            title,
            "detach it as written, openly: `-- migrate: phase contract`",
        ));
    }
    let leaf = whole.leaves.iter().find(|leaf| leaf.name == part);
    let Some(bound) = leaf.and_then(|leaf| leaf.bound.clone()) else {
        let title =
            format!("`{}` is no partition of `{}` that holds its rows itself", part.plain(), table.plain());
        return Err(partitioned::refused(span, title, "name a partition that is not partitioned itself"));
    };
    check_hash(draft, span, table, &bound)?;
    draft.note(
        span,
        format!("DETACH PARTITION {}", part.plain()),
        "contract: detached in the seal; reopen attaches it again",
    );
    let version = draft.file.version.number().to_string();
    // By its check the partition is found again, so that no other one may have one of the name: quoted, no two are alike.
    let full = Ident::new(part.to_string());
    let going = Going { whole: table, part: &part, bound: &bound, check: hidden_name(&version, &full) };
    for step in going.proof() {
        draft.push(Phase::Contract, step);
    }
    draft.sets_apart(&part);
    draft.push_seal(going.detach());
    draft.push_drop(going.leave());
    draft.table(table);
    Ok(())
}

/// A partition that is detached. Until then somebody may drop it, detach it, or give it another name, and afterwards too:
/// what is so already is done. A copy of it (LIKE … INCLUDING ALL) has its check as well: which is which the operator says.
struct Going<'a> {
    whole: &'a QualifiedName,
    part: &'a QualifiedName,
    bound: &'a str,
    check: Ident,
}

impl Going<'_> {
    fn is_default(&self) -> bool {
        self.bound.eq_ignore_ascii_case("DEFAULT")
    }

    /// A check that says what the bound says: with it a reopen reads nothing under a lock. What the default partition takes
    /// changes with the others, so its check says nothing, and only marks it.
    fn proof(&self) -> Vec<Step> {
        let Self { whole, part, bound, check } = self;
        let locks = |mode| vec![TableLock { table: (*part).clone(), mode }];
        let rule = if self.is_default() { "'true'" } else { "coalesce(rule, 'true')" };
        let act = format!(
            "EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', part);\n  \
             EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I CHECK (%s) NOT VALID', part, {}, {rule});",
            literal(check.as_str())
        );
        // One that was dropped, detached or renamed meanwhile is no matter; another one under its name is.
        let before = format!(
            "  part := {};\n  IF part IS NULL THEN\n    IF {} THEN\n      \
             RAISE EXCEPTION '% is no longer the partition that was to be detached', {} USING HINT = 'migrate reopen, then migrate abort';\n    \
             END IF;\n    RETURN;\n  END IF;\n",
            self.now(),
            is_part(part, whole),
            literal(&part.plain())
        );
        let sql = vec![if self.is_default() {
            format!("DO $pontoon$\nDECLARE\n  part regclass;\nBEGIN\n{before}  {act}\nEND\n$pontoon$")
        } else {
            with_rule(whole, bound, "  part regclass;\n", &before, &act)
        }];
        let mut locks_of_proof = locks(LockMode::AccessExclusive);
        locks_of_proof.push(TableLock { table: (*whole).clone(), mode: LockMode::AccessShare });
        let title = format!("prepare {} for a life outside of {}", part.plain(), whole.plain());
        let add = step(title, sql, vec![self.each_checked("DROP CONSTRAINT", "true")], locks_of_proof);
        if self.is_default() {
            return vec![add];
        }
        let title = format!("validate {} for all rows of {}", check.as_str(), part.plain());
        let validate = vec![self.each_checked("VALIDATE CONSTRAINT", "NOT k.convalidated")];
        let validate = step(title, validate, Vec::new(), locks(LockMode::ShareUpdateExclusive));
        vec![add, Step { scans: true, ..validate }]
    }

    fn detach(&self) -> Step {
        let Self { whole, part, bound, .. } = self;
        let (lock, locks) = lock_tables(&[whole], LockMode::AccessExclusive);
        let named =
            format!("k.contype = 'c' AND k.conislocal AND k.conname = {}", literal(self.check.as_str()));
        let alter =
            |act: &str| literal(&format!("ALTER TABLE {} {act}", whole.to_string().replace('%', "%%")));
        let detach = format!(
            "DO $pontoon$\nDECLARE\n  part regclass := {};\nBEGIN\n  IF part IS NOT NULL THEN\n    \
             EXECUTE format({}, part);\n  END IF;\nEND\n$pontoon$",
            self.now(),
            alter("DETACH PARTITION %s")
        );
        // Without the check it was no partition any more when contract came to it.
        let attach = format!(
            "DO $pontoon$\nDECLARE\n  part regclass;\n  marked text[];\nBEGIN\n  \
             SELECT min(k.conrelid)::regclass, array_agg(k.conrelid::regclass::text ORDER BY k.conrelid) INTO part, marked\n    \
             FROM pg_constraint AS k WHERE {named};\n  \
             IF cardinality(marked) > 1 THEN\n    \
             RAISE EXCEPTION '% have the check of what was the partition %', array_to_string(marked, ' and '), {}\n      \
             USING HINT = {};\n  END IF;\n  \
             IF part IS NOT NULL AND NOT EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhrelid = part) THEN\n    \
             EXECUTE format({}, part);\n  END IF;\nEND\n$pontoon$",
            literal(&part.plain()),
            literal(&format!("ALTER TABLE … DROP CONSTRAINT {}, of those that are copies of it", self.check)),
            alter(&format!("ATTACH PARTITION %s {}", bound.replace('%', "%%")))
        );
        let (sql, undo) = (vec![lock.clone(), detach], vec![lock, attach]);
        step(format!("detach {} from {}", part.plain(), whole.plain()), sql, undo, locks)
    }

    fn leave(&self) -> Step {
        let lock = TableLock { table: self.part.clone(), mode: LockMode::AccessExclusive };
        let title = format!("leave {} on its own", self.part.plain());
        step(title, vec![self.each_checked("DROP CONSTRAINT", "true")], Vec::new(), vec![lock])
    }

    /// What is to be detached: the partition of that bound, whatever it is called by now.
    fn now(&self) -> String {
        format!(
            "(SELECT c.oid::regclass FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid\n    \
             WHERE i.inhparent = {}::regclass AND pg_get_expr(c.relpartbound, c.oid) = {})",
            literal(&self.whole.to_string()),
            literal(self.bound)
        )
    }

    /// Does something to the check, on whatever table it is by now.
    fn each_checked(&self, what: &str, which: &str) -> String {
        format!(
            "DO $pontoon$\nDECLARE\n  checked record;\nBEGIN\n  \
             FOR checked IN SELECT k.conrelid::regclass AS part, k.conname FROM pg_constraint AS k\n    \
             WHERE k.contype = 'c' AND k.conislocal AND k.conname = {} AND {which}\n  LOOP\n    \
             EXECUTE format('ALTER TABLE %s {what} %I', checked.part, checked.conname);\n  END LOOP;\nEND\n$pontoon$",
            literal(self.check.as_str())
        )
    }
}

fn partitions(draft: &Draft<'_>, span: &Range<usize>, table: &QualifiedName) -> Result<Partitions, Problem> {
    let known = draft.catalog.table(table).and_then(|known| known.partitions.clone());
    known.ok_or_else(|| {
        partitioned::refused(
            span,
            format!("`{}` is not partitioned", table.plain()),
            "name the partitioned table",
        )
    })
}

/// Partitions come and go with the columns that the table has, not with those that it is about to have.
fn refuse_in_flight(draft: &Draft<'_>, span: &Range<usize>, table: &QualifiedName) -> Result<(), Problem> {
    if draft.is_in_flight(table) {
        let title = format!("a migration before is still moving columns of `{}`", table.plain());
        return Err(Problem::in_flight(span.clone(), title, "asked here", None));
    }
    if draft.tables.iter().any(|work| &work.name == table && work.moves_columns()) {
        let title = format!("the file changes `{}` in other ways too", table.plain());
        return Err(partitioned::refused(span, title, "split the file"));
    }
    Ok(())
}

/// What the server would build or check while everything is locked must be there, and what it would refuse must not.
fn check_parts(span: &Range<usize>, part: &Table, whole: &Table) -> Result<(), Problem> {
    let lacks = |what: String| {
        let title = format!(
            "`{}` has no {what}, and the server would refuse it, or build or check it under the lock",
            part.name.plain()
        );
        Err(partitioned::refused(span, title, "add it in a migration before"))
    };
    for wanted in &whole.columns {
        let own = part.column(&wanted.name);
        if own.is_none_or(|own| own.type_sql != wanted.type_sql || (wanted.not_null && !own.not_null)) {
            let null = if wanted.not_null { " NOT NULL" } else { "" };
            return lacks(format!("column {} {}{null}", wanted.name, wanted.type_sql));
        }
    }
    if let Some(more) = part.columns.iter().find(|own| whole.column(&own.name).is_none()) {
        let title = format!(
            "`{}` has a column `{}` that `{}` has not",
            part.name.plain(),
            more.name.as_str(),
            whole.name.plain()
        );
        return Err(partitioned::refused(span, title, "drop it in a migration before"));
    }
    for wanted in &whole.constraints {
        let same = part.constraints.iter().any(|own| {
            own.kind == wanted.kind
                && own.definition == wanted.definition
                && (own.kind != "c" || own.name == wanted.name)
                && own.validated
        });
        if !same {
            return lacks(format!("constraint like {}: {}", wanted.name.as_str(), wanted.definition));
        }
    }
    let tail = |definition: &str| rename_in_index(definition, Ident::clone);
    for wanted in whole.indexes.iter().filter(|index| index.constraint.is_none()) {
        let same = part.indexes.iter().any(|own| {
            own.valid && own.unique == wanted.unique && tail(&own.definition) == tail(&wanted.definition)
        });
        if !same {
            return lacks(format!("index like {}", wanted.name.as_str()));
        }
    }
    Ok(())
}

/// A condition: one table is a partition of the other.
fn is_part(part: &QualifiedName, whole: &QualifiedName) -> String {
    format!(
        "EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhrelid = to_regclass({}) AND i.inhparent = to_regclass({}))",
        literal(&part.to_string()),
        literal(&whole.to_string())
    )
}
