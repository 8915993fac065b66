-- Purpose: what a migration has made, each with what can be said of it, to see whether somebody else took it away.
-- Locks: none: nothing is deparsed but defaults. Only what a restore from a backup leaves as it is. What freezes a table comes and goes
-- within contract.
-- Parameters: $1 text[] names, as schema.name, $2 text the ledger's schema, $3 text the beginning of the names of its sync functions,
-- $4 text[] tables, quoted and qualified, $5 text[] one column of each, which is to be replaced by another of its name, $6 text[] what it
-- is called from then on.
SELECT coalesce(jsonb_object_agg(t.what, t.value), '{}') AS value FROM (
    SELECT format('sync function %I.%I', n.nspname, p.proname) AS what, md5(p.prosrc) AS value
    FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname = $2::text AND starts_with(p.proname::text, $3::text)
        AND NOT starts_with(p.proname::text, $3::text || 'freeze_')
    UNION ALL
    SELECT format('sync trigger %I', t.tgname), t.tgenabled::text
    FROM pg_trigger AS t JOIN pg_proc AS f ON f.oid = t.tgfoid
    WHERE f.pronamespace = to_regnamespace(quote_ident($2::text)) AND NOT starts_with(f.proname::text, $3::text || 'freeze_')
        AND NOT t.tgisinternal AND t.tgparentid = 0 AND (starts_with(t.tgname::text, ' pontoon_' || $3::text) OR starts_with(t.tgname::text, '~pontoon_' || $3::text))
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
    WHERE y.typtype IN ('e', 'd') AND n.nspname || '.' || y.typname = ANY ($1::text[])
    UNION ALL
    SELECT format('%s of column %s.%I', said.aspect, c.oid::regclass, a.attname), said.value
    FROM unnest($4::text[], $5::text[], $6::text[]) AS of (whole, name, hidden)
    JOIN pg_class AS c ON c.oid = to_regclass(of.whole)
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = of.name AND NOT a.attisdropped
        AND NOT EXISTS (SELECT FROM pg_attribute AS h WHERE h.attrelid = c.oid AND h.attname = of.hidden)
    LEFT JOIN pg_attrdef AS d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
    CROSS JOIN LATERAL (VALUES
        ('default', coalesce(pg_get_expr(d.adbin, d.adrelid), 'none')),
        ('nullability', CASE WHEN a.attnotnull THEN 'NOT NULL' ELSE 'NULL' END),
        ('comment', coalesce(col_description(a.attrelid, a.attnum), 'none')),
        ('grants', coalesce((
            SELECT string_agg(DISTINCT g.privilege_type || ' to ' || coalesce(r.rolname, 'PUBLIC'), ', ') FROM aclexplode(a.attacl) AS g LEFT JOIN pg_roles AS r ON r.oid = g.grantee), 'none'))
    ) AS said (aspect, value)) AS t
