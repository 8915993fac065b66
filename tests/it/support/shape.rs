//! A database's shape as text: what a schema dump would hold, read from the catalog. Columns are in the order of their
//! names, which is the one thing that a migration cannot always keep.

use sqlx::postgres::PgConnection;

use super::{run, text};

const SHAPE: &str = "
SELECT string_agg(line, E'\\n' ORDER BY line) FROM (
    SELECT format('column %s.%s %s%s default %s identity %s generated %s acl %s comment %s stats %s', c.oid::regclass, a.attname,
                  format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN ' not null' END,
                  pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attgenerated, a.attacl, col_description(c.oid, a.attnum), a.attstattarget) AS line
    FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef AS d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
    WHERE c.relkind IN ('r', 'v', 'p') AND c.relnamespace = ANY (ARRAY(SELECT oid FROM mine))
    UNION ALL
    SELECT CASE WHEN whole.oid IS NULL
        -- Since version 18: what a partition calls its NOT NULL is not kept by a reopen.
        THEN format('constraint %s on %s: %s valid %s', CASE WHEN k.contype = 'n' AND k.coninhcount > 0 THEN 'inherited' ELSE k.conname END, k.conrelid::regclass, pg_get_constraintdef(k.oid), k.convalidated)
        ELSE format('part of constraint %s on %s: %s', whole.conname, k.conrelid::regclass, replace(pg_get_constraintdef(k.oid), ' NOT VALID', '')) END
    FROM pg_constraint AS k
    -- What points at one partition is no constraint of its own, in no dump, and before version 18 not marked by VALIDATE.
    LEFT JOIN pg_constraint AS whole ON whole.oid = k.conparentid AND whole.conrelid = k.conrelid
    WHERE k.connamespace = ANY (ARRAY(SELECT oid FROM mine))
    UNION ALL
    SELECT format('index %s valid %s', pg_get_indexdef(i.indexrelid), i.indisvalid)
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid WHERE c.relnamespace = ANY (ARRAY(SELECT oid FROM mine))
    UNION ALL
    SELECT format('trigger %s', pg_get_triggerdef(t.oid)) FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
    WHERE NOT t.tgisinternal AND c.relnamespace = ANY (ARRAY(SELECT oid FROM mine))
    UNION ALL
    SELECT format('function %s', pg_get_functiondef(p.oid)) FROM pg_proc AS p WHERE p.pronamespace = ANY (ARRAY(SELECT oid FROM mine))
    UNION ALL
    SELECT format('relation %s kind %s acl %s comment %s rls %s', c.oid::regclass, c.relkind, c.relacl, obj_description(c.oid, 'pg_class'), c.relrowsecurity)
    FROM pg_class AS c WHERE c.relnamespace = ANY (ARRAY(SELECT oid FROM mine)) AND c.relkind <> 'i'
    UNION ALL
    SELECT format('view %s: %s', c.oid::regclass, pg_get_viewdef(c.oid)) FROM pg_class AS c
    WHERE c.relkind = 'v' AND c.relnamespace = ANY (ARRAY(SELECT oid FROM mine))
    UNION ALL
    SELECT format('type %s %s', t.oid::regtype, t.typtype) FROM pg_type AS t WHERE t.typnamespace = ANY (ARRAY(SELECT oid FROM mine))
    UNION ALL
    SELECT format('label %s of %s', e.enumlabel, e.enumtypid::regtype) FROM pg_enum AS e
    UNION ALL
    SELECT format('policy %s on %s: %s', p.polname, p.polrelid::regclass, pg_get_expr(p.polqual, p.polrelid)) FROM pg_policy AS p
    UNION ALL
    SELECT format('statistics %s', pg_get_statisticsobjdef(s.oid)) FROM pg_statistic_ext AS s
    UNION ALL
    SELECT format('publication %s update %s tables %s', p.pubname, p.pubupdate,
                  (SELECT string_agg(r.prrelid::regclass::text, ' ' ORDER BY r.prrelid::regclass::text) FROM pg_publication_rel AS r WHERE r.prpubid = p.oid))
    FROM pg_publication AS p
    UNION ALL
    SELECT format('schema %s', nspname) FROM mine
) AS lines";

/// The shape of everything outside the ledger.
pub(crate) async fn shape(connection: &mut PgConnection) -> String {
    let mine = "WITH mine AS (SELECT oid, nspname FROM pg_namespace
                WHERE nspname NOT LIKE 'pg\\_%' AND nspname NOT IN ('information_schema', 'pontoon')) ";
    text(connection, &format!("{mine}{SHAPE}")).await
}

/// What is left in the ledger's schema that does not belong to it: functions of mappings.
pub(crate) async fn leftovers(connection: &mut PgConnection) -> String {
    text(
        connection,
        "SELECT string_agg(p.oid::regprocedure::text, ' ') FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
         WHERE n.nspname = 'pontoon' AND p.proname ~ '^m[0-9]+_'",
    )
    .await
}

/// Makes every function and trigger of a migration again from what the server writes down of it, as a dump does, and takes that
/// back.
pub(crate) async fn expect_restorable(connection: &mut PgConnection) {
    run(
        connection,
        r"BEGIN;
        SET LOCAL search_path = '';
        DO $$
        DECLARE
            made record;
        BEGIN
            FOR made IN
                SELECT pg_get_functiondef(p.oid) AS sql FROM pg_proc AS p
                WHERE p.pronamespace = 'pontoon'::regnamespace AND p.proname ~ '^m[0-9]+_'
                UNION ALL
                SELECT replace(pg_get_triggerdef(t.oid), 'CREATE TRIGGER', 'CREATE OR REPLACE TRIGGER') FROM pg_trigger AS t
                WHERE t.tgname ~ '^[ ~]pontoon_' AND t.tgparentid = 0
            LOOP
                EXECUTE made.sql;
            END LOOP;
        END
        $$;
        ROLLBACK;",
    )
    .await;
}

/// Asserts that two shapes are equal; where not, only the lines that differ are shown.
#[track_caller]
pub(crate) fn expect_same(is: &str, must_be: &str, what: &str) {
    let only = |one: &str, other: &str, mark: &str| -> String {
        let others: Vec<&str> = other.lines().collect();
        one.lines().filter(|line| !others.contains(line)).map(|line| format!("{mark} {line}\n")).collect()
    };
    assert!(is == must_be, "{what}:\n{}{}", only(is, must_be, "is     "), only(must_be, is, "must be"));
}
