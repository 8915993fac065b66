//! Shows a problem in a file: file, line, caret, why, and what to do.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::{Value, json};

use crate::model::problem::{Problem, Problems, Source};

/// All problems of a file, for a terminal.
pub(crate) fn render(problems: &Problems, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    problems
        .problems
        .iter()
        .map(|problem| render_one(&renderer, &problems.source_file, problem, Level::ERROR) + "\n")
        .collect()
}

/// One problem at a level of weight.
pub(crate) fn render_at(source: &Source, problem: &Problem, is_error: bool, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    render_one(&renderer, source, problem, if is_error { Level::ERROR } else { Level::WARNING })
}

fn render_one(renderer: &Renderer, source: &Source, problem: &Problem, level: Level<'_>) -> String {
    let mut snippet = Snippet::source(source.text.as_ref()).path(source.path.as_ref()).line_start(1);
    for (at, mark) in problem.marks.iter().enumerate() {
        let kind = if at == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
        let end = mark.span.end.min(source.text.len());
        snippet = snippet.annotation(kind.span(mark.span.start.min(end)..end).label(mark.label.as_str()));
    }
    let mut group =
        Group::with_title(level.primary_title(problem.title.as_str()).id(problem.rule)).element(snippet);
    if let Some(help) = &problem.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    renderer.render(&[group]).to_string()
}

/// All problems of a file as JSON. Lines and columns count from 1.
pub(crate) fn documents(problems: &Problems) -> Vec<Value> {
    problems.problems.iter().map(|problem| document(&problems.source_file, problem, true)).collect()
}

/// One problem as JSON.
pub(crate) fn document(source: &Source, problem: &Problem, is_error: bool) -> Value {
    let start = problem.marks.first().map_or(0, |mark| mark.span.start.min(source.text.len()));
    let column = source.text[..start].chars().rev().take_while(|c| *c != '\n').count() + 1;
    json!({
        "file": source.path.as_ref(),
        "line": source.line(start),
        "column": column,
        "rule": problem.rule,
        "severity": if is_error { "error" } else { "warning" },
        "title": problem.title,
        "label": problem.marks.first().map(|mark| mark.label.clone()),
        "help": problem.help,
    })
}
