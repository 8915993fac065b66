-- Purpose: the tables whose names occur in the migrations, with everything the planner asks about them.
-- Locks: none on user tables; reads system catalogs only.
-- Deparsing an index opens its table, so definitions are read only of tables whose columns are renamed; a default is
-- deparsed without its table, which it cannot name. Views, functions, policies and triggers are deparsed where a file
-- names them.
-- Parameters: $1 text[] names that occur in the files, $2 text the ledger's schema, $3 text[] tables whose definitions
-- count; those that point at them by foreign keys, however far, come with them.
WITH RECURSIVE defined (oid) AS (
    SELECT c.oid FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relname = ANY ($3::text[]) AND c.relkind IN ('r', 'p')
      AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname <> $2::text
    UNION
    SELECT k.conrelid FROM pg_constraint AS k JOIN defined AS d ON k.confrelid = d.oid AND k.contype = 'f'
),
named AS (
    SELECT 'pg_class'::regclass AS classid, c.oid, n.nspname, c.relname AS name, NULL::oid AS on_table, '' AS arguments,
           ARRAY[c.oid, c.reltype, rt.typarray] AS refs,
           CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' WHEN 'i' THEN 'index' WHEN 'I' THEN 'index'
                WHEN 'r' THEN 'table' WHEN 'p' THEN 'table' ELSE 'relation' END AS kind,
           CASE WHEN c.relkind = 'v' THEN
               ARRAY[format('CREATE OR REPLACE VIEW %I.%I%s AS %s', n.nspname, c.relname, ' WITH (' || array_to_string(c.reloptions, ', ') || ')',
                            rtrim(pg_get_viewdef(c.oid), ';'))]
           END AS definition
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace LEFT JOIN pg_type AS rt ON rt.oid = c.reltype
    WHERE c.relname = ANY ($1::text[])
    UNION ALL
    SELECT 'pg_type'::regclass, t.oid, n.nspname, t.typname, NULL, '', ARRAY[t.oid, t.typarray],
           CASE t.typtype WHEN 'd' THEN 'domain' ELSE 'type' END, NULL
    FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace LEFT JOIN pg_class AS c ON c.oid = t.typrelid
    WHERE t.typname = ANY ($1::text[]) AND coalesce(c.relkind, 'c') = 'c'
    UNION ALL
    SELECT 'pg_proc'::regclass, p.oid, n.nspname, p.proname, NULL, format('(%s)', pg_get_function_identity_arguments(p.oid)), ARRAY[p.oid],
           CASE p.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END, ARRAY[pg_get_functiondef(p.oid)]
    FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE p.proname = ANY ($1::text[]) AND p.prokind IN ('f', 'p')
    UNION ALL
    SELECT 'pg_policy'::regclass, p.oid, n.nspname, p.polname, p.polrelid, '', ARRAY[p.oid], 'policy',
           ARRAY[format('CREATE POLICY %I ON %I.%I AS %s FOR %s TO %s%s%s', p.polname, n.nspname, c.relname,
                        CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
                        CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
                        (SELECT string_agg(CASE role WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(role)) END, ', ')
                         FROM unnest(p.polroles) AS role),
                        ' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')',
                        ' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')'),
                 format('COMMENT ON POLICY %I ON %I.%I IS %L', p.polname, n.nspname, c.relname, obj_description(p.oid, 'pg_policy'))]
    FROM pg_policy AS p JOIN pg_class AS c ON c.oid = p.polrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE p.polname = ANY ($1::text[])
    UNION ALL
    SELECT 'pg_trigger'::regclass, t.oid, n.nspname, t.tgname, t.tgrelid, '', ARRAY[t.oid], 'trigger',
           ARRAY[pg_get_triggerdef(t.oid),
                 format('COMMENT ON TRIGGER %I ON %I.%I IS %L', t.tgname, n.nspname, c.relname, obj_description(t.oid, 'pg_trigger'))] || CASE t.tgenabled
               WHEN 'O' THEN ARRAY[]::text[]
               ELSE ARRAY[format('ALTER TABLE %I.%I %s TRIGGER %I', n.nspname, c.relname,
                                 CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE REPLICA' END, t.tgname)] END
    FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE t.tgname = ANY ($1::text[]) AND NOT t.tgisinternal
)
SELECT
    current_setting('server_version_num')::bigint AS server_version,
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
            SELECT CASE p.prokind WHEN 'p' THEN 'procedure:' ELSE 'function:' END || n.nspname || '.' || p.proname FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
            WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
            UNION ALL
            SELECT CASE t.typtype WHEN 'd' THEN 'domain:' ELSE 'type:' END || n.nspname || '.' || t.typname
            FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace
            WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
            UNION ALL
            SELECT CASE c.relkind WHEN 'v' THEN 'view:' WHEN 'm' THEN 'materialized view:' ELSE 'sequence:' END || n.nspname || '.' || c.relname
            FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.relkind IN ('v', 'm', 'S')) AS o), '[]') AS objects,
    coalesce((
        SELECT jsonb_agg(jsonb_build_object(
            'name', pub.pubname,
            'changes', pub.pubupdate OR pub.pubdelete,
            'all_tables', pub.puballtables,
            'listed', coalesce((
                SELECT jsonb_agg(jsonb_build_object('schema', n.nspname, 'name', c.relname))
                FROM pg_publication_rel AS pr JOIN pg_class AS c ON c.oid = pr.prrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
                WHERE pr.prpubid = pub.oid AND c.relname = ANY ($1::text[])), '[]'),
            'tables', coalesce((
                SELECT jsonb_agg(jsonb_build_object('schema', t.schemaname, 'name', t.tablename))
                FROM pg_publication_tables AS t
                WHERE t.pubname = pub.pubname AND NOT pub.puballtables AND t.tablename = ANY ($1::text[])), '[]')))
        FROM pg_publication AS pub), '[]') AS publications,
    coalesce((
        SELECT jsonb_agg(d.name) FROM (
            SELECT unnest(ARRAY[t.typname::text, n.nspname || '.' || t.typname]) AS name
            FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace
            WHERE t.typtype = 'd' AND (t.typnotnull OR EXISTS (SELECT FROM pg_constraint AS k WHERE k.contypid = t.oid))
              AND n.nspname <> 'information_schema') AS d), '[]') AS checked_domains,
    coalesce((
        SELECT jsonb_agg(jsonb_build_object(
            'kind', o.kind,
            'what', pg_describe_object(o.classid, o.oid, 0),
            'name', jsonb_build_object('schema', o.nspname, 'name', o.name),
            'on_table', (SELECT jsonb_build_object('schema', n.nspname, 'name', c.relname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = o.on_table),
            'arguments', o.arguments,
            'partitioned', o.classid = 'pg_class'::regclass AND EXISTS (SELECT FROM pg_class AS pc WHERE pc.oid = o.oid AND pc.relkind IN ('I', 'p')),
            'index_of', (SELECT jsonb_build_object('schema', n.nspname, 'name', c.relname) FROM pg_index AS x JOIN pg_class AS c ON c.oid = x.indrelid
                         JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE o.classid = 'pg_class'::regclass AND x.indexrelid = o.oid),
            'definition', coalesce(to_jsonb(o.definition), '[]'),
            'indexes', coalesce((
                SELECT jsonb_agg(ic.relname) FROM pg_index AS i JOIN pg_class AS ic ON ic.oid = i.indexrelid
                WHERE o.classid = 'pg_class'::regclass AND i.indrelid = o.oid), '[]'),
            'part_of', (SELECT pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid) FROM pg_depend AS d
                        WHERE d.classid = o.classid AND d.objid = o.oid AND d.refobjid <> o.oid
                          AND (d.deptype IN ('i', 'e') OR (d.deptype = 'P' AND d.refobjsubid = 0)) LIMIT 1),
            'dependants', coalesce((
                SELECT jsonb_agg(DISTINCT CASE WHEN r.rulename = '_RETURN' THEN pg_describe_object('pg_class'::regclass, r.ev_class, 0)
                                               ELSE pg_describe_object(d.classid, d.objid, d.objsubid) END)
                FROM pg_depend AS d
                LEFT JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
                LEFT JOIN pg_constraint AS k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
                LEFT JOIN pg_trigger AS t ON d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
                LEFT JOIN pg_policy AS p ON d.classid = 'pg_policy'::regclass AND p.oid = d.objid
                LEFT JOIN pg_attrdef AS a ON d.classid = 'pg_attrdef'::regclass AND a.oid = d.objid
                WHERE d.refobjid = ANY (o.refs) AND d.deptype = 'n'
                  AND d.refclassid IN (o.classid, 'pg_type'::regclass)
                  -- What is ours goes when its migration is contracted.
                  AND NOT EXISTS (SELECT FROM pg_proc AS f JOIN pg_namespace AS fn ON fn.oid = f.pronamespace
                                  WHERE d.classid = 'pg_proc'::regclass AND f.oid = d.objid AND fn.nspname = $2::text)
                  AND coalesce(r.ev_class, k.conrelid, t.tgrelid, p.polrelid, a.adrelid, d.objid) <> o.oid), '[]')))
        FROM named AS o WHERE o.nspname NOT IN ('pg_catalog', 'information_schema') AND o.nspname <> $2::text), '[]') AS known_objects,
    coalesce((
        SELECT jsonb_agg(DISTINCT n.nspname || '.' || k.conname) FROM pg_constraint AS k JOIN pg_namespace AS n ON n.oid = k.connamespace
        WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname <> $2::text), '[]') AS constraint_names,
    coalesce((
        SELECT jsonb_agg(jsonb_build_object(
            'oid', c.oid::bigint,
            'name', jsonb_build_object('schema', n.nspname, 'name', c.relname),
            'kind', c.relkind,
            'persistence', c.relpersistence,
            'inherits', EXISTS (SELECT FROM pg_inherits AS i WHERE c.oid = i.inhrelid OR (c.oid = i.inhparent AND c.relkind <> 'p')),
            'read_by', coalesce((
                WITH RECURSIVE reader(oid) AS (
                    SELECT r.ev_class FROM pg_depend AS d JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
                    WHERE d.refclassid = 'pg_class'::regclass AND r.rulename = '_RETURN'
                      AND (d.refobjid = c.oid OR d.refobjid IN (SELECT p.relid FROM pg_partition_tree(c.oid) AS p))
                    UNION
                    SELECT r.ev_class FROM reader JOIN pg_class AS v ON v.oid = reader.oid AND v.relkind = 'v'
                    JOIN pg_depend AS d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = v.oid
                    JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid AND r.rulename = '_RETURN' AND r.ev_class <> v.oid)
                SELECT jsonb_agg(jsonb_build_object('schema', vn.nspname, 'name', v.relname))
                FROM reader JOIN pg_class AS v ON v.oid = reader.oid AND v.relkind = 'v' JOIN pg_namespace AS vn ON vn.oid = v.relnamespace), '[]'),
            'partitions', CASE WHEN c.relkind = 'p' THEN (
                SELECT jsonb_build_object(
                    'key', coalesce((
                        SELECT jsonb_agg(DISTINCT a.attname) FROM pg_depend AS d
                        JOIN pg_attribute AS a ON (a.attrelid, a.attnum) = (d.objid, d.objsubid)
                        WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.objid = d.refobjid
                          AND d.objsubid > 0 AND d.refobjsubid = 0 AND d.deptype = 'i'
                          AND d.objid IN (SELECT p.relid FROM pg_partition_tree(c.oid) AS p WHERE NOT p.isleaf)), '[]'),
                    'default_leaf', (SELECT jsonb_build_object('schema', n2.nspname, 'name', dc.relname) FROM pg_partitioned_table AS pt
                                     JOIN pg_class AS dc ON dc.oid = pt.partdefid JOIN pg_namespace AS n2 ON n2.oid = dc.relnamespace WHERE pt.partrelid = c.oid),
                    'leaving', EXISTS (SELECT FROM pg_inherits AS i WHERE to_jsonb(i) ->> 'inhdetachpending' = 'true' AND i.inhparent IN (
                        SELECT p.relid FROM pg_partition_tree(c.oid) AS p)),
                    -- Indexes, constraints and defaults that a partition has and the whole has not, by the columns they name.
                    'own', coalesce((
                        SELECT jsonb_agg(DISTINCT o.attname) FROM (
                            SELECT a.attname FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
                            WHERE i.indrelid IN (SELECT p.relid FROM pg_partition_tree(c.oid) AS p WHERE p.relid <> c.oid)
                              AND NOT EXISTS (SELECT FROM pg_inherits AS h WHERE h.inhrelid = i.indexrelid)
                            UNION ALL
                            SELECT a.attname FROM pg_constraint AS k JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)
                            WHERE k.conrelid IN (SELECT p.relid FROM pg_partition_tree(c.oid) AS p WHERE p.relid <> c.oid)
                              AND k.contype <> 'n' AND k.coninhcount = 0 AND k.conparentid = 0) AS o), '[]'),
                    'own_defaults', coalesce((
                        SELECT jsonb_agg(DISTINCT o.attname) FROM (
                            SELECT a.attname FROM pg_attrdef AS ad JOIN pg_attribute AS a ON (a.attrelid, a.attnum) = (ad.adrelid, ad.adnum)
                            WHERE a.attgenerated = '' AND ad.adrelid IN (SELECT p.relid FROM pg_partition_tree(c.oid) AS p WHERE p.relid <> c.oid)
                              AND pg_get_expr(ad.adbin, 0) IS DISTINCT FROM (
                                  SELECT pg_get_expr(pd.adbin, 0) FROM pg_attrdef AS pd JOIN pg_attribute AS pa ON (pa.attrelid, pa.attnum) = (pd.adrelid, pd.adnum)
                                  WHERE pd.adrelid = c.oid AND pa.attname = a.attname AND pa.attgenerated = '')) AS o), '[]'),
                    'apart', coalesce((
                        SELECT jsonb_agg(DISTINCT o.attname) FROM (
                            SELECT a.attname FROM pg_constraint AS k JOIN pg_attribute AS a ON a.attrelid = k.confrelid AND a.attnum = ANY (k.confkey)
                            WHERE k.contype = 'f' AND k.conparentid = 0
                              AND k.confrelid IN (SELECT p.relid FROM pg_partition_tree(c.oid) AS p WHERE p.relid <> c.oid)
                            UNION ALL
                            SELECT a.attname FROM pg_partition_tree(c.oid) AS p JOIN pg_attribute AS a ON a.attrelid = p.relid
                            WHERE p.relid <> c.oid AND a.attnum > 0 AND NOT a.attisdropped
                              AND (a.attacl IS NOT NULL OR a.attoptions IS NOT NULL OR col_description(a.attrelid, a.attnum) IS NOT NULL)
                            UNION ALL
                            SELECT a.attname FROM pg_partition_tree(c.oid) AS p JOIN pg_attribute AS a ON a.attrelid = p.relid
                            JOIN pg_attribute AS w ON (w.attrelid, w.attname) = (c.oid, a.attname)
                            WHERE p.relid <> c.oid AND a.attnum > 0 AND NOT a.attisdropped
                              AND (a.attnotnull <> w.attnotnull OR a.attstattarget IS DISTINCT FROM w.attstattarget OR a.attstorage <> w.attstorage
                                   OR a.attcompression <> w.attcompression)
                            UNION ALL
                            SELECT a.attname FROM pg_statistic_ext AS st JOIN pg_attribute AS a ON a.attrelid = st.stxrelid AND a.attnum = ANY (st.stxkeys)
                            WHERE st.stxrelid IN (SELECT p.relid FROM pg_partition_tree(c.oid) AS p WHERE p.relid <> c.oid)) AS o), '[]'),
                    'not_null', coalesce((
                        SELECT jsonb_agg(DISTINCT a.attname) FROM pg_partition_tree(c.oid) AS p JOIN pg_attribute AS a ON a.attrelid = p.relid
                        WHERE p.relid <> c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull), '[]'),
                    'leaves', coalesce((
                        SELECT jsonb_agg(jsonb_build_object(
                            'name', jsonb_build_object('schema', ln.nspname, 'name', l.relname),
                            'kind', l.relkind, 'persistence', l.relpersistence, 'owner', quote_ident(pg_get_userbyid(l.relowner)),
                            'row_security_forced', l.relrowsecurity AND l.relforcerowsecurity,
                            'bound', CASE WHEN p.parentrelid = c.oid THEN pg_get_expr(l.relpartbound, l.oid) END) ORDER BY ln.nspname, l.relname)
                        FROM pg_partition_tree(c.oid) AS p JOIN pg_class AS l ON l.oid = p.relid
                        JOIN pg_namespace AS ln ON ln.oid = l.relnamespace WHERE p.isleaf), '[]'))) END,
            'extension', (SELECT e.extname FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
                          WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
                            AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'),
            'owner', quote_ident(pg_get_userbyid(c.relowner)),
            'grants', coalesce((
                SELECT jsonb_agg(jsonb_build_array(x.privilege_type,
                    CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END
                    || CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END))
                FROM aclexplode(c.relacl) AS x WHERE x.grantee <> c.relowner), '[]'),
            'row_security', c.relrowsecurity,
            'row_security_forced', c.relforcerowsecurity,
            'replica_identity', NOT EXISTS (
                SELECT FROM pg_class AS l
                WHERE (l.oid = c.oid OR l.oid IN (SELECT p.relid FROM pg_partition_tree(c.oid) AS p)) AND l.relkind = 'r'
                  AND l.relreplident <> 'f' AND NOT EXISTS (
                      SELECT FROM pg_index AS i WHERE i.indrelid = l.oid
                        AND CASE l.relreplident WHEN 'd' THEN i.indisprimary AND i.indimmediate ELSE i.indisreplident END)),
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
                    'identity_kind', a.attidentity,
                    'sequence', (
                        SELECT jsonb_build_object('schema', sn.nspname, 'name', sc.relname)
                        FROM pg_depend AS sd JOIN pg_class AS sc ON sc.oid = sd.objid AND sc.relkind = 'S'
                        JOIN pg_namespace AS sn ON sn.oid = sc.relnamespace
                        WHERE sd.classid = 'pg_class'::regclass AND sd.refclassid = 'pg_class'::regclass
                          AND sd.refobjid = c.oid AND sd.refobjsubid = a.attnum AND sd.deptype IN ('a', 'i') LIMIT 1),
                    'sequence_options', (
                        SELECT format('INCREMENT BY %s START WITH %s CACHE %s%s%s%s', q.seqincrement, q.seqstart, q.seqcache,
                                      CASE WHEN q.seqmin <> 1 THEN ' MINVALUE ' || q.seqmin END,
                                      CASE WHEN q.seqmax <> CASE q.seqtypid::regtype::text WHEN 'smallint' THEN 32767 WHEN 'integer' THEN 2147483647 ELSE 9223372036854775807 END
                                           THEN ' MAXVALUE ' || q.seqmax END,
                                      CASE WHEN q.seqcycle THEN ' CYCLE' END)
                        FROM pg_depend AS sd JOIN pg_sequence AS q ON q.seqrelid = sd.objid
                        WHERE sd.classid = 'pg_class'::regclass AND sd.refclassid = 'pg_class'::regclass
                          AND sd.refobjid = c.oid AND sd.refobjsubid = a.attnum AND sd.deptype IN ('a', 'i') LIMIT 1),
                    'sequence_also', coalesce((
                        SELECT jsonb_agg(also.sql) FROM (
                            SELECT format('COMMENT ON SEQUENCE %I.%I IS %L', sn.nspname, sc.relname, obj_description(sc.oid, 'pg_class')) AS sql
                            FROM pg_depend AS sd JOIN pg_class AS sc ON sc.oid = sd.objid AND sc.relkind = 'S'
                            JOIN pg_namespace AS sn ON sn.oid = sc.relnamespace
                            WHERE sd.classid = 'pg_class'::regclass AND sd.refclassid = 'pg_class'::regclass AND sd.refobjid = c.oid
                              AND sd.refobjsubid = a.attnum AND sd.deptype = 'i' AND obj_description(sc.oid, 'pg_class') IS NOT NULL
                            UNION ALL
                            SELECT format('GRANT %s ON SEQUENCE %I.%I TO %s%s', x.privilege_type, sn.nspname, sc.relname,
                                          CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END,
                                          CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' END)
                            FROM pg_depend AS sd JOIN pg_class AS sc ON sc.oid = sd.objid AND sc.relkind = 'S'
                            JOIN pg_namespace AS sn ON sn.oid = sc.relnamespace, aclexplode(sc.relacl) AS x
                            WHERE sd.classid = 'pg_class'::regclass AND sd.refclassid = 'pg_class'::regclass AND sd.refobjid = c.oid
                              AND sd.refobjsubid = a.attnum AND sd.deptype = 'i' AND x.grantee <> sc.relowner) AS also), '[]'),
                    'comment', col_description(c.oid, a.attnum),
                    'statistics', a.attstattarget,
                    'storage', CASE WHEN a.attstorage <> (SELECT ty.typstorage FROM pg_type AS ty WHERE ty.oid = a.atttypid)
                                    THEN CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END END,
                    'compression', CASE a.attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' END,
                    'options', coalesce(to_jsonb(a.attoptions), '[]'),
                    'grants', coalesce((
                        SELECT jsonb_agg(jsonb_build_array(x.privilege_type,
                            CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END
                            || CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END))
                        FROM aclexplode(a.attacl) AS x), '[]')) ORDER BY a.attnum)
                FROM pg_attribute AS a LEFT JOIN pg_attrdef AS ad ON (ad.adrelid, ad.adnum) = (a.attrelid, a.attnum)
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '[]'),
            'indexes', coalesce((
                SELECT jsonb_agg(jsonb_build_object(
                    'name', ic.relname,
                    'definition', CASE WHEN c.oid IN (SELECT d.oid FROM defined AS d) THEN pg_get_indexdef(i.indexrelid) ELSE '' END,
                    'valid', i.indisvalid AND i.indisready,
                    'unique', i.indisunique,
                    'plain', i.indpred IS NULL AND i.indexprs IS NULL AND i.indimmediate,
                    'primary', i.indisprimary,
                    'constraint', (SELECT k.conname FROM pg_constraint AS k
                                   WHERE k.conindid = i.indexrelid AND k.conrelid = c.oid AND k.contype IN ('p', 'u', 'x')),
                    'replica_identity', i.indisreplident OR EXISTS (
                        SELECT FROM pg_partition_tree(i.indexrelid) AS p JOIN pg_index AS pi ON pi.indexrelid = p.relid WHERE pi.indisreplident),
                    'clustered', i.indisclustered,
                    'columns', coalesce((
                        SELECT jsonb_agg(DISTINCT a.attname) FROM pg_depend AS d
                        JOIN pg_attribute AS a ON (a.attrelid, a.attnum) = (d.refobjid, d.refobjsubid)
                        WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.refobjid = c.oid AND d.refobjsubid > 0),
                        (SELECT jsonb_agg(a.attname) FROM pg_attribute AS a
                         WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey) AND a.attnum > 0), '[]'),
                    'parts', coalesce((
                        SELECT jsonb_agg(jsonb_build_object(
                            'table', jsonb_build_object('schema', tn.nspname, 'name', t.relname),
                            'index', pc.relname,
                            'holds_rows', p.isleaf) ORDER BY p.level DESC, tn.nspname, t.relname)
                        FROM pg_partition_tree(i.indexrelid) AS p JOIN pg_class AS pc ON pc.oid = p.relid JOIN pg_index AS pi ON pi.indexrelid = p.relid
                        JOIN pg_class AS t ON t.oid = pi.indrelid JOIN pg_namespace AS tn ON tn.oid = t.relnamespace
                        WHERE p.level > 0), '[]')) ORDER BY ic.relname)
                FROM pg_index AS i JOIN pg_class AS ic ON ic.oid = i.indexrelid WHERE i.indrelid = c.oid), '[]'),
            'constraints', coalesce((
                SELECT jsonb_agg(jsonb_build_object(
                    'name', k.conname,
                    'kind', k.contype,
                    'validated', k.convalidated,
                    'columns', coalesce((SELECT jsonb_agg(a.attname ORDER BY array_position(k.conkey, a.attnum)) FROM pg_attribute AS a
                                         WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)), '[]'),
                    'parent', (SELECT jsonb_build_object('schema', pn.nspname, 'name', pc.relname)
                               FROM pg_class AS pc JOIN pg_namespace AS pn ON pn.oid = pc.relnamespace WHERE pc.oid = k.confrelid),
                    'parent_columns', coalesce((SELECT jsonb_agg(a.attname ORDER BY array_position(k.confkey, a.attnum)) FROM pg_attribute AS a
                                         WHERE a.attrelid = k.confrelid AND a.attnum = ANY (k.confkey)), '[]'),
                    'comment', obj_description(k.oid, 'pg_constraint'),
                    'definition', CASE WHEN c.oid IN (SELECT d.oid FROM defined AS d) THEN pg_get_constraintdef(k.oid) ELSE '' END) ORDER BY k.conname)
                FROM pg_constraint AS k WHERE k.conrelid = c.oid AND k.contype IN ('c', 'f', 'p', 'u', 'x')
                  -- That of a partition is the whole's, and one that points at a partition that at the whole.
                  AND (k.contype <> 'f' OR k.conparentid = 0)), '[]'),
            'dependants', coalesce((
                SELECT jsonb_agg(DISTINCT jsonb_build_object(
                    'column', a.attname,
                    'kind', d.classid::regclass::text,
                    'what', replace(pg_describe_object(d.classid, d.objid, d.objsubid), 'rule _RETURN on ', ''),
                    -- A constraint of the table itself goes with any of its columns.
                    'goes_silently', (d.deptype = 'a' AND d.classid <> 'pg_attrdef'::regclass)
                        OR (d.classid = 'pg_constraint'::regclass
                            AND EXISTS (SELECT FROM pg_constraint AS own WHERE own.oid = d.objid AND own.conrelid = c.oid)),
                    'names_others', EXISTS (
                        SELECT FROM pg_depend AS o
                        WHERE (o.classid, o.objid, o.refobjid) = (d.classid, d.objid, d.refobjid) AND o.refobjsubid > 0
                          AND o.refobjsubid <> d.refobjsubid)))
                FROM pg_depend AS d JOIN pg_attribute AS a ON (a.attrelid, a.attnum) = (d.refobjid, d.refobjsubid)
                WHERE d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0 AND d.deptype IN ('n', 'a')
                  -- Of a partition, what is no part of the whole's, and is not counted as its own already.
                  AND (d.refobjid = c.oid OR c.relkind = 'p' AND d.refobjid IN (SELECT p.relid FROM pg_partition_tree(c.oid) AS p) AND (
                      d.classid IN ('pg_rewrite'::regclass, 'pg_policy'::regclass, 'pg_proc'::regclass, 'pg_publication_rel'::regclass)
                      OR d.classid = 'pg_trigger'::regclass AND EXISTS (SELECT FROM pg_trigger AS t WHERE t.oid = d.objid AND t.tgparentid = 0)
                      OR d.classid = 'pg_constraint'::regclass AND EXISTS (
                          SELECT FROM pg_constraint AS k WHERE k.oid = d.objid AND k.contype = 'f' AND k.conparentid = 0
                            AND k.confrelid = d.refobjid AND k.confrelid <> k.conrelid)))
                  -- The column's own default goes with it; another column's generation expression does not.
                  AND NOT (d.classid = 'pg_attrdef'::regclass AND EXISTS (
                      SELECT FROM pg_attrdef AS own WHERE own.oid = d.objid AND own.adnum = d.refobjsubid))
                  AND NOT (d.classid = 'pg_trigger'::regclass AND EXISTS (
                      SELECT FROM pg_trigger AS t WHERE t.oid = d.objid AND (t.tgname LIKE ' pontoon%' OR t.tgname LIKE '~pontoon%')))
                  AND NOT (d.classid = 'pg_proc'::regclass AND EXISTS (
                      SELECT FROM pg_proc AS p JOIN pg_namespace AS pn ON pn.oid = p.pronamespace
                      WHERE p.oid = d.objid AND pn.nspname = $2::text))), '[]'),
            'triggers', coalesce((
                SELECT jsonb_agg(jsonb_build_object(
                    'name', t.tgname,
                    'before_row', (t.tgtype & 3) = 3,
                    'on_update', (t.tgtype & 16) = 16,
                    'enabled', t.tgenabled,
                    'update_of', coalesce((SELECT jsonb_agg(a.attname) FROM pg_attribute AS a
                                           WHERE a.attrelid = c.oid AND a.attnum = ANY (t.tgattr)), '[]')) ORDER BY t.tgname)
                FROM pg_trigger AS t
                WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgname NOT LIKE ' pontoon%' AND t.tgname NOT LIKE '~pontoon%'), '[]')))
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND (c.relname = ANY ($1::text[]) OR c.oid IN (SELECT d.oid FROM defined AS d))
          AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname <> $2::text), '[]') AS tables
