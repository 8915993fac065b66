//! `migrate plan`.

use std::fmt::Write as _;

use serde_json::json;

use crate::cli::args::PlanArgs;
use crate::cli::{Context, Exit};
use crate::decide::plan::{Convert, Mode, Plan, Require, Step, Work};
use crate::engine::failure::Outcome;
use crate::words::version::Version;

pub(crate) async fn run(context: &Context, args: &PlanArgs) -> Outcome<Exit> {
    let engine = context.config.engine()?;
    let mut session = engine.session("migrate plan").await?;
    let named: Vec<Version> = args.to.into_iter().collect();
    let plans = engine.plans(&mut session, &named).await?;
    let plans: Vec<Plan> = plans
        .into_iter()
        .map(|(_, plan)| plan)
        .filter(|plan| args.to.is_none_or(|to| plan.version <= to))
        .collect();
    let documents: Vec<_> = plans.iter().map(|plan| json!({ "hash": plan.hash(), "plan": plan })).collect();
    let mut text = String::new();
    for plan in &plans {
        describe(&mut text, plan, args.brief);
    }
    if plans.is_empty() {
        text.push_str("nothing to expand");
    }
    context.output.result(json!({ "plans": documents }), &text);
    Ok(if args.exit_code && !plans.is_empty() { Exit::Pending } else { Exit::Done })
}

/// Writing to a string cannot fail.
fn describe(text: &mut String, plan: &Plan, brief: bool) {
    let _ = writeln!(text, "migration {} {}\nplan {}\n", plan.version, plan.name, plan.hash());
    for change in &plan.changes {
        let _ = writeln!(text, "  line {}: {}\n      {}", change.line, change.what, change.becomes);
    }
    for warning in &plan.warnings {
        let _ = writeln!(text, "  warning: {warning}");
    }
    if brief {
        return in_brief(text, plan);
    }
    let [expand, settle, contract @ ..] = plan.phases();
    phase(text, expand.0, expand.1);
    if !plan.jobs.is_empty() {
        let _ = writeln!(text, "\n== backfill, in batches\n");
        for job in &plan.jobs {
            if let Some(once) = job.once() {
                let _ = writeln!(text, "{};", once.make.join(";\n"));
                if let Some(lock) = &once.lock {
                    let _ = writeln!(text, "{};", lock.at("<numbers>"));
                }
                let _ = writeln!(text, "{};\n", once.change("<numbers>"));
            }
            let _ = match &job.work {
                Work::Convert(Convert { set, need, .. }) => {
                    writeln!(text, "UPDATE ONLY {}\nSET {set}\nWHERE <pages> AND ({need});\n", job.table)
                }
                Work::Across(across) => {
                    let hold = across.hold.iter().map(|hold| format!("{};\n", hold.at("<pages>")));
                    let hold: String = hold.collect();
                    let (lock, change) = (across.lock.at("<pages>"), across.change.at("<pages>"));
                    writeln!(text, "{lock};\n{hold}{change};\n")
                }
                Work::Once(_) => Ok(()),
            };
        }
    }
    phase(text, "backfill, after the data", settle.1);
    for (name, steps) in contract {
        phase(text, name, steps);
    }
    text.push('\n');
}

/// A line for each step, and one for each lock that others may wait behind.
fn in_brief(text: &mut String, plan: &Plan) {
    for (name, steps) in plan.phases() {
        let jobs = plan.jobs.iter().filter(|_| name.starts_with("backfill"));
        let jobs = jobs.map(|job| format!("{}, in batches", job.table.plain()));
        let lines = jobs.chain(steps.iter().filter(|step| !counts_backwards(step)).map(in_a_line));
        for (at, line) in lines.enumerate() {
            if at == 0 {
                let _ = writeln!(text, "\n== {name}\n");
            }
            let _ = writeln!(text, "  {line}");
        }
    }
    text.push('\n');
}

/// A step that does nothing until it is taken back.
fn counts_backwards(step: &Step) -> bool {
    step.sql.is_empty() && !step.undo.is_empty()
}

fn in_a_line(step: &Step) -> String {
    let stops = step.locks.iter().filter(|lock| lock.mode.blocks_traffic());
    let stops: Vec<String> = stops.map(|lock| format!("{} on {}", lock.mode, lock.table.plain())).collect();
    let stops = if stops.is_empty() { String::new() } else { format!(" ({}, briefly)", stops.join(", ")) };
    let scans = if step.scans { ", reading every row" } else { "" };
    format!("{}{scans}{stops}", step.title)
}

fn phase(text: &mut String, name: &str, steps: &[Step]) {
    if steps.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n== {name}");
    for step in steps {
        let _ = writeln!(text, "\n-- {}: {}", step.id, step.title);
        if counts_backwards(step) {
            let _ = writeln!(text, "-- nothing now; when it is taken back: {};", step.undo.join("; "));
            continue;
        }
        for lock in &step.locks {
            let scans = if step.scans { "; reads every row" } else { "" };
            let _ =
                writeln!(text, "-- {} on {} ({}{scans})", lock.mode, lock.table.plain(), lock.mode.effect());
        }
        match &step.mode {
            Mode::Transaction => {
                let _ = writeln!(text, "BEGIN;");
                for statement in &step.sql {
                    let _ = writeln!(text, "{statement};");
                }
                let _ = writeln!(text, "COMMIT;");
            }
            Mode::Alone { .. } => {
                for statement in &step.sql {
                    let _ = writeln!(text, "{statement};");
                }
            }
            Mode::Require(Require { table, predicate, .. }) => {
                let _ = writeln!(text, "-- no row may satisfy: SELECT FROM {table} WHERE {predicate};");
            }
        }
    }
}
