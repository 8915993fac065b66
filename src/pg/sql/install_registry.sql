-- Purpose: the public protocol. Applications may execute these functions and see nothing else.
-- Locks: ROW SHARE on the gate, ROW EXCLUSIVE on the registry.

-- A version as the files spell it.
CREATE FUNCTION pontoon.version_text(version bigint) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN lpad(version::text, greatest(4, length(version::text)), '0');

CREATE FUNCTION pontoon.version_number(version text) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF version IS NULL OR version !~ '^[0-9]{1,18}$' THEN
        RAISE EXCEPTION 'a schema version is a number, such as 7 or 0007' USING ERRCODE = '22023';
    END IF;
    RETURN version::bigint;
END $$;

-- The oldest version that code may still be written for.
CREATE FUNCTION pontoon.oldest_accepted() RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT greatest(
        (SELECT g.baseline FROM pontoon.gate AS g),
        (SELECT max(m.version) FROM pontoon.migration AS m
         WHERE m.has_contract AND m.state IN ('closing', 'sealed', 'dropping', 'done')));
END;

-- Why code written for a version may not serve yet; null if it may.
CREATE FUNCTION pontoon.not_serving(wanted bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT CASE
        WHEN wanted > greatest((SELECT g.baseline FROM pontoon.gate AS g),
                               (SELECT max(m.version) FROM pontoon.migration AS m), 0)
        THEN format('migration %s is not expanded here', pontoon.version_text(wanted))
        ELSE (SELECT format('migration %s is %s', pontoon.version_text(m.version), m.state)
              FROM pontoon.migration AS m
              WHERE m.version <= wanted
                -- What stands up to the baseline counts as applied.
                AND m.version > (SELECT g.baseline FROM pontoon.gate AS g)
                AND m.state NOT IN ('ready', 'closing', 'sealed', 'dropping', 'done')
                AND NOT (m.serve_expanded AND m.state IN ('expanded', 'backfilling'))
                -- Given up: a later one was expanded after it was aborted.
                AND NOT (m.state = 'aborted' AND EXISTS (
                    SELECT FROM pontoon.migration AS l WHERE l.version > m.version AND l.expanded_at > m.aborted_at))
              ORDER BY m.version LIMIT 1)
    END;
END;

CREATE FUNCTION pontoon.register(app text, instance text, schema_version text, ttl interval DEFAULT '30 seconds',
                                 still_uses text[] DEFAULT '{}')
RETURNS TABLE (incarnation bigint, may_serve boolean, reason text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s' AS $$
#variable_conflict use_column
DECLARE
    wanted bigint := pontoon.version_number(register.schema_version);
    names  bigint[];
    oldest bigint;
    token  bigint := ('x' || left(replace(gen_random_uuid()::text, '-', ''), 13))::bit(52)::bigint;
    moment timestamptz;
    why    text;
BEGIN
    IF coalesce(length(register.app), 0) NOT BETWEEN 1 AND 200 OR coalesce(length(register.instance), 0) NOT BETWEEN 1 AND 200 THEN
        RAISE EXCEPTION 'app and instance are names of 1 to 200 characters' USING ERRCODE = '22023';
    END IF;
    IF register.ttl IS NULL OR register.ttl NOT BETWEEN interval '1 second' AND interval '1 hour' THEN
        RAISE EXCEPTION 'ttl is between 1 second and 1 hour' USING ERRCODE = '22023';
    END IF;
    IF cardinality(register.still_uses) > 100 THEN
        RAISE EXCEPTION 'still_uses names at most 100 migrations' USING ERRCODE = '22023';
    END IF;
    SELECT coalesce(array_agg(pontoon.version_number(u.used)), '{}') INTO names FROM unnest(register.still_uses) AS u (used);
    -- Waits for a closing contract and sees what it decided.
    PERFORM FROM pontoon.gate FOR SHARE;
    oldest := pontoon.oldest_accepted();
    IF wanted < oldest THEN
        RAISE EXCEPTION 'schema version % is closed; the oldest accepted version is %',
            pontoon.version_text(wanted), pontoon.version_text(oldest)
            USING ERRCODE = 'PT004', HINT = 'deploy a newer version of the application';
    END IF;
    SELECT pontoon.version_text(m.version) INTO why FROM pontoon.migration AS m
    WHERE m.version = ANY (names) AND m.has_contract AND m.state IN ('closing', 'sealed', 'dropping', 'done') LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'still_uses names migration %, whose old schema is closed; the oldest accepted version is %', why, pontoon.version_text(oldest)
            USING ERRCODE = 'PT004', HINT = 'deploy a version of the application that does without it';
    END IF;
    why := pontoon.not_serving(wanted);
    moment := clock_timestamp();
    INSERT INTO pontoon.instance AS i (app, instance, schema_version, still_uses, incarnation, ttl, may_serve, role,
                                       application_name, address, registered_at, last_seen, expires_at)
    VALUES (register.app, register.instance, wanted, names, token, register.ttl, why IS NULL, session_user,
            current_setting('application_name'), inet_client_addr(), moment, moment, moment + register.ttl);
    -- Earlier registrations of the name have ended, except that one which uses an older schema counts until its grace is
    -- over: it may be another process.
    UPDATE pontoon.instance AS i SET deregistered_at = moment
    WHERE i.app = register.app AND i.instance = register.instance AND i.incarnation <> token AND i.deregistered_at IS NULL
      AND i.schema_version >= wanted AND i.still_uses <@ names;
    RETURN QUERY SELECT token, why IS NULL, why;
END $$;

CREATE FUNCTION pontoon.heartbeat(app text, instance text, incarnation bigint)
RETURNS TABLE (state text, may_serve boolean, reason text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s' AS $$
#variable_conflict use_column
DECLARE
    found_row pontoon.instance;
    moment    timestamptz;
    why       text;
BEGIN
    SELECT * INTO found_row FROM pontoon.instance AS i
    WHERE i.app = heartbeat.app AND i.instance = heartbeat.instance AND i.incarnation = heartbeat.incarnation
      AND i.deregistered_at IS NULL
    FOR UPDATE;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'unknown'::text, false, 'no such registration: register again'::text;
        RETURN;
    END IF;
    moment := clock_timestamp();
    -- An expired lease is not revived: the gate may already have counted without it.
    IF found_row.expires_at <= moment THEN
        RETURN QUERY SELECT 'expired'::text, false, 'the lease expired: register again'::text;
        RETURN;
    END IF;
    IF found_row.schema_version < pontoon.oldest_accepted() OR EXISTS (
        SELECT FROM pontoon.migration AS m WHERE m.version = ANY (found_row.still_uses) AND m.has_contract
          AND m.state IN ('closing', 'sealed', 'dropping', 'done')) THEN
        RETURN QUERY SELECT 'closed'::text, false,
            format('schema version %s is closed; the oldest accepted version is %s',
                   pontoon.version_text(found_row.schema_version), pontoon.version_text(pontoon.oldest_accepted()));
        RETURN;
    END IF;
    IF NOT found_row.may_serve THEN
        -- About to say that it may: an abort must not decide in between.
        PERFORM FROM pontoon.gate FOR SHARE;
    END IF;
    why := pontoon.not_serving(found_row.schema_version);
    UPDATE pontoon.instance AS i
    SET last_seen = moment, expires_at = moment + i.ttl, may_serve = why IS NULL
    WHERE i.app = heartbeat.app AND i.instance = heartbeat.instance AND i.incarnation = heartbeat.incarnation;
    RETURN QUERY SELECT 'live'::text, why IS NULL, why;
END $$;

CREATE FUNCTION pontoon.deregister(app text, instance text, incarnation bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s' AS $$
BEGIN
    UPDATE pontoon.instance AS i
    SET deregistered_at = clock_timestamp(), expires_at = least(i.expires_at, clock_timestamp())
    WHERE i.app = deregister.app AND i.instance = deregister.instance AND i.incarnation = deregister.incarnation
      AND i.deregistered_at IS NULL;
    RETURN FOUND;
END $$;

CREATE FUNCTION pontoon.phase(version text) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT coalesce((SELECT m.state FROM pontoon.migration AS m WHERE m.version = pontoon.version_number(phase.version)), 'pending');
END;

-- Default privileges may have opened the ledger to roles: everybody but the owner is shut out.
REVOKE ALL ON ALL TABLES IN SCHEMA pontoon FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA pontoon FROM PUBLIC;
DO $$
DECLARE
    grantee text;
BEGIN
    FOR grantee IN
        SELECT DISTINCT quote_ident(pg_get_userbyid(x.grantee))
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace, aclexplode(c.relacl) AS x
        WHERE n.oid = (SELECT m.relnamespace FROM pg_class AS m WHERE m.oid = 'pontoon.meta'::regclass)
          AND x.grantee NOT IN (0, c.relowner)
    LOOP
        EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %s FROM %s',
                       (SELECT m.relnamespace::regnamespace FROM pg_class AS m WHERE m.oid = 'pontoon.meta'::regclass), grantee);
    END LOOP;
END $$;
GRANT EXECUTE ON FUNCTION pontoon.register, pontoon.heartbeat, pontoon.deregister, pontoon.phase TO PUBLIC;
