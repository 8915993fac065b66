-- Purpose: the columns of the tables a plan touches, by attnum, to see whether somebody else changed them.
-- Locks: none.
-- Parameters: $1 text[] tables, quoted and qualified.
SELECT coalesce(jsonb_object_agg(t.name, t.columns), '{}') AS value FROM (
    SELECT name,
           (SELECT jsonb_object_agg(a.attnum::text, jsonb_build_array(a.attname, format_type(a.atttypid, a.atttypmod)))
            FROM pg_attribute AS a
            WHERE a.attrelid = to_regclass(name) AND a.attnum > 0 AND NOT a.attisdropped) AS columns
    FROM unnest($1::text[]) AS name) AS t
