//! What the triggers on the target do: `guard`, `given`, `gone`.

use super::{Across, alike, all_null, row};
use crate::decide::sync::Shape;
use crate::words::ident::literal;

impl Across {
    pub(super) fn guard(&self, shape: Shape) -> String {
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
        let elsewhere = self.elsewhere(&assign, &wrong);
        let key: Vec<String> = self.key.iter().map(|(_, target)| format!("NEW.{target}")).collect();
        // In another partition it would be a row that went, and one that came.
        let (shift, declare) = if self.target_shifts() {
            let rekey = Self::marked_as(&self.shifting(), &self.to_source("rekey", "OLD, NEW"));
            (
                format!(
                    "  IF TG_OP = 'UPDATE' THEN\n    IF {} AND outer_mark <> {} THEN\n{rekey}    END IF;\n  END IF;\n",
                    self.key_changed(false),
                    literal(&self.id)
                ),
                Self::outer_mark(),
            )
        } else {
            (String::new(), String::new())
        };
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
        let fetch = if shape == Shape::Open || self.has_down() {
            format!("{first}  SELECT * INTO s FROM {}({});\n", self.function(&["fetch"]), key.join(", "))
        } else {
            String::new()
        };
        let work = match shape {
            Shape::Open => format!(
                "  IF TG_OP = 'INSERT' THEN\n    IF s.asked AND {} THEN\n{assign}    END IF;\n  ELSIF {} THEN\n{elsewhere}  \
                 ELSIF s.asked AND {wrong} THEN\n    -- A row that the backfill has not reached is completed before a partial write is \
                 applied to it.\n{complete}  END IF;\n",
                all_null("NEW", &names),
                self.key_changed(false),
            ),
            // New code is alone: what it leaves empty is meant.
            Shape::Sealed => String::new(),
        };
        format!(
            "DECLARE\n  s record;\n{declare}BEGIN\n  -- The source row's lock is what puts the writers of both tables in order.\n{}  RETURN NEW;\nEND\n",
            if self.makes_rows {
                // Two rows of one key: who writes a new table is told, as where nothing is partitioned.
                self.forgiving(&format!("{fetch}{work}")) + &shift
            } else {
                self.forgiving(&format!("{fetch}{work}{shift}"))
            }
        )
    }

    /// A row that goes to another source takes what it finds there, which may be nothing, unless it is the row that brings the
    /// value. A source to which nothing was given may be new code's, and so may the value. Where rows of the source follow those
    /// of the target, it takes its own along, if it has one.
    fn elsewhere(&self, assign: &str, wrong: &str) -> String {
        if self.makes_rows {
            return "      NULL;\n".to_owned();
        }
        let names = self.new_names();
        let none: String = names.iter().map(|name| format!("        NEW.{name} := NULL;\n")).collect();
        let (stays, untouched) = (self.values_stay(), all_null("OLD", &names));
        let says_nothing = if self.takes_along() {
            format!("{stays} AND {untouched}")
        } else {
            format!("({stays} OR {})", all_null("NEW", &names))
        };
        let renumbered = self.renumbered();
        let agrees = match &renumbered {
            _ if self.has_down() => format!("({stays} AND NOT {wrong})"),
            Some(renumbered) => format!("({stays} AND NOT {untouched} AND {renumbered})"),
            None => "false".to_owned(),
        };
        // A row of the source that is no longer there has another key now.
        let turned = renumbered.map_or_else(String::new, |renumbered| format!("NOT {renumbered} AND "));
        let stands = format!("{turned}{}(OLD)", self.function(&["stands"]));
        let left_out =
            if self.has_asks() { format!("      ELSIF {stands} THEN\n{none}") } else { String::new() };
        format!(
            "    IF {says_nothing} AND NOT s.bare THEN\n      IF s.asked THEN\n        IF NOT {agrees} THEN\n{assign}        END IF;\n{left_out}      \
             END IF;\n    END IF;\n"
        )
    }

    /// Whether it is the foreign key that gives the row another key: `follow` has just noted both.
    fn renumbered(&self) -> Option<String> {
        if self.renumbered.is_empty() {
            return None;
        }
        let noted = format!(
            "coalesce(pg_catalog.current_setting({}, true), '')",
            literal(&self.renumbered_setting())
        );
        let mut renumbered = format!("{noted} = {}", self.renumbering(false));
        if self.renumbers_across_partitions() {
            let named = self.key.iter().map(|(_, target)| format!("OLD.{target} IS NOT NULL"));
            let named = named.collect::<Vec<_>>().join(" AND ");
            renumbered.push_str(&format!(" OR {named} AND NOT {}(OLD)", self.function(&["stands"])));
        }
        Some(format!("({renumbered})"))
    }

    /// Whether a write of the target leaves the values that move as they were.
    fn values_stay(&self) -> String {
        let names = self.new_names();
        alike(&row("NEW", &names), &row("OLD", &names))
    }

    /// A call of a function that writes the source, for the row as it was.
    fn to_source(&self, what: &str, of: &str) -> String {
        format!("  PERFORM {}({of});\n", self.function(&[what]))
    }

    /// The same for the row as it is now: a trigger of the user may have changed it since.
    fn as_it_is(&self, what: &str) -> String {
        let at = self.at_key("t", false, "NEW", false);
        format!("  PERFORM {}(t.*) FROM {} AS t WHERE {at};\n", self.function(&[what]), self.target)
    }

    /// What is done where the key of a row changes.
    fn if_moved(&self, then: &str) -> String {
        format!(
            "  IF TG_OP = 'UPDATE' THEN\n    IF {} THEN\n{then}    END IF;\n  END IF;\n",
            self.key_changed(false)
        )
    }

    /// Gives the source's row the key of the target's, unless `guard` has, and the old key may be another one's now.
    fn rekey(&self) -> String {
        let rekey = self.to_source("rekey", "OLD, NEW");
        if !self.target_shifts() {
            return rekey;
        }
        format!("    IF NOT {}(NEW) THEN\n{rekey}    END IF;\n", self.function(&["stands"]))
    }

    pub(super) fn given_body(&self, shape: Shape) -> String {
        if !self.has_down() {
            let moved = if self.source_goes { self.rekey() } else { self.to_source("clear", "OLD") };
            let work = self.marked(&self.if_moved(&moved));
            return format!("DECLARE\n{}BEGIN\n{work}  RETURN NULL;\nEND\n", Self::outer_mark());
        }
        let none = all_null("NEW", &self.new_names());
        let mut nothing_said = String::new();
        if shape == Shape::Open && !(self.makes_rows && self.source_goes) {
            // Old code's row, which does not know these columns. A table that takes another's place has all rows of that.
            nothing_said.push_str(&format!(
                "  IF TG_OP = 'INSERT' THEN\n    IF {none} THEN\n      RETURN NULL;\n    END IF;\n  END IF;\n"
            ));
        }
        if shape == Shape::Open && !self.makes_rows && !self.source_goes {
            // Who points a row at another one of the source, and sets nothing, has said nothing about that one.
            nothing_said.push_str(&format!(
                "  IF TG_OP = 'UPDATE' THEN\n    IF {} AND ({} OR {none}) THEN\n      RETURN NULL;\n    END IF;\n  END IF;\n",
                self.key_changed(false),
                self.values_stay(),
            ));
        }
        let (declared, said) = self.said(&none);
        let work = self.tell_source(shape, &none);
        format!(
            "DECLARE\n{declared}{}BEGIN\n{nothing_said}{said}{}  RETURN NULL;\nEND\n",
            Self::outer_mark(),
            self.marked(&work)
        )
    }

    /// Tells whether the row says anything of its source row. One without a value that comes to a row which the WHERE leaves out
    /// does not.
    fn said(&self, none: &str) -> (String, String) {
        if !self.has_asks() {
            return (String::new(), String::new());
        }
        let said = format!(
            "  IF TG_OP = 'UPDATE' THEN\n    said := said OR NOT {};\n  END IF;\n  IF NOT said THEN\n    said := {}(NEW);\n  END IF;\n",
            self.key_changed(false),
            self.function(&["asked"])
        );
        (format!("  said boolean := NOT {none};\n"), said)
    }

    /// What a write of the target does to the source.
    fn tell_source(&self, shape: Shape, none: &str) -> String {
        let if_said = |then: String| {
            if self.has_asks() { format!("  IF said THEN\n{then}  END IF;\n") } else { then }
        };
        let write = if_said(self.as_it_is("write"));
        let rekey = self.if_moved(&self.rekey());
        match (self.makes_rows, self.source_goes) {
            (true, false) => format!("{}{write}", self.if_moved(&self.to_source("clear", "OLD"))),
            (false, false) if shape == Shape::Sealed => {
                // The row brings its value along: a unique index of the column that goes is still there.
                let some = format!("NOT {}", all_null("OLD", &self.new_names()));
                let clear = self.to_source("clear", "OLD");
                format!("{}{write}", self.if_moved(&format!("    IF {some} THEN\n{clear}    END IF;\n")))
            }
            (false, false) => write,
            (true, true) => format!("{rekey}{write}{}", self.as_it_is("add")),
            (false, true) => {
                // A value that is null is a source row without one, or no source row.
                let needed = self.old.iter().any(|old| old.not_null);
                let absent = if needed {
                    self.if_moved(&self.to_source("remove", "OLD"))
                        + &if_said(self.to_source("withdraw", "NEW"))
                } else {
                    format!("{rekey}{write}")
                };
                let add = self.as_it_is("add");
                format!("  IF {none} THEN\n{absent}  ELSE\n{rekey}{write}{add}  END IF;\n")
            }
        }
    }

    pub(super) fn gone(&self) -> String {
        let work = self.to_source(if self.source_goes { "remove" } else { "clear" }, "OLD");
        format!("DECLARE\n{}BEGIN\n{}  RETURN NULL;\nEND\n", Self::outer_mark(), self.marked(&work))
    }
}
