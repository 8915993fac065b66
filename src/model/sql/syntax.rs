//! What the parser complains about, as `PostgreSQL` would say it: the first thing in each statement, and where it stands.

use std::ops::Range;

use squawk_syntax::ast::AstNode;
use squawk_syntax::{Parse, SourceFile, SyntaxElement, SyntaxKind};

use super::read;
use crate::model::problem::Problem;

/// Words that begin a statement.
const BEGINNINGS: [&str; 9] =
    ["ALTER", "CREATE", "DROP", "UPDATE", "INSERT", "DELETE", "SELECT", "COMMENT", "GRANT"];

const UNEXPECTED: &str = "not expected here";

/// A word, sign or string of the text.
struct Token {
    kind: SyntaxKind,
    span: Range<usize>,
}

/// One for each statement that cannot be read: what follows the first error is mostly its consequence.
pub(super) fn problems(text: &str, parsed: &Parse<SourceFile>) -> Vec<Problem> {
    let tokens: Vec<Token> = parsed
        .tree()
        .syntax()
        .descendants_with_tokens()
        .filter_map(SyntaxElement::into_token)
        .filter(|token| !matches!(token.kind(), SyntaxKind::WHITESPACE | SyntaxKind::COMMENT))
        .map(|token| Token { kind: token.kind(), span: read::span(token.text_range()) })
        .collect();
    let mut problems = Vec::new();
    let mut last = None;
    for error in parsed.errors() {
        let at = usize::from(error.range().start()).min(text.len());
        let statement = tokens
            .iter()
            .filter(|token| token.kind == SyntaxKind::SEMICOLON && token.span.start < at)
            .count();
        if last == Some(statement) {
            continue;
        }
        last = Some(statement);
        problems.push(problem(text, &tokens, at, &error.to_string()));
    }
    problems
}

fn problem(text: &str, tokens: &[Token], at: usize, says: &str) -> Problem {
    let is_first = |number: usize| {
        number
            .checked_sub(1)
            .and_then(|before| tokens.get(before))
            .is_none_or(|token| token.kind == SyntaxKind::SEMICOLON)
    };
    let word = |token: &Token| text.get(token.span.clone()).unwrap_or_default();
    let begins =
        |token: &Token| BEGINNINGS.iter().any(|beginning| word(token).eq_ignore_ascii_case(beginning));
    let mut number = tokens.iter().position(|token| token.span.end > at).unwrap_or(tokens.len());
    // `CREATE TABEL`: the second word is the wrong one.
    if is_first(number) && tokens.get(number).is_some_and(begins) {
        number += 1;
    }
    let Some(token) = tokens.get(number) else {
        return Problem::new(
            "syntax",
            text.trim_end().len()..text.len(),
            "syntax error at the end of the file",
            match expected(says).as_str() {
                UNEXPECTED => "something is missing".to_owned(),
                said => said.to_owned(),
            },
        );
    };
    let title = match token.kind {
        SyntaxKind::SEMICOLON => "syntax error at the end of the statement".to_owned(),
        _ => format!("syntax error at or near `{}`", word(token).lines().next().unwrap_or_default()),
    };
    let problem = Problem::new("syntax", token.span.clone(), title, expected(says));
    let before = text.get(..token.span.start).unwrap_or_default();
    if word(token).starts_with('\\') {
        problem.help("a migration is plain SQL; psql's own commands (`\\…`) have no place in it")
    } else if begins(token) && before.trim_end_matches([' ', '\t']).ends_with('\n') {
        problem.help("is a `;` missing before it?")
    } else {
        problem
    }
}

/// The parser's own words, with signs and words as one writes them.
fn expected(says: &str) -> String {
    if says.starts_with("expected command") || says.starts_with("Missing semicolon") {
        return UNEXPECTED.to_owned();
    }
    let says = says.split_once(", found ").map_or(says, |(expected, _)| expected);
    let words = says.split(' ').map(|word| match word {
        "COMMA" => "`,`".to_owned(),
        "EQ" => "`=`".to_owned(),
        "L_PAREN" => "`(`".to_owned(),
        "R_PAREN" => "`)`".to_owned(),
        "SEMICOLON" => "`;`".to_owned(),
        _ => word.trim_end_matches("_KW").to_owned(),
    });
    let said = words.collect::<Vec<_>>().join(" ");
    let mut letters = said.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    #[test]
    fn one_error_for_each_statement_that_cannot_be_read() {
        for (text, wanted) in [
            (
                "ALTER TABEL t ADD COLUMN x int; CREATE INDX i ON t (x); SELECT 1;",
                vec![(6, "TABEL"), (39, "INDX")],
            ),
            ("SELCT 1;", vec![(0, "SELCT")]),
            ("ALTER TABLE t ADD COLUMN a text DEFALT 'x' NOT NULL;", vec![(32, "DEFALT")]),
            ("UPDATE t SET a = 1\nALTER TABLE t DROP COLUMN b;", vec![(19, "ALTER")]),
            ("CREATE TABLE t (a int", vec![(21, "the end of the file")]),
            ("UPDATE t SET;", vec![(12, "the end of the statement")]),
        ] {
            let problems = parse(text).unwrap_err();
            let found: Vec<_> = problems.iter().map(|problem| problem.marks[0].span.start).collect();
            assert_eq!(found, wanted.iter().map(|(at, _)| *at).collect::<Vec<_>>(), "{text}: {problems:?}");
            for (problem, (_, says)) in problems.iter().zip(wanted) {
                assert!(problem.title.contains(says), "{problem:?}");
            }
        }
    }
}
