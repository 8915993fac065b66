-- Purpose: what can be said of columns that a migration is to replace by others of their names, to see whether somebody changed it.
-- Locks: none: nothing is deparsed but defaults.
-- Parameters: $1 text[] tables, quoted and qualified, $2 text[] one column of each, $3 text[] what it is called when it is replaced.
SELECT coalesce(jsonb_object_agg(format('%s of column %s.%I', said.aspect, c.oid::regclass, a.attname), said.value), '{}') AS value
FROM unnest($1::text[], $2::text[], $3::text[]) AS of (whole, name, hidden)
JOIN pg_class AS c ON c.oid = to_regclass(of.whole)
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = of.name AND NOT a.attisdropped
    AND NOT EXISTS (SELECT FROM pg_attribute AS h WHERE h.attrelid = c.oid AND h.attname = of.hidden)
LEFT JOIN pg_attrdef AS d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
CROSS JOIN LATERAL (VALUES
    ('default', coalesce(pg_get_expr(d.adbin, d.adrelid), 'none')),
    ('nullability', CASE WHEN a.attnotnull THEN 'NOT NULL' ELSE 'NULL' END),
    ('comment', coalesce(col_description(a.attrelid, a.attnum), 'none')),
    ('grants', coalesce((
        SELECT string_agg(DISTINCT g.privilege_type || ' to ' || coalesce(r.rolname, 'PUBLIC'), ', ')
        FROM aclexplode(a.attacl) AS g LEFT JOIN pg_roles AS r ON r.oid = g.grantee), 'none'))
) AS said (aspect, value)
