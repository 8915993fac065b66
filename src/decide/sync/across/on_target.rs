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
        // A row that goes to another source takes what it finds there, which may be nothing, unless it is the row that brings the
        // value. A source to which nothing was given may be new code's, and so may the value. Where rows of the source follow those
        // of the target, it takes its own along, if it has one.
        let elsewhere = if self.makes_rows {
            "      NULL;\n".to_owned()
        } else {
            let none: String = names.iter().map(|name| format!("      NEW.{name} := NULL;\n")).collect();
            let same = if self.takes_along() {
                format!("{} AND {}", self.values_stay(), all_null("OLD", &names))
            } else {
                format!("({} OR {})", self.values_stay(), all_null("NEW", &names))
            };
            // A row of the source that is no longer there has another key now.
            let left_out = self.function(&["stands"]);
            let otherwise = if self.has_asks() {
                format!("      ELSIF {left_out}(OLD) THEN\n{none}")
            } else {
                String::new()
            };
            format!(
                "      IF {same} AND NOT s.bare THEN\n      IF s.asked THEN\n{assign}{otherwise}      END IF;\n      END IF;\n"
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
            self.forgiving(&format!("{fetch}{work}{shift}"))
        )
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

    pub(super) fn given_body(&self, shape: Shape) -> String {
        let if_moved = |then: &str| {
            format!(
                "  IF TG_OP = 'UPDATE' THEN\n    IF {} THEN\n{then}    END IF;\n  END IF;\n",
                self.key_changed(false)
            )
        };
        if !self.has_down() {
            let moved = if self.source_goes { ("rekey", "OLD, NEW") } else { ("clear", "OLD") };
            let work = self.marked(&if_moved(&self.to_source(moved.0, moved.1)));
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
                    if_moved(&self.to_source("remove", "OLD")) + &self.to_source("withdraw", "NEW")
                } else {
                    format!("{rekey}{write}")
                };
                let add = self.as_it_is("add");
                format!("  IF {none} THEN\n{absent}  ELSE\n{rekey}{write}{add}  END IF;\n")
            }
        };
        format!(
            "DECLARE\n{}BEGIN\n{nothing_said}{}  RETURN NULL;\nEND\n",
            Self::outer_mark(),
            self.marked(&work)
        )
    }

    pub(super) fn gone(&self) -> String {
        let work = self.to_source(if self.source_goes { "remove" } else { "clear" }, "OLD");
        format!("DECLARE\n{}BEGIN\n{}  RETURN NULL;\nEND\n", Self::outer_mark(), self.marked(&work))
    }
}
