//! What is written: results to stdout, everything else to stderr. The only place of the program that prints.

use std::io::{IsTerminal, Write};

use serde_json::{Value, json};

use crate::cli::args::{Arguments, Command};
use crate::cli::diagnostics;
use crate::engine::failure::Failure;

/// The version of all JSON documents.
const JSON_VERSION: u32 = 1;

/// Where and how results are written.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    json: bool,
    command: &'static str,
}

impl Output {
    pub(crate) fn new(arguments: &Arguments) -> Self {
        Self { json: arguments.global.json, command: name(&arguments.command) }
    }

    /// The result: one JSON document, or the text.
    pub(crate) fn result(&self, document: Value, text: &str) {
        if self.json { self.document(document) } else { print(text) }
    }

    fn document(&self, mut document: Value) {
        if let Some(fields) = document.as_object_mut() {
            fields.insert("version".to_owned(), JSON_VERSION.into());
            fields.insert("command".to_owned(), self.command.into());
        }
        print(&format!("{document:#}"));
    }

    /// A line for the person at the terminal.
    pub(crate) fn say(&self, text: &str) {
        say(text);
    }

    /// Writes a failure and gives its exit code.
    pub(crate) fn failure(&self, failure: &Failure) -> u8 {
        let beside = failure.beside.clone().unwrap_or_else(|| (json!({}), String::new()));
        if self.json {
            let mut document = beside.0;
            if let Some(fields) = document.as_object_mut() {
                fields.insert("error".to_owned(), failure_document(failure));
            }
            self.document(document);
        } else if !beside.1.is_empty() {
            print(&beside.1);
        }
        for problems in &failure.problems {
            say(&diagnostics::render(problems, color()));
        }
        say(&format!("error: {}", failure.message));
        for detail in &failure.details {
            say(&format!("  {detail}"));
        }
        if let Some(next) = &failure.next {
            say(&format!("next: {next}"));
        }
        failure.kind.code()
    }
}

fn failure_document(failure: &Failure) -> Value {
    json!({
        "exit_code": failure.kind.code(),
        "message": failure.message,
        "details": failure.details,
        "next": failure.next,
        "reasons": failure.reasons,
        "problems": failure.problems.iter().flat_map(diagnostics::documents).collect::<Vec<_>>(),
    })
}

/// Writes a line to stdout. A reader that went away is no error.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", text.trim_end());
}

/// Writes a line to stderr.
pub(crate) fn say(text: &str) {
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "{}", text.trim_end());
}

/// A text without what stands between `://` and `@` in it: a URL that was typed in the wrong place holds a password.
pub(crate) fn masked(text: &str) -> String {
    let mut parts = text.split("://");
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        masked.push_str("://");
        let end = part.find(|c: char| c.is_whitespace() || c == '\'').unwrap_or(part.len());
        match part[..end].rfind('@') {
            Some(at) => {
                masked.push('…');
                masked.push_str(&part[at..]);
            }
            None => masked.push_str(part),
        }
    }
    masked
}

/// Whether stderr takes colour.
pub(crate) fn color() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn name(command: &Command) -> &'static str {
    match command {
        Command::Init => "init",
        Command::New(_) => "new",
        Command::Lint => "lint",
        Command::Plan(_) => "plan",
        Command::Expand(_) => "expand",
        Command::Backfill(_) => "backfill",
        Command::Verify(_) => "verify",
        Command::Contract(_) => "contract",
        Command::Reopen(_) => "reopen",
        Command::Abort(_) => "abort",
        Command::Baseline(_) => "baseline",
        Command::Doctor => "doctor",
        Command::Up => "up",
        Command::Redo => "redo",
        Command::Status(_) => "status",
        Command::Instances => "instances",
        Command::Run(_) => "run",
        Command::Demo(_) => "demo",
        Command::DemoShop(_) => "demo-shop",
        Command::Completions(_) => "completions",
    }
}
