//! Expressions as the author wrote them, with the places where they name columns.

use std::collections::BTreeSet;
use std::ops::Range;

use squawk_syntax::ast::AstNode;
use squawk_syntax::{SourceFile, SyntaxKind, SyntaxNode};

use super::read::{has_token, ident, span};
use crate::words::ident::Ident;

/// An expression: its text, and what a planner must know of it. The text is never changed but at the positions
/// that the parser gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expression {
    text: String,
    /// Where the expression stands in the file.
    pub(crate) span: Range<usize>,
    columns: Vec<ColumnUse>,
    functions: BTreeSet<String>,
    may_raise: bool,
    has_query: bool,
    has_parameter_or_star: bool,
    has_star: bool,
    converts_only: bool,
}

/// A place in an expression that names a column.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ColumnUse {
    /// The whole reference, `u.name` or `name`, in bytes of the text.
    range: Range<usize>,
    qualifier: Option<Ident>,
    column: Ident,
}

impl Expression {
    /// Reads an expression node of a parsed file.
    pub(super) fn from_node(node: &SyntaxNode) -> Self {
        let whole = span(node.text_range());
        let mut expression = Self {
            text: node.text().to_string(),
            span: whole.clone(),
            columns: Vec::new(),
            functions: BTreeSet::new(),
            may_raise: false,
            has_query: false,
            has_parameter_or_star: false,
            has_star: false,
            converts_only: converts_only(node),
        };
        expression.visit(node, whole.start);
        expression
    }

    /// Parses a text that is nothing but an expression; `at` is its place in the file.
    ///
    /// # Errors
    /// The parser's first complaint.
    pub(crate) fn parse(text: &str, at: usize) -> Result<Self, String> {
        const BEFORE: &str = "SELECT ";
        let parsed = SourceFile::parse(&format!("{BEFORE}{text}"));
        if let Some(error) = parsed.errors().first() {
            return Err(error.to_string());
        }
        let targets: Vec<SyntaxNode> =
            parsed.tree().syntax().descendants().filter(|node| node.kind() == SyntaxKind::TARGET).collect();
        let [target] = targets.as_slice() else { return Err("one expression is expected".to_owned()) };
        let whole = usize::from(target.text_range().start()) == BEFORE.len()
            && usize::from(target.text_range().end()) == BEFORE.len() + text.trim_end().len();
        let node = target.children().next().filter(|_| whole && target.children().count() == 1);
        let Some(node) = node else { return Err("one expression is expected, and nothing else".to_owned()) };
        let mut expression = Self::from_node(&node);
        expression.span = at..at + text.len();
        Ok(expression)
    }

    fn visit(&mut self, node: &SyntaxNode, start: usize) {
        let range = |of: &SyntaxNode| {
            let absolute = span(of.text_range());
            absolute.start - start..absolute.end - start
        };
        match node.kind() {
            SyntaxKind::NAME_REF => {
                match ident(node) {
                    Some(column) => {
                        self.columns.push(ColumnUse { range: range(node), qualifier: None, column });
                    }
                    // CURRENT_DATE and its like: functions without parentheses.
                    None => {
                        self.functions.insert(node.text().to_string().to_ascii_lowercase());
                    }
                }
                return;
            }
            SyntaxKind::FIELD_EXPR => {
                let parts: Vec<SyntaxNode> = node.children().collect();
                match parts.as_slice() {
                    [base, field]
                        if base.kind() == SyntaxKind::NAME_REF && field.kind() == SyntaxKind::NAME_REF =>
                    {
                        if let (Some(qualifier), Some(column)) = (ident(base), ident(field)) {
                            self.columns.push(ColumnUse {
                                range: range(node),
                                qualifier: Some(qualifier),
                                column,
                            });
                        }
                        return;
                    }
                    // `schema.table.column`: which table that is, only the whole statement says.
                    [base, _] if base.kind() == SyntaxKind::FIELD_EXPR => self.has_parameter_or_star = true,
                    // `(composite).field`: only the base can name a column.
                    [base, field] if field.kind() == SyntaxKind::NAME_REF => return self.visit(base, start),
                    _ => {
                        self.has_parameter_or_star = true;
                        self.has_star |= has_token(node, SyntaxKind::STAR);
                    }
                }
            }
            SyntaxKind::CALL_EXPR => {
                let mut children = node.children().peekable();
                if let Some(function) = children
                    .next_if(|child| matches!(child.kind(), SyntaxKind::NAME_REF | SyntaxKind::FIELD_EXPR))
                {
                    let name = function.descendants().filter_map(|part| ident(&part)).last();
                    let name =
                        name.map_or_else(|| function.text().to_string(), |name| name.as_str().to_owned());
                    self.may_raise |= !NEVER_RAISES.contains(&name.as_str());
                    self.functions.insert(name);
                } else {
                    self.may_raise = true;
                }
                for child in children {
                    self.visit(&child, start);
                }
                return;
            }
            SyntaxKind::SELECT
            | SyntaxKind::PAREN_SELECT
            | SyntaxKind::COMPOUND_SELECT
            | SyntaxKind::VALUES => {
                self.has_query = true;
            }
            SyntaxKind::CAST_EXPR
            | SyntaxKind::INDEX_EXPR
            | SyntaxKind::SLICE_EXPR
            | SyntaxKind::PREFIX_EXPR => {
                self.may_raise = true;
            }
            SyntaxKind::BIN_EXPR => self.may_raise |= !harmless_operator(node),
            // They read columns that no expression names.
            SyntaxKind::JOIN_USING_CLAUSE => self.has_parameter_or_star = true,
            _ => {}
        }
        let parameter = node
            .children_with_tokens()
            .filter_map(squawk_syntax::SyntaxElement::into_token)
            .any(|token| matches!(token.kind(), SyntaxKind::POSITIONAL_PARAM | SyntaxKind::NATURAL_KW));
        self.has_parameter_or_star |= parameter;
        for child in node.children() {
            self.visit(&child, start);
        }
    }

    /// The text as it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The columns that are named, each once, in the order of their names.
    pub(crate) fn columns(&self) -> BTreeSet<Ident> {
        self.columns.iter().map(|used| used.column.clone()).collect()
    }

    /// The qualifiers in front of columns, such as a table's alias.
    pub(crate) fn qualifiers(&self) -> BTreeSet<Ident> {
        self.columns.iter().filter_map(|used| used.qualifier.clone()).collect()
    }

    /// Names of the functions that are called, without their schemas.
    pub(crate) fn functions(&self) -> &BTreeSet<String> {
        &self.functions
    }

    /// Whether the expression holds a query of its own.
    pub(crate) fn has_query(&self) -> bool {
        self.has_query
    }

    /// Whether it holds `*` or a parameter, which mean nothing in a mapping, or anything else that reads columns without naming
    /// them so that it can be told which.
    /// Whether it names all columns of something: `t.*`.
    pub(crate) fn has_star(&self) -> bool {
        self.has_star
    }

    pub(crate) fn has_parameter_or_star(&self) -> bool {
        self.has_parameter_or_star
    }

    /// Whether it only writes one column's value in another way: casts, a time zone, blanks cut off, nothing for null.
    pub(crate) fn converts_only(&self) -> bool {
        self.converts_only
    }

    /// Whether evaluating it can fail for some row. Told from the syntax alone, so `true` where in doubt.
    pub(crate) fn may_raise(&self) -> bool {
        self.may_raise
    }

    /// The references to columns, each with its qualifier.
    pub(crate) fn uses(&self) -> impl Iterator<Item = (Option<&Ident>, &Ident)> {
        self.columns.iter().map(|used| (used.qualifier.as_ref(), &used.column))
    }

    /// The column, where the expression is nothing but a reference to one.
    pub(crate) fn as_column(&self) -> Option<(Option<&Ident>, &Ident)> {
        let [used] = self.columns.as_slice() else { return None };
        (used.range == (0..self.text.len())).then_some((used.qualifier.as_ref(), &used.column))
    }

    /// The text with each reference to a column replaced by what `to` gives for it.
    pub(crate) fn replaced(&self, to: impl Fn(&Ident) -> String) -> String {
        let mut text = String::with_capacity(self.text.len());
        let mut from = 0;
        for used in &self.columns {
            text.push_str(&self.text[from..used.range.start]);
            text.push_str(&to(&used.column));
            from = used.range.end;
        }
        text.push_str(&self.text[from..]);
        text
    }
}

/// See [`Expression::converts_only`].
fn converts_only(node: &SyntaxNode) -> bool {
    let first = || node.children().next();
    match node.kind() {
        SyntaxKind::NAME_REF => ident(node).is_some(),
        SyntaxKind::PAREN_EXPR | SyntaxKind::CAST_EXPR | SyntaxKind::COLLATE | SyntaxKind::FIELD_EXPR => {
            first().is_some_and(|inner| converts_only(&inner))
        }
        SyntaxKind::BIN_EXPR => {
            let zone = node.children().any(|part| part.kind() == SyntaxKind::AT_TIME_ZONE);
            zone && first().is_some_and(|inner| converts_only(&inner))
        }
        SyntaxKind::CALL_EXPR => {
            let trims = first().is_some_and(|part| part.kind() == SyntaxKind::TRIM_FN);
            let name = first().and_then(|part| ident(&part));
            let known = name.is_some_and(|name| ["nullif", "btrim"].contains(&name.as_str()));
            // What else stands in it can only be a literal, or a name, which would then be a second column.
            let mut names = node.descendants().filter(|part| part.kind() == SyntaxKind::NAME_REF);
            let columns = names.by_ref().count();
            (trims && columns == 1)
                || (known
                    && columns <= 3
                    && !node.descendants().any(|part| part.kind() == SyntaxKind::BIN_EXPR))
        }
        _ => false,
    }
}

/// Comparisons, `AND`, `OR`, `||`, `IS NULL` and the like; arithmetic can overflow or divide by zero.
fn harmless_operator(node: &SyntaxNode) -> bool {
    let operator: String = node
        .children_with_tokens()
        .skip(1)
        .map(|element| match element {
            squawk_syntax::SyntaxElement::Token(token) => token.text().to_owned(),
            squawk_syntax::SyntaxElement::Node(node) => node.text().to_string(),
        })
        .find(|text| !text.trim().is_empty() && !text.starts_with("--") && !text.starts_with("/*"))
        .unwrap_or_default();
    let words = operator.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    ["||", "=", "<", ">", "<=", ">=", "<>", "!=", "and", "or", "is", "like", "ilike", "in", "not"]
        .contains(&words.as_str())
}

/// Functions of `pg_catalog` that raise for no value of their arguments (memory aside).
const NEVER_RAISES: &[&str] = &[
    "btrim",
    "coalesce",
    "concat",
    "concat_ws",
    "greatest",
    "initcap",
    "least",
    "left",
    "length",
    "lower",
    "ltrim",
    "md5",
    "nullif",
    "replace",
    "reverse",
    "right",
    "rtrim",
    "split_part",
    "strpos",
    "trim",
    "upper",
];
