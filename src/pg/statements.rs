//! The named queries of `sql/queries.sql`, with the ledger's schema in place.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::words::ident::Ident;

const QUERIES: &str = include_str!("sql/queries.sql");

static BY_NAME: LazyLock<BTreeMap<&'static str, &'static str>> = LazyLock::new(|| {
    QUERIES.split("\n-- name: ").skip(1).filter_map(|section| section.split_once('\n')).collect()
});

/// Puts the ledger's schema where the text says `pontoon.`, the only schema name that the `.sql` files use for it.
pub(crate) fn in_schema(sql: &str, ledger: &Ident) -> String {
    sql.replace("SCHEMA IF NOT EXISTS pontoon;", &format!("SCHEMA IF NOT EXISTS {ledger};"))
        .replace("SCHEMA pontoon ", &format!("SCHEMA {ledger} "))
        .replace("pontoon.", &format!("{ledger}."))
}

/// A named query. A name that is missing gives a text that no server accepts; a test looks up every name in use.
pub(crate) fn query(name: &str, ledger: &Ident) -> String {
    in_schema(BY_NAME.get(name).copied().unwrap_or("there is no query of that name"), ledger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_in_use_exists_and_every_query_is_used() {
        let source = [
            "ledger.rs",
            "jobs.rs",
            "checkup.rs",
            "lease.rs",
            "locks.rs",
            "registry.rs",
            "replicas.rs",
            "install.rs",
        ]
        .map(|file| std::fs::read_to_string(format!("{}/src/pg/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap())
        .join("\n");
        let mut used: Vec<&str> =
            source.split("query(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        used.sort_unstable();
        used.dedup();
        let known: Vec<&str> = BY_NAME.keys().copied().collect();
        assert_eq!(used, known);
    }

    #[tokio::test]
    async fn every_statement_is_understood_by_a_real_server() {
        use crate::pg::install;
        use crate::pg::local_server::LocalServer;
        use crate::pg::session::{Session, Target};

        let own = match std::env::var("DATABASE_URL") {
            Ok(url) if !url.is_empty() => None,
            _ => Some(LocalServer::start(&[], &|_| ()).unwrap()),
        };
        let url = own
            .as_ref()
            .map_or_else(|| std::env::var("DATABASE_URL").unwrap(), |server| server.url("postgres"));
        let target = Target::parse(&url).unwrap();
        let name = format!("pontoon_test_{:x}", fastrand::u64(..));
        let mut admin = Session::connect(&target, "test").await.unwrap();
        admin.execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        // A schema name that needs quotes, to see that the statements follow the setting.
        for schema in ["pontoon", "Other ledger"] {
            let ledger = Ident::new(schema);
            let mut session = Session::connect(&target.database(&name), "test").await.unwrap();
            assert!(install::install(&mut session, &ledger).await.unwrap());
            assert!(!install::install(&mut session, &ledger).await.unwrap());
            for statement in BY_NAME.keys() {
                session
                    .prepare(&query(statement, &ledger))
                    .await
                    .unwrap_or_else(|error| panic!("{statement}: {error}"));
            }
            for file in ["catalog.sql", "fingerprint.sql"] {
                let text =
                    std::fs::read_to_string(format!("{}/src/pg/sql/{file}", env!("CARGO_MANIFEST_DIR")))
                        .unwrap();
                session.prepare(&text).await.unwrap_or_else(|error| panic!("{file}: {error}"));
            }
            session.close().await;
        }
        admin.execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
    }
}
