-- Purpose: what a migration has made, each with what can be said of it, to see whether somebody else took it away.
-- Locks: none: nothing is deparsed. Only what a restore from a backup leaves as it is.
-- Parameters: $1 text[] names, as schema.name, $2 text the ledger's schema, $3 text the beginning of the names of its sync functions.
SELECT coalesce(jsonb_object_agg(t.what, t.value), '{}') AS value FROM (
    SELECT format('sync function %I.%I', n.nspname, p.proname) AS what, md5(p.prosrc) AS value
    FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname = $2::text AND starts_with(p.proname::text, $3::text)
    UNION ALL
    SELECT format('sync trigger %I', t.tgname), t.tgenabled::text
    FROM pg_trigger AS t JOIN pg_proc AS f ON f.oid = t.tgfoid
    WHERE f.pronamespace = to_regnamespace(quote_ident($2::text)) AND NOT t.tgisinternal AND t.tgparentid = 0 AND (starts_with(t.tgname::text, ' pontoon_' || $3::text) OR starts_with(t.tgname::text, '~pontoon_' || $3::text))
    UNION ALL
    SELECT format('index %I.%I', n.nspname, c.relname),
           concat_ws(' ', CASE WHEN i.indisunique THEN 'unique' END, 'on', i.indrelid::regclass, (
               SELECT string_agg(coalesce(a.attname, 'expression'), ', ' ORDER BY k.number)
               FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, number) LEFT JOIN pg_attribute AS a ON (a.attrelid, a.attnum) = (i.indrelid, k.attnum)))
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname || '.' || c.relname = ANY ($1::text[])
    UNION ALL
    SELECT format('constraint %I on %s', k.conname, k.conrelid::regclass), k.contype::text
    FROM pg_constraint AS k JOIN pg_namespace AS n ON n.oid = k.connamespace
    WHERE k.conrelid <> 0 AND k.conparentid = 0 AND n.nspname || '.' || k.conname = ANY ($1::text[])
    UNION ALL
    SELECT format('%s %I.%I', CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' ELSE 'table' END, n.nspname, c.relname), ''
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S') AND n.nspname || '.' || c.relname = ANY ($1::text[])
    UNION ALL
    SELECT DISTINCT format('function %I.%I', n.nspname, p.proname), ''
    FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname || '.' || p.proname = ANY ($1::text[])
    UNION ALL
    SELECT format('type %I.%I', n.nspname, y.typname), ''
    FROM pg_type AS y JOIN pg_namespace AS n ON n.oid = y.typnamespace
    WHERE y.typtype IN ('e', 'd') AND n.nspname || '.' || y.typname = ANY ($1::text[])) AS t
