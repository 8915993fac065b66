//! From syntax tree to statements about publications of logical replication.

use std::ops::Range;

use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::read::{child, has, ident, name_in, span};
use super::statement::{Name, StatementKind};
use crate::words::ident::Ident;

/// A statement about publications, which have no schema.
#[derive(Debug, Clone)]
pub(crate) struct PublicationChange {
    pub(crate) verb: PublicationVerb,
    pub(crate) names: Vec<(Ident, Range<usize>)>,
    pub(crate) tables: Vec<PublishedTable>,
}

/// What becomes of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PublicationVerb {
    Create {
        /// Whether it publishes no UPDATE and no DELETE.
        inserts_only: bool,
    },
    AddTables,
    DropTables,
    Drop {
        if_exists: bool,
        cascade: bool,
    },
}

/// A table in a publication.
#[derive(Debug, Clone)]
pub(crate) struct PublishedTable {
    pub(crate) name: Name,
    /// Whether only some columns or rows of it are published.
    pub(crate) narrowed: bool,
}

/// Reads a statement about publications; `None` if it is about none, or in a way that is not known.
pub(super) fn publication(node: &SyntaxNode) -> Option<StatementKind> {
    let (verb, place, objects) = match node.kind() {
        SyntaxKind::CREATE_PUBLICATION if has(node, SyntaxKind::FOR_ALL_PUBLICATION_OBJECTS) => return None,
        SyntaxKind::CREATE_PUBLICATION => (
            PublicationVerb::Create { inserts_only: inserts_only(node) },
            SyntaxKind::PUBLICATION,
            child(node, SyntaxKind::FOR_PUBLICATION_OBJECTS),
        ),
        SyntaxKind::ALTER_PUBLICATION => {
            let added = child(node, SyntaxKind::ADD_PUBLICATION_OBJECTS);
            let verb = if added.is_some() { PublicationVerb::AddTables } else { PublicationVerb::DropTables };
            let objects = added.or_else(|| child(node, SyntaxKind::DROP_PUBLICATION_OBJECTS))?;
            (verb, SyntaxKind::PUBLICATION_REF, Some(objects))
        }
        SyntaxKind::DROP_PUBLICATION => {
            let (if_exists, cascade) = (has(node, SyntaxKind::IF_EXISTS), has(node, SyntaxKind::CASCADE));
            (PublicationVerb::Drop { if_exists, cascade }, SyntaxKind::PUBLICATION_REF, None)
        }
        _ => return None,
    };
    let names: Vec<_> = node
        .children()
        .filter(|part| part.kind() == place)
        .filter_map(|part| Some((ident(&part)?, span(part.text_range()))))
        .collect();
    let tables = match objects {
        Some(objects) => objects.children().map(|part| table(&part)).collect::<Option<_>>()?,
        None => Vec::new(),
    };
    Some(StatementKind::Publication(PublicationChange { verb, names, tables }))
}

/// One table of a list; none for every table of a schema.
fn table(node: &SyntaxNode) -> Option<PublishedTable> {
    if node.kind() != SyntaxKind::PUBLICATION_OBJECT_TABLE {
        return None;
    }
    let narrowed = has(node, SyntaxKind::COLUMN_REF_LIST) || has(node, SyntaxKind::WHERE_CONDITION_CLAUSE);
    Some(PublishedTable { name: name_in(node, SyntaxKind::TABLE_NAME_REF)?, narrowed })
}

/// Whether `WITH (publish = …)` names neither `update` nor `delete`.
fn inserts_only(node: &SyntaxNode) -> bool {
    let options = node.descendants().filter(|part| part.kind() == SyntaxKind::ATTRIBUTE_OPTION);
    options.map(|option| option.text().to_string().to_ascii_lowercase()).any(|option| {
        let (name, value) = option.split_once('=').unwrap_or_default();
        name.trim() == "publish" && !value.contains("update") && !value.contains("delete")
    })
}
