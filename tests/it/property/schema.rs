//! Random pairs of tables and random files that change them, and move columns from one to the other, and what each file does to the values of the columns.

use fastrand::Rng;

/// What the generator knows of a column.
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// The same through renames, changes of type and computed replacements.
    pub(super) lineage: usize,
    /// The table that holds it.
    pub(super) table: &'static str,
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) not_null: bool,
    has_default: bool,
    /// Whether an index or a constraint hangs on it.
    indexed: bool,
}

/// What a file does to values.
#[derive(Debug, Clone, Copy)]
pub(super) enum Effect {
    Nothing,
    /// `to` is computed from `from`, and both stay.
    Derived {
        from: usize,
        to: usize,
    },
    /// A column takes the place of another, with a dot at the end.
    Dotted(usize),
    /// NULL becomes the repaired value.
    Repaired(usize),
}

/// What a repair writes where it finds NULL.
const REPAIRED: &str = "7";

/// The tables as one file leaves them.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) columns: Vec<Column>,
    pub(super) effect: Effect,
}

/// Two tables whose rows belong together, files that change them one after the other, and what each leaves; version 0 is before the first.
#[derive(Debug)]
pub(super) struct History {
    pub(super) setup: String,
    pub(super) files: Vec<String>,
    pub(super) versions: Vec<Version>,
}

/// A number as text, as the server writes it in a type.
fn rendered(number: &str, kind: &str) -> String {
    let digits = number.split('.').next().unwrap_or(number);
    match kind {
        "numeric(10,2)" | "numeric(14,2)" => format!("{digits}.00"),
        "numeric(14,4)" => format!("{digits}.0000"),
        "text" => number.to_owned(),
        _ => digits.to_owned(),
    }
}

impl Version {
    pub(super) fn column(&self, lineage: usize) -> Option<&Column> {
        self.columns.iter().find(|column| column.lineage == lineage)
    }
}

impl History {
    pub(super) fn random(seed: u64) -> Self {
        let mut tables = Tables::new(seed);
        let setup = tables.setup();
        let mut history = Self {
            setup,
            files: Vec::new(),
            versions: vec![Version { columns: tables.columns.clone(), effect: Effect::Nothing }],
        };
        for _ in 0..tables.rng.usize(3..8) {
            let (file, effect) = tables.file();
            history.files.push(file);
            history.versions.push(Version { columns: tables.columns.clone(), effect });
        }
        history
    }

    /// The version that computes this column from another one, and that one.
    pub(super) fn derivation(&self, lineage: usize) -> Option<(usize, usize)> {
        self.versions.iter().enumerate().find_map(|(at, version)| match version.effect {
            Effect::Derived { from, to } if to == lineage => Some((at, from)),
            _ => None,
        })
    }

    /// Whether any version has a default for this column.
    pub(super) fn has_default(&self, lineage: usize) -> bool {
        self.versions.iter().filter_map(|version| version.column(lineage)).any(|column| column.has_default)
    }

    pub(super) fn is_repaired_after(&self, lineage: usize, version: usize) -> bool {
        self.versions[version + 1..]
            .iter()
            .any(|later| matches!(later.effect, Effect::Repaired(repaired) if repaired == lineage))
    }

    /// A value that code of one version wrote, as code of another sees it.
    pub(super) fn translated(
        &self,
        lineage: usize,
        value: Option<String>,
        from: usize,
        to: usize,
    ) -> Option<String> {
        let kind =
            |version: usize| self.versions[version].column(lineage).map_or("text", |column| column.kind);
        let mut value = value;
        for (at, version) in self.versions.iter().enumerate().take(to + 1).skip(from + 1) {
            value = match version.effect {
                Effect::Dotted(dotted) if dotted == lineage => value.map(|value| value + "."),
                Effect::Repaired(repaired) if repaired == lineage => {
                    value.or_else(|| Some(rendered(REPAIRED, kind(at))))
                }
                _ => value,
            };
        }
        for version in self.versions[..=from].iter().skip(to + 1).rev() {
            if matches!(version.effect, Effect::Dotted(dotted) if dotted == lineage) {
                value = value.map(|mut value| {
                    value.pop();
                    value
                });
            }
        }
        value.map(|value| rendered(&value, kind(to)))
    }
}

/// The tables `t` and `u` while files are made for them.
struct Tables {
    rng: Rng,
    columns: Vec<Column>,
    next: usize,
    /// Whether the rows of `t` lie in partitions, of one level and of two, one of them with the columns in another order.
    partitioned: bool,
}

impl Tables {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let partitioned = rng.u8(0..3) == 0;
        let mut tables = Self { rng, columns: Vec::new(), next: 0, partitioned };
        for at in 0..6 {
            let kind = ["int", "text", "varchar(30)", "numeric(10,2)"][tables.rng.usize(0..4)];
            let name = tables.name();
            let (not_null, has_default) = (tables.rng.bool(), tables.rng.u8(0..4) == 0);
            let indexed = tables.rng.bool();
            let (lineage, table) = (tables.next, if at < 4 { "t" } else { "u" });
            tables.columns.push(Column { lineage, table, name, kind, not_null, has_default, indexed });
        }
        tables
    }

    /// Some names need quotes.
    fn name(&mut self) -> String {
        self.next += 1;
        match self.rng.u8(0..5) {
            0 => format!("\"C {}\"", self.next),
            1 => format!("\"select{}\"", self.next),
            _ => format!("c{}", self.next),
        }
    }

    fn setup(&self) -> String {
        let columns = |table: &'static str| -> Vec<String> {
            let of_table = self.columns.iter().filter(|column| column.table == table);
            let column = |column: &Column| {
                let null = if column.not_null { " NOT NULL" } else { "" };
                let default = if column.has_default { " DEFAULT '7'" } else { "" };
                format!("{} {}{default}{null}", column.name, column.kind)
            };
            of_table.map(column).collect()
        };
        let rows = |table: &'static str| {
            let of_table = self.columns.iter().filter(|column| column.table == table);
            let values = of_table.map(|column| match column.not_null {
                true => format!("(i % 50)::text::{}", column.kind),
                false => format!("CASE WHEN i % 3 > 0 THEN (i % 50)::text::{} END", column.kind),
            });
            let values: Vec<String> = values.collect();
            format!("INSERT INTO {table} SELECT i, {} FROM generate_series(1, 400) AS i;", values.join(", "))
        };
        let indexes: String = self
            .columns
            .iter()
            .filter(|column| column.indexed)
            .map(|column| format!("CREATE INDEX ON {} ({});\n", column.table, column.name))
            .collect();
        let mut turned = columns("t");
        turned.reverse();
        let (by, parts) = if self.partitioned {
            let parts = format!(
                "CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (MINVALUE) TO (150);\n\
                 CREATE TABLE t_2 (gone int, {}, id bigint NOT NULL);\nALTER TABLE t_2 DROP COLUMN gone;\n\
                 ALTER TABLE t ATTACH PARTITION t_2 FOR VALUES FROM (150) TO (300);\n\
                 CREATE TABLE t_3 PARTITION OF t FOR VALUES FROM (300) TO (MAXVALUE) PARTITION BY HASH (id);\n\
                 CREATE TABLE t_3_0 PARTITION OF t_3 FOR VALUES WITH (MODULUS 2, REMAINDER 0);\n\
                 CREATE TABLE t_3_1 PARTITION OF t_3 FOR VALUES WITH (MODULUS 2, REMAINDER 1);\n",
                turned.join(", ")
            );
            (" PARTITION BY RANGE (id)", parts)
        } else {
            ("", String::new())
        };
        format!(
            "CREATE TABLE t (id bigint PRIMARY KEY, {}){by};\n{parts}CREATE TABLE u (id bigint PRIMARY KEY, {});\n{}\n{}\n{indexes}",
            columns("t").join(", "),
            columns("u").join(", "),
            rows("t"),
            rows("u")
        )
    }

    /// One file: a change that these tables can take.
    fn file(&mut self) -> (String, Effect) {
        loop {
            let at = self.rng.usize(0..self.columns.len());
            let column = self.columns[at].clone();
            let (name, lineage, t) = (&column.name, column.lineage, column.table);
            let of_table = self.columns.iter().filter(|other| other.table == t).count();
            let fresh = self.name();
            let plain = match self.rng.u8(0..16) {
                0 => {
                    self.columns.push(Column {
                        lineage: self.next,
                        table: t,
                        name: fresh.clone(),
                        kind: "int",
                        not_null: true,
                        has_default: true,
                        indexed: true,
                    });
                    format!("ALTER TABLE {t} ADD COLUMN {fresh} int NOT NULL DEFAULT 3 CHECK ({fresh} > 0);")
                }
                1 => {
                    self.columns.push(Column {
                        lineage: self.next,
                        table: t,
                        name: fresh.clone(),
                        kind: "text",
                        not_null: false,
                        has_default: false,
                        indexed: true,
                    });
                    let file = format!(
                        "ALTER TABLE {t} ADD COLUMN {fresh} text;\nUPDATE {t} SET {fresh} = {name}::text || '!';\nCREATE INDEX ON {t} ({fresh});"
                    );
                    return (file, Effect::Derived { from: lineage, to: self.next });
                }
                2 => {
                    self.columns[at].name.clone_from(&fresh);
                    format!("ALTER TABLE {t} RENAME COLUMN {name} TO {fresh};")
                }
                3 if of_table > 1 && (!column.not_null || column.has_default) => {
                    self.columns.remove(at);
                    format!("ALTER TABLE {t} DROP COLUMN {name};")
                }
                4 if of_table > 1 && column.kind == "text" => {
                    self.columns[at] =
                        Column { name: fresh.clone(), indexed: false, has_default: false, ..column.clone() };
                    let not_null = match column.not_null {
                        true => format!("ALTER TABLE {t} ALTER COLUMN {fresh} SET NOT NULL;\n"),
                        false => String::new(),
                    };
                    let file = format!(
                        "ALTER TABLE {t} ADD COLUMN {fresh} text;\nUPDATE {t} SET {fresh} = {name} || '.';\n{not_null}\
                         -- migrate: down {name} = left({fresh}, -1)\nALTER TABLE {t} DROP COLUMN {name};"
                    );
                    return (file, Effect::Dotted(lineage));
                }
                5 if !column.not_null => {
                    self.columns[at].not_null = true;
                    let file = format!(
                        "UPDATE {t} SET {name} = '{REPAIRED}' WHERE {name} IS NULL;\nALTER TABLE {t} ALTER COLUMN {name} SET NOT NULL;"
                    );
                    return (file, Effect::Repaired(lineage));
                }
                6 if column.not_null => {
                    self.columns[at].not_null = false;
                    format!("ALTER TABLE {t} ALTER COLUMN {name} DROP NOT NULL;")
                }
                7 => {
                    let kind = match column.kind {
                        "int" => "bigint",
                        "bigint" => "numeric(14,2)",
                        "varchar(30)" => "varchar(40)",
                        "numeric(10,2)" => "numeric(14,4)",
                        _ => continue,
                    };
                    self.columns[at].kind = kind;
                    format!("ALTER TABLE {t} ALTER COLUMN {name} TYPE {kind};")
                }
                8 if column.kind != "text" => {
                    self.columns[at].indexed = true;
                    format!("ALTER TABLE {t} ADD CHECK ({name}::text <> 'never');")
                }
                9 => {
                    self.columns[at].has_default = true;
                    format!("ALTER TABLE {t} ALTER COLUMN {name} SET DEFAULT '9';")
                }
                10 => {
                    self.columns[at].indexed = true;
                    format!("ALTER TABLE {t} ADD UNIQUE ({name}, id);")
                }
                11..16 if of_table > 1 && !self.partitioned && !column.not_null && !column.has_default => {
                    let other = if t == "t" { "u" } else { "t" };
                    self.columns[at] =
                        Column { table: other, name: fresh.clone(), indexed: false, ..column.clone() };
                    format!(
                        "ALTER TABLE {other} ADD COLUMN {fresh} {};\nUPDATE {other} SET {fresh} = {t}.{name} FROM {t} WHERE {t}.id = {other}.id;\n\
                         ALTER TABLE {t} DROP COLUMN {name};",
                        column.kind
                    )
                }
                _ => continue,
            };
            return (plain, Effect::Nothing);
        }
    }
}
