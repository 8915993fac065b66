//! Reading SQL: the text of a file becomes statements with positions. Only this module names the parser.
//!
//! Everything that the rest of the program knows about a statement is in the types of [`statement`] and
//! [`expression`]. A statement of a kind that has no type of its own arrives as [`StatementKind::Other`] with its
//! name, so that nobody can run it by accident.

mod alter_table;
mod change;
mod data;
mod expression;
mod object;
mod publication;
mod read;
mod statement;
mod syntax;

use squawk_syntax::ast::AstNode;
use squawk_syntax::{SourceFile, SyntaxElement, SyntaxKind, SyntaxNode};

pub(crate) use change::{Apart, Conjunct, DataChange, SetColumn, SetValue, Verb};
pub(crate) use expression::Expression;
pub(crate) use publication::{PublicationChange, PublicationVerb, PublishedTable};
pub(crate) use read::rename_in_index;
pub(crate) use statement::{
    Action, ColumnDefault, ConstraintKind, CreateIndex, CreateObject, CreateOnTable, DropObjects, IndexTail,
    KeyIndex, Name, NewColumn, NewConstraint, NewName, ObjectKind, RenameObject, Statement, StatementKind,
    Target,
};

use crate::model::directive::{self, FileOptions, Placed, Read};
use crate::model::problem::Problem;

/// Parses the text of a file.
///
/// # Errors
/// Every syntax error, statement that has no place in a migration, and directive that is unknown or unused.
pub(crate) fn parse(text: &str) -> Result<(Vec<Statement>, FileOptions), Vec<Problem>> {
    let parsed = SourceFile::parse(text);
    let mut problems = syntax::problems(text, &parsed);
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut statements: Vec<Statement> = Vec::new();
    let mut options = FileOptions::default();
    let mut waiting: Vec<Placed> = Vec::new();
    for element in parsed.tree().syntax().children_with_tokens() {
        match element {
            SyntaxElement::Token(token) if token.kind() == SyntaxKind::COMMENT => {
                let span = read::span(token.text_range());
                match directive::read(text, span.clone()) {
                    None => {}
                    Some(Err(problem)) => problems.push(problem),
                    Some(Ok(Read::ForStatement(placed))) => waiting.push(placed),
                    Some(Ok(Read::ForFile(_))) if !statements.is_empty() => problems.push(
                        Problem::new(
                            "directive",
                            span,
                            "a directive for the whole file stands below a statement",
                            "here",
                        )
                        .help("move it above the first statement"),
                    ),
                    Some(Ok(Read::ForFile(more))) => {
                        options.serve_expanded |= more.serve_expanded;
                        options.soak = more.soak.or(options.soak);
                        options.replaces = more.replaces.or(options.replaces);
                    }
                }
            }
            SyntaxElement::Token(_) => {}
            SyntaxElement::Node(node) => {
                problems.extend(buried_directives(text, &node));
                match read::statement(text, &node, std::mem::take(&mut waiting)) {
                    Ok(Some(statement)) => statements.push(statement),
                    Ok(None) => {}
                    Err(problem) => problems.push(problem),
                }
            }
        }
    }
    for unused in waiting {
        problems.push(
            Problem::new(
                "directive",
                unused.span,
                "this directive belongs to no statement",
                "nothing follows it",
            )
            .help("put it directly above the statement that it is about"),
        );
    }
    strip_transaction(&mut statements, &mut problems);
    if problems.is_empty() { Ok((statements, options)) } else { Err(problems) }
}

/// Directives in the middle of a statement, where nobody would apply them.
fn buried_directives(text: &str, node: &SyntaxNode) -> Vec<Problem> {
    node.descendants_with_tokens()
        .filter_map(SyntaxElement::into_token)
        .filter(|token| token.kind() == SyntaxKind::COMMENT)
        .map(|token| read::span(token.text_range()))
        .filter(|span| directive::read(text, span.clone()).is_some())
        .map(|span| {
            Problem::new("directive", span, "a directive stands inside a statement", "here")
                .help("put it directly above the statement that it is about")
        })
        .collect()
}

/// Takes `BEGIN` and `COMMIT` around the whole file away; any other transaction control is an error.
fn strip_transaction(statements: &mut Vec<Statement>, problems: &mut Vec<Problem>) {
    let begins = statements.first().is_some_and(|first| matches!(first.kind, StatementKind::Begin));
    let commits = statements.last().is_some_and(|last| matches!(last.kind, StatementKind::Commit));
    if begins && commits && statements.len() >= 2 {
        statements.pop();
        statements.remove(0);
    }
    for statement in statements.iter() {
        if matches!(statement.kind, StatementKind::Begin | StatementKind::Commit) {
            problems.push(
                Problem::new("transaction", statement.span.clone(), "transaction control inside a migration", "here")
                    .help("each step gets the transaction it needs; take this out (BEGIN and COMMIT around the whole \
                           file are accepted and mean nothing)"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::ident::Ident;

    #[test]
    fn begin_and_commit_are_accepted_only_around_the_file() {
        assert_eq!(parse("BEGIN; CREATE SCHEMA s; COMMIT;").unwrap().0.len(), 1);
        assert!(parse("CREATE SCHEMA s; COMMIT;").is_err());
        assert!(parse("BEGIN; CREATE SCHEMA s; COMMIT; CREATE SCHEMA t;").is_err());
    }

    #[test]
    fn broken_sql_and_stray_directives_are_errors_with_a_position() {
        for bad in [
            "ALTER TABEL t ADD COLUMN a int;",
            "CREATE SCHEMA s; -- migrate: phase expand\n",
            "ALTER TABLE t -- migrate: phase expand\n ADD COLUMN a int;",
            "CREATE SCHEMA s;\n-- migrate: soak 1h\nCREATE SCHEMA t;",
            "\\d users",
            "CREATE TABLE t (a int",
        ] {
            let problems = parse(bad).expect_err(bad);
            assert!(problems[0].marks[0].span.end <= bad.len() + 1, "{bad}");
        }
    }

    #[test]
    fn columns_are_told_from_functions_and_qualifiers() {
        let text =
            "UPDATE users u SET a = lower(u.name) || s.f(\"Odd\", now()) || current_date WHERE b IS NULL;";
        let (statements, _) = parse(text).unwrap();
        let StatementKind::Update { sets, change } = &statements[0].kind else { panic!("not an update") };
        let SetValue::Expression(expression) = &sets[0].value else { panic!("not an expression") };
        let columns: Vec<Ident> = expression.columns().into_iter().collect();
        assert_eq!(columns, [Ident::new("Odd"), Ident::new("name")]);
        assert_eq!(change.condition.as_ref().unwrap().columns().len(), 1);
        assert!(expression.may_raise());
    }
}
