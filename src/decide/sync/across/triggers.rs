//! The triggers of a mapping across two tables.
//!
//! On the target: `guard`, before the row, locks the source row and completes what was not given; `given`, after it, writes the
//! source; `gone` follows a DELETE. On the source: `follow` writes the target, `lost` follows a DELETE; `shift`, before the
//! row, changes the target's key where the row may go to another partition: behind it nothing tells which row it was.

use std::collections::BTreeSet;

use super::super::{SKIP_SETTING, Shape};
use super::{Across, alike, row};
use crate::words::ident::{Ident, QualifiedName, literal};

/// The session setting that holds the id of the mapping whose trigger is writing the other table.
pub(crate) const ACROSS_SETTING: &str = "pontoon_sync.across";

/// How deep triggers may call each other: triggers of the user that change a value on both sides, each in its own way, would
/// never end.
const MAX_DEPTH: u32 = 12;

/// The trigger functions.
pub(super) const KINDS: [&str; 6] = ["guard", "given", "gone", "follow", "lost", "shift"];

/// A trigger: its kind, its table, its time and event, its condition.
type Trigger = (&'static str, QualifiedName, &'static str, String);

impl Across {
    /// `CREATE OR REPLACE FUNCTION` statements for the trigger functions, with the names of a shape.
    pub(crate) fn trigger_functions(&self, shape: Shape) -> Vec<String> {
        let path: Vec<String> = self.search_path.iter().map(ToString::to_string).collect();
        let used: BTreeSet<&str> = self.triggers().into_iter().map(|(kind, ..)| kind).collect();
        let body = |kind: &str| match kind {
            "guard" => self.guard(shape),
            "given" => self.given_body(shape),
            "gone" => self.gone(),
            "follow" => self.follow(shape),
            "lost" => self.lost(shape),
            _ => self.shift(),
        };
        KINDS
            .iter()
            .filter(|kind| used.contains(*kind))
            .map(|kind| {
                format!(
                    "CREATE OR REPLACE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = {}, pg_temp \
                     AS $pontoon$\n#variable_conflict use_column\n{}$pontoon$",
                    self.function(&[kind]),
                    path.join(", "),
                    body(kind)
                )
            })
            .collect()
    }

    /// A trigger needs no right to execute its function, so nobody else gets one.
    pub(crate) fn close_trigger_functions(&self) -> Vec<String> {
        let used: BTreeSet<&str> = self.triggers().into_iter().map(|(kind, ..)| kind).collect();
        used.iter()
            .map(|kind| format!("REVOKE ALL ON FUNCTION {}() FROM PUBLIC", self.function(&[kind])))
            .collect()
    }

    /// Those of the target, or of the source.
    pub(crate) fn create_triggers(&self, of: &QualifiedName) -> Vec<String> {
        self.triggers()
            .into_iter()
            .filter(|(_, table, ..)| table == of)
            .flat_map(|(kind, table, event, when)| {
                let (name, function) = (self.trigger(kind, event), self.function(&[kind]));
                [
                    format!(
                        "CREATE TRIGGER {name} {event} ON {table} FOR EACH ROW\n  WHEN ({when})\n  EXECUTE FUNCTION {function}()"
                    ),
                    format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}"),
                ]
            })
            .collect()
    }

    /// `DROP TRIGGER` statements for those of the target or of the source, which is named as in a shape.
    pub(crate) fn drop_triggers(&self, of: &QualifiedName, shape: Shape) -> Vec<String> {
        self.triggers()
            .into_iter()
            .filter(|(_, table, ..)| table == of)
            .map(|(kind, table, event, _)| {
                let table = if table == self.source { self.source_in(shape) } else { &self.target };
                format!("DROP TRIGGER IF EXISTS {} ON {table}", self.trigger(kind, event))
            })
            .collect()
    }

    fn trigger(&self, kind: &str, event: &str) -> Ident {
        let event = event.rsplit(' ').next().unwrap_or_default().to_ascii_lowercase();
        Ident::derived(&[&format!(" pontoon_{}_{kind}", self.id), &event])
    }

    fn triggers(&self) -> Vec<Trigger> {
        let skip = format!(
            "coalesce(current_setting({}, true), '') <> {} AND pg_trigger_depth() < {MAX_DEPTH}",
            literal(SKIP_SETTING),
            literal(&self.version)
        );
        let target_key: Vec<&Ident> = self.key.iter().map(|(_, target)| target).collect();
        let target: Vec<&Ident> = self.new_names().into_iter().chain(target_key).collect();
        let (source, target_table) = (self.source.clone(), self.target.clone());
        let target_changed = format!("{skip} AND NOT {}", alike(&row("NEW", &target), &row("OLD", &target)));
        let mut list = vec![
            ("guard", target_table.clone(), "BEFORE INSERT", skip.clone()),
            ("guard", target_table.clone(), "BEFORE UPDATE", target_changed.clone()),
        ];
        // What the source's own trigger takes away is nothing that new code did.
        let own = format!(
            "coalesce(current_setting({}, true), '') <> {}",
            literal(ACROSS_SETTING),
            literal(&self.id)
        );
        if self.has_down() {
            // A row that its source takes to another partition comes before the source is there.
            let inserted = if self.source_shifts() { format!("{skip} AND {own}") } else { skip.clone() };
            list.push(("given", target_table.clone(), "AFTER INSERT", inserted));
        }
        if self.has_down() || self.takes_along() {
            list.push(("given", target_table.clone(), "AFTER UPDATE", format!("{target_changed} AND {own}")));
        }
        if self.takes_along() {
            list.push(("gone", target_table, "AFTER DELETE", format!("{skip} AND {own}")));
        }
        // The source's key changes before the target's row does; to follow it would change that row twice.
        let skip = if self.target_shifts() {
            let shifting = literal(&self.shifting());
            format!(
                "{skip} AND coalesce(current_setting({}, true), '') <> {shifting}",
                literal(ACROSS_SETTING)
            )
        } else {
            skip
        };
        let reads = self.up_reads();
        let key = self.key.iter().map(|(source, _)| source);
        let decides: Vec<&Ident> = reads.iter().chain(key).collect();
        let changed = format!("{skip} AND NOT {}", alike(&row("NEW", &decides), &row("OLD", &decides)));
        list.push(("follow", source.clone(), "AFTER INSERT", skip.clone()));
        list.push(("follow", source.clone(), "AFTER UPDATE", changed));
        if self.source_shifts() {
            let key: Vec<&Ident> = self.key.iter().map(|(source, _)| source).collect();
            let shifted = format!("{skip} AND NOT {}", alike(&row("NEW", &key), &row("OLD", &key)));
            list.push(("shift", source.clone(), "BEFORE UPDATE", shifted));
        }
        if self.makes_rows || self.source_goes {
            list.push(("lost", source, "AFTER DELETE", skip));
        }
        list
    }

    pub(super) fn at_key(
        &self,
        table: &str,
        of_source: bool,
        record: &str,
        record_of_source: bool,
    ) -> String {
        let name = |pair: &(Ident, Ident), source: bool| if source { pair.0.clone() } else { pair.1.clone() };
        let pairs = self.key.iter().map(|pair| {
            format!(
                "{table}.{} OPERATOR(pg_catalog.=) {record}.{}",
                name(pair, of_source),
                name(pair, record_of_source)
            )
        });
        pairs.collect::<Vec<_>>().join(" AND ")
    }

    pub(super) fn key_changed(&self, of_source: bool) -> String {
        let names: Vec<&Ident> =
            self.key.iter().map(|(source, target)| if of_source { source } else { target }).collect();
        format!("NOT {}", alike(&row("NEW", &names), &row("OLD", &names)))
    }

    /// The transaction's setting that holds the key that a row of the source had and the one that it turns to, while a foreign key
    /// takes rows of the target along.
    pub(super) fn renumbered_setting(&self) -> String {
        format!("pontoon_sync.renumbered_{}", self.id)
    }

    /// The key that a row had, and the one that it has.
    pub(super) fn renumbering(&self, of_source: bool) -> String {
        let names: Vec<&Ident> =
            self.key.iter().map(|(source, target)| if of_source { source } else { target }).collect();
        format!(
            "pg_catalog.concat(ROW({}), ROW({}))",
            row("OLD", &names).join(", "),
            row("NEW", &names).join(", ")
        )
    }

    /// Statements of which nothing is left where an expression raises or the other table refuses a value: what old code
    /// writes must not fail for it, and the row is found later.
    pub(super) fn forgiving(&self, sql: &str) -> String {
        self.forgiving_or(sql, "    NULL;\n")
    }

    /// The same, with what is done instead.
    pub(super) fn forgiving_or(&self, sql: &str, instead: &str) -> String {
        if !self.may_fail {
            return sql.to_owned();
        }
        format!(
            "  BEGIN\n{sql}  EXCEPTION\n    WHEN transaction_rollback OR lock_not_available THEN RAISE;\n    WHEN OTHERS THEN\n  {instead}  END;\n"
        )
    }

    pub(super) fn marked(&self, sql: &str) -> String {
        Self::marked_as(&self.id, sql)
    }

    pub(super) fn marked_as(mark: &str, sql: &str) -> String {
        let set = |value: &str| {
            format!("  PERFORM pg_catalog.set_config({}, {value}, true);\n", literal(ACROSS_SETTING))
        };
        format!("{}{sql}{}", set(&literal(mark)), set("outer_mark"))
    }

    /// The mark under which the source's key changes before the target's.
    pub(super) fn shifting(&self) -> String {
        format!("{}:shift", self.id)
    }

    /// Declares what [`Self::marked`] puts back.
    pub(super) fn outer_mark() -> String {
        format!(
            "  outer_mark text := coalesce(pg_catalog.current_setting({}, true), '');\n",
            literal(ACROSS_SETTING)
        )
    }
}
