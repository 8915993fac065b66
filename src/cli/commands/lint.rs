//! `migrate lint`.

use serde_json::json;

use crate::cli::output::color;
use crate::cli::{Context, Exit, diagnostics};
use crate::decide::lint::{Finding, lint};
use crate::engine::failure::Outcome;
use crate::model::migration::{FolderError, MigrationFile, list, parse};
use crate::model::problem::{Problem, Problems, Source};

pub(crate) async fn run(context: &Context) -> Outcome<Exit> {
    let mut found: Vec<(Source, Finding)> = Vec::new();
    let mut add = |problems: Problems| {
        for problem in problems.problems {
            found.push((problems.source_file.clone(), Finding { is_error: true, problem }));
        }
    };
    let mut files: Vec<MigrationFile> = Vec::new();
    let listed = list(&context.config.migrations)?;
    let count = listed.len();
    for (version, name, path) in listed {
        let text = std::fs::read_to_string(&path)
            .map_err(|source| FolderError::Read { path: path.clone(), source })?;
        match parse(version, name, &path.display().to_string(), &text) {
            Ok(file) => files.push(file),
            Err(problems) => add(problems),
        }
    }
    if context.config.database_url.is_some() && found.is_empty() {
        let engine = context.config.engine()?;
        let mut session = engine.session("migrate lint").await?;
        if let Err(failure) = engine.plans(&mut session, &[]).await {
            if failure.problems.is_empty() {
                return Err(failure);
            }
            for problems in failure.problems {
                for problem in problems.problems {
                    // The file is right, and has to wait for one before it.
                    let is_error = problem.rule != Problem::IN_FLIGHT;
                    found.push((problems.source_file.clone(), Finding { is_error, problem }));
                }
            }
        }
    }
    for file in &files {
        for finding in lint(file) {
            let known = found.iter().any(|(source, other)| {
                source.path == file.source.path && other.problem.marks == finding.problem.marks
            });
            if !known {
                found.push((file.source.clone(), finding));
            }
        }
    }
    let errors = found.iter().filter(|(_, finding)| finding.is_error).count();
    let documents: Vec<_> = found
        .iter()
        .map(|(source, finding)| diagnostics::document(source, &finding.problem, finding.is_error))
        .collect();
    let mut text = String::new();
    for (source, finding) in &found {
        text.push_str(&diagnostics::render_at(source, &finding.problem, finding.is_error, color()));
        text.push_str("\n\n");
    }
    let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let warnings = counted(found.len() - errors, "warning");
    text.push_str(&format!("{}, {}, {warnings}", counted(count, "file"), counted(errors, "error")));
    context.output.result(json!({ "files": count, "errors": errors, "findings": documents }), &text);
    Ok(if errors > 0 { Exit::Findings } else { Exit::Done })
}
