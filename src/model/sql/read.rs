//! From syntax tree to statements.

use std::collections::BTreeSet;
use std::ops::Range;

use squawk_syntax::ast::AstNode;
use squawk_syntax::{SourceFile, SyntaxElement, SyntaxKind, SyntaxNode};

use super::alter_table::{alter_table, constraint, new_column};
use super::data::data;
use super::expression::Expression;
use super::object::object;
use super::publication::publication;
use super::statement::{CreateIndex, IndexTail, Name, Statement, StatementKind};
use crate::model::directive::Placed;
use crate::model::problem::Problem;
use crate::words::ident::Ident;

/// A text range of the tree as plain bytes.
pub(super) fn span(range: rowan::TextRange) -> Range<usize> {
    range.start().into()..range.end().into()
}

/// The identifier that a name node holds, folded; `None` for keywords such as `CURRENT_DATE`.
pub(super) fn ident(node: &SyntaxNode) -> Option<Ident> {
    let token = node.first_token().filter(|_| node.children().next().is_none())?;
    let text = token.text();
    let keyword_function = matches!(
        token.kind(),
        SyntaxKind::CURRENT_CATALOG_KW
            | SyntaxKind::CURRENT_DATE_KW
            | SyntaxKind::CURRENT_ROLE_KW
            | SyntaxKind::CURRENT_SCHEMA_KW
            | SyntaxKind::CURRENT_TIME_KW
            | SyntaxKind::CURRENT_TIMESTAMP_KW
            | SyntaxKind::CURRENT_USER_KW
            | SyntaxKind::LOCALTIME_KW
            | SyntaxKind::LOCALTIMESTAMP_KW
            | SyntaxKind::SESSION_USER_KW
            | SyntaxKind::SYSTEM_USER_KW
            | SyntaxKind::USER_KW
    );
    (!keyword_function && !text.is_empty()).then(|| Ident::from_sql(text))
}

pub(super) fn child(node: &SyntaxNode, kind: SyntaxKind) -> Option<SyntaxNode> {
    node.children().find(|child| child.kind() == kind)
}

pub(super) fn has(node: &SyntaxNode, kind: SyntaxKind) -> bool {
    child(node, kind).is_some()
}

pub(super) fn has_token(node: &SyntaxNode, kind: SyntaxKind) -> bool {
    node.children_with_tokens().filter_map(SyntaxElement::into_token).any(|token| token.kind() == kind)
}

/// The name below a node such as `TABLE_NAME_REF`, at whatever depth its path stands.
pub(super) fn name(node: &SyntaxNode) -> Option<Name> {
    let parts: Vec<SyntaxNode> = node
        .descendants()
        .filter(|part| matches!(part.kind(), SyntaxKind::PATH_SEGMENT | SyntaxKind::PATH_SEGMENT_REF))
        .collect();
    let span = span(node.text_range());
    match parts.as_slice() {
        [only] => Some(Name { schema: None, name: ident(only)?, span }),
        [schema, only] => Some(Name { schema: ident(schema), name: ident(only)?, span }),
        _ => None,
    }
}

pub(super) fn name_in(node: &SyntaxNode, kind: SyntaxKind) -> Option<Name> {
    child(node, kind).and_then(|child| name(&child))
}

/// Reads one statement; `None` for an empty one.
///
/// # Errors
/// A statement that has no place in a migration.
pub(super) fn statement(
    text: &str,
    node: &SyntaxNode,
    directives: Vec<Placed>,
) -> Result<Option<Statement>, Problem> {
    let mut whole = span(node.text_range());
    let trimmed = text[whole.clone()].trim_end().trim_end_matches(';').trim_end();
    whole.end = whole.start + trimmed.len();
    if trimmed.is_empty() {
        return Ok(None);
    }
    let words = node
        .descendants_with_tokens()
        .filter_map(SyntaxElement::into_token)
        .filter(|token| {
            token.kind() == SyntaxKind::IDENT || token.text().starts_with(|c: char| c.is_alphabetic())
        })
        .map(|token| Ident::from_sql(token.text()).as_str().to_owned())
        .collect();
    let references = node
        .descendants()
        .filter(|part| {
            matches!(part.kind(), SyntaxKind::REFERENCES_CONSTRAINT | SyntaxKind::FOREIGN_KEY_CONSTRAINT)
        })
        .filter_map(|key| name_in(&key, SyntaxKind::TABLE_NAME_REF))
        .collect();
    let objects = node.descendants().filter_map(|part| object_name(&part)).collect();
    let expressions = Expression::from_node(node);
    let calls = expressions.functions().clone();
    let kind = kind(text, node, &whole)?;
    let text = trimmed.to_owned();
    Ok(Some(Statement {
        text,
        span: whole,
        kind,
        directives,
        words,
        references,
        objects,
        calls,
        expressions,
    }))
}

/// The name of an object where a node is one.
fn object_name(node: &SyntaxNode) -> Option<Name> {
    match node.kind() {
        SyntaxKind::RELATION_NAME_REF
        | SyntaxKind::TABLE_NAME_REF
        | SyntaxKind::VIEW_REF
        | SyntaxKind::SEQUENCE_REF
        | SyntaxKind::INDEX_REF
        | SyntaxKind::TYPE_NAME_REF
        | SyntaxKind::DOMAIN_REF
        | SyntaxKind::FUNCTION_NAME_REF
        | SyntaxKind::PROCEDURE_NAME_REF => name(node),
        SyntaxKind::SCHEMA_REF => {
            Some(Name { schema: None, name: ident(node)?, span: span(node.text_range()) })
        }
        SyntaxKind::QUALIFIED_COLUMN_NAME_REF => {
            // The column is the last part.
            let parts: Vec<Ident> = node
                .descendants()
                .filter(|part| part.kind() == SyntaxKind::PATH_SEGMENT_REF)
                .filter_map(|part| ident(&part))
                .collect();
            let (table, schema) = (parts.iter().rev().nth(1)?.clone(), parts.iter().rev().nth(2).cloned());
            Some(Name { schema, name: table, span: span(node.text_range()) })
        }
        _ => None,
    }
}

fn kind(text: &str, node: &SyntaxNode, whole: &Range<usize>) -> Result<StatementKind, Problem> {
    Ok(match node.kind() {
        SyntaxKind::BEGIN => StatementKind::Begin,
        SyntaxKind::COMMIT_TRANSACTION => StatementKind::Commit,
        SyntaxKind::ALTER_TABLE => alter_table(node).unwrap_or_else(|| other(text, whole)),
        SyntaxKind::CREATE_TABLE => create_table(node).unwrap_or_else(|| other(text, whole)),
        SyntaxKind::CREATE_INDEX => {
            create_index(node).map_or_else(|| other(text, whole), StatementKind::CreateIndex)
        }
        SyntaxKind::UPDATE | SyntaxKind::DELETE | SyntaxKind::INSERT => {
            data(node).unwrap_or_else(|| other(text, whole))
        }
        SyntaxKind::COMMENT_ON => StatementKind::Describe("COMMENT"),
        SyntaxKind::GRANT => StatementKind::Describe("GRANT"),
        SyntaxKind::REVOKE => StatementKind::Revoke,
        SyntaxKind::SET | SyntaxKind::RESET | SyntaxKind::SET_ROLE | SyntaxKind::SET_SESSION_AUTH => {
            let help = match text[whole.clone()].to_ascii_lowercase() {
                said if said.contains("timeout") => {
                    "take it out: each step waits for a lock for a moment only and tries again; `lock_timeout` in migrate.toml says how long"
                }
                said if said.contains("search_path") => {
                    "take it out: `search_path` in migrate.toml holds for all files"
                }
                _ => {
                    "steps run in sessions of their own; put what the statement needs into its text, such as a qualified name"
                }
            };
            return Err(Problem::new(
                "session",
                whole.clone(),
                "a session setting inside a migration",
                "here",
            )
            .help(help));
        }
        SyntaxKind::ROLLBACK_TRANSACTION
        | SyntaxKind::ROLLBACK_TO_SAVEPOINT
        | SyntaxKind::SAVEPOINT_CREATE
        | SyntaxKind::PREPARE_TRANSACTION => {
            return Err(Problem::new(
                "transaction",
                whole.clone(),
                "transaction control inside a migration",
                "here",
            )
            .help("each step gets the transaction it needs; take this out"));
        }
        _ => object(node).or_else(|| publication(node)).unwrap_or_else(|| other(text, whole)),
    })
}

/// The first words of a statement or subcommand, in capitals: the name people know it under.
pub(super) fn first_words(text: &str) -> String {
    let words = text.split(|c: char| !(c.is_ascii_alphabetic() || c == '_')).filter(|word| !word.is_empty());
    let words: Vec<String> = words.take(3).map(str::to_ascii_uppercase).collect();
    // What stands behind other words is a name.
    let count = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "MATERIALIZED" | "EVENT" | "FOREIGN" | "ROW", _] => 3,
        [
            "CREATE" | "ALTER" | "DROP" | "REFRESH" | "IMPORT" | "SECURITY" | "ADD" | "SET" | "RENAME"
            | "ENABLE" | "DISABLE" | "REPLICA" | "INSERT" | "MERGE" | "PREPARE" | "NO" | "WITHOUT",
            ..,
        ] => 2,
        _ => 1,
    };
    words.get(..count.min(words.len())).unwrap_or_default().join(" ")
}

fn other(text: &str, whole: &Range<usize>) -> StatementKind {
    StatementKind::Other(first_words(&text[whole.clone()]))
}

fn create_table(node: &SyntaxNode) -> Option<StatementKind> {
    let partition_of =
        child(node, SyntaxKind::PARTITION_OF).and_then(|of| name_in(&of, SyntaxKind::TABLE_NAME_REF));
    let special = if has(node, SyntaxKind::INHERITS) {
        Some("inherited")
    } else if child(node, SyntaxKind::TEMP).is_some() {
        Some("temporary")
    } else {
        None
    };
    let parts: Vec<SyntaxNode> =
        child(node, SyntaxKind::TABLE_ARG_LIST).iter().flat_map(SyntaxNode::children).collect();
    let columns =
        parts.iter().filter(|part| part.kind() == SyntaxKind::COLUMN).filter_map(new_column).collect();
    let constraints = parts.iter().filter_map(|part| constraint(part, None)).collect();
    let if_not_exists = has(node, SyntaxKind::IF_NOT_EXISTS);
    Some(StatementKind::CreateTable {
        name: name_in(node, SyntaxKind::TABLE_NAME)?,
        if_not_exists,
        columns,
        constraints,
        partition_of,
        is_partitioned: child(node, SyntaxKind::PARTITION_BY).is_some(),
        special,
    })
}

fn create_index(node: &SyntaxNode) -> Option<CreateIndex> {
    let relation = child(node, SyntaxKind::TABLE_RELATION_NAME)?;
    Some(CreateIndex {
        name: name_in(node, SyntaxKind::INDEX),
        if_not_exists: has(node, SyntaxKind::IF_NOT_EXISTS),
        unique: has_token(node, SyntaxKind::UNIQUE_KW),
        table: name(&relation)?,
        only: has_token(&relation, SyntaxKind::ONLY_KW),
        tail: index_tail(node)?,
    })
}

fn index_tail(node: &SyntaxNode) -> Option<IndexTail> {
    let relation = child(node, SyntaxKind::TABLE_RELATION_NAME)?;
    let text = node.text().to_string();
    let start = usize::from(relation.text_range().end() - node.text_range().start());
    let mut columns = BTreeSet::new();
    for part in node.children().filter(|part| part.kind() != SyntaxKind::TABLE_RELATION_NAME) {
        if matches!(
            part.kind(),
            SyntaxKind::PARTITION_ITEM_LIST | SyntaxKind::INDEX_INCLUDE_CLAUSE | SyntaxKind::WHERE_CLAUSE
        ) {
            columns.extend(Expression::from_node(&part).columns());
        }
    }
    let items =
        |list: &SyntaxNode| list.children().filter_map(|item| item.children().next()).collect::<Vec<_>>();
    let keys = items(&child(node, SyntaxKind::PARTITION_ITEM_LIST)?);
    let plain = |item: &SyntaxNode| (item.kind() == SyntaxKind::NAME_REF).then(|| ident(item)).flatten();
    let named = |item: &SyntaxNode| match item.kind() {
        SyntaxKind::CALL_EXPR => item
            .children()
            .next()
            .and_then(|function| function.descendants().filter_map(|n| ident(&n)).last()),
        _ => plain(item),
    };
    let included = child(node, SyntaxKind::INDEX_INCLUDE_CLAUSE)
        .and_then(|clause| child(&clause, SyntaxKind::PARTITION_ITEM_LIST));
    let key = keys.iter().map(plain).collect();
    let names =
        keys.iter().chain(included.iter().flat_map(items).collect::<Vec<_>>().iter()).map(named).collect();
    Some(IndexTail {
        text: text[start..].trim().trim_end_matches(';').trim_end().to_owned(),
        columns,
        key,
        names,
    })
}

/// Takes an index definition of the server and gives the part from `USING` on, with columns renamed by `to`.
pub(crate) fn rename_in_index(definition: &str, to: impl Fn(&Ident) -> Ident) -> Option<String> {
    let parsed = SourceFile::parse(definition);
    let node = parsed.tree().syntax().children().find(|node| node.kind() == SyntaxKind::CREATE_INDEX)?;
    let relation = child(&node, SyntaxKind::TABLE_RELATION_NAME)?;
    let mut tail = String::new();
    for part in node.children_with_tokens() {
        if part.text_range().start() < relation.text_range().end() {
            continue;
        }
        match part {
            SyntaxElement::Token(token) => tail.push_str(token.text()),
            SyntaxElement::Node(part)
                if matches!(
                    part.kind(),
                    SyntaxKind::PARTITION_ITEM_LIST
                        | SyntaxKind::INDEX_INCLUDE_CLAUSE
                        | SyntaxKind::WHERE_CLAUSE
                ) =>
            {
                tail.push_str(&Expression::from_node(&part).replaced(|column| to(column).to_string()));
            }
            SyntaxElement::Node(part) => tail.push_str(&part.text().to_string()),
        }
    }
    Some(tail.trim().to_owned())
}
