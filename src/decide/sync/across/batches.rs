//! What the backfill of a mapping across two tables does, and what its last sweep and verification look for.

use super::{Across, all_null};
use crate::decide::plan::Ranged;
use crate::decide::sync::Shape;
use crate::words::ident::QualifiedName;

impl Across {
    /// The table whose pages are read for rows that need work, as `r`.
    pub(crate) fn rows_of(&self, shape: Shape) -> &QualifiedName {
        if self.makes_rows { self.source_in(shape) } else { &self.target }
    }

    /// True for a row `r` of that table that does not agree with its counterpart.
    pub(crate) fn disagrees(&self, shape: Shape) -> String {
        self.find(shape, |target, source| self.wrong(target, source, shape))
    }

    /// True for a row `r` of that table that the backfill must compute.
    fn need(&self) -> String {
        self.find(Shape::Open, |target, source| self.needed(target, source, Shape::Open))
    }

    fn find(&self, shape: Shape, wrong: impl Fn(&str, &str) -> String) -> String {
        if !self.makes_rows {
            return format!(
                "EXISTS (SELECT FROM {} AS s WHERE {} AND {} AND {})",
                self.source_in(shape),
                self.together("r", "s"),
                self.asks("s", shape),
                wrong("r", "s")
            );
        }
        let found = format!("EXISTS (SELECT FROM {} AS t WHERE {}", self.target, self.together("t", "r"));
        // Without a column that goes, a row that is missing may be one that new code took away.
        let missing = if self.old.is_empty() && !self.source_goes {
            "false".to_owned()
        } else {
            format!("NOT {}", self.empty("r", shape))
        };
        format!(
            "{} AND CASE WHEN {found}) THEN {found} AND {}) ELSE {missing} END",
            self.wanted("r", shape),
            wrong("t", "r")
        )
    }

    /// Locks the rows of the source that a batch needs, in the order of their keys.
    pub(crate) fn lock(&self) -> Ranged {
        let order =
            |row: &str| self.key.iter().map(|(s, _)| format!("{row}.{s}")).collect::<Vec<_>>().join(", ");
        if self.makes_rows {
            return Ranged {
                head: "SELECT FROM ONLY ".to_owned(),
                rows_of: Some(self.source.clone()),
                middle: format!(" AS r WHERE {} AND ", self.need()),
                tail: format!(" ORDER BY {} FOR NO KEY UPDATE OF r", order("r")),
            };
        }
        Ranged {
            head: format!("SELECT FROM {} AS s WHERE EXISTS (SELECT FROM ONLY ", self.source),
            rows_of: Some(self.target.clone()),
            middle: format!(
                " AS r WHERE {} AND {} AND ",
                self.together("r", "s"),
                self.needed("r", "s", Shape::Open)
            ),
            tail: format!(") ORDER BY {} FOR NO KEY UPDATE OF s", order("s")),
        }
    }

    /// Locks the rows of the target that a batch changes, after those of the source. Who writes one holds it and waits for its
    /// source, so nobody may wait for it here.
    pub(crate) fn hold(&self) -> Option<Ranged> {
        (!self.makes_rows).then(|| Ranged {
            head: "SELECT FROM ONLY ".to_owned(),
            rows_of: Some(self.target.clone()),
            middle: format!(" AS r WHERE {} AND ", self.need()),
            tail: " FOR NO KEY UPDATE OF r NOWAIT".to_owned(),
        })
    }

    /// Computes the target's values for a batch.
    pub(crate) fn change(&self) -> Ranged {
        let names = self.new_names();
        if self.makes_rows {
            return Ranged {
                head: format!(
                    "{} SELECT {} FROM ONLY ",
                    self.insert_head(),
                    self.insert_values("r", Shape::Open)
                ),
                rows_of: Some(self.source.clone()),
                middle: format!(" AS r WHERE {} AND ", self.need()),
                tail: format!(" {}", self.on_conflict()),
            };
        }
        let ups = self.ups("s", Shape::Open);
        let set: Vec<String> = names.iter().zip(ups).map(|(name, up)| format!("{name} = {up}")).collect();
        Ranged {
            head: "UPDATE ONLY ".to_owned(),
            rows_of: Some(self.target.clone()),
            middle: format!(
                " AS r SET {} FROM {} AS s WHERE {} AND {} AND {} AND ",
                set.join(", "),
                self.source,
                self.together("r", "s"),
                self.asks("s", Shape::Open),
                self.needed("r", "s", Shape::Open)
            ),
            tail: String::new(),
        }
    }

    pub(super) fn insert_head(&self) -> String {
        let keys = self.key.iter().map(|(_, target)| target);
        let given = self.given.iter().map(|(column, _)| column);
        let columns: Vec<String> =
            keys.chain(self.new_names()).chain(given).map(ToString::to_string).collect();
        format!("INSERT INTO {} AS t ({}) OVERRIDING SYSTEM VALUE", self.target, columns.join(", "))
    }

    pub(super) fn insert_values(&self, row: &str, shape: Shape) -> String {
        let keys = self.key.iter().map(|(source, _)| format!("{row}.{source}"));
        let given =
            self.given.iter().map(|(column, _)| format!("{}()", self.function(&["given", column.as_str()])));
        keys.chain(self.ups(row, shape)).chain(given).collect::<Vec<_>>().join(", ")
    }

    /// What makes an INSERT into the target an update of the row that is there.
    pub(super) fn on_conflict(&self) -> String {
        let key: Vec<String> = self.key.iter().map(|(_, target)| target.to_string()).collect();
        let set: Vec<String> =
            self.new_names().iter().map(|name| format!("{name} = EXCLUDED.{name}")).collect();
        format!("ON CONFLICT ({}) DO UPDATE SET {}", key.join(", "), set.join(", "))
    }

    /// Counts values of the target that the source does not hold.
    pub(crate) fn not_held(&self) -> String {
        let source = format!("SELECT FROM {} AS s WHERE {}", self.source, self.together("t", "s"));
        let held = format!("EXISTS ({source} AND {})", self.up_holds("t", "s", Shape::Open));
        let some = if self.makes_rows {
            "true".to_owned()
        } else {
            format!("NOT {}", all_null("t", &self.new_names()))
        };
        format!("SELECT count(*) FROM {} AS t WHERE {some} AND NOT {held}", self.target)
    }
}
