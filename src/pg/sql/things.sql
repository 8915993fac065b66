-- Purpose: what a migration has made, each with what can be said of it, to see whether somebody else took it away.
-- Locks: none: nothing is deparsed. Only what a restore from a backup leaves as it is. What freezes a table comes and goes
-- within contract.
-- Parameters: $1 text[] names, as schema.name, $2 text the ledger's schema, $3 text the beginning of the names of its sync functions.
WITH named AS MATERIALIZED (
    -- A name may hold a dot. Taken apart, each is looked up by an index.
    SELECT n.oid AS namespace, n.nspname AS schema, substr(whole, length(n.nspname) + 2) AS name
    FROM unnest($1::text[]) AS whole JOIN pg_namespace AS n ON starts_with(whole, n.nspname || '.')
)
SELECT coalesce(jsonb_object_agg(t.what, t.value), '{}') AS value FROM (
    SELECT format('sync function %I.%I', n.nspname, p.proname) AS what, md5(p.prosrc) AS value
    FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname = $2::text AND p.proname >= $3::text AND p.proname < $3::text || '~' AND starts_with(p.proname::text, $3::text)
        AND NOT starts_with(p.proname::text, $3::text || 'freeze_')
    UNION ALL
    SELECT format('sync trigger %I', t.tgname), t.tgenabled::text
    FROM pg_trigger AS t JOIN pg_proc AS f ON f.oid = t.tgfoid
    WHERE f.pronamespace = to_regnamespace(quote_ident($2::text)) AND NOT starts_with(f.proname::text, $3::text || 'freeze_')
        AND NOT t.tgisinternal AND t.tgparentid = 0 AND (starts_with(t.tgname::text, ' pontoon_' || $3::text) OR starts_with(t.tgname::text, '~pontoon_' || $3::text))
    UNION ALL
    SELECT format('index %I.%I', n.schema, c.relname),
           concat_ws(' ', CASE WHEN i.indisunique THEN 'unique' END, 'on', i.indrelid::regclass, (
               SELECT string_agg(coalesce(a.attname, 'expression'), ', ' ORDER BY k.number)
               FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, number) LEFT JOIN pg_attribute AS a ON (a.attrelid, a.attnum) = (i.indrelid, k.attnum)))
    FROM named AS n JOIN pg_class AS c ON (c.relname, c.relnamespace) = (n.name, n.namespace) JOIN pg_index AS i ON i.indexrelid = c.oid
    UNION ALL
    SELECT format('constraint %I on %s', k.conname, k.conrelid::regclass), k.contype::text
    FROM named AS n JOIN pg_constraint AS k ON (k.conname, k.connamespace) = (n.name, n.namespace)
    WHERE k.conrelid <> 0 AND k.conparentid = 0
    UNION ALL
    SELECT format('%s %I.%I', CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' ELSE 'table' END, n.schema, c.relname), ''
    FROM named AS n JOIN pg_class AS c ON (c.relname, c.relnamespace) = (n.name, n.namespace)
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S')
    UNION ALL
    SELECT DISTINCT format('function %I.%I', n.schema, p.proname), ''
    FROM named AS n JOIN pg_proc AS p ON (p.proname, p.pronamespace) = (n.name, n.namespace)
    UNION ALL
    SELECT format('type %I.%I', n.schema, y.typname), ''
    FROM named AS n JOIN pg_type AS y ON (y.typname, y.typnamespace) = (n.name, n.namespace)
    WHERE y.typtype IN ('e', 'd')
) AS t
