//! Rows that an UPDATE takes to another partition. The server fires the triggers of an INSERT for them, where a null of new
//! code would look like a value that was not given: so the row is marked before it goes.

use super::{Mapping, Shape};
use crate::words::ident::{Ident, literal};

impl Mapping {
    /// Whether rows can move, and a null may be mistaken.
    pub(super) fn has_moved(&self) -> bool {
        !self.moves_by.is_empty() && self.has_up()
    }

    fn moved_setting(&self) -> String {
        literal(&format!("pontoon_moved.{}", self.id))
    }

    /// What tells the row from others: its key, and everything that the mapping is about.
    fn moved_mark(&self, shape: Shape) -> String {
        let own = self.columns().into_iter().map(|column| self.name_in(&column.name, shape));
        let mut columns: Vec<Ident> = self.moves_by.iter().map(|name| self.name_in(name, shape)).collect();
        columns.extend(own);
        let row: Vec<String> = columns.iter().map(|name| format!("NEW.{name}")).collect();
        format!("pg_catalog.md5(ROW({})::text)", row.join(", "))
    }

    /// The trigger function, which comes last before the row goes.
    pub(super) fn moved_body(&self, shape: Shape) -> String {
        format!(
            "BEGIN\n  PERFORM pg_catalog.set_config({}, {}, true);\n  RETURN NEW;\nEND\n",
            self.moved_setting(),
            self.moved_mark(shape)
        )
    }

    /// Lets a trigger function of INSERT leave a row as it is that has only moved.
    pub(super) fn unless_moved(&self, body: &str, shape: Shape) -> String {
        if !self.has_moved() {
            return body.to_owned();
        }
        let (setting, mark) = (self.moved_setting(), self.moved_mark(shape));
        let leave = format!(
            "BEGIN\n  IF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN\n    \
             IF coalesce(pg_catalog.current_setting({setting}, true), '') OPERATOR(pg_catalog.=) {mark} THEN\n      \
             RETURN NEW;\n    END IF;\n  END IF;\n"
        );
        body.replacen("BEGIN\n", &leave, 1)
    }
}
