//! The trigger functions and triggers of a mapping.

use super::across::ACROSS_SETTING;
use super::{DefaultKind, Mapping, SKIP_SETTING, Shape, Up};
use crate::words::ident::{Ident, literal};

/// A name that sorts before any a user would choose, and one that sorts after.
const FIRST: char = ' ';
const LAST: char = '~';

/// Seconds within which a session leaves evidence of old writes at most once.
const NOTE_SECONDS: u32 = 10;

/// The operation, compared with an operator that no search path can replace.
const INSERTING: &str = "TG_OP OPERATOR(pg_catalog.=) 'INSERT'";
const UPDATING: &str = "TG_OP OPERATOR(pg_catalog.=) 'UPDATE'";

/// The `WHEN` of a trigger, per event.
type Events = Vec<(&'static str, String)>;

impl Mapping {
    /// Whether a first pass has anything to compute.
    fn has_given(&self) -> bool {
        self.has_down()
    }

    /// Whether writes to its old columns are evidence that old code is alive.
    fn has_note(&self) -> bool {
        self.evidence && !self.old.is_empty()
    }

    /// `CREATE OR REPLACE FUNCTION` statements for the trigger functions, with the names of a shape. Replacing them
    /// is how the triggers follow a seal and a reopen: a trigger's `WHEN` follows the column by itself.
    pub(crate) fn trigger_functions(&self, shape: Shape) -> Vec<String> {
        let mut sql = Vec::new();
        if self.has_given() {
            let body = if self.has_up() { self.given_body(shape) } else { self.dropped_body(shape) };
            sql.push(self.trigger_function("given", "", &self.unless_moved(&body, shape)));
        }
        if self.has_up() {
            let body = self.derive_body(shape);
            sql.push(self.trigger_function("derive", "", &self.unless_moved(&body, shape)));
        }
        if self.has_moved() {
            sql.push(self.trigger_function("moved", "", &self.moved_body(shape)));
        }
        if self.has_note() {
            sql.push(self.trigger_function("note", EVIDENCE_OPTIONS, &self.note_body()));
        }
        sql
    }

    /// A trigger needs no right to execute its function, so nobody else gets one: who could attach the one that runs
    /// with our rights to a table of their own could keep every gate shut.
    pub(crate) fn close_trigger_functions(&self) -> Vec<String> {
        let kinds = [
            ("given", self.has_given()),
            ("derive", self.has_up()),
            ("moved", self.has_moved()),
            ("note", self.has_note()),
        ];
        let made = kinds.iter().filter(|(_, made)| *made);
        made.map(|(kind, _)| format!("REVOKE ALL ON FUNCTION {}() FROM PUBLIC", self.function(&[kind])))
            .collect()
    }

    fn trigger_function(&self, kind: &str, options: &str, body: &str) -> String {
        let mut tag = "$pontoon$".to_owned();
        while body.contains(&tag) {
            tag = tag.replace("pontoon", "pontoon_");
        }
        format!(
            "CREATE OR REPLACE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql {options}AS {tag}\n{body}{tag}",
            self.function(&[kind])
        )
    }

    /// First pass: new code has given something; the old shape follows.
    fn given_body(&self, shape: Shape) -> String {
        let consistent = |row: &str| self.call(&self.consistent_function(), &self.all_reads(), row, shape);
        let complete: String = self
            .new
            .iter()
            .map(|new| {
                let name = self.name_in(&new.column.name, shape);
                let up = self.call(&self.up_function(&new.column.name), new.up.reads(), "NEW.", shape);
                format!(
                    "  IF pg_catalog.record_image_eq(ROW(NEW.{name})::record, ROW(OLD.{name})::record) THEN\n    \
                     NEW.{name} := {up};\n  END IF;\n"
                )
            })
            .collect();
        let mut complete = format!("IF NOT {} THEN\n{}END IF;\n", consistent("OLD."), complete);
        if self.may_raise() {
            // An `up` that raises on this row is no reason to refuse what new code writes to it.
            complete = format!("BEGIN\n{}EXCEPTION WHEN OTHERS THEN\n  NULL;\nEND;\n", indent(&complete));
        }
        let follow: String = self
            .computed_old()
            .map(|(old, down)| {
                let name = self.name_in(&old.column.name, shape);
                format!(
                    "    NEW.{name} := {};\n",
                    self.call(&self.down_function(&old.column.name), &down.reads, "NEW.", shape)
                )
            })
            .collect();
        // A row of new code that gives neither side still needs what the old shape insists on.
        let required: String = self
            .computed_old()
            .filter(|(old, _)| old.not_null)
            .map(|(old, down)| {
                let name = self.name_in(&old.column.name, shape);
                let down = self.call(&self.down_function(&old.column.name), &down.reads, "NEW.", shape);
                format!("  IF NEW.{name} IS NULL THEN\n    NEW.{name} := {down};\n  END IF;\n")
            })
            .collect();
        format!(
            "BEGIN\n  IF {UPDATING} THEN\n    \
             -- A row that the backfill has not reached is completed before a partial write is applied to it.\n\
             {}  END IF;\n  IF NOT {} THEN\n{follow}  END IF;\n{required}  RETURN NEW;\nEND\n",
            indent(&indent(&complete)),
            consistent("NEW."),
        )
    }

    /// First pass for a dropped column whose `down` reads no new column: a row that obeyed the rule goes on obeying.
    fn dropped_body(&self, shape: Shape) -> String {
        let consistent = self.call(&self.consistent_function(), &self.all_reads(), "OLD.", shape);
        let follow: String = self
            .computed_old()
            .map(|(old, down)| {
                let name = self.name_in(&old.column.name, shape);
                let down = self.call(&self.down_function(&old.column.name), &down.reads, "NEW.", shape);
                format!(
                    "  IF {INSERTING} THEN\n    IF NEW.{name} IS NULL THEN\n      NEW.{name} := {down};\n    END IF;\n  \
                     ELSIF {consistent} THEN\n    NEW.{name} := {down};\n  END IF;\n"
                )
            })
            .collect();
        format!("BEGIN\n{follow}  RETURN NEW;\nEND\n")
    }

    /// Last pass: the row is as old code or a user's trigger left it; the new shape follows.
    fn derive_body(&self, shape: Shape) -> String {
        let assign: String =
            self.new.iter().map(|new| self.assignment(&new.column.name, &new.up, shape)).collect();
        let names: Vec<Ident> = self.new.iter().map(|new| self.name_in(&new.column.name, shape)).collect();
        let reads: Vec<Ident> = self.up_reads().iter().map(|name| self.name_in(name, shape)).collect();
        let row = |columns: &[Ident], of: &str| {
            let row = columns.iter().map(|name| format!("{of}.{name}")).collect::<Vec<_>>().join(", ");
            format!("ROW({row})::record")
        };
        let unchanged = |columns: &[Ident]| {
            format!("pg_catalog.record_image_eq({}, {})", row(columns, "NEW"), row(columns, "OLD"))
        };
        let work = if self.has_down() {
            let consistent = self.call(&self.consistent_function(), &self.all_reads(), "NEW.", shape);
            let source_changed =
                if reads.is_empty() { "false".to_owned() } else { format!("NOT ({})", unchanged(&reads)) };
            format!(
                "  IF {INSERTING} THEN\n    -- Nothing of the new shape was given.\n    follow := {};\n  ELSE\n    \
                 -- Only the old shape changed.\n    follow := ({}) AND {source_changed};\n  END IF;\n  \
                 IF follow OR NOT {consistent} THEN\n{}  END IF;\n",
                all_null(&names),
                unchanged(&names),
                indent(&assign)
            )
        } else {
            assign
        };
        let declare = if self.has_down() { "DECLARE\n  follow boolean;\n" } else { "" };
        if !self.may_raise() {
            return format!("{declare}BEGIN\n{work}  RETURN NEW;\nEND\n");
        }
        let nulls: String = names.iter().map(|name| format!("      NEW.{name} := NULL;\n")).collect();
        format!(
            "{declare}BEGIN\n  BEGIN\n{}  EXCEPTION WHEN OTHERS THEN\n    \
             -- An expression that raises must not fail code that knows nothing of it: the row stays unconverted.\n    \
             IF {UPDATING} AND {} THEN\n{nulls}    END IF;\n  END;\n  RETURN NEW;\nEND\n",
            indent(&work),
            unchanged(&names),
        )
    }

    fn assignment(&self, column: &Ident, up: &Up, shape: Shape) -> String {
        let name = self.name_in(column, shape);
        let value = self.call(&self.up_function(column), up.reads(), "NEW.", shape);
        let default = self.function(&["default", column.as_str()]);
        match (up, up.on_insert()) {
            (Up::Fill { .. }, Some(_)) => {
                format!("  NEW.{name} := CASE WHEN {INSERTING} THEN {default}() ELSE {value} END;\n")
            }
            // With a `down` the old shape would not follow the default any more.
            (Up::Computed { .. }, Some(_)) if !self.has_down() => {
                format!(
                    "  NEW.{name} := {value};\n  IF {INSERTING} AND NEW.{name} IS NULL THEN\n    NEW.{name} := {default}();\n  END IF;\n"
                )
            }
            _ => format!("  NEW.{name} := {value};\n"),
        }
    }

    /// Evidence for the gate: who still writes the old shape. It never waits and never fails the statement.
    fn note_body(&self) -> String {
        format!("BEGIN\n{}  RETURN NEW;\nEND\n", evidence(&self.ledger, &self.version, &self.id))
    }

    fn note_setting(&self) -> String {
        note_setting(&self.id)
    }

    /// `CREATE TRIGGER` statements, each followed by ENABLE ALWAYS so that replicated writes fire it too.
    pub(crate) fn create_triggers(&self) -> Vec<String> {
        let mut sql = Vec::new();
        for (name, kind, events) in self.trigger_list() {
            for (event, when) in events {
                let trigger = Self::event_name(&name, event);
                sql.push(format!(
                    "CREATE TRIGGER {trigger} BEFORE {event} ON {} FOR EACH ROW\n  WHEN ({when})\n  EXECUTE FUNCTION {}()",
                    self.table,
                    self.function(&[kind])
                ));
                sql.push(format!("ALTER TABLE {} ENABLE ALWAYS TRIGGER {trigger}", self.table));
            }
        }
        sql
    }

    pub(crate) fn drop_triggers(&self) -> Vec<String> {
        self.trigger_list()
            .into_iter()
            .flat_map(|(name, _, events)| {
                events.into_iter().map(move |(event, _)| Self::event_name(&name, event))
            })
            .map(|trigger| format!("DROP TRIGGER IF EXISTS {trigger} ON {}", self.table))
            .collect()
    }

    fn event_name(base: &str, event: &str) -> Ident {
        Ident::derived(&[base, &event.to_ascii_lowercase()])
    }

    /// Name, function and, per event, the `WHEN` of each trigger.
    fn trigger_list(&self) -> Vec<(String, &'static str, Events)> {
        let mut list = Vec::new();
        if self.has_note() {
            list.push((format!("{FIRST}pontoon_{}_a_note", self.id), "note", self.note_when()));
        }
        if self.has_given() {
            list.push((format!("{FIRST}pontoon_{}_b_given", self.id), "given", self.given_when()));
        }
        if self.has_up() {
            list.push((format!("{LAST}pontoon_{}_derive", self.id), "derive", self.derive_when()));
        }
        if self.has_moved() {
            let moves = format!("{} AND {}", self.not_skipped(), changed(&self.moves_by));
            list.push((format!("{LAST}pontoon_{}_moved", self.id), "moved", vec![("UPDATE", moves)]));
        }
        list
    }

    fn not_skipped(&self) -> String {
        format!(
            "coalesce(current_setting({}, true), '') <> {}",
            literal(SKIP_SETTING),
            literal(&self.version)
        )
    }

    fn new_names(&self) -> Vec<Ident> {
        self.new.iter().map(|new| new.column.name.clone()).collect()
    }

    fn given_when(&self) -> Vec<(&'static str, String)> {
        let skip = self.not_skipped();
        if !self.has_up() {
            let old: Vec<Ident> = self.computed_old().map(|(old, _)| old.column.name.clone()).collect();
            let reads: Vec<Ident> = self.computed_old().flat_map(|(_, down)| down.reads.clone()).collect();
            let mut events = vec![("INSERT", format!("{skip} AND ({})", any_null(&old)))];
            if !reads.is_empty() {
                events.push(("UPDATE", format!("{skip} AND {} AND {}", same(&old), changed(&reads))));
            }
            return events;
        }
        let new = self.new_names();
        let required: Vec<Ident> = self
            .computed_old()
            .filter(|(old, _)| old.not_null)
            .map(|(old, _)| old.column.name.clone())
            .collect();
        let given = if required.is_empty() {
            format!("NOT ({})", all_null(&new))
        } else {
            format!("(NOT ({}) OR {})", all_null(&new), any_null(&required))
        };
        vec![("INSERT", format!("{skip} AND {given}")), ("UPDATE", format!("{skip} AND {}", changed(&new)))]
    }

    fn derive_when(&self) -> Vec<(&'static str, String)> {
        let (skip, new) = (self.not_skipped(), self.new_names());
        let reads: Vec<Ident> = self.up_reads().into_iter().collect();
        let old_changed = if reads.is_empty() { "false".to_owned() } else { changed(&reads) };
        let fill = self.new.iter().all(|new| matches!(new.up, Up::Fill { .. }));
        if self.has_down() {
            // Both sides can have changed here, by the first pass or by a user's trigger; the body decides.
            let touched: Vec<Ident> = self.columns().into_iter().map(|column| column.name).collect();
            return vec![
                ("INSERT", skip.clone()),
                ("UPDATE", format!("{skip} AND ({} OR ({}))", changed(&touched), all_null(&new))),
            ];
        }
        let follow = if fill {
            format!("({})", all_null(&new))
        } else {
            format!("({old_changed} OR ({}))", all_null(&new))
        };
        vec![
            ("INSERT", format!("{skip} AND {}", all_null(&new))),
            ("UPDATE", format!("{skip} AND {} AND {follow}", same(&new))),
        ]
    }

    /// Only a write that changes nothing else of the mapping is evidence: ORMs send every column.
    fn note_when(&self) -> Vec<(&'static str, String)> {
        let new = self.new_names();
        // What another table's trigger writes here is new code's doing.
        let quiet = format!(
            "{} AND coalesce(current_setting({}, true), '') = '' AND coalesce(current_setting({}, true), '') <> {}",
            self.not_skipped(),
            literal(ACROSS_SETTING),
            literal(&self.note_setting()),
            note_bucket()
        );
        let new_null = if new.is_empty() { "true".to_owned() } else { all_null(&new) };
        let new_same = if new.is_empty() { "true".to_owned() } else { same(&new) };
        let given: Vec<String> = self
            .old
            .iter()
            .filter_map(|old| {
                let name = &old.column.name;
                match &old.default {
                    DefaultKind::None => Some(format!("NEW.{name} IS NOT NULL")),
                    DefaultKind::Constant(default) => Some(format!(
                        "(NEW.{name} IS NOT NULL AND NOT pg_catalog.record_image_eq(ROW(NEW.{name})::record, ROW(({default})::{})::record))",
                        old.column.type_sql
                    )),
                    DefaultKind::Volatile => None,
                }
            })
            .collect();
        let old: Vec<Ident> = self.old.iter().map(|old| old.column.name.clone()).collect();
        let mut events = Vec::new();
        if !given.is_empty() {
            events.push(("INSERT", format!("{quiet} AND ({}) AND {new_null}", given.join(" OR "))));
        }
        events.push(("UPDATE", format!("{quiet} AND {} AND {new_same}", changed(&old))));
        events
    }
}

/// A function that leaves evidence runs with our rights and waits for nobody.
pub(super) const EVIDENCE_OPTIONS: &str =
    "SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5ms' ";

/// The setting that says when a session last left evidence for a mapping.
pub(super) fn note_setting(mapping: &str) -> String {
    format!("pontoon_note.{mapping}")
}

/// The statements that leave it, in a function with [`EVIDENCE_OPTIONS`].
pub(super) fn evidence(ledger: &Ident, version: &str, mapping: &str) -> String {
    format!(
        "  BEGIN\n    INSERT INTO {ledger}.old_write (version, mapping, pid, role, application, address, at)\n    \
         VALUES ({version}, {id}, pg_backend_pid(), session_user, current_setting('application_name'), inet_client_addr(), \
         clock_timestamp());\n  EXCEPTION WHEN OTHERS THEN\n    NULL;\n  END;\n  \
         PERFORM set_config({setting}, {now}, false);\n",
        id = literal(mapping),
        setting = literal(&note_setting(mapping)),
        now = note_bucket(),
    )
}

/// The current stretch of time, as text: a session leaves evidence once in each.
pub(super) fn note_bucket() -> String {
    format!("floor(extract(epoch FROM clock_timestamp()) / {NOTE_SECONDS})::text")
}

fn all_null(columns: &[Ident]) -> String {
    columns.iter().map(|column| format!("NEW.{column} IS NULL")).collect::<Vec<_>>().join(" AND ")
}

fn any_null(columns: &[Ident]) -> String {
    columns.iter().map(|column| format!("NEW.{column} IS NULL")).collect::<Vec<_>>().join(" OR ")
}

/// Compared by image: it works for types without an equality operator, and a changed spelling is a change.
fn same(columns: &[Ident]) -> String {
    let row = |of: &str| columns.iter().map(|column| format!("{of}.{column}")).collect::<Vec<_>>().join(", ");
    format!("pg_catalog.record_image_eq(ROW({})::record, ROW({})::record)", row("NEW"), row("OLD"))
}

fn changed(columns: &[Ident]) -> String {
    format!("NOT ({})", same(columns))
}

fn indent(lines: &str) -> String {
    lines.lines().map(|line| format!("  {line}\n")).collect()
}
