//! Each kind of change, declared once: a table, the migration, and how old and new code write and read a row.

/// One kind of change. `{id}` and `{v}` in the statements stand for a row's key and for the value it is to hold.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) setup: &'static str,
    pub(crate) migration: &'static str,
    /// The plain SQL with the same end, where the migration leads to more than it says.
    pub(crate) plain: Option<&'static str>,
    pub(crate) old: Code,
    pub(crate) new: Code,
    /// Whether rows and values of the new shape are lost by an abort, so that it has to be told to go on.
    pub(crate) abort_discards: bool,
    /// What an abort leaves, as a line of the shape.
    pub(crate) abort_leaves: &'static [&'static str],
}

/// How one version of an application writes a row and sees it.
pub(crate) struct Code {
    pub(crate) insert: &'static str,
    pub(crate) update: &'static str,
    /// True if the row of this id holds this value.
    pub(crate) sees: &'static str,
}

/// Every kind, or those whose names hold the text in `PONTOON_KIND`.
pub(crate) fn chosen() -> impl Iterator<Item = &'static Kind> {
    let only = std::env::var("PONTOON_KIND").unwrap_or_default();
    KINDS.iter().filter(move |kind| kind.name.contains(&only))
}

/// Whether `PONTOON_KIND` leaves some out.
pub(crate) fn is_partial() -> bool {
    std::env::var_os("PONTOON_KIND").is_some()
}

const MOOD: Code = Code {
    insert: "INSERT INTO users (id, name, mood) VALUES ({id}, 'F{v} L{v}', CASE {v} % 2 WHEN 0 THEN 'ok' ELSE 'sad' END::mood)",
    update: "UPDATE users SET name = 'F{v} L{v}', mood = CASE {v} % 2 WHEN 0 THEN 'ok' ELSE 'sad' END::mood WHERE id = {id}",
    sees: "SELECT name = 'F{v} L{v}' AND mood = CASE {v} % 2 WHEN 0 THEN 'ok' ELSE 'sad' END::mood FROM users WHERE id = {id}",
};

const USERS: &str = "
CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, touched int NOT NULL DEFAULT 0);
CREATE INDEX users_name_idx ON users (name);
INSERT INTO users (id, name) SELECT i, 'F' || i || ' L' || i FROM generate_series(1, 3000) AS i;";

const NAME: Code = Code {
    insert: "INSERT INTO users (id, name) VALUES ({id}, 'F{v} L{v}')",
    update: "UPDATE users SET name = 'F{v} L{v}' WHERE id = {id}",
    sees: "SELECT name = 'F{v} L{v}' FROM users WHERE id = {id}",
};

const MAYBE: &str = "
CREATE TABLE users (id bigint PRIMARY KEY, nick text, touched int);
INSERT INTO users SELECT i, CASE WHEN i % 3 > 0 THEN 'N' || i END, CASE WHEN i % 2 = 0 THEN i ELSE -i END FROM generate_series(1, 3000) AS i;";

const TOUCHED: Code = Code {
    insert: "INSERT INTO users (id, touched) VALUES ({id}, {v})",
    update: "UPDATE users SET touched = {v}, nick = NULL WHERE id = {id}",
    sees: "SELECT touched = {v} FROM users WHERE id = {id}",
};

const POINTED_AT: Code = Code {
    insert:
        "WITH u AS (INSERT INTO users (id, area, qty, boss, boss_area) VALUES ({id}, {id} % 3, {v}, 1, 1))
        INSERT INTO notes (note, author, area) VALUES ({id}, {id}, {id} % 3)",
    update: "UPDATE users SET qty = {v} WHERE id = {id}",
    sees: "SELECT qty = {v} FROM users WHERE id = {id}",
};

/// The same rows in partitions: of one level and of two, and with columns in another order.
const PARTITIONED: &str = "
CREATE TABLE users (id bigint, name text NOT NULL, touched int NOT NULL DEFAULT 0, nick text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE users_low PARTITION OF users FOR VALUES FROM (0) TO (1000);
CREATE TABLE users_mid (gone int, nick text, touched int NOT NULL DEFAULT 0, name text NOT NULL, id bigint NOT NULL);
ALTER TABLE users_mid DROP COLUMN gone; ALTER TABLE users ATTACH PARTITION users_mid FOR VALUES FROM (1000) TO (2000);
CREATE TABLE users_high PARTITION OF users FOR VALUES FROM (2000) TO (1500000) PARTITION BY HASH (id);
CREATE TABLE users_high_0 PARTITION OF users_high FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE users_high_1 PARTITION OF users_high FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE users_rest PARTITION OF users DEFAULT;
CREATE INDEX users_name_idx ON users (name);
INSERT INTO users (id, name) SELECT i, 'F' || i || ' L' || i FROM generate_series(1, 3000) AS i;";

const NICK: Code = Code {
    insert: "INSERT INTO users (id, nick) VALUES ({id}, 'N{v}')",
    update: "UPDATE users SET nick = 'N{v}' WHERE id = {id}",
    sees: "SELECT nick = 'N{v}' FROM users WHERE id = {id}",
};

const USERS_WITH_QTY: &str = "
CREATE TABLE users (id bigint PRIMARY KEY, qty int);
INSERT INTO users SELECT i, i FROM generate_series(1, 3000) AS i;";

const QTY: Code = Code {
    insert: "INSERT INTO users (id, qty) VALUES ({id}, {v})",
    update: "UPDATE users SET qty = {v} WHERE id = {id}",
    sees: "SELECT qty = {v} FROM users WHERE id = {id}",
};

const TEAMS: &str = "
CREATE TABLE teams (id bigint PRIMARY KEY); INSERT INTO teams SELECT generate_series(1, 100);
CREATE TABLE users (id bigint PRIMARY KEY, team bigint, boss bigint, touched int DEFAULT 0);
INSERT INTO users SELECT i, i % 100 + 1, CASE WHEN i > 1 THEN 1 END, i FROM generate_series(1, 3000) AS i;";

const TEAMS_STRICT: &str = "
CREATE TABLE teams (id bigint PRIMARY KEY); INSERT INTO teams SELECT generate_series(1, 100);
CREATE TABLE users (id bigint PRIMARY KEY, team bigint REFERENCES teams, boss bigint, touched int NOT NULL CHECK (touched >= 0));
INSERT INTO users SELECT i, i % 100 + 1, CASE WHEN i > 1 THEN 1 END, i FROM generate_series(1, 3000) AS i;";

const TEAM: Code = Code {
    insert: "INSERT INTO users (id, team, touched) VALUES ({id}, {v} % 100 + 1, {v})",
    update: "UPDATE users SET team = {v} % 100 + 1, touched = {v} WHERE id = {id}",
    sees: "SELECT team = {v} % 100 + 1 AND touched = {v} FROM users WHERE id = {id}",
};

/// Code that works with either type.
const SAME_QTY: Code = Code {
    insert: "INSERT INTO users (id, qty) VALUES ({id}, '{v}')",
    update: "UPDATE users SET qty = '{v}' WHERE id = {id}",
    sees: "SELECT qty = '{v}' FROM users WHERE id = {id}",
};

const KEYS: &str = "
CREATE TABLE users (id int GENERATED BY DEFAULT AS IDENTITY (START WITH 10 INCREMENT BY 5) PRIMARY KEY, boss int CONSTRAINT boss REFERENCES users ON DELETE SET NULL,
    name text NOT NULL);
CREATE INDEX by_boss ON users (boss);
CREATE TABLE orders (id serial, user_id int NOT NULL, cents int, PRIMARY KEY (user_id, id),
    CONSTRAINT buyer FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE ON UPDATE CASCADE);
CREATE INDEX by_cents ON orders (cents, user_id);
CREATE TABLE lines (user_id int, order_id int, what text, FOREIGN KEY (user_id, order_id) REFERENCES orders ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE visits (user_id bigint); ALTER TABLE visits ADD FOREIGN KEY (user_id) REFERENCES users NOT VALID;
CREATE TABLE logins (at int NOT NULL, user_id int, CONSTRAINT who FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE) PARTITION BY RANGE (at);
CREATE TABLE logins_low PARTITION OF logins FOR VALUES FROM (0) TO (1000);
CREATE TABLE logins_mid (user_id int CONSTRAINT who REFERENCES users ON DELETE CASCADE, at int NOT NULL);
ALTER TABLE logins ATTACH PARTITION logins_mid FOR VALUES FROM (1000) TO (2000);
CREATE TABLE logins_high PARTITION OF logins DEFAULT PARTITION BY HASH (at);
CREATE TABLE logins_high_0 PARTITION OF logins_high FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE logins_high_1 PARTITION OF logins_high FOR VALUES WITH (MODULUS 2, REMAINDER 1);
COMMENT ON CONSTRAINT who ON logins IS 'who it was'; CREATE INDEX ON logins (user_id);
INSERT INTO users (id, boss, name) SELECT i, CASE WHEN i > 1 THEN 1 END, 'F' || i || ' L' || i FROM generate_series(1, 3000) AS i;
INSERT INTO orders (id, user_id, cents) SELECT i, i, i FROM generate_series(1, 3000) AS i;
INSERT INTO lines SELECT i, i, 'x' FROM generate_series(1, 3000) AS i;
INSERT INTO visits SELECT i FROM generate_series(1, 100) AS i;
INSERT INTO logins SELECT i, i FROM generate_series(1, 3000) AS i;
GRANT USAGE ON SEQUENCE users_id_seq TO PUBLIC; COMMENT ON SEQUENCE users_id_seq IS 'numbers of people';
SELECT setval('users_id_seq', 5000000), setval('orders_id_seq', 3000);";

const KEYED: Code = Code {
    insert: "WITH u AS (INSERT INTO users (id, boss, name) VALUES ({id}, 1, 'N{v}') RETURNING id), o AS (INSERT INTO orders (user_id, cents) SELECT id, 1 FROM u RETURNING user_id, id),
             l AS (INSERT INTO logins (at, user_id) SELECT id % 4000, id FROM u)
             INSERT INTO lines (user_id, order_id, what) SELECT user_id, id, 'N{v}' FROM o",
    update: "UPDATE users SET name = 'N{v}', boss = {v} % 3000 + 1 WHERE id = {id}",
    sees: "SELECT name = 'N{v}' FROM users WHERE id = {id}",
};

const MAIL_OF_USERS: Code = Code {
    insert: "WITH u AS (INSERT INTO users (id, email) VALUES ({id}, 'N{v}') RETURNING id) INSERT INTO profiles (id) SELECT id FROM u",
    update: "UPDATE users SET email = 'N{v}' WHERE id = {id}",
    sees: "SELECT email = 'N{v}' FROM users WHERE id = {id}",
};

const MAIL_OF_PROFILES: Code = Code {
    insert: "WITH u AS (INSERT INTO users (id) VALUES ({id}) RETURNING id) INSERT INTO profiles (id, email) SELECT id, 'N{v}' FROM u",
    update: "UPDATE profiles SET email = 'N{v}' WHERE id = {id}",
    sees: "SELECT email = 'N{v}' FROM profiles WHERE id = {id}",
};

pub(crate) const KINDS: &[Kind] = &[
    Kind {
        name: "split one column into two",
        setup: USERS,
        migration: "ALTER TABLE users ADD COLUMN first_name text, ADD COLUMN last_name text DEFAULT 'none';
            UPDATE users SET first_name = split_part(name, ' ', 1), last_name = split_part(name, ' ', 2);
            ALTER TABLE users ALTER COLUMN first_name SET NOT NULL;
            CREATE INDEX ON users (last_name, first_name);
            -- migrate: down name = concat_ws(' ', first_name, last_name)
            ALTER TABLE users DROP COLUMN name;",
        plain: None,
        old: NAME,
        new: Code {
            insert: "INSERT INTO users (id, first_name, last_name) VALUES ({id}, 'F{v}', 'L{v}')",
            update: "UPDATE users SET first_name = 'F{v}', last_name = 'L{v}' WHERE id = {id}",
            sees: "SELECT first_name = 'F{v}' AND last_name = 'L{v}' FROM users WHERE id = {id}",
        },
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "merge two columns into one",
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, first_name text NOT NULL, last_name text NOT NULL);
            INSERT INTO users SELECT i, 'F' || i, 'L' || i FROM generate_series(1, 3000) AS i;",
        migration: "ALTER TABLE users ADD COLUMN name text;
            UPDATE users SET name = first_name || ' ' || last_name;
            ALTER TABLE users ALTER COLUMN name SET NOT NULL;
            -- migrate: down first_name = split_part(name, ' ', 1)
            -- migrate: down last_name = split_part(name, ' ', 2)
            ALTER TABLE users DROP COLUMN first_name, DROP COLUMN last_name;",
        plain: None,
        old: Code {
            insert: "INSERT INTO users (id, first_name, last_name) VALUES ({id}, 'F{v}', 'L{v}')",
            update: "UPDATE users SET first_name = 'F{v}', last_name = 'L{v}' WHERE id = {id}",
            sees: "SELECT first_name = 'F{v}' AND last_name = 'L{v}' FROM users WHERE id = {id}",
        },
        new: NAME,
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "rename a column",
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, email text NOT NULL UNIQUE CHECK (email <> ''), touched int DEFAULT 0);
            CREATE INDEX users_lower ON users (lower(email)) WHERE touched IS NOT NULL;
            COMMENT ON COLUMN users.email IS 'where to write';
            GRANT SELECT (email), UPDATE (email) ON users TO PUBLIC;
            ALTER TABLE users ALTER COLUMN email SET STATISTICS 300;
            INSERT INTO users SELECT i, 'M' || i || '-' || i FROM generate_series(1, 3000) AS i;",
        migration: "ALTER TABLE users RENAME COLUMN email TO mail;",
        plain: None,
        old: Code {
            insert: "INSERT INTO users (id, email) VALUES ({id}, 'M{id}-{v}')",
            update: "UPDATE users SET email = 'M{id}-{v}' WHERE id = {id}",
            sees: "SELECT email = 'M{id}-{v}' FROM users WHERE id = {id}",
        },
        new: Code {
            insert: "INSERT INTO users (id, mail) VALUES ({id}, 'M{id}-{v}')",
            update: "UPDATE users SET mail = 'M{id}-{v}' WHERE id = {id}",
            sees: "SELECT mail = 'M{id}-{v}' FROM users WHERE id = {id}",
        },
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "drop a column with down",
        setup: USERS,
        migration: "-- migrate: down name = 'F0 L0'\nALTER TABLE users DROP COLUMN name;",
        plain: None,
        old: NAME,
        new: Code {
            insert: "INSERT INTO users (id, touched) VALUES ({id}, {v})",
            update: "UPDATE users SET touched = {v} WHERE id = {id}",
            sees: "SELECT touched = {v} FROM users WHERE id = {id}",
        },
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "drop a nullable column without down",
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, nick text, touched int);
            INSERT INTO users SELECT i, 'N' || i, i FROM generate_series(1, 3000) AS i;",
        migration: "ALTER TABLE users DROP COLUMN nick;",
        plain: None,
        old: Code {
            insert: "INSERT INTO users (id, nick) VALUES ({id}, 'N{v}')",
            update: "UPDATE users SET nick = 'N{v}' WHERE id = {id}",
            sees: "SELECT nick = 'N{v}' FROM users WHERE id = {id}",
        },
        new: Code {
            insert: "INSERT INTO users (id, touched) VALUES ({id}, {v})",
            update: "UPDATE users SET touched = {v} WHERE id = {id}",
            sees: "SELECT touched = {v} FROM users WHERE id = {id}",
        },
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "add a plain column",
        setup: USERS,
        migration: "ALTER TABLE users ADD COLUMN nick text;",
        plain: None,
        old: NAME,
        new: Code {
            insert: "INSERT INTO users (id, name, nick) VALUES ({id}, 'F{v} L{v}', 'N{v}')",
            update: "UPDATE users SET name = 'F{v} L{v}', nick = 'N{v}' WHERE id = {id}",
            sees: "SELECT name = 'F{v} L{v}' AND nick = 'N{v}' FROM users WHERE id = {id}",
        },
        abort_discards: true,
        abort_leaves: &[],
    },
    Kind {
        name: "add a column with a default",
        setup: USERS,
        migration: "ALTER TABLE users ADD COLUMN country text NOT NULL DEFAULT 'NL', ADD COLUMN at timestamptz;
            ALTER TABLE users ALTER COLUMN at SET DEFAULT now();",
        plain: None,
        old: NAME,
        new: Code {
            insert: "INSERT INTO users (id, name, country) VALUES ({id}, 'F{v} L{v}', 'C{v}')",
            update: "UPDATE users SET name = 'F{v} L{v}', country = 'C{v}' WHERE id = {id}",
            sees: "SELECT name = 'F{v} L{v}' AND country = 'C{v}' FROM users WHERE id = {id}",
        },
        abort_discards: true,
        abort_leaves: &[],
    },
    Kind {
        name: "fill a column once",
        setup: USERS,
        migration: "ALTER TABLE users ADD COLUMN token uuid, ADD COLUMN kind text NOT NULL DEFAULT 'person';
            UPDATE users SET token = gen_random_uuid();
            UPDATE users SET kind = 'early' WHERE touched = 0;
            ALTER TABLE users ALTER COLUMN token SET NOT NULL;",
        plain: None,
        old: NAME,
        new: Code {
            insert: "INSERT INTO users (id, name, kind, token) VALUES ({id}, 'F{v} L{v}', 'K{v}', gen_random_uuid())",
            update: "UPDATE users SET name = 'F{v} L{v}', kind = 'K{v}' WHERE id = {id}",
            sees: "SELECT name = 'F{v} L{v}' AND kind = 'K{v}' AND token IS NOT NULL FROM users WHERE id = {id}",
        },
        abort_discards: true,
        abort_leaves: &[],
    },
    Kind {
        name: "compute a column that stays beside its source",
        setup: USERS,
        migration: "ALTER TABLE users ADD COLUMN short text;
            UPDATE users SET short = left(name, 20) WHERE name <> '';
            CREATE UNIQUE INDEX users_short ON users (short, id);",
        plain: None,
        old: NAME,
        new: Code {
            insert: "INSERT INTO users (id, name, short) VALUES ({id}, 'F{v} L{v}', 'S{v}')",
            update: "UPDATE users SET name = 'F{v} L{v}', short = 'S{v}' WHERE id = {id}",
            sees: "SELECT name = 'F{v} L{v}' AND short = 'S{v}' FROM users WHERE id = {id}",
        },
        abort_discards: true,
        abort_leaves: &[],
    },
    Kind {
        name: "create an index",
        setup: USERS,
        migration: "CREATE INDEX ON users (touched, name DESC) WHERE touched > 0;
            CREATE UNIQUE INDEX users_both ON users (name, id);",
        plain: None,
        old: NAME,
        new: NAME,
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "create a table and other objects",
        setup: USERS,
        migration: "BEGIN;
            CREATE TYPE mood AS ENUM ('ok');
            CREATE TABLE visits (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id bigint REFERENCES users, mood mood, at date DEFAULT now());
            CREATE INDEX ON visits (user_id);
            ALTER TABLE visits ADD CONSTRAINT positive CHECK (user_id > 0);
            INSERT INTO visits (user_id, mood) VALUES (1, 'ok');
            COMMENT ON TABLE visits IS 'who came';
            GRANT SELECT ON visits TO PUBLIC;
            CREATE FUNCTION visit_count(who bigint) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM visits WHERE user_id = who';
            CREATE VIEW visitors AS SELECT DISTINCT user_id FROM visits;
            CREATE SEQUENCE tickets;
            CREATE SCHEMA archive;
            CREATE DOMAIN percent AS int CHECK (VALUE BETWEEN 0 AND 100);
            COMMIT;",
        plain: None,
        old: NAME,
        new: NAME,
        abort_discards: true,
        abort_leaves: &[],
    },
    Kind {
        name: "statements as written",
        setup: USERS,
        migration: "-- migrate: phase expand
            ALTER TABLE users ALTER COLUMN touched DROP NOT NULL;
            -- migrate: phase contract
            CREATE OR REPLACE VIEW names AS SELECT name FROM users;",
        plain: None,
        old: NAME,
        new: NAME,
        abort_discards: false,
        abort_leaves: &["column users.touched integer default 0"],
    },
    Kind {
        name: "set not null, with an update that says how",
        setup: MAYBE,
        migration: "UPDATE users SET nick = 'none' WHERE nick IS NULL;
            ALTER TABLE users ALTER COLUMN nick SET NOT NULL;",
        plain: None,
        old: TOUCHED,
        new: NICK,
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "set not null",
        setup: USERS_WITH_QTY,
        migration: "ALTER TABLE users ALTER COLUMN qty SET NOT NULL;",
        plain: None,
        old: QTY,
        new: QTY,
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "add checks",
        setup: MAYBE,
        migration: "UPDATE users SET touched = abs(touched) WHERE touched < 0;
            ALTER TABLE users ADD CHECK (touched >= 0), ADD CONSTRAINT either CHECK (touched IS NOT NULL OR nick IS NOT NULL) NO INHERIT;
            ALTER TABLE users ADD CHECK (id > 0 AND touched < 1000000000);",
        plain: None,
        old: Code {
            insert: "INSERT INTO users (id, touched) VALUES ({id}, -{v})",
            update: "UPDATE users SET touched = -{v} WHERE id = {id}",
            sees: "SELECT abs(touched) = {v} FROM users WHERE id = {id}",
        },
        new: Code {
            insert: "INSERT INTO users (id, touched) VALUES ({id}, {v})",
            update: "UPDATE users SET touched = {v} WHERE id = {id}",
            sees: "SELECT touched = {v} FROM users WHERE id = {id}",
        },
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "add foreign keys",
        setup: TEAMS,
        migration: "ALTER TABLE users ADD FOREIGN KEY (team) REFERENCES teams ON DELETE SET NULL, ADD CONSTRAINT boss FOREIGN KEY (boss) REFERENCES users (id) DEFERRABLE;",
        plain: None,
        old: TEAM,
        new: TEAM,
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "add keys",
        setup: "CREATE TABLE users (id bigint, name text NOT NULL, touched int);
            CREATE UNIQUE INDEX ready ON users (touched, id);
            INSERT INTO users SELECT i, 'F' || i || ' L' || i, i FROM generate_series(1, 3000) AS i;
            CREATE INDEX users_id ON users (id);",
        migration: "ALTER TABLE users ADD PRIMARY KEY (id);
            ALTER TABLE users ADD UNIQUE (name, id) INCLUDE (touched), ADD CONSTRAINT late UNIQUE (id, touched) DEFERRABLE INITIALLY DEFERRED;
            ALTER TABLE users ADD CONSTRAINT readied UNIQUE USING INDEX ready;",
        plain: None,
        old: NAME,
        new: NAME,
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "relax",
        setup: TEAMS_STRICT,
        migration: "ALTER TABLE users ALTER COLUMN touched DROP NOT NULL, DROP CONSTRAINT users_touched_check, DROP CONSTRAINT users_team_fkey,
                DROP CONSTRAINT IF EXISTS nothing, ALTER COLUMN boss SET DEFAULT 7;",
        plain: None,
        old: TEAM,
        new: Code {
            insert: "INSERT INTO users (id, team, touched, boss) VALUES ({id}, NULL, 1, {v})",
            update: "UPDATE users SET team = 1, touched = 1, boss = {v} WHERE id = {id}",
            sees: "SELECT boss = {v} FROM users WHERE id = {id}",
        },
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "replace and drop defaults, drop and rename keys",
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL CONSTRAINT one UNIQUE, kind text DEFAULT 'a', touched int DEFAULT 1, CONSTRAINT two CHECK (id > 0));
            INSERT INTO users (id, name) SELECT i, 'F' || i || ' L' || i FROM generate_series(1, 3000) AS i;",
        migration: "ALTER TABLE users ALTER COLUMN kind SET DEFAULT 'b', ALTER COLUMN touched DROP DEFAULT, DROP CONSTRAINT one;
            ALTER TABLE users RENAME CONSTRAINT two TO three;",
        plain: None,
        old: NAME,
        new: NAME,
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "add columns with constraints",
        setup: TEAMS,
        migration: "ALTER TABLE users ADD COLUMN age int CHECK (age > 0), ADD COLUMN crew bigint REFERENCES teams, ADD COLUMN code text UNIQUE,
                ADD COLUMN kind text NOT NULL DEFAULT 'x' CONSTRAINT kinds CHECK (kind <> ''), ADD COLUMN twice int CHECK (twice > 0),
                ADD COLUMN token uuid NOT NULL DEFAULT gen_random_uuid();
            UPDATE users SET twice = touched * 2 + 2;",
        plain: None,
        old: TEAM,
        new: Code {
            insert: "INSERT INTO users (id, team, touched, age, crew, code) VALUES ({id}, 1, 1, {v}, 2, 'C{v}')",
            update: "UPDATE users SET age = {v}, crew = 3, code = 'C{v}' WHERE id = {id}",
            sees: "SELECT age = {v} AND code = 'C{v}' AND token IS NOT NULL FROM users WHERE id = {id}",
        },
        abort_discards: true,
        abort_leaves: &[],
    },
    Kind {
        name: "rename an index, a type, a label and an attribute",
        setup: "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (a int, b int);
            CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, mood mood DEFAULT 'ok', pair pair);
            CREATE INDEX users_name_idx ON users (name);
            INSERT INTO users (id, name) SELECT i, 'F' || i || ' L' || i FROM generate_series(1, 3000) AS i;",
        migration: "ALTER INDEX users_name_idx RENAME TO by_name;
            ALTER TYPE mood RENAME VALUE 'sad' TO 'blue';
            ALTER TYPE mood RENAME TO feeling;
            ALTER TYPE pair RENAME ATTRIBUTE b TO c;",
        plain: None,
        old: NAME,
        new: NAME,
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "settings that no query sees",
        setup: USERS,
        migration: "ALTER TABLE users ALTER COLUMN name SET STATISTICS 500, ALTER COLUMN name SET STORAGE EXTERNAL, SET (fillfactor = 80);
            ALTER TABLE users REPLICA IDENTITY FULL;
            ALTER TABLE users CLUSTER ON users_name_idx;",
        plain: None,
        old: NAME,
        new: NAME,
        abort_discards: false,
        abort_leaves: &["column users.name text"],
    },
    Kind {
        name: "change a type",
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, qty text NOT NULL DEFAULT '5', price numeric(12,2), touched int,
                CONSTRAINT positive CHECK (price >= 0 AND (touched > 0 OR qty IS NOT NULL)), CONSTRAINT priced UNIQUE (price, id) DEFERRABLE);
            CREATE INDEX by_qty ON users (qty DESC) WHERE touched IS NOT NULL; CREATE UNIQUE INDEX by_qty_id ON users (qty, id) INCLUDE (touched);
            COMMENT ON COLUMN users.qty IS 'how many'; COMMENT ON CONSTRAINT priced ON users IS 'a price'; GRANT SELECT (qty) ON users TO PUBLIC;
            ALTER TABLE users ALTER COLUMN qty SET STATISTICS 321; ALTER TABLE users ALTER COLUMN qty SET (n_distinct = 7);
            INSERT INTO users (id, qty, price, touched) SELECT i, i::text, i, i FROM generate_series(1, 3000) AS i;",
        migration: "ALTER TABLE users ALTER COLUMN qty DROP DEFAULT, ALTER COLUMN qty TYPE bigint USING qty::bigint, ALTER COLUMN price TYPE numeric(14,3);
            ALTER TABLE users ALTER COLUMN qty SET DEFAULT 5;",
        plain: None,
        old: SAME_QTY,
        new: SAME_QTY,
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "take a label from an enum",
        setup: "CREATE TYPE mood AS ENUM ('sad', 'bad', 'ok');
            CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, mood mood NOT NULL DEFAULT 'ok', touched int NOT NULL DEFAULT 0); CREATE INDEX by_mood ON users (mood);
            INSERT INTO users (id, name, mood) SELECT i, 'F' || i || ' L' || i, CASE i % 2 WHEN 0 THEN 'ok' ELSE 'sad' END::mood FROM generate_series(1, 3000) AS i;",
        migration: "CREATE TYPE new_mood AS ENUM ('sad', 'ok');
            ALTER TABLE users ALTER COLUMN mood DROP DEFAULT, ALTER COLUMN mood TYPE new_mood USING mood::text::new_mood, ALTER COLUMN mood SET DEFAULT 'ok';
            DROP TYPE mood; ALTER TYPE new_mood RENAME TO mood;",
        plain: None,
        old: MOOD,
        new: MOOD,
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "widen types that need no rewrite",
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, qty varchar(20), code varchar(10), price numeric(10,2));
            CREATE INDEX by_code ON users (code);
            INSERT INTO users SELECT i, i::text, i::text, i FROM generate_series(1, 3000) AS i;",
        migration: "ALTER TABLE users ALTER COLUMN qty TYPE varchar(50), ALTER COLUMN code TYPE text, ALTER COLUMN price TYPE numeric(12,2);",
        plain: None,
        old: SAME_QTY,
        new: SAME_QTY,
        abort_discards: false,
        abort_leaves: &["column users.qty", "column users.code", "column users.price"],
    },
    Kind {
        name: "int keys become bigint, with all that points at them",
        setup: KEYS,
        migration: "ALTER TABLE users ALTER COLUMN id TYPE bigint;",
        plain: Some("ALTER TABLE users ALTER COLUMN id TYPE bigint, ALTER COLUMN boss TYPE bigint; ALTER TABLE orders ALTER COLUMN user_id TYPE bigint; ALTER TABLE lines ALTER COLUMN user_id TYPE bigint; ALTER TABLE logins ALTER COLUMN user_id TYPE bigint;"),
        old: KEYED,
        new: KEYED,
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "replace what stands on a column that goes",
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, touched int NOT NULL DEFAULT 0);
            INSERT INTO users (id, name) SELECT i, 'F' || i || ' L' || i FROM generate_series(1, 3000) AS i;
            CREATE VIEW people AS SELECT id, name FROM users; GRANT SELECT ON people TO PUBLIC;
            CREATE VIEW loud WITH (security_invoker = true) AS SELECT id, upper(name) AS name FROM users; GRANT SELECT ON loud TO PUBLIC; COMMENT ON VIEW loud IS 'shouts';
            CREATE MATERIALIZED VIEW initials AS SELECT left(name, 1) AS initial, count(*) AS n FROM users GROUP BY 1;
            CREATE FUNCTION named(who bigint) RETURNS text LANGUAGE sql STABLE BEGIN ATOMIC SELECT name FROM users WHERE id = who; END;
            CREATE FUNCTION named(who text) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 1::bigint';
            CREATE POLICY visible ON users USING (name <> '');
            CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
            CREATE TRIGGER stamp BEFORE INSERT ON users FOR EACH ROW WHEN (NEW.name <> '') EXECUTE FUNCTION stamp();",
        migration: "DROP VIEW people; DROP MATERIALIZED VIEW initials; DROP POLICY visible ON users; DROP TRIGGER stamp ON users;
            ALTER TABLE users ADD COLUMN first_name text, ADD COLUMN last_name text;
            UPDATE users SET first_name = split_part(name, ' ', 1), last_name = split_part(name, ' ', 2);
            CREATE OR REPLACE VIEW loud WITH (security_invoker = true) AS SELECT id, upper(first_name || ' ' || last_name) AS name FROM users;
            CREATE OR REPLACE FUNCTION named(who bigint) RETURNS text LANGUAGE sql STABLE BEGIN ATOMIC SELECT first_name FROM users WHERE id = who; END;
            -- migrate: down name = concat_ws(' ', first_name, last_name)
            ALTER TABLE users DROP COLUMN name;
            CREATE VIEW people AS SELECT id, first_name AS name FROM users;
            GRANT SELECT ON people TO PUBLIC; COMMENT ON VIEW people IS 'by first name';
            CREATE VIEW folk AS SELECT name FROM people;
            CREATE MATERIALIZED VIEW initials AS SELECT left(first_name, 1) AS initial, count(*) AS n FROM users GROUP BY 1;
            CREATE UNIQUE INDEX by_initial ON initials (initial);
            CREATE POLICY visible ON users USING (first_name <> '');
            CREATE TRIGGER stamp BEFORE INSERT ON users FOR EACH ROW WHEN (NEW.first_name <> '') EXECUTE FUNCTION stamp();",
        plain: None,
        old: NAME,
        new: Code {
            insert: "INSERT INTO users (id, first_name, last_name) VALUES ({id}, 'F{v}', 'L{v}')",
            update: "UPDATE users SET first_name = 'F{v}', last_name = 'L{v}' WHERE id = {id}",
            sees: "SELECT first_name = 'F{v}' AND last_name = 'L{v}' FROM users WHERE id = {id}",
        },
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "change a type under views and a function",
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, qty int NOT NULL DEFAULT 5);
            INSERT INTO users SELECT i, i FROM generate_series(1, 3000) AS i;
            CREATE VIEW counts AS SELECT id, qty FROM users; CREATE VIEW totals AS SELECT sum(qty) AS qty FROM counts;
            CREATE FUNCTION qty(who bigint) RETURNS int LANGUAGE sql STABLE BEGIN ATOMIC SELECT qty FROM users WHERE id = who; END;",
        migration: "DROP FUNCTION qty(bigint); DROP VIEW totals, counts;
            ALTER TABLE users ALTER COLUMN qty TYPE bigint;
            CREATE VIEW counts AS SELECT id, qty FROM users; CREATE VIEW totals AS SELECT sum(qty) AS qty FROM counts;
            CREATE FUNCTION qty(who bigint) RETURNS bigint LANGUAGE sql STABLE BEGIN ATOMIC SELECT qty FROM users WHERE id = who; END;",
        plain: None,
        old: SAME_QTY,
        new: SAME_QTY,
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "drop a table and other objects",
        setup: "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN percent AS int CHECK (VALUE BETWEEN 0 AND 100); CREATE SEQUENCE tickets;
            CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, mood mood DEFAULT 'ok', touched int NOT NULL DEFAULT 0); CREATE INDEX by_name ON users (name);
            INSERT INTO users (id, name) SELECT i, 'F' || i || ' L' || i FROM generate_series(1, 3000) AS i;
            CREATE TABLE visits (id serial PRIMARY KEY, user_id bigint REFERENCES users, rate percent, at int);
            CREATE TABLE stops (visit_id int REFERENCES visits, id int PRIMARY KEY DEFAULT nextval('tickets'));
            CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS 'SELECT 2 * n'; CREATE PROCEDURE nothing() LANGUAGE sql AS 'SELECT 1';
            CREATE VIEW visitors AS SELECT user_id FROM visits;",
        migration: "DROP VIEW IF EXISTS visitors, nobody; DROP INDEX by_name;
            ALTER TABLE users DROP COLUMN mood;
            DROP TYPE mood;
            DROP TABLE stops; DROP TABLE visits; DROP DOMAIN percent; DROP SEQUENCE tickets;
            DROP FUNCTION twice; DROP PROCEDURE nothing();
            REVOKE ALL ON users FROM PUBLIC;",
        plain: None,
        old: NAME,
        new: NAME,
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "publications",
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, touched int NOT NULL DEFAULT 0);
            INSERT INTO users (id, name) SELECT i, 'F' || i || ' L' || i FROM generate_series(1, 3000) AS i;
            CREATE TABLE visits (id int PRIMARY KEY); CREATE TABLE stops (id int);
            CREATE PUBLICATION feed FOR TABLE visits; CREATE PUBLICATION log FOR TABLE stops WITH (publish = 'insert'); CREATE PUBLICATION \"Old\";",
        migration: "CREATE PUBLICATION \"New\" FOR TABLE users, ONLY visits WITH (publish = 'insert, delete');
            CREATE PUBLICATION empty;
            ALTER TABLE stops REPLICA IDENTITY FULL;
            ALTER PUBLICATION feed ADD TABLE users, stops;
            CREATE TABLE fresh (id int PRIMARY KEY); ALTER PUBLICATION empty ADD TABLE fresh;
            ALTER PUBLICATION feed DROP TABLE visits;
            DROP PUBLICATION IF EXISTS log, \"Old\", nobody;",
        plain: None,
        old: NAME,
        new: NAME,
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "row security, policies and triggers",
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, touched int NOT NULL DEFAULT 0);
            INSERT INTO users (id, name) SELECT i, 'F' || i || ' L' || i FROM generate_series(1, 3000) AS i;
            CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
            CREATE TRIGGER old_stamp BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION stamp(); ALTER TABLE users DISABLE TRIGGER old_stamp;",
        migration: "ALTER TABLE users ENABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY;
            CREATE POLICY everyone ON users USING (true);
            CREATE POLICY few ON users AS RESTRICTIVE FOR SELECT TO PUBLIC USING (id > 0);
            CREATE TRIGGER stamp BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION stamp();
            DROP TRIGGER old_stamp ON users;",
        plain: None,
        old: NAME,
        new: NAME,
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "rename objects and move them to another schema",
        setup: "CREATE SCHEMA app; CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN percent AS int CHECK (VALUE BETWEEN 0 AND 100); CREATE SEQUENCE tickets;
            CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, mood mood DEFAULT 'ok', rate percent, touched int DEFAULT 0);
            INSERT INTO users (id, name) SELECT i, 'F' || i || ' L' || i FROM generate_series(1, 3000) AS i;
            CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS 'SELECT 2 * n'; CREATE VIEW people AS SELECT name FROM users;",
        migration: "ALTER TYPE mood SET SCHEMA app; ALTER DOMAIN percent RENAME TO share; ALTER SEQUENCE tickets RENAME TO numbers;
            ALTER FUNCTION twice(int) SET SCHEMA app; ALTER VIEW people RENAME TO folk;",
        plain: None,
        old: NAME,
        new: NAME,
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "data jobs",
        setup: "CREATE TABLE teams (id bigint PRIMARY KEY, size int NOT NULL); INSERT INTO teams SELECT i, i FROM generate_series(0, 99) AS i;
            CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, visits int NOT NULL DEFAULT 0, size int);
            CREATE TABLE logs (user_id bigint, at int, what text, PRIMARY KEY (user_id, at)); CREATE TABLE kept (user_id bigint PRIMARY KEY, what text NOT NULL);
            CREATE TABLE old_logs (id int PRIMARY KEY, team bigint); INSERT INTO old_logs SELECT i, i % 100 FROM generate_series(1, 3000) AS i;
            INSERT INTO users (id, name) SELECT i, 'F' || i || ' L' || i FROM generate_series(1, 3000) AS i;
            INSERT INTO logs SELECT i, i % 7, 'x' FROM generate_series(1, 3000) AS i; INSERT INTO kept VALUES (10, 'before');",
        migration: "UPDATE users AS u SET visits = visits + 1, size = t.size + (SELECT count(*) FROM teams AS s WHERE s.id < 3) FROM teams AS t WHERE t.id = u.id % 100 AND u.id % 3 > 0;
            INSERT INTO kept (user_id, what) SELECT l.user_id, upper(l.what) FROM logs AS l LEFT JOIN teams AS t ON t.id = l.user_id WHERE l.at = 3 ON CONFLICT DO NOTHING;
            DELETE FROM old_logs AS l USING teams AS t WHERE t.id = l.team AND t.size < 50;",
        plain: None,
        old: NAME,
        new: NAME,
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "data jobs that read what the file drops",
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, touched int NOT NULL DEFAULT 0, nick text, alias text, gone_at timestamptz);
            INSERT INTO users (id, name, nick, alias, gone_at) SELECT i, 'F' || i || ' L' || i, CASE WHEN i % 3 > 0 THEN 'n' || i END,
                CASE WHEN i % 2 > 0 THEN 'a' || i END, CASE WHEN i % 50 = 0 THEN timestamptz '2020-01-01' + i * interval '1 hour' END
                FROM generate_series(1, 3000) AS i;
            CREATE TABLE teams (a int, b text, label text, PRIMARY KEY (a, b)); INSERT INTO teams SELECT i, 'b' || i % 7, 'l' || i FROM generate_series(1, 3000) AS i;
            CREATE TABLE groups (a int, label text, size int);",
        migration: "INSERT INTO groups (a, label) SELECT t.a, upper(t.label) FROM teams AS t WHERE t.b <> 'b3';
            UPDATE users AS u SET alias = nick || touched WHERE alias IS NULL;
            DROP TABLE teams;
            ALTER TABLE users DROP COLUMN nick;",
        plain: None,
        old: NAME,
        new: NAME,
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "rename a table",
        setup: "CREATE TABLE users (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, name text NOT NULL, touched int NOT NULL DEFAULT 0, \"odd Name\" int);
            CREATE INDEX users_name_idx ON users (name); CREATE TABLE notes (user_id bigint REFERENCES users ON DELETE CASCADE);
            CREATE VIEW names AS SELECT name FROM users; COMMENT ON TABLE users IS 'people';
            GRANT SELECT ON users TO PUBLIC; GRANT UPDATE (name) ON users TO PUBLIC;
            INSERT INTO users (id, name) SELECT i, 'F' || i || ' L' || i FROM generate_series(1, 3000) AS i;",
        migration: "ALTER TABLE users RENAME TO people;",
        plain: None,
        old: NAME,
        new: Code {
            insert: "INSERT INTO people (id, name) VALUES ({id}, 'F{v} L{v}')",
            update: "UPDATE people SET name = 'F{v} L{v}' WHERE id = {id}",
            sees: "SELECT name = 'F{v} L{v}' FROM people WHERE id = {id}",
        },
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "move a column to another table",
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, email text);
            CREATE TABLE profiles (id bigint PRIMARY KEY REFERENCES users ON DELETE CASCADE, touched int);
            INSERT INTO users SELECT i, 'N' || i FROM generate_series(1, 3000) AS i; INSERT INTO profiles SELECT id FROM users;",
        migration: "ALTER TABLE profiles ADD COLUMN email text;
            UPDATE profiles AS p SET email = u.email FROM users AS u WHERE u.id = p.id;
            ALTER TABLE users DROP COLUMN email;
            CREATE INDEX ON profiles (email);",
        plain: None,
        old: MAIL_OF_USERS,
        new: MAIL_OF_PROFILES,
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "move a column to many rows",
        setup: "CREATE TABLE teams (id bigint PRIMARY KEY, label text);
            CREATE TABLE users (id bigint PRIMARY KEY, team bigint REFERENCES teams ON DELETE SET NULL);
            CREATE INDEX users_team_idx ON users (team);
            INSERT INTO teams SELECT i, 'N' || i FROM generate_series(1, 3000) AS i; INSERT INTO users SELECT id, id FROM teams;",
        migration: "ALTER TABLE users ADD COLUMN label text;
            UPDATE users SET label = upper(t.label) FROM teams AS t WHERE t.id = team AND t.label IS NOT NULL;
            ALTER TABLE teams DROP COLUMN label;",
        plain: None,
        old: Code {
            insert: "WITH t AS (INSERT INTO teams (id, label) VALUES ({id}, 'N{v}')) INSERT INTO users (id, team) VALUES ({id}, {id})",
            update: "UPDATE teams SET label = 'N{v}' WHERE id = {id}",
            sees: "SELECT label = 'N{v}' FROM teams WHERE id = {id}",
        },
        new: Code {
            insert: "INSERT INTO users (id, label) VALUES ({id}, 'N{v}')",
            update: "UPDATE users SET label = 'N{v}' WHERE id = {id}",
            sees: "SELECT label = 'N{v}' FROM users WHERE id = {id}",
        },
        abort_discards: true,
        abort_leaves: &[],
    },
    Kind {
        name: "move a column between partitioned tables",
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, email text) PARTITION BY RANGE (id);
            CREATE TABLE users_low PARTITION OF users FOR VALUES FROM (0) TO (1000);
            CREATE TABLE users_mid (gone int, email text, id bigint PRIMARY KEY); ALTER TABLE users_mid DROP COLUMN gone;
            ALTER TABLE users ATTACH PARTITION users_mid FOR VALUES FROM (1000) TO (2000);
            CREATE TABLE users_rest PARTITION OF users DEFAULT;
            CREATE TABLE profiles (id bigint PRIMARY KEY REFERENCES users ON DELETE CASCADE, touched int) PARTITION BY HASH (id);
            CREATE TABLE profiles_0 PARTITION OF profiles FOR VALUES WITH (MODULUS 2, REMAINDER 0) PARTITION BY RANGE (id);
            CREATE TABLE profiles_0_low PARTITION OF profiles_0 FOR VALUES FROM (0) TO (500);
            CREATE TABLE profiles_0_rest PARTITION OF profiles_0 DEFAULT;
            CREATE TABLE profiles_1 PARTITION OF profiles FOR VALUES WITH (MODULUS 2, REMAINDER 1);
            INSERT INTO users SELECT i, 'N' || i FROM generate_series(1, 3000) AS i; INSERT INTO profiles SELECT id FROM users;",
        migration: "ALTER TABLE profiles ADD COLUMN email text;
            UPDATE profiles AS p SET email = u.email FROM users AS u WHERE u.id = p.id;
            ALTER TABLE users DROP COLUMN email;
            CREATE INDEX ON profiles (email);",
        plain: None,
        old: MAIL_OF_USERS,
        new: MAIL_OF_PROFILES,
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "split a table in two",
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL DEFAULT 'x', street text);
            INSERT INTO users SELECT i, 'n', CASE WHEN i % 3 > 0 THEN 'N' || i END FROM generate_series(1, 3000) AS i;",
        migration: "CREATE TABLE addresses (id bigint PRIMARY KEY REFERENCES users ON DELETE CASCADE, road text NOT NULL, kind text DEFAULT 'none');
            GRANT ALL ON addresses TO PUBLIC;
            INSERT INTO addresses (id, road, kind) SELECT u.id, street, 'home' FROM users AS u WHERE street IS NOT NULL;
            CREATE INDEX ON addresses (road);
            ALTER TABLE users DROP COLUMN street;",
        plain: None,
        old: Code {
            insert: "INSERT INTO users (id, street) VALUES ({id}, 'N{v}')",
            update: "UPDATE users SET street = 'N{v}' WHERE id = {id}",
            sees: "SELECT street = 'N{v}' FROM users WHERE id = {id}",
        },
        new: Code {
            insert: "WITH u AS (INSERT INTO users (id) VALUES ({id}) RETURNING id) INSERT INTO addresses (id, road) SELECT id, 'N{v}' FROM u",
            update: "INSERT INTO addresses (id, road) VALUES ({id}, 'N{v}') ON CONFLICT (id) DO UPDATE SET road = EXCLUDED.road",
            sees: "SELECT road = 'N{v}' FROM addresses WHERE id = {id}",
        },
        abort_discards: true,
        abort_leaves: &[],
    },
    Kind {
        name: "merge two tables into one",
        setup: "CREATE TABLE users (id bigint PRIMARY KEY);
            CREATE TABLE bios (id bigint PRIMARY KEY REFERENCES users ON DELETE CASCADE, words text NOT NULL);
            INSERT INTO users SELECT generate_series(1, 3000); INSERT INTO bios SELECT id, 'N' || id FROM users;",
        migration: "ALTER TABLE users ADD COLUMN bio text;
            UPDATE users SET bio = words FROM bios WHERE bios.id = users.id;
            DROP TABLE bios;",
        plain: None,
        old: Code {
            insert: "WITH u AS (INSERT INTO users (id) VALUES ({id}) RETURNING id) INSERT INTO bios (id, words) SELECT id, 'N{v}' FROM u",
            update: "UPDATE bios SET words = 'N{v}' WHERE id = {id}",
            sees: "SELECT words = 'N{v}' FROM bios WHERE id = {id}",
        },
        new: Code {
            insert: "INSERT INTO users (id, bio) VALUES ({id}, 'N{v}')",
            update: "UPDATE users SET bio = 'N{v}' WHERE id = {id}",
            sees: "SELECT bio = 'N{v}' FROM users WHERE id = {id}",
        },
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "replace a table by a new one",
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL);
            INSERT INTO users SELECT i, 'N' || i FROM generate_series(1, 3000) AS i;",
        migration: "CREATE TABLE people (id bigint PRIMARY KEY, full_name text NOT NULL, since timestamptz DEFAULT now());
            GRANT ALL ON people TO PUBLIC;
            INSERT INTO people (id, full_name, since) SELECT id, name, '2020-01-01Z' FROM users;
            DROP TABLE users;",
        plain: None,
        old: Code {
            insert: "INSERT INTO users (id, name) VALUES ({id}, 'N{v}')",
            update: "UPDATE users SET name = 'N{v}' WHERE id = {id}",
            sees: "SELECT name = 'N{v}' FROM users WHERE id = {id}",
        },
        new: Code {
            insert: "INSERT INTO people (id, full_name) VALUES ({id}, 'N{v}')",
            update: "INSERT INTO people (id, full_name) VALUES ({id}, 'N{v}') ON CONFLICT (id) DO UPDATE SET full_name = EXCLUDED.full_name",
            sees: "SELECT full_name = 'N{v}' FROM people WHERE id = {id}",
        },
        abort_discards: true,
        abort_leaves: &[],
    },
    Kind {
        name: "replace a table by a partitioned one",
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, region int NOT NULL DEFAULT 1);
            INSERT INTO users SELECT i, 'N' || i, i % 3 FROM generate_series(1, 3000) AS i;",
        migration: "CREATE TABLE people (id bigint, name text NOT NULL, region int NOT NULL DEFAULT 1, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
            CREATE TABLE people_0 PARTITION OF people FOR VALUES IN (0); CREATE TABLE people_1 PARTITION OF people FOR VALUES IN (1);
            CREATE TABLE people_rest PARTITION OF people DEFAULT; CREATE INDEX ON people (name); GRANT ALL ON people TO PUBLIC;
            INSERT INTO people (id, name, region) SELECT id, name, region FROM users;
            DROP TABLE users;",
        plain: None,
        old: Code {
            insert: "INSERT INTO users (id, name) VALUES ({id}, 'N{v}')",
            update: "UPDATE users SET name = 'N{v}' WHERE id = {id}",
            sees: "SELECT name = 'N{v}' FROM users WHERE id = {id}",
        },
        new: Code {
            insert: "INSERT INTO people (id, name, region) VALUES ({id}, 'N{v}', {id} % 3)",
            update: "INSERT INTO people (id, name, region) VALUES ({id}, 'N{v}', {id} % 3) ON CONFLICT (region, id) DO UPDATE SET name = EXCLUDED.name",
            sees: "SELECT name = 'N{v}' FROM people WHERE id = {id}",
        },
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "partition a table anew",
        setup: "CREATE TABLE users (id bigint, name text NOT NULL, region int NOT NULL DEFAULT 1, secret int DEFAULT 7, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
            CREATE TABLE users_0 PARTITION OF users FOR VALUES IN (0);
            CREATE TABLE users_1 (gone int, name text NOT NULL, id bigint, secret int DEFAULT 7, region int NOT NULL DEFAULT 1, PRIMARY KEY (region, id));
            ALTER TABLE users_1 DROP COLUMN gone; ALTER TABLE users ATTACH PARTITION users_1 FOR VALUES IN (1);
            CREATE TABLE users_rest PARTITION OF users DEFAULT;
            INSERT INTO users SELECT i, 'N' || i, i % 3 FROM generate_series(1, 3000) AS i;",
        migration: "CREATE TABLE people (id bigint, full_name text NOT NULL, region int NOT NULL DEFAULT 1, since timestamptz DEFAULT now(), PRIMARY KEY (id, region)) PARTITION BY RANGE (region);
            CREATE TABLE people_low PARTITION OF people FOR VALUES FROM (0) TO (2); CREATE TABLE people_rest PARTITION OF people DEFAULT;
            CREATE INDEX ON people (full_name); GRANT ALL ON people TO PUBLIC;
            INSERT INTO people (id, full_name, region, since) SELECT id, name, region, '2020-01-01Z' FROM users;
            DROP TABLE users;",
        plain: None,
        old: Code {
            insert: "INSERT INTO users (id, name, region) VALUES ({id}, 'N{v}', {v} % 3)",
            update: "UPDATE users SET name = 'N{v}', region = {v} % 3 WHERE id = {id}",
            sees: "SELECT name = 'N{v}' AND region = {v} % 3 FROM users WHERE id = {id}",
        },
        new: Code {
            insert: "INSERT INTO people (id, full_name, region) VALUES ({id}, 'N{v}', {id} % 3)",
            update: "INSERT INTO people (id, full_name, region) VALUES ({id}, 'N{v}', {id} % 3) ON CONFLICT (id, region) DO UPDATE SET full_name = EXCLUDED.full_name",
            sees: "SELECT full_name = 'N{v}' FROM people WHERE id = {id}",
        },
        abort_discards: true,
        abort_leaves: &[],
    },
    Kind {
        name: "split a partitioned table in two",
        setup: "CREATE TABLE users (id bigint, half int NOT NULL DEFAULT 0, street text, PRIMARY KEY (id, half)) PARTITION BY LIST (half);
            CREATE TABLE users_0 PARTITION OF users FOR VALUES IN (0);
            CREATE TABLE users_1 (street text, half int NOT NULL DEFAULT 0, id bigint, PRIMARY KEY (id, half));
            ALTER TABLE users ATTACH PARTITION users_1 FOR VALUES IN (1);
            INSERT INTO users SELECT i, i % 2, CASE WHEN i % 3 > 0 THEN 'N' || i END FROM generate_series(1, 3000) AS i;",
        migration: "CREATE TABLE addresses (id bigint, half int NOT NULL, road text NOT NULL, kind text DEFAULT 'none', PRIMARY KEY (id, half),
                FOREIGN KEY (id, half) REFERENCES users ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED);
            GRANT ALL ON addresses TO PUBLIC;
            INSERT INTO addresses (id, half, road, kind) SELECT id, half, street, 'home' FROM users WHERE street IS NOT NULL;
            ALTER TABLE users DROP COLUMN street;",
        plain: None,
        old: Code {
            insert: "INSERT INTO users (id, half, street) VALUES ({id}, {v} % 2, 'N{v}')",
            update: "UPDATE users SET street = 'N{v}' WHERE id = {id}",
            sees: "SELECT street = 'N{v}' FROM users WHERE id = {id}",
        },
        new: Code {
            insert: "WITH u AS (INSERT INTO users (id) VALUES ({id}) RETURNING id, half) INSERT INTO addresses (id, half, road) SELECT id, half, 'N{v}' FROM u",
            update: "WITH u AS (SELECT id, half FROM users WHERE id = {id}) INSERT INTO addresses (id, half, road) SELECT id, half, 'N{v}' FROM u ON CONFLICT (id, half) DO UPDATE SET road = EXCLUDED.road",
            sees: "SELECT road = 'N{v}' FROM addresses WHERE id = {id}",
        },
        abort_discards: true,
        abort_leaves: &[],
    },
    Kind {
        name: "split a column of a partitioned table",
        setup: PARTITIONED,
        migration: "ALTER TABLE users ADD COLUMN first_name text, ADD COLUMN last_name text DEFAULT 'none', ADD COLUMN token uuid DEFAULT gen_random_uuid();
            UPDATE users SET first_name = split_part(name, ' ', 1), last_name = split_part(name, ' ', 2);
            ALTER TABLE users ALTER COLUMN first_name SET NOT NULL;
            CREATE INDEX ON users (last_name, first_name); CREATE UNIQUE INDEX ON users (id, last_name);
            -- migrate: down name = concat_ws(' ', first_name, last_name)
            ALTER TABLE users DROP COLUMN name;",
        plain: None,
        old: NAME,
        new: Code {
            insert: "INSERT INTO users (id, first_name, last_name) VALUES ({id}, 'F{v}', 'L{v}')",
            update: "UPDATE users SET first_name = 'F{v}', last_name = 'L{v}' WHERE id = {id}",
            sees: "SELECT first_name = 'F{v}' AND last_name = 'L{v}' FROM users WHERE id = {id}",
        },
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "rename and retype columns of a partitioned table",
        setup: PARTITIONED,
        migration: "ALTER TABLE users RENAME COLUMN name TO full_name;
            ALTER TABLE users ALTER COLUMN touched TYPE bigint;
            ALTER TABLE users ADD CONSTRAINT nicks CHECK (nick <> '');
            DROP INDEX users_name_idx; CREATE INDEX touches ON users (id, nick); ALTER TABLE users ADD UNIQUE (nick, id);",
        plain: None,
        old: NAME,
        new: Code {
            insert: "INSERT INTO users (id, full_name) VALUES ({id}, 'F{v} L{v}')",
            update: "UPDATE users SET full_name = 'F{v} L{v}' WHERE id = {id}",
            sees: "SELECT full_name = 'F{v} L{v}' FROM users WHERE id = {id}",
        },
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "repairs and data jobs on a partitioned table",
        setup: PARTITIONED,
        migration: "UPDATE users SET nick = 'none' WHERE nick IS NULL;
            ALTER TABLE users ALTER COLUMN nick SET NOT NULL;
            UPDATE users SET touched = touched + 1;",
        plain: None,
        old: NAME,
        new: Code {
            insert: "INSERT INTO users (id, name, nick) VALUES ({id}, 'F{v} L{v}', 'n')",
            update: "UPDATE users SET name = 'F{v} L{v}' WHERE id = {id}",
            sees: "SELECT name = 'F{v} L{v}' FROM users WHERE id = {id}",
        },
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "attach and detach partitions",
        setup: "CREATE TABLE users (id bigint, name text NOT NULL, touched int NOT NULL DEFAULT 0 CHECK (touched < 1000), PRIMARY KEY (id)) PARTITION BY RANGE (id);
            CREATE TABLE users_low PARTITION OF users FOR VALUES FROM (0) TO (1000); CREATE TABLE users_rest PARTITION OF users DEFAULT;
            CREATE TABLE users_gone PARTITION OF users FOR VALUES FROM (-1000) TO (0);
            CREATE INDEX users_name_idx ON users (name);
            INSERT INTO users (id, name) SELECT i, 'F' || i || ' L' || i FROM generate_series(-900, 3000) AS i WHERE i <> 0;
            CREATE TABLE users_loaded (LIKE users INCLUDING ALL); INSERT INTO users_loaded SELECT i, 'n' FROM generate_series(9000000, 9000500) AS i;",
        migration: "ALTER TABLE users ATTACH PARTITION users_loaded FOR VALUES FROM (9000000) TO (9001000);
            CREATE TABLE users_next (LIKE users INCLUDING ALL);
            ALTER TABLE users ATTACH PARTITION users_next FOR VALUES FROM (9001000) TO (9002000);
            ALTER TABLE users DETACH PARTITION users_gone;",
        plain: None,
        old: NAME,
        new: NAME,
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "retype keys and indexed columns of a partitioned table",
        setup: "CREATE TABLE users (id bigint, code int GENERATED BY DEFAULT AS IDENTITY (START WITH 9000), qty int NOT NULL DEFAULT 3 CHECK (qty > 0), nick text,
                CONSTRAINT main PRIMARY KEY (id, code), UNIQUE (code, id) INCLUDE (nick)) PARTITION BY RANGE (id);
            COMMENT ON CONSTRAINT main ON users IS 'both'; CREATE INDEX by_qty ON users (qty DESC) WHERE qty > 1;
            CREATE TABLE users_low PARTITION OF users FOR VALUES FROM (0) TO (1000);
            CREATE TABLE users_mid (gone int, nick text, qty int NOT NULL DEFAULT 3 CONSTRAINT users_qty_check CHECK (qty > 0), code int NOT NULL, id bigint NOT NULL,
                PRIMARY KEY (id, code), UNIQUE (code, id) INCLUDE (nick));
            ALTER TABLE users_mid DROP COLUMN gone; CREATE INDEX ON users_mid (qty DESC) WHERE qty > 1;
            ALTER TABLE users ATTACH PARTITION users_mid FOR VALUES FROM (1000) TO (2000);
            CREATE TABLE users_high PARTITION OF users FOR VALUES FROM (2000) TO (1500000) PARTITION BY HASH (id);
            CREATE TABLE users_high_0 PARTITION OF users_high FOR VALUES WITH (MODULUS 2, REMAINDER 0);
            CREATE TABLE users_high_1 PARTITION OF users_high FOR VALUES WITH (MODULUS 2, REMAINDER 1);
            CREATE TABLE users_rest PARTITION OF users DEFAULT; CREATE UNIQUE INDEX most ON users (id, qty, nick);
            INSERT INTO users (id, code, qty) SELECT i, i, i FROM generate_series(1, 3000) AS i;",
        migration: "ALTER TABLE users ALTER COLUMN code TYPE bigint, ALTER COLUMN qty TYPE bigint;",
        plain: None,
        old: SAME_QTY,
        new: SAME_QTY,
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "foreign keys of a partitioned table",
        setup: "CREATE TABLE teams (id bigint PRIMARY KEY); INSERT INTO teams SELECT generate_series(1, 100);
            CREATE TABLE users (id bigint PRIMARY KEY, team bigint, boss bigint, touched int DEFAULT 0, CONSTRAINT managed FOREIGN KEY (boss) REFERENCES teams ON DELETE SET NULL)
                PARTITION BY RANGE (id);
            COMMENT ON CONSTRAINT managed ON users IS 'by a team';
            CREATE TABLE users_low PARTITION OF users FOR VALUES FROM (0) TO (1000);
            CREATE TABLE users_high PARTITION OF users FOR VALUES FROM (1000) TO (1500000) PARTITION BY HASH (id);
            CREATE TABLE users_high_0 PARTITION OF users_high FOR VALUES WITH (MODULUS 2, REMAINDER 0);
            CREATE TABLE users_high_1 PARTITION OF users_high FOR VALUES WITH (MODULUS 2, REMAINDER 1);
            CREATE TABLE users_rest PARTITION OF users DEFAULT;
            INSERT INTO users SELECT i, i % 100 + 1, i % 100 + 1, i FROM generate_series(1, 3000) AS i;",
        migration: "ALTER TABLE users ADD CONSTRAINT known_team FOREIGN KEY (team) REFERENCES teams ON DELETE SET NULL;
            ALTER TABLE users DROP CONSTRAINT managed;",
        plain: None,
        old: TEAM,
        new: TEAM,
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "retype a key of a partitioned table that foreign keys point at",
        setup: "CREATE TABLE users (id int, area bigint, qty int NOT NULL DEFAULT 3, code int, boss int, boss_area bigint, CONSTRAINT main PRIMARY KEY (id, area), UNIQUE (area, code, id),
                CONSTRAINT led FOREIGN KEY (boss, boss_area) REFERENCES users ON DELETE SET NULL) PARTITION BY LIST (area);
            COMMENT ON CONSTRAINT led ON users IS 'by one of them';
            CREATE TABLE users_1 PARTITION OF users FOR VALUES IN (1);
            CREATE TABLE users_2 PARTITION OF users FOR VALUES IN (2) PARTITION BY RANGE (area);
            CREATE TABLE users_2_all PARTITION OF users_2 DEFAULT;
            CREATE TABLE users_rest PARTITION OF users DEFAULT;
            INSERT INTO users SELECT i, i % 3, i, i, CASE WHEN i > 10 THEN i % 10 + 1 END, (i % 10 + 1) % 3 FROM generate_series(1, 3000) AS i;
            CREATE TABLE notes (note bigint PRIMARY KEY, author int, area bigint, CONSTRAINT written FOREIGN KEY (author, area) REFERENCES users (id, area) ON DELETE CASCADE DEFERRABLE);
            COMMENT ON CONSTRAINT written ON notes IS 'by whom'; CREATE INDEX ON notes (author);
            INSERT INTO notes SELECT i, i, i % 3 FROM generate_series(1, 3000) AS i;
            CREATE TABLE counts (area bigint, code int, author int, FOREIGN KEY (area, code, author) REFERENCES users (area, code, id) ON UPDATE CASCADE ON DELETE CASCADE) PARTITION BY LIST (area);
            CREATE TABLE counts_1 PARTITION OF counts FOR VALUES IN (1); CREATE TABLE counts_rest PARTITION OF counts DEFAULT;
            INSERT INTO counts SELECT i % 3, i, i FROM generate_series(1, 3000) AS i;",
        migration: "ALTER TABLE users ALTER COLUMN id TYPE bigint, ALTER COLUMN code TYPE bigint;",
        plain: Some("ALTER TABLE users ALTER COLUMN id TYPE bigint, ALTER COLUMN code TYPE bigint, ALTER COLUMN boss TYPE bigint; ALTER TABLE notes ALTER COLUMN author TYPE bigint;
            ALTER TABLE counts ALTER COLUMN code TYPE bigint, ALTER COLUMN author TYPE bigint;"),
        old: POINTED_AT,
        new: POINTED_AT,
        abort_discards: false,
        abort_leaves: &[],
    },
];
