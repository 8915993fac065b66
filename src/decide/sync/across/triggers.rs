//! The triggers of a mapping across two tables.
//!
//! On the target: `guard`, before the row, locks the source row and completes what was not given; `given`, after it, writes the
//! source; `gone` follows a DELETE. On the source: `follow` writes the target, `lost` follows a DELETE.

use std::collections::BTreeSet;

use super::super::{SKIP_SETTING, Shape};
use super::{Across, alike, all_null, row};
use crate::words::ident::{Ident, QualifiedName, literal};

/// The session setting that holds the id of the mapping whose trigger is writing the other table.
pub(crate) const ACROSS_SETTING: &str = "pontoon_sync.across";

/// How deep triggers may call each other: triggers of the user that change a value on both sides, each in its own way, would
/// never end.
const MAX_DEPTH: u32 = 12;

/// The trigger functions.
pub(super) const KINDS: [&str; 5] = ["guard", "given", "gone", "follow", "lost"];

/// A trigger: its kind, its table, its time and event, its condition.
type Trigger = (&'static str, QualifiedName, &'static str, String);

impl Across {
    /// `CREATE OR REPLACE FUNCTION` statements for the trigger functions, with the names of a shape.
    pub(crate) fn trigger_functions(&self, shape: Shape) -> Vec<String> {
        let path: Vec<String> = self.search_path.iter().map(ToString::to_string).collect();
        let used: BTreeSet<&str> = self.triggers().into_iter().map(|(kind, ..)| kind).collect();
        let body = |kind: &str| match kind {
            "guard" => self.guard(shape),
            "given" => self.given_body(),
            "gone" => self.gone(),
            "follow" => self.follow(shape),
            _ => self.lost(),
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
            let always = self.source_goes && self.makes_rows;
            let some = format!("{skip} AND NOT {}", all_null("NEW", &self.new_names()));
            list.push((
                "given",
                target_table.clone(),
                "AFTER INSERT",
                if always { skip.clone() } else { some },
            ));
            list.push(("given", target_table.clone(), "AFTER UPDATE", format!("{target_changed} AND {own}")));
        }
        if self.source_goes || (self.makes_rows && !self.old.is_empty()) {
            list.push(("gone", target_table, "AFTER DELETE", format!("{skip} AND {own}")));
        }
        let reads = self.up_reads();
        let key = self.key.iter().map(|(source, _)| source);
        let decides: Vec<&Ident> = reads.iter().chain(key).collect();
        let changed = format!("{skip} AND NOT {}", alike(&row("NEW", &decides), &row("OLD", &decides)));
        list.push(("follow", source.clone(), "AFTER INSERT", skip.clone()));
        list.push(("follow", source.clone(), "AFTER UPDATE", changed));
        if self.makes_rows || self.source_goes {
            list.push(("lost", source, "AFTER DELETE", skip));
        }
        list
    }

    fn at_key(&self, table: &str, of_source: bool, record: &str, record_of_source: bool) -> String {
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

    fn key_changed(&self, of_source: bool) -> String {
        let names: Vec<&Ident> =
            self.key.iter().map(|(source, target)| if of_source { source } else { target }).collect();
        format!("NOT {}", alike(&row("NEW", &names), &row("OLD", &names)))
    }

    /// Statements of which nothing is left where an expression raises or the other table refuses a value: what old code
    /// writes must not fail for it, and the row is found later.
    fn forgiving(&self, sql: &str) -> String {
        if !self.may_fail {
            return sql.to_owned();
        }
        format!(
            "  BEGIN\n{sql}  EXCEPTION\n    WHEN transaction_rollback OR lock_not_available THEN RAISE;\n    WHEN OTHERS THEN NULL;\n  END;\n"
        )
    }

    fn marked(&self, sql: &str) -> String {
        let set = |value: &str| {
            format!("  PERFORM pg_catalog.set_config({}, {value}, true);\n", literal(ACROSS_SETTING))
        };
        format!("{}{sql}{}", set(&literal(&self.id)), set("outer_mark"))
    }

    /// Declares what [`Self::marked`] puts back.
    fn outer_mark() -> String {
        format!(
            "  outer_mark text := coalesce(pg_catalog.current_setting({}, true), '');\n",
            literal(ACROSS_SETTING)
        )
    }

    fn guard(&self, shape: Shape) -> String {
        let names = self.new_names();
        let (ups, olds) = self.fetched();
        let assign: String =
            names.iter().zip(&ups).map(|(name, up)| format!("      NEW.{name} := {up};\n")).collect();
        let complete: String = names
            .iter()
            .zip(&ups)
            .map(|(name, up)| {
                let same = alike(&[format!("NEW.{name}")], &[format!("OLD.{name}")]);
                format!("      IF {same} THEN\n        NEW.{name} := {up};\n      END IF;\n")
            })
            .collect();
        // A row that goes to another source takes what it finds there, unless it is the row that brings the value, or new code
        // is alone.
        let elsewhere = if self.makes_rows || shape == Shape::Sealed {
            "      NULL;\n".to_owned()
        } else {
            format!(
                "      IF {} AND NOT s.bare THEN\n{assign}      END IF;\n",
                alike(&row("NEW", &names), &row("OLD", &names))
            )
        };
        let typed = self.new.iter().zip(&ups).map(|(new, up)| format!("({up})::{}", new.column.type_sql));
        let (untouched, up) =
            (all_null("OLD", &names), alike(&row("OLD", &names), &typed.collect::<Vec<_>>()));
        let wrong = if self.has_down() {
            let down = self.old.iter().zip(self.downs("OLD"));
            let down = down.map(|(old, down)| format!("({down})::{}", old.column.type_sql));
            let down = alike(&olds, &down.collect::<Vec<_>>());
            format!("(CASE WHEN {untouched} THEN NOT {up} ELSE NOT ({down} OR {up} OR s.bare) END)")
        } else {
            format!("({untouched} AND NOT {up})")
        };
        let key: Vec<String> = self.key.iter().map(|(_, target)| format!("NEW.{target}")).collect();
        // An upsert goes on to the row that is there, and an INSERT fails: neither has business with the source.
        let first = if self.one_to_one {
            format!(
                "  IF TG_OP = 'INSERT' THEN\n    PERFORM FROM {} AS t WHERE {} FOR NO KEY UPDATE;\n    \
                 IF FOUND THEN\n      RETURN NEW;\n    END IF;\n  END IF;\n",
                self.target,
                self.at_key("t", false, "NEW", false)
            )
        } else {
            String::new()
        };
        let fetch =
            format!("{first}  SELECT * INTO s FROM {}({});\n", self.function(&["fetch"]), key.join(", "));
        let work = format!(
            "  IF s.asked THEN\n    IF TG_OP = 'INSERT' THEN\n      IF {} THEN\n{assign}      END IF;\n    ELSIF {} THEN\n{elsewhere}    \
             ELSIF {wrong} THEN\n      -- A row that the backfill has not reached is completed before a partial write is applied to it.\n\
             {complete}    END IF;\n  END IF;\n",
            all_null("NEW", &names),
            self.key_changed(false),
        );
        format!(
            "DECLARE\n  s record;\nBEGIN\n  -- The source row's lock is what puts the writers of both tables in order.\n{}  RETURN NEW;\nEND\n",
            self.forgiving(&format!("{fetch}{work}"))
        )
    }

    /// A call of a function that writes the source, for the row as it was.
    fn to_source(&self, what: &str, of: &str) -> String {
        format!("  PERFORM {}({of});\n", self.function(&[what]))
    }

    /// The same for the row as it is now: a trigger of the user may have changed it since.
    fn as_it_is(&self, what: &str) -> String {
        let at = self.at_key("t", false, "NEW", false);
        format!("  PERFORM {}(t) FROM {} AS t WHERE {at};\n", self.function(&[what]), self.target)
    }

    fn given_body(&self) -> String {
        let if_moved = |then: &str| {
            format!(
                "  IF TG_OP = 'UPDATE' THEN\n    IF {} THEN\n{then}    END IF;\n  END IF;\n",
                self.key_changed(false)
            )
        };
        let write = self.as_it_is("write");
        let work = match (self.makes_rows, self.source_goes) {
            (true, false) => format!("{}{write}", if_moved(&self.to_source("clear", "OLD"))),
            (false, false) => write,
            (true, true) => {
                format!("{}{write}{}", if_moved(&self.to_source("rekey", "OLD, NEW")), self.as_it_is("add"))
            }
            (false, true) => {
                // A value that is null is a source row without one, or no source row.
                let needed = self.old.iter().any(|old| old.not_null);
                let rekey = if_moved(&self.to_source("rekey", "OLD, NEW"));
                let absent = if needed {
                    if_moved(&self.to_source("remove", "OLD")) + &self.to_source("remove", "NEW")
                } else {
                    format!("{rekey}{write}")
                };
                format!(
                    "  IF {} THEN\n{absent}  ELSE\n{rekey}{write}{}  END IF;\n",
                    all_null("NEW", &self.new_names()),
                    self.as_it_is("add")
                )
            }
        };
        format!("DECLARE\n{}BEGIN\n{}  RETURN NULL;\nEND\n", Self::outer_mark(), self.marked(&work))
    }

    fn gone(&self) -> String {
        let work = self.to_source(if self.source_goes { "remove" } else { "clear" }, "OLD");
        format!("DECLARE\n{}BEGIN\n{}  RETURN NULL;\nEND\n", Self::outer_mark(), self.marked(&work))
    }

    fn follow(&self, shape: Shape) -> String {
        let (source, target) = (self.source_in(shape), &self.target);
        let set: Vec<String> = self
            .new_names()
            .iter()
            .zip(self.ups("s", shape))
            .map(|(name, up)| format!("{name} = {up}"))
            .collect();
        let at = self.at_key("t", false, "s", true);
        let differs = format!("NOT {}", self.holds("t", "s", shape));
        // While the source is sealed new code is alone: what it wrote is not overwritten.
        let differs = match shape {
            Shape::Open => differs,
            Shape::Sealed => format!("{} AND {differs}", all_null("t", &self.new_names())),
        };
        let update = format!("    UPDATE {target} AS t SET {} WHERE {at} AND {differs};\n", set.join(", "));
        let (absent, write) = if self.makes_rows {
            (
                self.marked(&format!("    DELETE FROM {target} AS t WHERE {at};\n")),
                format!(
                    "    {} VALUES ({}) {} WHERE {differs};\n",
                    self.insert_head(),
                    self.insert_values("s", shape),
                    self.on_conflict()
                ),
            )
        } else {
            (self.marked(&self.set_null(&at)), update.clone())
        };
        // A row that new code made first, without its source, holds what was given.
        let fetch = if self.has_down() && !self.source_goes {
            let names = self.old_names(shape);
            let values = names.iter().zip(self.downs("t")).map(|(name, down)| format!("{name} = {down}"));
            self.marked(&format!(
                "      UPDATE {source} AS o SET {} FROM {target} AS t WHERE {} AND {at} AND NOT {};\n",
                values.collect::<Vec<_>>().join(", "),
                self.at_key("o", true, "s", true),
                self.holds("t", "o", shape)
            ))
        } else {
            "      NULL;\n".to_owned()
        };
        let moved = if self.makes_rows {
            let keys: Vec<String> =
                self.key.iter().map(|(source, target)| format!("{target} = NEW.{source}")).collect();
            let was = self.at_key("t", false, "OLD", true);
            Some(self.marked(&format!("      UPDATE {target} AS t SET {} WHERE {was};\n", keys.join(", "))))
        } else if self.source_goes {
            Some(self.marked(&self.set_null(&self.at_key("t", false, "OLD", true))))
        } else {
            None
        };
        let moved = moved.map_or_else(String::new, |moved| {
            let changed = self.key_changed(true);
            format!("  IF TG_OP = 'UPDATE' THEN\n    IF {changed} THEN\n{moved}    END IF;\n  END IF;\n")
        });
        let (asked, was_asked) = match shape {
            Shape::Open => (self.asks("s", shape), self.asks("OLD", shape)),
            Shape::Sealed => (self.asks("s", shape), "false".to_owned()),
        };
        let empty = self.empty("s", shape);
        let work = format!(
            "{moved}  IF TG_OP = 'INSERT' AND {empty} THEN\n{fetch}  ELSIF NOT {asked} THEN\n    \
             IF TG_OP = 'UPDATE' AND {was_asked} THEN\n{absent}    END IF;\n  ELSIF {empty} THEN\n{update}  \
             ELSE\n{write}  END IF;\n"
        );
        // The row as it is now: a trigger of the user may have changed it since.
        format!(
            "DECLARE\n  s record;\n{}BEGIN\n  SELECT o.* INTO s FROM {source} AS o WHERE {};\n  IF NOT FOUND THEN\n    \
             RETURN NULL;\n  END IF;\n{}  RETURN NULL;\nEND\n",
            Self::outer_mark(),
            self.at_key("o", true, "NEW", true),
            self.forgiving(&work)
        )
    }

    /// Takes the moved values from the target's row at a place.
    fn set_null(&self, at: &str) -> String {
        let none: Vec<String> = self.new_names().iter().map(|name| format!("{name} = NULL")).collect();
        let some = all_null("t", &self.new_names());
        format!("    UPDATE {} AS t SET {} WHERE {at} AND NOT {some};\n", self.target, none.join(", "))
    }

    fn lost(&self) -> String {
        let at = self.at_key("t", false, "OLD", true);
        let work = if self.makes_rows {
            format!("    DELETE FROM {} AS t WHERE {at};\n", self.target)
        } else {
            self.set_null(&at)
        };
        format!(
            "DECLARE\n{}BEGIN\n{}  RETURN NULL;\nEND\n",
            Self::outer_mark(),
            self.forgiving(&self.marked(&work))
        )
    }
}
