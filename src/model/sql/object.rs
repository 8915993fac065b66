//! From syntax tree to statements about objects other than tables' columns: their creation, renames, and end.

use std::collections::BTreeSet;

use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::expression::Expression;
use super::read::{child, has, has_token, ident, name, name_in};
use super::statement::{
    CreateObject, CreateOnTable, DropObjects, Name, NewName, ObjectKind, RenameObject, StatementKind, Target,
};
use crate::words::ident::Ident;

/// Reads a statement about an object; `None` if it is about none, or in a way that is not known.
pub(super) fn object(node: &SyntaxNode) -> Option<StatementKind> {
    let create = |kind, place| Some(StatementKind::CreateObject(create_object(node, kind, Some(place))));
    let nameless = |kind| Some(StatementKind::CreateObject(create_object(node, kind, None)));
    match node.kind() {
        SyntaxKind::CREATE_TYPE => create(ObjectKind::Type, SyntaxKind::TYPE_NAME),
        SyntaxKind::CREATE_DOMAIN => create(ObjectKind::Domain, SyntaxKind::DOMAIN),
        SyntaxKind::CREATE_SEQUENCE => create(ObjectKind::Sequence, SyntaxKind::SEQUENCE),
        SyntaxKind::CREATE_FUNCTION => create(ObjectKind::Function, SyntaxKind::FUNCTION_NAME),
        SyntaxKind::CREATE_PROCEDURE => create(ObjectKind::Procedure, SyntaxKind::PROCEDURE_NAME),
        SyntaxKind::CREATE_VIEW => create(ObjectKind::View, SyntaxKind::VIEW),
        SyntaxKind::CREATE_MATERIALIZED_VIEW => create(ObjectKind::MaterializedView, SyntaxKind::VIEW),
        SyntaxKind::CREATE_SCHEMA => nameless(ObjectKind::Schema),
        SyntaxKind::CREATE_EXTENSION => nameless(ObjectKind::Extension),
        SyntaxKind::CREATE_POLICY | SyntaxKind::CREATE_TRIGGER => {
            create_on_table(node).map(StatementKind::CreateOnTable)
        }
        SyntaxKind::ALTER_TYPE if has(node, SyntaxKind::ADD_VALUE) => Some(StatementKind::AddEnumValue),
        _ => rename(node).map(StatementKind::Rename).or_else(|| drop(node).map(StatementKind::DropObjects)),
    }
}

fn create_object(node: &SyntaxNode, kind: ObjectKind, place: Option<SyntaxKind>) -> CreateObject {
    let name = match place {
        Some(place) => name_in(node, place),
        None => schema_name(node),
    };
    let signature = name.as_ref().and_then(|name| signature(node, name));
    CreateObject {
        kind,
        name,
        or_replace: has(node, SyntaxKind::OR_REPLACE),
        if_not_exists: has(node, SyntaxKind::IF_NOT_EXISTS),
        arguments: parameters(node, |part| part != SyntaxKind::PARAM_DEFAULT),
        signature,
        reads: reads(node),
    }
}

/// The columns that the body of a view or function names; none if a `*` stands for all of them.
fn reads(node: &SyntaxNode) -> Option<BTreeSet<Ident>> {
    let all = node.descendants().any(|part| {
        matches!(part.kind(), SyntaxKind::TARGET | SyntaxKind::FIELD_EXPR)
            && has_token(&part, SyntaxKind::STAR)
    });
    (!all).then(|| Expression::from_node(node).columns())
}

/// The name of `CREATE SCHEMA name`, where nothing more is made with it.
fn schema_name(node: &SyntaxNode) -> Option<Name> {
    let schema = child(&child(node, SyntaxKind::NAMED_SCHEMA)?, SyntaxKind::SCHEMA)?;
    let span = super::read::span(schema.text_range());
    Some(Name { schema: None, name: ident(&schema)?, span })
}

fn create_on_table(node: &SyntaxNode) -> Option<CreateOnTable> {
    let policy = node.kind() == SyntaxKind::CREATE_POLICY;
    let kind = if policy { ObjectKind::Policy } else { ObjectKind::Trigger };
    let place = if policy { SyntaxKind::POLICY } else { SyntaxKind::TRIGGER };
    let restrictive = child(node, SyntaxKind::AS_POLICY_TYPE)
        .is_some_and(|part| part.text().to_string().to_ascii_lowercase().contains("restrictive"));
    Some(CreateOnTable {
        kind,
        name: ident(&child(node, place)?)?,
        table: table_of(node)?,
        or_replace: has(node, SyntaxKind::OR_REPLACE),
        restrictive,
    })
}

/// The table after `ON`.
fn table_of(node: &SyntaxNode) -> Option<Name> {
    let on = child(node, SyntaxKind::ON_TABLE).or_else(|| child(node, SyntaxKind::ON_RELATION))?;
    name(&on)
}

/// The parameters in parentheses, of each the parts that are wanted.
fn parameters(node: &SyntaxNode, wanted: impl Fn(SyntaxKind) -> bool) -> Option<String> {
    let list = child(node, SyntaxKind::PARAM_LIST)?;
    let parameters: Vec<String> = list
        .children()
        .filter(|part| part.kind() == SyntaxKind::PARAM)
        .map(|parameter| {
            let parts = parameter.children_with_tokens().filter(|part| wanted(part.kind()));
            parts.map(|part| part.to_string()).collect::<String>().trim().to_owned()
        })
        .collect();
    Some(format!("({})", parameters.join(", ")))
}

/// A function's name with the types of its input, as `to_regprocedure` takes it.
fn signature(node: &SyntaxNode, name: &Name) -> Option<String> {
    let list = child(node, SyntaxKind::PARAM_LIST)?;
    let types: Vec<String> = list
        .children()
        .filter(|part| part.kind() == SyntaxKind::PARAM && !has(part, SyntaxKind::PARAM_OUT))
        .filter_map(|parameter| {
            parameter.children().find(|part| format!("{:?}", part.kind()).ends_with("_TYPE"))
        })
        .map(|part| part.text().to_string())
        .collect();
    Some(format!("{name}({})", types.join(", ")))
}

/// `ALTER … RENAME` and `ALTER … SET SCHEMA` of anything but tables, columns and constraints.
fn rename(node: &SyntaxNode) -> Option<RenameObject> {
    let (kind, place) = match node.kind() {
        SyntaxKind::ALTER_INDEX => (ObjectKind::Index, SyntaxKind::INDEX_REF),
        SyntaxKind::ALTER_TYPE => (ObjectKind::Type, SyntaxKind::TYPE_NAME_REF),
        SyntaxKind::ALTER_DOMAIN => (ObjectKind::Domain, SyntaxKind::DOMAIN_REF),
        SyntaxKind::ALTER_VIEW => (ObjectKind::View, SyntaxKind::VIEW_REF),
        SyntaxKind::ALTER_MATERIALIZED_VIEW => (ObjectKind::MaterializedView, SyntaxKind::VIEW_REF),
        SyntaxKind::ALTER_SEQUENCE => (ObjectKind::Sequence, SyntaxKind::SEQUENCE_REF),
        SyntaxKind::ALTER_FUNCTION => (ObjectKind::Function, SyntaxKind::FUNCTION_SIG),
        SyntaxKind::ALTER_PROCEDURE => (ObjectKind::Procedure, SyntaxKind::PROCEDURE_SIG),
        _ => return None,
    };
    let target = target(&child(node, place)?)?;
    let change = node.children().last()?;
    let fields: Vec<Ident> = change.children().filter_map(|part| ident(&part)).collect();
    let to = match (change.kind(), fields.as_slice()) {
        (SyntaxKind::SET_SCHEMA, [schema]) => NewName::Schema(schema.clone()),
        (SyntaxKind::RENAME_ATTRIBUTE, [from, to]) => NewName::Attribute(from.clone(), to.clone()),
        (SyntaxKind::RENAME_VALUE, _) => {
            let labels: Vec<String> = change.children().map(|label| label.text().to_string()).collect();
            let [from, to] = labels.as_slice() else { return None };
            NewName::Label(from.clone(), to.clone())
        }
        (kind, _) if format!("{kind:?}").ends_with("_RENAME_TO") => {
            NewName::Name(name(&change.children().next()?)?.name)
        }
        _ => return None,
    };
    Some(RenameObject { kind, target, to })
}

fn drop(node: &SyntaxNode) -> Option<DropObjects> {
    let (kind, place) = match node.kind() {
        SyntaxKind::DROP_TABLE => (ObjectKind::Table, SyntaxKind::TABLE_NAME_REF),
        SyntaxKind::DROP_VIEW => (ObjectKind::View, SyntaxKind::VIEW_REF),
        SyntaxKind::DROP_MATERIALIZED_VIEW => (ObjectKind::MaterializedView, SyntaxKind::VIEW_REF),
        SyntaxKind::DROP_SEQUENCE => (ObjectKind::Sequence, SyntaxKind::SEQUENCE_REF),
        SyntaxKind::DROP_INDEX => (ObjectKind::Index, SyntaxKind::INDEX_REF),
        SyntaxKind::DROP_TYPE => (ObjectKind::Type, SyntaxKind::TYPE_NAME_REF),
        SyntaxKind::DROP_DOMAIN => (ObjectKind::Domain, SyntaxKind::DOMAIN_REF),
        SyntaxKind::DROP_FUNCTION => (ObjectKind::Function, SyntaxKind::FUNCTION_SIG),
        SyntaxKind::DROP_PROCEDURE => (ObjectKind::Procedure, SyntaxKind::PROCEDURE_SIG),
        SyntaxKind::DROP_POLICY => (ObjectKind::Policy, SyntaxKind::POLICY_REF),
        SyntaxKind::DROP_TRIGGER => (ObjectKind::Trigger, SyntaxKind::TRIGGER_REF),
        _ => return None,
    };
    let targets = if matches!(kind, ObjectKind::Policy | ObjectKind::Trigger) {
        let table = table_of(node)?;
        vec![Target {
            name: Name { name: ident(&child(node, place)?)?, ..table.clone() },
            table: Some(table),
            signature: None,
        }]
    } else {
        let places = node.descendants().filter(|part| part.kind() == place);
        places.map(|part| target(&part)).collect::<Option<_>>()?
    };
    Some(DropObjects {
        kind,
        targets,
        if_exists: has(node, SyntaxKind::IF_EXISTS),
        cascade: has(node, SyntaxKind::CASCADE),
    })
}

/// An object's name; for a function with the types of its arguments if they are given.
fn target(node: &SyntaxNode) -> Option<Target> {
    let named = match node.kind() {
        SyntaxKind::FUNCTION_SIG => child(node, SyntaxKind::FUNCTION_NAME_REF)?,
        SyntaxKind::PROCEDURE_SIG => child(node, SyntaxKind::PROCEDURE_NAME_REF)?,
        _ => node.clone(),
    };
    let name = name(&named)?;
    let signature = signature(node, &name);
    Some(Target { name, table: None, signature })
}
