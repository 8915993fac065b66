//! Identifiers: folded once, quoted in one place, generated names kept within `PostgreSQL`'s limit.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The longest identifier `PostgreSQL` keeps, in bytes (`NAMEDATALEN - 1`).
pub(crate) const MAX_BYTES: usize = 63;

/// A name as the catalog stores it: already case-folded, not quoted. `Display` writes it as SQL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Ident(String);

impl Ident {
    /// Takes a name exactly as the catalog has it.
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// Folds a name as it was written in SQL: `"Quoted"` keeps its case, anything else becomes lower case; both
    /// are cut at 63 bytes like the server does.
    pub(crate) fn from_sql(written: &str) -> Self {
        let name = match written.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(quoted) => quoted.replace("\"\"", "\""),
            None => written.to_ascii_lowercase(),
        };
        Self(cut(&name, MAX_BYTES).to_owned())
    }

    /// Joins the parts with `_`. A name over 63 bytes is cut and ends in eight hex digits of its own hash, so two
    /// long names that differ only at the end stay different.
    pub(crate) fn derived(parts: &[&str]) -> Self {
        let whole = parts.join("_");
        if whole.len() <= MAX_BYTES {
            return Self(whole);
        }
        let digest = Sha256::digest(whole.as_bytes());
        let tail: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        Self(format!("{}_{tail}", cut(&whole, MAX_BYTES - 9)))
    }

    /// The bare name, for comparing and for query parameters.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The longest prefix of at most `bytes` bytes that ends between two characters.
fn cut(name: &str, bytes: usize) -> &str {
    let mut end = name.len().min(bytes);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

impl fmt::Display for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain =
            self.0.bytes().enumerate().all(|(at, byte)| {
                byte.is_ascii_lowercase() || byte == b'_' || (at > 0 && byte.is_ascii_digit())
            });
        if plain && !self.0.is_empty() && KEYWORDS.binary_search(&self.0.as_str()).is_err() {
            f.write_str(&self.0)
        } else {
            write!(f, "\"{}\"", self.0.replace('"', "\"\""))
        }
    }
}

/// A relation, type or function with its schema.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct QualifiedName {
    pub(crate) schema: Ident,
    pub(crate) name: Ident,
}

impl QualifiedName {
    pub(crate) fn new(schema: Ident, name: Ident) -> Self {
        Self { schema, name }
    }

    /// Both parts, unquoted, joined by a dot: for people and for lists, never for SQL.
    pub(crate) fn plain(&self) -> String {
        format!("{}.{}", self.schema.as_str(), self.name.as_str())
    }
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// A text as an SQL literal; safe with either setting of `standard_conforming_strings`.
pub(crate) fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') {
        format!("E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

/// Every keyword that is not unreserved (`pg_get_keywords()` of `PostgreSQL` 18), sorted for the search above.
const KEYWORDS: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "between",
    "bigint",
    "binary",
    "bit",
    "boolean",
    "both",
    "case",
    "cast",
    "char",
    "character",
    "check",
    "coalesce",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "dec",
    "decimal",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "exists",
    "extract",
    "false",
    "fetch",
    "float",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "greatest",
    "group",
    "grouping",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "inout",
    "int",
    "integer",
    "intersect",
    "interval",
    "into",
    "is",
    "isnull",
    "join",
    "json",
    "json_array",
    "json_arrayagg",
    "json_exists",
    "json_object",
    "json_objectagg",
    "json_query",
    "json_scalar",
    "json_serialize",
    "json_table",
    "json_value",
    "lateral",
    "leading",
    "least",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "merge_action",
    "national",
    "natural",
    "nchar",
    "none",
    "normalize",
    "not",
    "notnull",
    "null",
    "nullif",
    "numeric",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "out",
    "outer",
    "overlaps",
    "overlay",
    "placing",
    "position",
    "precision",
    "primary",
    "real",
    "references",
    "returning",
    "right",
    "row",
    "select",
    "session_user",
    "setof",
    "similar",
    "smallint",
    "some",
    "substring",
    "symmetric",
    "system_user",
    "table",
    "tablesample",
    "then",
    "time",
    "timestamp",
    "to",
    "trailing",
    "treat",
    "trim",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "values",
    "varchar",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
    "xmlattributes",
    "xmlconcat",
    "xmlelement",
    "xmlexists",
    "xmlforest",
    "xmlnamespaces",
    "xmlparse",
    "xmlpi",
    "xmlroot",
    "xmlserialize",
    "xmltable",
];

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_keyword_list_is_sorted() {
        assert!(KEYWORDS.is_sorted());
    }

    #[test]
    fn quoting_is_added_only_where_needed() {
        for (name, sql) in [
            ("users", "users"),
            ("user", "\"user\""),
            ("Name", "\"Name\""),
            ("a b", "\"a b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("1st", "\"1st\""),
            ("", "\"\""),
        ] {
            assert_eq!(Ident::new(name).to_string(), sql);
        }
    }

    #[test]
    fn long_names_that_differ_at_the_end_stay_different() {
        let long = "x".repeat(70);
        let (one, two) = (Ident::derived(&[&long, "up"]), Ident::derived(&[&long, "down"]));
        assert_ne!(one, two);
        assert!(one.as_str().len() <= MAX_BYTES);
    }

    /// Words of any characters that a name may have.
    fn word(length: Range<usize>) -> impl Strategy<Value = String> {
        let character = any::<char>().prop_filter("a control character", |character| !character.is_control());
        proptest::collection::vec(character, length).prop_map(String::from_iter)
    }

    proptest! {
        #[test]
        fn quoting_and_folding_round_trip(name in word(1..16)) {
            let ident = Ident::new(name);
            prop_assert_eq!(Ident::from_sql(&ident.to_string()), ident);
        }

        #[test]
        fn derived_names_fit(parts in proptest::collection::vec(word(0..41), 1..4)) {
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            prop_assert!(Ident::derived(&parts).as_str().len() <= MAX_BYTES);
        }
    }
}
