-- Purpose: the tables whose names occur in the migrations, with everything the planner asks about them.
-- Locks: none on user tables; reads system catalogs only.
-- Deparsing an index opens its table, so definitions are read only of tables whose columns are renamed; a default is
-- deparsed without its table, which it cannot name.
-- Parameters: $1 text[] names that occur in the files, $2 text the ledger's schema, $3 text[] tables with renames.
SELECT
    (SELECT r.rolsuper OR r.rolbypassrls FROM pg_roles AS r WHERE r.rolname = current_user) AS bypasses_row_security,
    coalesce((
        SELECT jsonb_agg(jsonb_build_object('name', jsonb_build_object('schema', n.nspname, 'name', c.relname)))
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname NOT LIKE 'pg\_temp%'
          AND n.nspname <> $2::text), '[]') AS relations,
    coalesce((
        SELECT jsonb_agg(DISTINCT p.proname) FROM pg_proc AS p WHERE p.provolatile = 'v'), '[]') AS volatile_functions,
    coalesce((
        SELECT jsonb_agg(s.proname) FROM (
            SELECT p.proname FROM pg_proc AS p WHERE p.prokind = 'f' GROUP BY p.proname HAVING bool_and(p.provolatile = 's')) AS s), '[]')
        AS stable_functions,
    coalesce((
        SELECT jsonb_agg(s.proname) FROM (
            SELECT p.proname FROM pg_proc AS p GROUP BY p.proname HAVING bool_and(p.prokind IN ('a', 'w'))) AS s), '[]') AS aggregates,
    coalesce((
        SELECT jsonb_agg(o.name) FROM (
            SELECT 'schema:' || n.nspname AS name FROM pg_namespace AS n
            UNION ALL
            SELECT 'function:' || n.nspname || '.' || p.proname FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
            WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
            UNION ALL
            SELECT CASE t.typtype WHEN 'd' THEN 'domain:' ELSE 'type:' END || n.nspname || '.' || t.typname
            FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace
            WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
            UNION ALL
            SELECT CASE c.relkind WHEN 'v' THEN 'view:' ELSE 'sequence:' END || n.nspname || '.' || c.relname
            FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.relkind IN ('v', 'S')) AS o), '[]') AS objects,
    coalesce((
        SELECT jsonb_agg(jsonb_build_object(
            'oid', c.oid::bigint,
            'name', jsonb_build_object('schema', n.nspname, 'name', c.relname),
            'kind', c.relkind,
            'persistence', c.relpersistence,
            'inherits', EXISTS (SELECT FROM pg_inherits AS i WHERE c.oid IN (i.inhrelid, i.inhparent)),
            'extension', (SELECT e.extname FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
                          WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
                            AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'),
            'row_security_forced', c.relrowsecurity AND c.relforcerowsecurity,
            'columns', coalesce((
                SELECT jsonb_agg(jsonb_build_object(
                    'name', a.attname,
                    'type_sql', format_type(a.atttypid, a.atttypmod),
                    'collation', coalesce((
                        SELECT format(' COLLATE %I.%I', cn.nspname, co.collname)
                        FROM pg_collation AS co JOIN pg_namespace AS cn ON cn.oid = co.collnamespace
                        JOIN pg_type AS ty ON ty.oid = a.atttypid
                        WHERE co.oid = a.attcollation AND a.attcollation <> ty.typcollation), ''),
                    'not_null', a.attnotnull,
                    'default', CASE WHEN a.attgenerated = '' THEN pg_get_expr(ad.adbin, 0) END,
                    'constant_default', coalesce(CASE WHEN a.attgenerated = '' THEN pg_get_expr(ad.adbin, 0) END
                        ~ '^(-?[0-9.]+|true|false|''([^'']|'''')*''(::[a-z0-9_ ".()]+)?)$', false),
                    'generated', a.attgenerated <> '',
                    'identity', a.attidentity <> '',
                    'grants', coalesce((
                        SELECT jsonb_agg(jsonb_build_array(x.privilege_type,
                            CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END))
                        FROM aclexplode(a.attacl) AS x), '[]')) ORDER BY a.attnum)
                FROM pg_attribute AS a LEFT JOIN pg_attrdef AS ad ON (ad.adrelid, ad.adnum) = (a.attrelid, a.attnum)
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '[]'),
            'indexes', coalesce((
                SELECT jsonb_agg(jsonb_build_object(
                    'name', ic.relname,
                    'definition', CASE WHEN c.relname = ANY ($3::text[]) THEN pg_get_indexdef(i.indexrelid) ELSE '' END,
                    'valid', i.indisvalid AND i.indisready,
                    'columns', coalesce((
                        SELECT jsonb_agg(DISTINCT a.attname) FROM pg_depend AS d
                        JOIN pg_attribute AS a ON (a.attrelid, a.attnum) = (d.refobjid, d.refobjsubid)
                        WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.refobjid = c.oid AND d.refobjsubid > 0),
                        (SELECT jsonb_agg(a.attname) FROM pg_attribute AS a
                         WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey) AND a.attnum > 0), '[]')) ORDER BY ic.relname)
                FROM pg_index AS i JOIN pg_class AS ic ON ic.oid = i.indexrelid WHERE i.indrelid = c.oid), '[]'),
            'dependants', coalesce((
                SELECT jsonb_agg(jsonb_build_object(
                    'column', a.attname,
                    'what', replace(pg_describe_object(d.classid, d.objid, d.objsubid), 'rule _RETURN on ', ''),
                    'goes_silently', d.deptype = 'a' AND d.classid <> 'pg_attrdef'::regclass,
                    'names_others', EXISTS (
                        SELECT FROM pg_depend AS o
                        WHERE (o.classid, o.objid, o.refobjid) = (d.classid, d.objid, d.refobjid) AND o.refobjsubid > 0
                          AND o.refobjsubid <> d.refobjsubid)))
                FROM pg_depend AS d JOIN pg_attribute AS a ON (a.attrelid, a.attnum) = (d.refobjid, d.refobjsubid)
                WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.refobjsubid > 0
                  AND d.deptype IN ('n', 'a')
                  -- The column's own default goes with it; another column's generation expression does not.
                  AND NOT (d.classid = 'pg_attrdef'::regclass AND EXISTS (
                      SELECT FROM pg_attrdef AS own WHERE own.oid = d.objid AND own.adnum = d.refobjsubid))
                  AND NOT (d.classid = 'pg_trigger'::regclass AND EXISTS (
                      SELECT FROM pg_trigger AS t WHERE t.oid = d.objid AND (t.tgname LIKE ' pontoon%' OR t.tgname LIKE '~pontoon%')))), '[]'),
            'triggers', coalesce((
                SELECT jsonb_agg(jsonb_build_object(
                    'name', t.tgname,
                    'before_row', (t.tgtype & 3) = 3,
                    'update_of', coalesce((SELECT jsonb_agg(a.attname) FROM pg_attribute AS a
                                           WHERE a.attrelid = c.oid AND a.attnum = ANY (t.tgattr)), '[]')) ORDER BY t.tgname)
                FROM pg_trigger AS t
                WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgname NOT LIKE ' pontoon%' AND t.tgname NOT LIKE '~pontoon%'), '[]')))
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND c.relname = ANY ($1::text[])
          AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname <> $2::text), '[]') AS tables
