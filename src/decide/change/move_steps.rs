//! The steps and jobs of a move between tables: the triggers on both sides, what fills the target, and the end of both.

use crate::decide::change::move_source::points_at;
use crate::decide::draft::{Crossing, Draft, step, table_step};
use crate::decide::plan::{self, Job, Once, Step, Work};
use crate::decide::sync::{Across, Shape};
use crate::words::ident::{QualifiedName, literal};

/// One table after the other: whoever writes both then never waits for a step that waits for them. The source is first: what is
/// written to the target meanwhile the backfill finds, and what a row of the target has taken over already would not follow.
pub(super) fn expand(draft: &Draft<'_>, across: &Across) -> Vec<Step> {
    let (source, target) = (&across.source, &across.target);
    let mut sql = across.create_functions();
    sql.extend(across.trigger_functions(Shape::Open));
    sql.extend(across.close_trigger_functions());
    sql.extend(across.create_triggers(source));
    let title =
        |from: &QualifiedName, to: &QualifiedName| format!("let {} follow {}", to.plain(), from.plain());
    let mut back = across.drop_triggers(source, Shape::Open);
    if !points_at(draft, target, source).is_empty() {
        // Without the triggers a row could no longer change a key that the other table has.
        back.insert(0, drop_keys(target, source));
    }
    back.extend(across.drop_functions());
    let first = table_step(source, title(target, source), sql, back);
    let (title, sql, back) =
        (title(source, target), across.create_triggers(target), across.drop_triggers(target, Shape::Open));
    let second = if draft.created.contains(target) {
        step(title, sql, back, Vec::new())
    } else {
        table_step(target, title, sql, back)
    };
    vec![first, second]
}

/// Drops the foreign keys of one table that point at another, whatever they are called.
fn drop_keys(of: &QualifiedName, parent: &QualifiedName) -> String {
    format!(
        "DO $pontoon$\nDECLARE\n  key record;\nBEGIN\n  FOR key IN SELECT conname FROM pg_constraint\n    \
         WHERE contype = 'f' AND conrelid = {}::regclass AND confrelid = {}::regclass AND conparentid = 0\n  LOOP\n    \
         EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', {}::regclass, key.conname);\n  END LOOP;\nEND\n$pontoon$",
        literal(&of.to_string()),
        literal(&parent.to_string()),
        literal(&of.to_string())
    )
}

pub(super) fn drop(across: &Across, fence: Option<String>) -> Vec<Step> {
    let (source, target) = (&across.sealed_source, &across.target);
    let mut rest: Vec<String> = fence.into_iter().collect();
    rest.extend(across.drop_triggers(target, Shape::Sealed));
    rest.extend(across.drop_functions());
    let title = |from: &QualifiedName, to: &QualifiedName| {
        format!("let {} no longer follow {}", to.plain(), from.plain())
    };
    let first = across.drop_triggers(&across.source, Shape::Sealed);
    vec![
        table_step(source, title(&across.source, target), first, Vec::new()),
        table_step(target, title(target, &across.source), rest, Vec::new()),
    ]
}

/// One job; where the rows of a partitioned table make those of another, one that copies what is there, and one that looks at
/// each partition, those that come later too.
pub(super) fn jobs(across: &Across, crossing: &Crossing, number: usize) -> Vec<Job> {
    let id =
        |kind: &str, table: &QualifiedName| format!("{kind}{}_a{number}:{}", across.version, table.plain());
    let job = |id: String, table: &QualifiedName, copy: Option<Once>| Job {
        id,
        table: table.clone(),
        work: Work::Across(Box::new(plan::Across {
            copy,
            rows_of: across.rows_of(Shape::Open).clone(),
            rows_of_sealed: across.rows_of(Shape::Sealed).clone(),
            lock: across.lock(),
            hold: across.hold(),
            change: across.change(),
            wrong: across.disagrees(Shape::Open),
            wrong_sealed: across.disagrees(Shape::Sealed),
            last_looked_at_closed: !across.has_down(),
            skip: across.version.clone(),
        })),
    };
    let (source, target) = (&across.source, &across.target);
    let Some(copy) = &crossing.copy else { return vec![job(id("m", target), target, None)] };
    let mut jobs = vec![job(id("d", target), target, Some(copy.clone()))];
    if across.source_is_partitioned {
        jobs.push(job(id("m", source), source, None));
    }
    jobs
}
