//! What the triggers on the source do: `follow`, `lost`, `shift`.

use super::{Across, alike, all_null};
use crate::decide::sync::Shape;
use crate::words::ident::literal;

impl Across {
    pub(super) fn follow(&self, shape: Shape) -> String {
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
        let emptied = if shape == Shape::Open {
            // In REPEATABLE READ a batch may have filled the row since the snapshot: to write it in any case is what makes that
            // known, and no verification tells an emptied row from one of new code.
            let always = format!("      UPDATE {target} AS t SET {} WHERE {at};\n", set.join(", "));
            let before = format!("outer_mark = {} OR {}", literal(&self.id), self.empty("OLD", shape));
            format!("    IF {before} THEN\n  {update}    ELSE\n{always}    END IF;\n")
        } else {
            update.clone()
        };
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
        let write =
            if self.has_down() { write } else { self.only_what_changed(shape, &write, &at, &differs) };
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
            Some(self.rekey_target())
        } else if self.source_goes {
            Some(self.marked(&self.set_null(&self.at_key("t", false, "OLD", true))))
        } else {
            None
        };
        let moved = moved.map_or_else(String::new, |moved| {
            // Where the target's key came first, the row that has the old one now is another one.
            let mut changed = format!("{} AND outer_mark <> {}", self.key_changed(true), literal(&self.id));
            if self.source_shifts() {
                changed.push_str(&format!(" AND NOT EXISTS (SELECT FROM {target} AS t WHERE {at})"));
            }
            format!("  IF TG_OP = 'UPDATE' THEN\n    IF {changed} THEN\n{moved}    END IF;\n  END IF;\n")
        });
        let (asked, was_asked) = match shape {
            Shape::Open => (self.asks("s", shape), self.asks("OLD", shape)),
            Shape::Sealed => (self.asks("s", shape), "false".to_owned()),
        };
        let (empty, wanted) = (self.empty("s", shape), self.wanted("s", shape));
        // What new code wrote may end the WHERE of its own source row, and stays.
        let others = format!("outer_mark <> {}", literal(&self.id));
        let (note, renumber) = if self.renumbered.is_empty() || shape == Shape::Sealed {
            (String::new(), String::new())
        } else {
            self.renumber()
        };
        let work = format!(
            "{renumber}{moved}  IF TG_OP = 'INSERT' AND {empty} THEN\n{fetch}  ELSIF NOT {asked} THEN\n    \
             IF TG_OP = 'UPDATE' AND {others} AND {was_asked} AND ({empty} OR NOT {wanted}) THEN\n{absent}    END IF;\n  ELSIF {empty} THEN\n{emptied}  \
             ELSE\n{write}  END IF;\n"
        );
        let work = if shape == Shape::Open && self.empties_what_is_refused() {
            // Where its key changed, the row that is there now may be another one.
            let emptied = format!(
                "  IF TG_OP = 'UPDATE' THEN\n    IF NOT ({}) THEN\n{}    END IF;\n  END IF;\n",
                self.key_changed(true),
                self.marked(&self.set_null(&at))
            );
            self.forgiving_or(&work, &self.forgiving(&emptied))
        } else {
            self.forgiving(&work)
        };
        // What takes the key of its row of the target says nothing of the values, and without a down they may be new code's. In
        // another partition it is a row that comes.
        let own_key = if self.has_down() {
            String::new()
        } else {
            let moved =
                format!("  IF TG_OP = 'UPDATE' THEN\n    moved := {};\n  END IF;\n", self.key_changed(true));
            format!(
                "{moved}  IF moved AND outer_mark = {} THEN\n    RETURN NULL;\n  END IF;\n",
                literal(&self.id)
            )
        };
        let declared = if self.has_down() { "" } else { "  moved boolean := TG_OP = 'INSERT';\n" };
        // The row as it is now: a trigger of the user may have changed it since.
        format!(
            "DECLARE\n  s record;\n{declared}{}BEGIN\n{note}{own_key}  SELECT o.* INTO s FROM {source} AS o WHERE {};\n  IF NOT FOUND THEN\n    \
             RETURN NULL;\n  END IF;\n{}  RETURN NULL;\nEND\n",
            Self::outer_mark(),
            self.at_key("o", true, "NEW", true),
            work
        )
    }

    /// Notes the keys before the foreign key acts. Gives also what gives the rows, which still have the old one, what was changed
    /// together with it: under the new one they are left as they are.
    fn renumber(&self) -> (String, String) {
        let (now, was): (Vec<_>, Vec<_>) = self
            .renumbered
            .iter()
            .map(|(source, _)| (format!("NEW.{source}"), format!("OLD.{source}")))
            .unzip();
        let turns = |then: &str| {
            format!(
                "  IF TG_OP = 'UPDATE' THEN\n    IF NOT {} THEN\n{then}    END IF;\n  END IF;\n",
                alike(&now, &was)
            )
        };
        let note = format!(
            "      PERFORM pg_catalog.set_config({}, {}, true);\n",
            literal(&self.renumbered_setting()),
            self.renumbering(true)
        );
        if self.has_down() {
            return (turns(&note), String::new());
        }
        let (now, was) = (self.ups("s", Shape::Open), self.ups("OLD", Shape::Open));
        let set = self.new_names().into_iter().zip(now.iter().zip(&was)).map(|(name, (up, was))| {
            let same = alike(std::slice::from_ref(up), std::slice::from_ref(was));
            format!("{name} = CASE WHEN {same} THEN t.{name} ELSE {up} END")
        });
        // A row that holds nothing takes all of it when the key comes.
        let changed = format!(
            "      IF {} AND NOT {} THEN\n        UPDATE {} AS t SET {} WHERE {} AND NOT {};\n      END IF;\n",
            self.asks("s", Shape::Open),
            alike(&now, &was),
            self.target,
            set.collect::<Vec<_>>().join(", "),
            self.at_key("t", false, "OLD", true),
            all_null("t", &self.new_names())
        );
        (turns(&note), turns(&changed))
    }

    /// The write of a row whose source is no longer told what new code writes: what old code left as it was stays as it is.
    fn only_what_changed(&self, shape: Shape, write: &str, at: &str, differs: &str) -> String {
        let target = &self.target;
        let untouched = all_null("t", &self.new_names());
        let values = self.ups("s", shape).into_iter().zip(self.ups("OLD", shape));
        let set = self.new_names().into_iter().zip(values).map(|(name, (up, was))| {
            let mut same = alike(std::slice::from_ref(&up), &[was]);
            // Where the target's key came first `follow` has ended already.
            if !self.makes_rows {
                // With another key it is another row of the source to the target's.
                same = format!("NOT {} AND {same}", self.key_changed(true));
            }
            format!("{name} = CASE WHEN {same} AND NOT {untouched} THEN t.{name} ELSE {up} END")
        });
        let set = set.collect::<Vec<_>>().join(", ");
        let absent = if self.makes_rows {
            let none = format!("NOT EXISTS (SELECT FROM {target} AS t WHERE {at})");
            format!("      IF {none} THEN\n    {write}      END IF;\n")
        } else {
            String::new()
        };
        format!(
            "    IF TG_OP = 'UPDATE' THEN\n      UPDATE {target} AS t SET {set} WHERE {at} AND {differs};\n{absent}    ELSE\n  {write}    END IF;\n"
        )
    }

    /// Changes the target's key before the source's row goes to another partition, if it does.
    pub(super) fn shift(&self) -> String {
        format!(
            "DECLARE\n{}BEGIN\n  IF outer_mark <> {} THEN\n{}  END IF;\n  RETURN NEW;\nEND\n",
            Self::outer_mark(),
            literal(&self.id),
            self.forgiving(&self.rekey_target())
        )
    }

    /// Gives the target's row the key that its source row has now.
    fn rekey_target(&self) -> String {
        let keys: Vec<String> =
            self.key.iter().map(|(source, target)| format!("{target} = NEW.{source}")).collect();
        let was = self.at_key("t", false, "OLD", true);
        self.marked(&format!("      UPDATE {} AS t SET {} WHERE {was};\n", self.target, keys.join(", ")))
    }

    /// Takes the moved values from the target's row at a place, also where a snapshot has none of them.
    fn set_null(&self, at: &str) -> String {
        let none: Vec<String> = self.new_names().iter().map(|name| format!("{name} = NULL")).collect();
        format!("    UPDATE {} AS t SET {} WHERE {at};\n", self.target, none.join(", "))
    }

    pub(super) fn lost(&self, shape: Shape) -> String {
        let at = self.at_key("t", false, "OLD", true);
        let work = if self.makes_rows {
            format!("    DELETE FROM {} AS t WHERE {at};\n", self.target)
        } else {
            self.set_null(&at)
        };
        // A row that went to another partition took its row of the target along, and one that has its key now has its own there.
        let taken = if self.source_shifts() {
            let at = self.at_key("o", true, "OLD", true);
            format!(" OR EXISTS (SELECT FROM {} AS o WHERE {at})", self.source_in(shape))
        } else {
            String::new()
        };
        format!(
            "DECLARE\n{}BEGIN\n  IF outer_mark = {}{taken} THEN\n    RETURN NULL;\n  END IF;\n{}  RETURN NULL;\nEND\n",
            Self::outer_mark(),
            literal(&self.id),
            self.forgiving(&self.marked(&work))
        )
    }
}
