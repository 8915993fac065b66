//! What changes touch: statements that would run in another order than they were written, and columns that an earlier
//! migration is still moving.

use std::ops::Range;

use super::{Draft, Moving, Phase, Role, Touch};
use crate::model::catalog::ObjectRef;
use crate::model::problem::Problem;
use crate::model::sql::{Statement, StatementKind};
use crate::words::ident::{Ident, QualifiedName};

/// What one change touches, to find statements that would run in another order than they were written.
pub(super) struct Claim {
    pub(super) phase: Phase,
    pub(super) touch: Touch,
    pub(super) span: Range<usize>,
    pub(super) table: QualifiedName,
    pub(super) column: Ident,
    /// Whether it is a data job's, which runs after every conversion.
    once: bool,
}

impl Draft<'_> {
    /// Records that a change touches a column in a phase. A later statement must not run in an earlier phase than
    /// one it shares a name with, and nobody touches what another migration is still moving.
    pub(crate) fn claim(
        &mut self,
        phase: Phase,
        touch: Touch,
        span: &Range<usize>,
        table: &QualifiedName,
        column: &Ident,
    ) -> Result<(), Problem> {
        let in_the_way = |role: Role| match (touch, role) {
            (_, Role::Rows | Role::Fills | Role::Apart) => false,
            (Touch::Index, Role::Leaves | Role::Shadow)
            | (Touch::Read, Role::Leaves | Role::Shadow | Role::Computed)
            | (Touch::Change, _) => true,
            (Touch::Index, Role::Computed | Role::Read | Role::Followed)
            | (Touch::Read, Role::Read | Role::Followed) => false,
        };
        let other = self
            .moving
            .iter()
            .find(|moving| &moving.table == table && &moving.column == column && in_the_way(moving.role));
        if let Some(other) = other {
            return Err(in_flight(span, other));
        }
        // Two changes of one name in contract would meet each other's names: drop and rename to it, rename twice.
        // Two that leave the column as it is depend on each other by nothing, and a constraint may come after the data.
        let clash = self.claims.iter().find(|claim| {
            let twice = phase == Phase::Contract && claim.phase == Phase::Contract && touch == Touch::Change;
            let data = claim.touch == Touch::Read && phase == Phase::Backfill;
            let changes = (touch == Touch::Change || claim.touch == Touch::Change) && !data;
            let data_first = claim.once && phase == Phase::Backfill && touch == Touch::Change;
            let clashes = changes && claim.phase > phase || twice || data_first;
            clashes && &claim.table == table && &claim.column == column
        });
        if let Some(clash) = clash {
            return Err(out_of_order(span, &clash.span));
        }
        let (span, table, column) = (span.clone(), table.clone(), column.clone());
        self.claims.push(Claim { phase, touch, span, table, column, once: false });
        Ok(())
    }

    /// The same for a default. An UPDATE above, which gives a value to rows that are there, does not mind what later ones get,
    /// unless it speaks of a default itself.
    pub(crate) fn claim_default(
        &mut self,
        phase: Phase,
        span: &Range<usize>,
        table: &QualifiedName,
        column: &Ident,
    ) -> Result<(), Problem> {
        let is_update = |above: &&Statement| matches!(above.kind, StatementKind::Update { .. });
        let mut updates = self.file.statements.iter().take(self.at).filter(is_update);
        let minds = updates.any(|update| update.words.contains("default"));
        let (data, others) = std::mem::take(&mut self.claims)
            .into_iter()
            .partition(|claim| !minds && claim.phase == Phase::Backfill);
        self.claims = others;
        let claimed = self.claim(phase, Touch::Change, span, table, column);
        self.claims.extend::<Vec<Claim>>(data);
        claimed
    }

    /// Records that a data job reads or changes a column. It writes as an application does, so that migrations in flight
    /// do not mind.
    pub(crate) fn claim_once(
        &mut self,
        span: &Range<usize>,
        table: &QualifiedName,
        column: &Ident,
        changes: bool,
    ) -> Result<(), Problem> {
        let clash = self.claims.iter().find(|claim| {
            let later = claim.phase == Phase::Contract && claim.touch == Touch::Change;
            let converts = changes && claim.phase == Phase::Backfill && !claim.once;
            (later || converts) && &claim.table == table && &claim.column == column
        });
        if let Some(clash) = clash {
            return Err(out_of_order(span, &clash.span));
        }
        let touch = if changes { Touch::Change } else { Touch::Read };
        let (span, table, column) = (span.clone(), table.clone(), column.clone());
        self.claims.push(Claim { phase: Phase::Backfill, touch, span, table, column, once: true });
        Ok(())
    }

    /// Refuses rows that expand would insert into a table of which a statement above changes in contract what it makes of them:
    /// a column, a default, a trigger, a policy.
    pub(crate) fn refuse_rows_before(
        &self,
        span: &Range<usize>,
        table: &QualifiedName,
    ) -> Result<(), Problem> {
        let late = |claim: &&Claim| {
            claim.phase == Phase::Contract && claim.touch == Touch::Change && &claim.table == table
        };
        if let Some(claim) = self.claims.iter().find(late) {
            return Err(out_of_order(span, &claim.span));
        }
        let has_triggers = self.catalog.table(table).is_some_and(|known| !known.triggers.is_empty());
        let on_it = |object: &&ObjectRef| {
            object.on_table.as_ref() == Some(table)
                || object.kind == "row security" && &object.name == table
                || object.kind == "function" && has_triggers
        };
        let Some(object) = self.touched.iter().chain(&self.reserved).find(on_it) else { return Ok(()) };
        let title = format!("the statements above change {} only in contract", object.what);
        Err(Problem::new("order", span.clone(), title, "these rows would come first")
            .help("put the INSERT above them, if it means the same there; or into a migration of its own"))
    }

    /// Refuses a file of which a statement at the end of contract names a column that is gone by then.
    pub(super) fn check_late(&self) -> Result<(), Problem> {
        for late in &self.late {
            let named = |claim: &&Claim| {
                claim.phase == Phase::Contract
                    && claim.touch == Touch::Change
                    && late.objects.iter().any(|name| name.name == claim.table.name)
                    && late.words.contains(claim.column.as_str())
            };
            if let Some(claim) = self.claims.iter().find(named) {
                return Err(out_of_order(&late.span, &claim.span));
            }
        }
        Ok(())
    }

    /// Refuses a file that does anything else to a column whose type it changes: that would stay with the old column.
    pub(super) fn check_retyped(&self) -> Result<(), Problem> {
        for work in &self.tables {
            for retyped in &work.retyped {
                let on_it = |claim: &&Claim| claim.table == work.name && claim.column == retyped.column;
                let mut claims = self.claims.iter().filter(on_it);
                let own = claims.clone().find(|c| c.touch == Touch::Change && c.phase == Phase::Contract);
                // Its USING reads the column as well.
                let inside = |claim: &Claim| {
                    own.is_some_and(|own| {
                        own.span.start <= claim.span.start && claim.span.end <= own.span.end
                    })
                };
                let other = claims.find(|claim| !inside(claim));
                if let (Some(own), Some(other)) = (own, other) {
                    let title =
                        format!("`{}` changes its type and more in one file", retyped.column.as_str());
                    return Err(Problem::new(
                        "retype-more",
                        other.span.clone(),
                        title,
                        "this concerns the column as well",
                    )
                    .and(own.span.clone(), "its type changes here")
                    .help("split the file: the change of the type goes into a migration of its own"));
                }
            }
        }
        Ok(())
    }

    /// Columns of a table that contract or a data job does something to: nobody may change them until then.
    pub(super) fn held<'a>(&'a self, table: &'a QualifiedName) -> impl Iterator<Item = &'a Ident> {
        let in_contract = |claim: &&Claim| claim.phase == Phase::Contract || claim.once;
        self.claims
            .iter()
            .filter(in_contract)
            .filter(move |claim| &claim.table == table)
            .map(|claim| &claim.column)
    }

    /// Refuses a change of a table that an earlier migration is to take a partition from: it would have the columns of before.
    pub(crate) fn refuse_while_detaching(
        &self,
        span: &Range<usize>,
        table: &QualifiedName,
    ) -> Result<(), Problem> {
        let leaves = |moving: &&Moving| &moving.table == table && moving.role == Role::Apart;
        let Some(other) = self.moving.iter().find(leaves) else { return Ok(()) };
        let is_whole = self.catalog.table(table).is_some_and(|known| known.partitions.is_some());
        let (title, label) = if is_whole {
            (
                format!("migration {} is to detach a partition of `{}`", other.version, table.plain()),
                "the partition would stay behind as it is half way",
            )
        } else {
            (
                format!(
                    "migration {} takes `{}` out of its table, and may put it back",
                    other.version,
                    table.plain()
                ),
                "it would not be the same then",
            )
        };
        Err(Problem::in_flight(span.clone(), title, label, Some(other.version)))
    }

    /// Refuses the name of a column that an earlier migration is still to take away: it is free when that is done.
    pub(crate) fn refuse_leaving(
        &self,
        span: &Range<usize>,
        table: &QualifiedName,
        column: &Ident,
    ) -> Result<(), Problem> {
        let leaves = |moving: &&Moving| {
            &moving.table == table && &moving.column == column && moving.role == Role::Leaves
        };
        self.moving.iter().find(leaves).map_or(Ok(()), |other| Err(in_flight(span, other)))
    }

    /// Whether this file or an earlier migration has yet to read or change rows of the table.
    pub(crate) fn has_rows_to_see(&self, table: &QualifiedName) -> bool {
        let later = |claim: &Claim| &claim.table == table && claim.phase > Phase::Expand;
        self.is_in_flight(table) || self.claims.iter().any(later)
    }

    /// Whether an earlier migration is still moving anything of the table.
    pub(crate) fn is_in_flight(&self, table: &QualifiedName) -> bool {
        self.moving.iter().any(|moving| &moving.table == table)
    }

    /// The same for a statement that is run as written: it is held against the names in its text.
    pub(crate) fn claim_words(&self, statement: &Statement) -> Result<(), Problem> {
        // `SELECT *` names every column.
        let star = statement.text.contains('*');
        self.check_words(statement, star, &[Role::Leaves, Role::Shadow])
    }

    /// The same for a data job, which may write to the new name of a column that is being renamed.
    pub(crate) fn claim_data_words(&self, statement: &Statement) -> Result<(), Problem> {
        // So does `t.*`.
        self.check_words(statement, statement.expressions.has_star(), &[Role::Leaves])
    }

    /// The same for a statement of contract: only migrations in flight count, which have the columns under other names.
    /// `star` says that it names all columns.
    pub(crate) fn claim_moving(&self, statement: &Statement, star: bool) -> Result<(), Problem> {
        let named = |moving: &&Moving| {
            [Role::Leaves, Role::Shadow].contains(&moving.role)
                && statement.words.contains(moving.table.name.as_str())
                && (star || statement.words.contains(moving.column.as_str()))
        };
        self.moving.iter().find(named).map_or(Ok(()), |other| Err(in_flight(&statement.span, other)))
    }

    fn check_words(&self, statement: &Statement, star: bool, roles: &[Role]) -> Result<(), Problem> {
        let names = |table: &QualifiedName, column: &Ident| {
            statement.words.contains(table.name.as_str())
                && (star || statement.words.contains(column.as_str()))
        };
        let leaves = |moving: &&Moving| roles.contains(&moving.role) && names(&moving.table, &moving.column);
        if let Some(other) = self.moving.iter().find(leaves) {
            return Err(in_flight(&statement.span, other));
        }
        let clash = self
            .claims
            .iter()
            .find(|claim| claim.phase > Phase::Backfill && names(&claim.table, &claim.column));
        clash.map_or(Ok(()), |clash| Err(out_of_order(&statement.span, &clash.span)))
    }
}

fn in_flight(span: &Range<usize>, other: &Moving) -> Problem {
    let version = other.version;
    let title =
        format!("migration {version} is still moving `{}.{}`", other.table.plain(), other.column.as_str());
    Problem::in_flight(span.clone(), title, "this would change it under its feet", Some(version))
}

pub(super) fn out_of_order(later: &Range<usize>, earlier: &Range<usize>) -> Problem {
    Problem::new(
        "order",
        later.clone(),
        "this statement would run in an earlier phase than one it depends on",
        "this would run first",
    )
    .and(earlier.clone(), "this runs in a later phase")
    .help(
        "put it above the other, if it means the same there; or split the file: what stands below the second mark goes into a \
         migration of its own",
    )
}
