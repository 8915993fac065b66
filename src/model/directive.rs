//! Directives: comments `-- migrate: …` above a statement, or at the top for the whole file.

use std::ops::Range;
use std::time::Duration;

use crate::model::problem::Problem;
use crate::words::ident::Ident;
use crate::words::version::Version;

/// What a directive asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Directive {
    /// `down <column> = <expression>`: how the old column is computed while both shapes live.
    Down { column: Ident, expression: Range<usize> },
    /// `phase expand|contract`: run the statement as written, in that phase.
    Phase(AsWritten),
    /// `allow <rule> because <reason>`: lint keeps quiet about the rule.
    Allow { rule: String, reason: String },
}

/// The phase in which a statement that is not analysed runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AsWritten {
    Expand,
    Contract,
}

/// Directives of the whole file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FileOptions {
    /// `serve expanded`: new code may serve before the backfill is through.
    pub(crate) serve_expanded: bool,
    /// `replaces <from>-<to>`: the migrations that this one, whose version is the last of them, stands in for.
    pub(crate) replaces: Option<(Version, Version)>,
    /// `soak <duration>`: how long the old shape stays sealed before it is dropped.
    pub(crate) soak: Option<Duration>,
}

/// A directive with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) span: Range<usize>,
    pub(crate) directive: Directive,
}

/// What one comment turned out to be.
pub(crate) enum Read {
    ForStatement(Placed),
    ForFile(FileOptions),
}

/// Reads the comment at `span` of `text`; `None` if it is an ordinary comment.
///
/// # Errors
/// An unknown directive or one that is not written as it should be.
pub(crate) fn read(text: &str, span: Range<usize>) -> Option<Result<Read, Problem>> {
    let comment = &text[span.clone()];
    let body = comment.strip_prefix("--")?.trim_start().strip_prefix("migrate:")?;
    let start = span.end - body.len() + (body.len() - body.trim_start().len());
    let body = body.trim();
    let (word, rest) = body.split_once(char::is_whitespace).unwrap_or((body, ""));
    let rest = rest.trim();
    let wrong = |form: &str| {
        Problem::new(
            "directive",
            span.clone(),
            format!("`{word}` is not written as it should be"),
            "this directive",
        )
        .help(format!("write `-- migrate: {form}`"))
    };
    let placed = |directive| Ok(Read::ForStatement(Placed { span: span.clone(), directive }));
    Some(match word {
        "down" => match rest.split_once('=') {
            Some((column, expression)) if !column.trim().is_empty() && !expression.trim().is_empty() => {
                let end = start + body.len();
                let expression = end - expression.trim().len()..end;
                placed(Directive::Down { column: Ident::from_sql(column.trim()), expression })
            }
            _ => Err(wrong("down <column> = <expression>")),
        },
        "phase" => match rest {
            "expand" => placed(Directive::Phase(AsWritten::Expand)),
            "contract" => placed(Directive::Phase(AsWritten::Contract)),
            _ => Err(wrong("phase expand` or `-- migrate: phase contract")),
        },
        "allow" => match rest.split_once(" because ") {
            Some((rule, reason)) if !rule.trim().is_empty() && !reason.trim().is_empty() => {
                placed(Directive::Allow { rule: rule.trim().to_owned(), reason: reason.trim().to_owned() })
            }
            _ => Err(wrong("allow <rule> because <reason>")),
        },
        "serve" if rest == "expanded" => {
            Ok(Read::ForFile(FileOptions { serve_expanded: true, ..FileOptions::default() }))
        }
        "serve" => Err(wrong("serve expanded")),
        "soak" => match parse_duration(rest) {
            Some(soak) => Ok(Read::ForFile(FileOptions { soak: Some(soak), ..FileOptions::default() })),
            None => Err(wrong("soak <duration>` with a duration such as `30m`, `24h` or `7d")),
        },
        "replaces" => match range(rest) {
            Some(replaces) => {
                Ok(Read::ForFile(FileOptions { replaces: Some(replaces), ..FileOptions::default() }))
            }
            None => Err(wrong("replaces <from>-<to>` with two versions, such as `1-60")),
        },
        "up" | "batch" => Err(Problem::new(
            "directive",
            span.clone(),
            format!("the directive `{word}` has no use in this version"),
            "this directive",
        )
        .help("take it out; the directives that work here are: down, phase, allow, serve, soak, replaces")),
        _ => Err(Problem::new(
            "directive",
            span.clone(),
            format!("unknown directive `{word}`"),
            "this directive",
        )
        .help("the directives are: down, phase, allow, serve, soak, replaces")),
    })
}

/// Two versions with a dash between them, the smaller first.
fn range(text: &str) -> Option<(Version, Version)> {
    let (from, to) = text.split_once('-')?;
    let (from, to): (Version, Version) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
    (from <= to).then_some((from, to))
}

/// Reads a duration as people write it: digits and one of `ms`, `s`, `m`, `h`, `d`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    match &text[digits.len()..] {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3_600).map(Duration::from_secs),
        "d" => number.checked_mul(86_400).map(Duration::from_secs),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_one(comment: &str) -> Option<Result<Read, Problem>> {
        read(comment, 0..comment.len())
    }

    #[test]
    fn a_down_directive_points_at_its_expression() {
        let comment = "-- migrate: down name = concat_ws(' ', a, b)";
        let Some(Ok(Read::ForStatement(placed))) = read_one(comment) else { panic!("not read") };
        let Directive::Down { column, expression } = placed.directive else { panic!("not a down") };
        assert_eq!((column.as_str(), &comment[expression]), ("name", "concat_ws(' ', a, b)"));
    }

    #[test]
    fn unknown_or_broken_directives_are_errors_and_comments_are_not() {
        for bad in [
            "-- migrate: dawn a = b",
            "-- migrate: down a",
            "-- migrate: phase backfill",
            "-- migrate: soak 1y",
        ] {
            assert!(matches!(read_one(bad), Some(Err(_))), "{bad}");
        }
        for comment in ["-- a comment", "-- please migrate: this", "/* migrate: down */"] {
            assert!(read_one(comment).is_none(), "{comment}");
        }
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(parse_duration("24h"), Some(Duration::from_secs(86_400)));
        assert_eq!(parse_duration("300ms"), Some(Duration::from_millis(300)));
        for bad in ["", "h", "10", "1.5h", "-1s", "1 h"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
