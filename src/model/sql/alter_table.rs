//! From syntax tree to the subcommands of ALTER TABLE, columns and constraints.

use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::expression::Expression;
use super::read::{child, first_words, has, ident, name, name_in, span};
use super::statement::{
    Action, ColumnDefault, ConstraintKind, KeyIndex, NewColumn, NewConstraint, NewName, StatementKind,
};
use crate::words::ident::Ident;

pub(super) fn alter_table(node: &SyntaxNode) -> Option<StatementKind> {
    let relation = child(node, SyntaxKind::TABLE_RELATION_NAME)?;
    let table = name(&relation)?;
    let if_exists = has(node, SyntaxKind::IF_EXISTS);
    let actions = node
        .children()
        .filter(|child| !matches!(child.kind(), SyntaxKind::TABLE_RELATION_NAME | SyntaxKind::IF_EXISTS))
        .map(|child| (span(child.text_range()), action(&child)))
        .collect();
    Some(StatementKind::AlterTable { table, if_exists, actions })
}

fn action(node: &SyntaxNode) -> Action {
    known_action(node).unwrap_or_else(|| {
        let text = node.text().to_string();
        let of_column = child(node, SyntaxKind::COLUMN_NAME_REF)
            .map(|name| usize::from(name.text_range().end() - node.text_range().start()));
        let said = of_column.and_then(|end| text.get(end..)).map(first_words).filter(|said| !said.is_empty());
        Action::Other(said.map_or_else(|| first_words(&text), |said| format!("ALTER COLUMN … {said}")))
    })
}

fn known_action(node: &SyntaxNode) -> Option<Action> {
    let column = || child(node, SyntaxKind::COLUMN_NAME_REF).and_then(|name| ident(&name));
    Some(match node.kind() {
        SyntaxKind::ADD_COLUMN => Action::AddColumn {
            column: new_column(node)?,
            if_not_exists: has(node, SyntaxKind::IF_NOT_EXISTS),
        },
        SyntaxKind::DROP_COLUMN => Action::DropColumn {
            column: column()?,
            if_exists: has(node, SyntaxKind::IF_EXISTS),
            cascade: has(node, SyntaxKind::CASCADE),
        },
        SyntaxKind::RENAME_COLUMN => {
            Action::RenameColumn { from: column()?, to: ident(&child(node, SyntaxKind::COLUMN_NAME)?)? }
        }
        SyntaxKind::ALTER_COLUMN => alter_column(node, column()?)?,
        SyntaxKind::ADD_CONSTRAINT => constraint_action(&node.children().next()?)?,
        SyntaxKind::DROP_CONSTRAINT => Action::DropConstraint {
            name: name_in(node, SyntaxKind::CONSTRAINT_NAME_REF)?.name,
            if_exists: has(node, SyntaxKind::IF_EXISTS),
            cascade: has(node, SyntaxKind::CASCADE),
        },
        SyntaxKind::VALIDATE_CONSTRAINT => {
            Action::ValidateConstraint { name: name_in(node, SyntaxKind::CONSTRAINT_NAME_REF)?.name }
        }
        SyntaxKind::RENAME_CONSTRAINT => Action::RenameConstraint {
            from: name_in(node, SyntaxKind::CONSTRAINT_NAME_REF)?.name,
            to: ident(&child(node, SyntaxKind::CONSTRAINT_NAME)?)?,
        },
        SyntaxKind::OWNER_TO
        | SyntaxKind::SET_OPTIONS
        | SyntaxKind::RESET_OPTIONS
        | SyntaxKind::REPLICA_IDENTITY
        | SyntaxKind::CLUSTER_ON => setting(node, None),
        SyntaxKind::TABLE_RENAME_TO => {
            Action::RenameTable(NewName::Name(name_in(node, SyntaxKind::TABLE_NAME)?.name))
        }
        SyntaxKind::SET_SCHEMA => {
            Action::RenameTable(NewName::Schema(ident(&child(node, SyntaxKind::SCHEMA_REF)?)?))
        }
        SyntaxKind::ATTACH_PARTITION => {
            let partition = child(node, SyntaxKind::TABLE_NAME_REF)?;
            let behind = partition.text_range().end() - node.text_range().start();
            let bound = node.text().to_string()[usize::from(behind)..].trim().to_owned();
            Action::AttachPartition { partition: name(&partition)?, bound }
        }
        SyntaxKind::DETACH_PARTITION if !has(node, SyntaxKind::DETACH_FINALIZE) => {
            Action::DetachPartition { partition: name_in(node, SyntaxKind::TABLE_NAME_REF)? }
        }
        SyntaxKind::ENABLE_RLS => row_security(node, "DISABLE ROW LEVEL SECURITY", false),
        SyntaxKind::DISABLE_RLS => row_security(node, "ENABLE ROW LEVEL SECURITY", true),
        SyntaxKind::FORCE_RLS => row_security(node, "NO FORCE ROW LEVEL SECURITY", false),
        SyntaxKind::NO_FORCE_RLS => row_security(node, "FORCE ROW LEVEL SECURITY", true),
        _ => return None,
    })
}

fn row_security(node: &SyntaxNode, back: &'static str, relaxes: bool) -> Action {
    Action::RowSecurity { text: node.text().to_string(), back, relaxes }
}

/// Reads `name type [constraints]` of ADD COLUMN or CREATE TABLE.
pub(super) fn new_column(node: &SyntaxNode) -> Option<NewColumn> {
    let mut column = NewColumn {
        name: ident(&child(node, SyntaxKind::COLUMN_NAME)?)?,
        type_sql: String::new(),
        collation: String::new(),
        not_null: false,
        default: None,
        constraints: Vec::new(),
        computed: None,
        other: None,
    };
    for part in node.children() {
        match part.kind() {
            SyntaxKind::COLUMN_NAME | SyntaxKind::IF_NOT_EXISTS | SyntaxKind::NULL_CONSTRAINT => {}
            SyntaxKind::NOT_NULL_CONSTRAINT if !has(&part, SyntaxKind::CONSTRAINT_NAME_CLAUSE) => {
                column.not_null = true;
            }
            SyntaxKind::DEFAULT_CONSTRAINT => {
                let expression = part
                    .children()
                    .filter(|child| child.kind() != SyntaxKind::CONSTRAINT_NAME_CLAUSE)
                    .last()?;
                column.default = Some(ColumnDefault { expression: Expression::from_node(&expression) });
            }
            SyntaxKind::CHECK_CONSTRAINT
            | SyntaxKind::REFERENCES_CONSTRAINT
            | SyntaxKind::UNIQUE_CONSTRAINT
            | SyntaxKind::PRIMARY_KEY_CONSTRAINT => {
                column.not_null |= part.kind() == SyntaxKind::PRIMARY_KEY_CONSTRAINT;
                column.constraints.push(constraint(&part, Some(&column.name))?);
            }
            SyntaxKind::GENERATED_CONSTRAINT if computed(&part).is_some() => {
                column.computed = computed(&part);
            }
            SyntaxKind::COLLATE => column.collation = format!(" {}", part.text()),
            kind if format!("{kind:?}").ends_with("_TYPE") => column.type_sql = part.text().to_string(),
            _ => column.other = Some(first_words(&part.text().to_string())),
        }
    }
    (!column.type_sql.is_empty()).then_some(column)
}

/// The expression of a generated column that is not stored: `VIRTUAL`, or nothing, which means that too.
fn computed(node: &SyntaxNode) -> Option<Expression> {
    let generated = child(node, SyntaxKind::GENERATED_STORED)?;
    if has(&generated, SyntaxKind::STORED) {
        return None;
    }
    let not_expressions = [SyntaxKind::GENERATED_ALWAYS, SyntaxKind::VIRTUAL];
    let expression = generated.children().find(|part| !not_expressions.contains(&part.kind()))?;
    Some(Expression::from_node(&expression))
}

fn alter_column(node: &SyntaxNode, column: Ident) -> Option<Action> {
    let what = node.children().find(|part| part.kind() != SyntaxKind::COLUMN_NAME_REF)?;
    Some(match what.kind() {
        SyntaxKind::SET_NOT_NULL => Action::SetNotNull { column },
        SyntaxKind::DROP_NOT_NULL => Action::DropNotNull { column },
        SyntaxKind::DROP_DEFAULT => Action::DropDefault { column },
        SyntaxKind::SET_DEFAULT => {
            Action::SetDefault { column, default: Expression::from_node(&what.children().next()?) }
        }
        SyntaxKind::SET_TYPE => {
            let mut type_sql = String::new();
            let mut collation = String::new();
            for part in what.children() {
                match part.kind() {
                    SyntaxKind::COLLATE => collation = format!(" {}", part.text()),
                    SyntaxKind::USING_EXPR => {}
                    _ => type_sql = part.text().to_string(),
                }
            }
            let using = child(&what, SyntaxKind::USING_EXPR).and_then(|using| using.children().next());
            let using = using.map(|expression| Expression::from_node(&expression));
            Action::AlterType { column, type_sql, collation, using }
        }
        SyntaxKind::SET_STATISTICS
        | SyntaxKind::SET_STORAGE
        | SyntaxKind::SET_COMPRESSION
        | SyntaxKind::SET_OPTIONS
        | SyntaxKind::RESET_OPTIONS => setting(node, Some(column)),
        _ => return None,
    })
}

fn setting(node: &SyntaxNode, column: Option<Ident>) -> Action {
    let text = node.text().to_string();
    let exclusive = matches!(node.kind(), SyntaxKind::OWNER_TO | SyntaxKind::REPLICA_IDENTITY)
        || [SyntaxKind::SET_STORAGE, SyntaxKind::SET_COMPRESSION].iter().any(|kind| has(node, *kind));
    Action::Setting { text, column, exclusive }
}

fn constraint_action(node: &SyntaxNode) -> Option<Action> {
    if node.kind() == SyntaxKind::NOT_NULL_CONSTRAINT && !has(node, SyntaxKind::CONSTRAINT_NAME_CLAUSE) {
        return Some(Action::SetNotNull { column: ident(&child(node, SyntaxKind::COLUMN_NAME_REF)?)? });
    }
    constraint(node, None).map(Action::AddConstraint)
}

/// Reads a constraint; one that stands behind a column is turned into the table's constraint that means the same.
pub(super) fn constraint(node: &SyntaxNode, inline: Option<&Ident>) -> Option<NewConstraint> {
    let clause = child(node, SyntaxKind::CONSTRAINT_NAME_CLAUSE);
    let name = clause.and_then(|clause| ident(&child(&clause, SyntaxKind::CONSTRAINT_NAME)?));
    let written = |without: &[SyntaxKind]| {
        let parts = node.children_with_tokens().filter(|part| !without.contains(&part.kind()));
        parts.map(|part| part.to_string()).collect::<String>().trim().to_owned()
    };
    let mut text = written(&[SyntaxKind::CONSTRAINT_NAME_CLAUSE, SyntaxKind::NOT_VALID]);
    let own = |columns: Vec<Ident>| match inline {
        Some(column) => vec![column.clone()],
        None => columns,
    };
    let (kind, columns) = match node.kind() {
        SyntaxKind::CHECK_CONSTRAINT => {
            let expression = node
                .children()
                .find(|part| !matches!(part.kind(), SyntaxKind::CONSTRAINT_NAME_CLAUSE))
                .map(|expression| Expression::from_node(&expression))?;
            let columns = expression.columns().into_iter().collect();
            (ConstraintKind::Check(expression), columns)
        }
        SyntaxKind::FOREIGN_KEY_CONSTRAINT | SyntaxKind::REFERENCES_CONSTRAINT => {
            let mut lists: Vec<Vec<Ident>> = node
                .children()
                .filter(|part| part.kind() == SyntaxKind::FOREIGN_KEY_COLUMN_LIST)
                .map(|list| column_names(&list))
                .collect();
            if let Some(column) = inline {
                lists = vec![vec![column.clone()], column_names(node)];
                text = format!("FOREIGN KEY ({column}) {text}");
            }
            let mut lists = lists.into_iter();
            let columns = lists.next()?;
            let parent_columns = lists.next().unwrap_or_default();
            let parent = name_in(node, SyntaxKind::TABLE_NAME_REF)?;
            let full = has(node, SyntaxKind::MATCH_FULL);
            (ConstraintKind::ForeignKey { parent, parent_columns, full }, columns)
        }
        SyntaxKind::UNIQUE_CONSTRAINT | SyntaxKind::PRIMARY_KEY_CONSTRAINT => {
            let columns = own(node
                .descendants()
                .find(|part| part.kind() == SyntaxKind::CONSTRAINT_COLUMN_REF_LIST)
                .map(|list| column_names(&list))
                .unwrap_or_default());
            let primary = node.kind() == SyntaxKind::PRIMARY_KEY_CONSTRAINT;
            (ConstraintKind::Key { primary, index: key_index(node)?, timing: timing(node) }, columns)
        }
        SyntaxKind::EXCLUDE_CONSTRAINT => (ConstraintKind::Exclude, Vec::new()),
        _ => return None,
    };
    Some(NewConstraint { name, kind, columns, text, not_valid: has(node, SyntaxKind::NOT_VALID) })
}

/// What a key's index is made of; `None` for storage parameters and tablespaces, which are not read.
fn key_index(node: &SyntaxNode) -> Option<KeyIndex> {
    if let Some(index) = child(node, SyntaxKind::USING_INDEX_NAME) {
        return Some(KeyIndex::Existing(name_in(&index, SyntaxKind::INDEX_REF)?));
    }
    let parameters = child(node, SyntaxKind::INDEX_PARAMETERS)?;
    let mut included = Vec::new();
    let mut nulls_not_distinct = false;
    for part in parameters.children() {
        match part.kind() {
            SyntaxKind::CONSTRAINT_COLUMN_REF_LIST => {}
            SyntaxKind::NULLS_NOT_DISTINCT => nulls_not_distinct = true,
            SyntaxKind::CONSTRAINT_INCLUDE_CLAUSE => included = column_names(&part),
            _ => return None,
        }
    }
    Some(KeyIndex::New { included, nulls_not_distinct })
}

/// `DEFERRABLE` and its like, as written.
fn timing(node: &SyntaxNode) -> String {
    node.children()
        .filter(|part| format!("{:?}", part.kind()).ends_with("_CONSTRAINT_OPTION"))
        .map(|part| format!(" {}", part.text()))
        .collect()
}

fn column_names(node: &SyntaxNode) -> Vec<Ident> {
    node.descendants()
        .filter(|part| part.kind() == SyntaxKind::COLUMN_NAME_REF)
        .filter_map(|part| ident(&part))
        .collect()
}
