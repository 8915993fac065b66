//! The names that `PostgreSQL` gives where the author gives none, so that the end is what the plain SQL gives.
//!
//! Source: `makeObjectName`, `ChooseConstraintName` and `ChooseIndexName` of the server.

use crate::decide::draft::Draft;
use crate::words::ident::{Ident, MAX_BYTES, QualifiedName};

/// What a name is for: constraints share their names in a schema, indexes share theirs with all relations.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    Constraint,
    Index,
    /// An index that stands for a constraint.
    Both,
}

/// The first free name of the form `table_columns_label`, with a number behind it where it is taken. It is taken from
/// then on.
pub(crate) fn choose(
    draft: &mut Draft<'_>,
    table: &QualifiedName,
    columns: &str,
    label: &str,
    space: Space,
) -> Ident {
    let numbered = (1..).map(|number| format!("{label}{number}"));
    let mut labels = std::iter::once(label.to_owned()).chain(numbered);
    loop {
        // The sequence of labels has no end, and what is taken has one.
        let label = labels.next().unwrap_or_default();
        let name = Ident::new(join(table.name.as_str(), columns, &label));
        if !is_taken(draft, table, &name, space) {
            take(draft, table, &name, space);
            return name;
        }
    }
}

fn is_taken(draft: &Draft<'_>, table: &QualifiedName, name: &Ident, space: Space) -> bool {
    let plain = format!("{}.{}", table.schema.as_str(), name.as_str());
    let relation = || draft.catalog.relations.iter().any(|relation| relation.name.plain() == plain);
    let constraint = || draft.catalog.constraint_names.contains(&plain);
    match space {
        Space::Constraint => constraint(),
        Space::Index => relation(),
        Space::Both => relation() || constraint(),
    }
}

/// Nobody else gets the name.
pub(crate) fn take(draft: &mut Draft<'_>, table: &QualifiedName, name: &Ident, space: Space) {
    if space != Space::Index {
        draft.catalog.constraint_names.insert(format!("{}.{}", table.schema.as_str(), name.as_str()));
    }
    if space != Space::Constraint {
        let name = QualifiedName::new(table.schema.clone(), name.clone());
        draft.catalog.relations.push(crate::model::catalog::Relation { name });
    }
}

/// Joins with `_`, cutting the longer of the first two parts until all of it fits.
fn join(one: &str, two: &str, label: &str) -> String {
    let separators = if two.is_empty() { 1 } else { 2 };
    let room = MAX_BYTES.saturating_sub(label.len() + separators);
    let (mut first, mut second) = (one.len(), two.len());
    while first + second > room {
        if first > second { first -= 1 } else { second -= 1 }
    }
    let (first, second) = (clip(one, first), clip(two, second));
    if two.is_empty() { format!("{first}_{label}") } else { format!("{first}_{second}_{label}") }
}

fn clip(text: &str, mut bytes: usize) -> &str {
    while !text.is_char_boundary(bytes) {
        bytes -= 1;
    }
    &text[..bytes]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_as_the_server_does() {
        assert_eq!(join("users", "email", "key"), "users_email_key");
        assert_eq!(join("users", "", "pkey"), "users_pkey");
        let (table, column) = ("t".repeat(60), "c".repeat(10));
        let name = join(&table, &column, "idx");
        assert_eq!(name, format!("{}_{column}_idx", "t".repeat(48)));
        assert_eq!(name.len(), MAX_BYTES);
    }
}
