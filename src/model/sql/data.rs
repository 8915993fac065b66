//! From syntax tree to data changes: UPDATE, DELETE, INSERT.

use std::collections::BTreeSet;

use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::change::{Apart, Conjunct, DataChange, SetColumn, SetValue, Verb};
use super::expression::Expression;
use super::read::{child, has, has_token, ident, name, name_in, span};
use super::statement::StatementKind;
use crate::words::ident::Ident;

/// Reads a data change; `None` if it is in a form that is not known.
pub(super) fn data(node: &SyntaxNode) -> Option<StatementKind> {
    match node.kind() {
        SyntaxKind::UPDATE => update(node),
        SyntaxKind::DELETE => Some(StatementKind::Data(Box::new(delete(node)?))),
        SyntaxKind::INSERT if has(node, SyntaxKind::WITH_CLAUSE) => {
            Some(StatementKind::Other("INSERT with a WITH clause".to_owned()))
        }
        SyntaxKind::INSERT if is_given(node) => {
            let table = name_in(node, SyntaxKind::RELATION_NAME_REF)?;
            Some(StatementKind::InsertValues { table, by_position: is_by_position(node) })
        }
        SyntaxKind::INSERT if has(node, SyntaxKind::COMPOUND_SELECT) => {
            Some(StatementKind::Other("INSERT … SELECT … UNION".to_owned()))
        }
        SyntaxKind::INSERT => Some(insert(node).map_or_else(
            || StatementKind::Other("INSERT … SELECT whose FROM does not begin with a table".to_owned()),
            |change| StatementKind::Data(Box::new(change)),
        )),
        _ => None,
    }
}

fn is_by_position(insert: &SyntaxNode) -> bool {
    !has(insert, SyntaxKind::COLUMN_TARGET_LIST) && !has(insert, SyntaxKind::DEFAULT_VALUES)
}

/// Whether the rows of an INSERT stand in the statement: they come from no table, but for what its conditions look up.
fn is_given(node: &SyntaxNode) -> bool {
    let queries = |part: &SyntaxNode| {
        matches!(
            part.kind(),
            SyntaxKind::VALUES
                | SyntaxKind::DEFAULT_VALUES
                | SyntaxKind::SELECT
                | SyntaxKind::COMPOUND_SELECT
                | SyntaxKind::PAREN_SELECT
        )
    };
    node.children().find(queries).is_some_and(|query| is_of_no_table(&query))
}

fn is_of_no_table(query: &SyntaxNode) -> bool {
    match query.kind() {
        SyntaxKind::COMPOUND_SELECT | SyntaxKind::PAREN_SELECT => {
            query.children().all(|part| is_of_no_table(&part))
        }
        SyntaxKind::SELECT => child(query, SyntaxKind::FROM_CLAUSE)
            .is_none_or(|from| from.descendants().all(|part| part.kind() != SyntaxKind::RELATION_NAME_REF)),
        _ => true,
    }
}

fn update(node: &SyntaxNode) -> Option<StatementKind> {
    let relation = child(node, SyntaxKind::RELATION_NAME)?;
    let table = name(&relation)?;
    let set_clause = child(node, SyntaxKind::SET_CLAUSE)?;
    let list = child(&set_clause, SyntaxKind::SET_COLUMN_LIST)?;
    let mut sets = Vec::new();
    for set in list.children() {
        let columns: Vec<SyntaxNode> =
            set.descendants().filter(|part| part.kind() == SyntaxKind::COLUMN_TARGET).collect();
        let values: Vec<SyntaxNode> =
            set.descendants().filter(|part| part.kind() == SyntaxKind::SET_EXPR).collect();
        for (at, column) in columns.iter().enumerate() {
            let value = match values.get(at) {
                Some(value) if values.len() == columns.len() => set_value(value),
                _ => SetValue::Unusual,
            };
            let simple = column.children().count() == 1;
            let column = ident(&child(column, SyntaxKind::COLUMN_NAME_REF)?)?;
            let value = if simple { value } else { SetValue::Unusual };
            sets.push(SetColumn { column, span: span(set.text_range()), value });
        }
    }
    let change = DataChange {
        verb: Verb::Update,
        driving: table.clone(),
        head: set_clause.text().to_string(),
        sources: sources(node, SyntaxKind::FROM_CLAUSE),
        tail: String::new(),
        apart: child(node, SyntaxKind::FROM_CLAUSE).and_then(|from| apart(&from, node, Vec::new())),
        unusual: unusual(node),
        alias: alias(node, SyntaxKind::OPTIONAL_AS_ALIAS),
        condition: condition(node),
        calls: BTreeSet::new(),
        decides: decides(node, SyntaxKind::FROM_CLAUSE),
        by_position: false,
        table,
    };
    Some(StatementKind::Update { sets, change: Box::new(change) })
}

fn set_value(node: &SyntaxNode) -> SetValue {
    match node.children().next() {
        Some(expression) => SetValue::Expression(Expression::from_node(&expression)),
        None if has_token(node, SyntaxKind::DEFAULT_KW) => SetValue::Default,
        None => SetValue::Unusual,
    }
}

fn delete(node: &SyntaxNode) -> Option<DataChange> {
    let table = name(&child(node, SyntaxKind::RELATION_NAME)?)?;
    Some(DataChange {
        verb: Verb::Delete,
        driving: table.clone(),
        table,
        alias: alias(node, SyntaxKind::OPTIONAL_AS_ALIAS),
        head: String::new(),
        sources: sources(node, SyntaxKind::USING_CLAUSE),
        condition: condition(node),
        tail: String::new(),
        calls: BTreeSet::new(),
        decides: decides(node, SyntaxKind::USING_CLAUSE),
        apart: None,
        by_position: false,
        unusual: unusual(node),
    })
}

/// `INSERT … SELECT`: the rows of the first table of its FROM are what is counted out to batches.
fn insert(node: &SyntaxNode) -> Option<DataChange> {
    let table = name_in(node, SyntaxKind::RELATION_NAME_REF)?;
    let select = child(node, SyntaxKind::SELECT)?;
    let from = child(&select, SyntaxKind::FROM_CLAUSE)?;
    let mut first = from.children().next()?;
    while first.kind() == SyntaxKind::JOIN_EXPR {
        first = first.children().next()?;
    }
    let outer =
        from.descendants().any(|part| matches!(part.kind(), SyntaxKind::JOIN_RIGHT | SyntaxKind::JOIN_FULL));
    let clause = child(&select, SyntaxKind::SELECT_CLAUSE)?;
    let whole = [
        (SyntaxKind::GROUP_BY_CLAUSE, "INSERT … SELECT … GROUP BY"),
        (SyntaxKind::HAVING_CLAUSE, "INSERT … SELECT … HAVING"),
        (SyntaxKind::ORDER_BY_CLAUSE, "INSERT … SELECT … ORDER BY"),
        (SyntaxKind::LIMIT_CLAUSE, "INSERT … SELECT … LIMIT"),
        (SyntaxKind::OFFSET_CLAUSE, "INSERT … SELECT … OFFSET"),
        (SyntaxKind::WINDOW_CLAUSE, "INSERT … SELECT … WINDOW"),
        (SyntaxKind::FETCH_CLAUSE, "INSERT … SELECT … FETCH FIRST"),
        (SyntaxKind::LOCKING_CLAUSE, "INSERT … SELECT … FOR UPDATE"),
    ];
    let known = [SyntaxKind::SELECT_CLAUSE, SyntaxKind::FROM_CLAUSE, SyntaxKind::WHERE_CLAUSE];
    let other = select.children().any(|part| !known.contains(&part.kind()));
    let star = clause
        .descendants()
        .any(|part| part.kind() == SyntaxKind::TARGET && has_token(&part, SyntaxKind::STAR));
    let unusual = unusual(node)
        .or_else(|| unusual(&select))
        .or_else(|| whole.iter().find(|(kind, _)| has(&select, *kind)).map(|(_, what)| *what))
        .or_else(|| has(&clause, SyntaxKind::DISTINCT_CLAUSE).then_some("INSERT … SELECT DISTINCT"))
        .or_else(|| outer.then_some("INSERT … SELECT with a RIGHT or FULL JOIN"))
        .or_else(|| other.then_some("this form of INSERT … SELECT"))
        .or_else(|| star.then_some("INSERT … SELECT *, without the names of columns"));
    let nested = |call: &SyntaxNode| {
        call.ancestors().take_while(|part| part != &clause).any(|part| part.kind() == SyntaxKind::SELECT)
    };
    let calls = clause
        .descendants()
        .filter(|part| part.kind() == SyntaxKind::CALL_EXPR && !nested(part))
        .flat_map(|call| Expression::from_node(&call).functions().clone())
        .collect();
    let text = |part: &SyntaxNode| part.text().to_string();
    let before: String = node
        .children_with_tokens()
        .take_while(|part| part.kind() != SyntaxKind::SELECT)
        .map(|part| part.to_string())
        .collect();
    Some(DataChange {
        verb: Verb::Insert,
        driving: name(&child(&first, SyntaxKind::RELATION_NAME_REF)?)?,
        table,
        alias: alias(&first, SyntaxKind::FROM_ALIAS),
        head: format!("{before}{}", text(&clause)),
        sources: sources(&select, SyntaxKind::FROM_CLAUSE),
        condition: condition(&select),
        tail: child(node, SyntaxKind::ON_CONFLICT_CLAUSE).map_or_else(String::new, |part| text(&part)),
        calls,
        decides: decides(&select, SyntaxKind::FROM_CLAUSE),
        by_position: is_by_position(node),
        apart: inserted(node, &clause).and_then(|values| apart(&from, &select, values)),
        unusual,
    })
}

/// The columns of an INSERT with the values that its SELECT gives them; `None` where they are not named one for one.
fn inserted(node: &SyntaxNode, clause: &SyntaxNode) -> Option<Vec<(Ident, Expression)>> {
    let columns: Vec<Ident> = child(node, SyntaxKind::COLUMN_TARGET_LIST)?
        .children()
        .map(|target| ident(&child(&target, SyntaxKind::COLUMN_NAME_REF)?))
        .collect::<Option<_>>()?;
    let values: Vec<Expression> = child(clause, SyntaxKind::TARGET_LIST)?
        .children()
        .map(|target| Some(Expression::from_node(&target.children().next()?)))
        .collect::<Option<_>>()?;
    (columns.len() == values.len()).then(|| columns.into_iter().zip(values).collect())
}

fn apart(from: &SyntaxNode, statement: &SyntaxNode, values: Vec<(Ident, Expression)>) -> Option<Apart> {
    let mut items = from.children();
    let item = items.next().filter(|item| item.kind() == SyntaxKind::RELATION_FROM_ITEM)?;
    let plain = items.next().is_none()
        && !has_token(&item, SyntaxKind::ONLY_KW)
        && item
            .children()
            .all(|part| matches!(part.kind(), SyntaxKind::RELATION_NAME_REF | SyntaxKind::FROM_ALIAS));
    let mut conjuncts = Vec::new();
    let condition = child(statement, SyntaxKind::WHERE_CLAUSE).and_then(|clause| clause.children().next());
    condition.iter().for_each(|condition| split(condition, &mut conjuncts));
    Some(Apart {
        source: name(&child(&item, SyntaxKind::RELATION_NAME_REF).filter(|_| plain)?)?,
        source_alias: alias(&item, SyntaxKind::FROM_ALIAS),
        conjuncts,
        values,
    })
}

/// The parts of a condition between its ANDs.
fn split(node: &SyntaxNode, into: &mut Vec<Conjunct>) {
    let parts: Vec<SyntaxNode> = node.children().collect();
    match (node.kind(), parts.as_slice()) {
        (SyntaxKind::PAREN_EXPR, [inner]) => split(inner, into),
        (SyntaxKind::BIN_EXPR, [left, right]) if has_token(node, SyntaxKind::AND_KW) => {
            split(left, into);
            split(right, into);
        }
        (SyntaxKind::BIN_EXPR, [left, right]) if has_token(node, SyntaxKind::EQ) => {
            let equal = Some((Expression::from_node(left), Expression::from_node(right)));
            into.push(Conjunct { whole: Expression::from_node(node), equal });
        }
        _ => into.push(Conjunct { whole: Expression::from_node(node), equal: None }),
    }
}

fn alias(node: &SyntaxNode, kind: SyntaxKind) -> Option<Ident> {
    let alias = child(node, kind)?;
    ident(&child(&alias, SyntaxKind::TABLE_ALIAS)?)
}

fn condition(node: &SyntaxNode) -> Option<Expression> {
    let clause = child(node, SyntaxKind::WHERE_CLAUSE)?;
    Some(Expression::from_node(&clause.children().next()?))
}

/// The items after `FROM` or `USING`, as written.
fn sources(node: &SyntaxNode, kind: SyntaxKind) -> String {
    let Some(clause) = child(node, kind) else { return String::new() };
    clause.children_with_tokens().skip(1).map(|part| part.to_string()).collect::<String>().trim().to_owned()
}

/// The functions that decide which rows a change is about.
fn decides(node: &SyntaxNode, tables: SyntaxKind) -> BTreeSet<String> {
    let clauses = [child(node, tables), child(node, SyntaxKind::WHERE_CLAUSE)];
    let calls = clauses.iter().flatten().flat_map(|clause| clause.descendants());
    calls
        .filter(|part| part.kind() == SyntaxKind::CALL_EXPR)
        .flat_map(|call| Expression::from_node(&call).functions().clone())
        .collect()
}

fn unusual(node: &SyntaxNode) -> Option<&'static str> {
    let only = |relation: SyntaxNode| has_token(&relation, SyntaxKind::ONLY_KW);
    let sample = |part: SyntaxNode| part.kind() == SyntaxKind::TABLESAMPLE_CLAUSE;
    // The columns have other names then.
    let renames = |part: SyntaxNode| {
        part.kind() == SyntaxKind::RELATION_FROM_ITEM
            && child(&part, SyntaxKind::FROM_ALIAS).is_some_and(|alias| alias.children().count() > 1)
    };
    if has(node, SyntaxKind::WITH_CLAUSE) {
        Some("a data change with a WITH clause")
    } else if child(node, SyntaxKind::RELATION_NAME).is_some_and(only) {
        Some("a data change of ONLY a table")
    } else if node.descendants().any(sample) {
        Some("TABLESAMPLE in a data change")
    } else if node.descendants().any(renames) {
        Some("a list of columns behind the alias of a table")
    } else if has(node, SyntaxKind::RETURNING_CLAUSE) {
        Some("a data change with RETURNING")
    } else if has(node, SyntaxKind::WHERE_CURRENT_OF) || has(node, SyntaxKind::FOR_PORTION_OF) {
        Some("this form of data change")
    } else {
        None
    }
}
