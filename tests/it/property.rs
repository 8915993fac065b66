//! Random tables, random chains of migrations, several in flight, processes killed at random: the end is that of the plain SQL.
//!
//! A plain run plays a few chains from a printed seed; `PONTOON_CHAINS=n` plays n, `PONTOON_SEED` repeats one.

use fastrand::Rng;

use super::support::shape::{leftovers, shape};
use super::support::{Database, Project, finish};

/// Chains of a plain run.
const CHAINS: usize = 8;

/// Points at which a command may be killed; not every command passes each.
const POINTS: [&str; 10] = [
    "step.before",
    "step.statement",
    "step.before_commit",
    "step.after_commit",
    "step.done",
    "backfill.updated",
    "backfill.before_commit",
    "contract.closed",
    "contract.dropping",
    "expand.stored",
];

/// What the generator knows of a column.
#[derive(Debug, Clone)]
struct Column {
    name: String,
    kind: &'static str,
    not_null: bool,
    has_default: bool,
    indexed: bool,
}

/// A table as the files so far leave it.
struct Model {
    rng: Rng,
    columns: Vec<Column>,
    next: usize,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut model = Self { rng: Rng::with_seed(seed), columns: Vec::new(), next: 0 };
        for _ in 0..4 {
            let kind = ["int", "text", "varchar(30)", "numeric(10,2)"][model.rng.usize(0..4)];
            let name = model.name();
            let (not_null, has_default) = (model.rng.bool(), model.rng.u8(0..4) == 0);
            model.columns.push(Column { name, kind, not_null, has_default, indexed: model.rng.bool() });
        }
        model
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

    fn setup(&mut self) -> String {
        let columns: Vec<String> = self
            .columns
            .iter()
            .map(|column| {
                let null = if column.not_null { " NOT NULL" } else { "" };
                let default = if column.has_default { " DEFAULT '7'" } else { "" };
                format!("{} {}{default}{null}", column.name, column.kind)
            })
            .collect();
        let values: Vec<String> = self
            .columns
            .iter()
            .map(|column| match column.not_null {
                true => format!("(i % 50)::text::{}", column.kind),
                false => format!("CASE WHEN i % 3 > 0 THEN (i % 50)::text::{} END", column.kind),
            })
            .collect();
        let indexes: String = self
            .columns
            .iter()
            .filter(|column| column.indexed)
            .map(|column| format!("CREATE INDEX ON t ({});\n", column.name))
            .collect();
        format!(
            "CREATE TABLE t (id bigint PRIMARY KEY, {});\nINSERT INTO t SELECT i, {} FROM generate_series(1, 400) AS i;\n{indexes}",
            columns.join(", "),
            values.join(", ")
        )
    }

    /// One file: a change that this table can take.
    fn file(&mut self) -> String {
        loop {
            let at = self.rng.usize(0..self.columns.len());
            let column = self.columns[at].clone();
            let name = &column.name;
            let fresh = self.name();
            match self.rng.u8(0..11) {
                0 => {
                    let plain = Column {
                        name: fresh.clone(),
                        kind: "int",
                        not_null: true,
                        has_default: true,
                        indexed: false,
                    };
                    self.columns.push(plain);
                    return format!(
                        "ALTER TABLE t ADD COLUMN {fresh} int NOT NULL DEFAULT 3 CHECK ({fresh} > 0);"
                    );
                }
                1 => {
                    self.columns.push(Column {
                        name: fresh.clone(),
                        kind: "text",
                        not_null: false,
                        has_default: false,
                        indexed: true,
                    });
                    return format!(
                        "ALTER TABLE t ADD COLUMN {fresh} text;\nUPDATE t SET {fresh} = {name}::text || '!';\nCREATE INDEX ON t ({fresh});"
                    );
                }
                2 => {
                    self.columns[at].name.clone_from(&fresh);
                    return format!("ALTER TABLE t RENAME COLUMN {name} TO {fresh};");
                }
                3 if self.columns.len() > 3 && (!column.not_null || column.has_default) => {
                    self.columns.remove(at);
                    return format!("ALTER TABLE t DROP COLUMN {name};");
                }
                4 if self.columns.len() > 3 && column.kind == "text" => {
                    self.columns[at] =
                        Column { name: fresh.clone(), indexed: false, has_default: false, ..column.clone() };
                    let not_null = if column.not_null {
                        format!("ALTER TABLE t ALTER COLUMN {fresh} SET NOT NULL;\n")
                    } else {
                        String::new()
                    };
                    return format!(
                        "ALTER TABLE t ADD COLUMN {fresh} text;\nUPDATE t SET {fresh} = {name} || '.';\n{not_null}\
                         -- migrate: down {name} = left({fresh}, -1)\nALTER TABLE t DROP COLUMN {name};"
                    );
                }
                5 if !column.not_null => {
                    self.columns[at].not_null = true;
                    return format!(
                        "UPDATE t SET {name} = '0' WHERE {name} IS NULL;\nALTER TABLE t ALTER COLUMN {name} SET NOT NULL;"
                    );
                }
                6 if column.not_null => {
                    self.columns[at].not_null = false;
                    return format!("ALTER TABLE t ALTER COLUMN {name} DROP NOT NULL;");
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
                    return format!("ALTER TABLE t ALTER COLUMN {name} TYPE {kind};");
                }
                8 if column.kind != "text" => {
                    return format!("ALTER TABLE t ADD CHECK ({name}::text <> 'never');");
                }
                9 => {
                    self.columns[at].has_default = true;
                    return format!("ALTER TABLE t ALTER COLUMN {name} SET DEFAULT '9';");
                }
                10 => return format!("ALTER TABLE t ADD UNIQUE ({name}, id);"),
                _ => {}
            }
        }
    }
}

const ROWS: &str = "SELECT string_agg(to_jsonb(t)::text, E'\\n' ORDER BY id) FROM t";

/// Runs a command, now and then killed before.
async fn run(project: &Project, rng: &mut Rng, arguments: &[&str]) -> i32 {
    if rng.u8(0..3) == 0 {
        let point = format!("{}@{}", POINTS[rng.usize(0..POINTS.len())], rng.usize(1..5));
        let mut command = project.command(arguments);
        command.env("PONTOON_FAULT", point);
        finish(command).await;
    }
    let ran = project.migrate(arguments).await;
    let waits = ran.stderr.contains("is still moving");
    assert!(ran.code == Some(0) || waits, "{arguments:?}\n{}{}", ran.stdout, ran.stderr);
    ran.code.unwrap()
}

async fn contract_all(project: &Project, rng: &mut Rng, newest: usize) {
    run(project, rng, &["backfill"]).await;
    project.database.run("UPDATE pontoon.instance SET deregistered_at = now()").await;
    project.register("new", &newest.to_string()).await;
    run(project, rng, &["contract", "--soak", "0s"]).await;
}

async fn chain(seed: u64) {
    let mut model = Model::new(seed);
    let setup = model.setup();
    let files: Vec<String> = (0..model.rng.usize(3..8)).map(|_| model.file()).collect();
    let mut rng = Rng::with_seed(seed ^ 1);
    let plain = Database::new().await;
    plain.run(&setup).await;
    for file in &files {
        plain.run(file).await;
    }
    let project = Project::new(&setup, &[]).await;
    for (at, file) in files.iter().enumerate() {
        let version = at + 1;
        project.write(&format!("{version:04}_x.sql"), file);
        while run(&project, &mut rng, &["expand"]).await != 0 {
            // What it changes is still moved by one that came before.
            contract_all(&project, &mut rng, version - 1).await;
        }
        match rng.u8(0..4) {
            0 => drop(run(&project, &mut rng, &["backfill"]).await),
            1 => contract_all(&project, &mut rng, version).await,
            _ => {}
        }
    }
    contract_all(&project, &mut rng, files.len()).await;
    project.migrate(&["status", "--exit-code"]).await.expect(0);
    let mut connection = project.database.connect().await;
    assert_eq!(project.database.text(ROWS).await, plain.text(ROWS).await, "not the data of the plain SQL");
    assert_eq!(
        shape(&mut connection).await,
        shape(&mut plain.connect().await).await,
        "not the shape of the plain SQL"
    );
    assert_eq!(leftovers(&mut connection).await, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_chains_end_as_the_plain_sql_does() {
    let read = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let repeated: Option<u64> = read("PONTOON_SEED");
    let chains = repeated
        .map_or_else(|| read("PONTOON_CHAINS").map_or(CHAINS, |n: u64| usize::try_from(n).unwrap()), |_| 1);
    for _ in 0..chains {
        let seed = repeated.unwrap_or_else(|| fastrand::u64(..));
        println!("PONTOON_SEED={seed}");
        let mut model = Model::new(seed);
        println!("{}", model.setup());
        for file in (0..model.rng.usize(3..8)).map(|_| model.file()).collect::<Vec<_>>() {
            println!("-- file\n{file}");
        }
        chain(seed).await;
    }
}
