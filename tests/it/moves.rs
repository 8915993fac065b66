//! Moves between tables: both sides written by many at once, and what cannot be moved.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Executor};

use super::support::{Project, connect, text};

/// Rows that all sessions write.
const ROWS: u64 = 4_000;

const SESSIONS: u64 = 40;

/// A move, and how both versions write and remove a value of one row.
struct Move {
    setup: &'static str,
    migration: &'static str,
    writes: &'static [&'static str],
    removes: &'static [&'static str],
    /// Gives the value of a row on each side, empty where there is none.
    sides: [&'static str; 2],
    /// The values of all rows, also of those that only the source has.
    values: &'static str,
}

const SPLIT: Move = Move {
    setup: "CREATE TABLE people (id bigint PRIMARY KEY, street text);
        INSERT INTO people SELECT i, '0:' || i FROM generate_series(1, 4000) AS i;",
    migration: "CREATE TABLE addresses (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, person bigint UNIQUE REFERENCES people ON DELETE CASCADE, road text NOT NULL);
        INSERT INTO addresses (person, road) SELECT id, street FROM people WHERE street IS NOT NULL;
        ALTER TABLE people DROP COLUMN street;",
    writes: &[
        "UPDATE people SET street = '{v}' WHERE id = {id}",
        "INSERT INTO people (id, street) VALUES ({id}, '{v}') ON CONFLICT (id) DO UPDATE SET street = EXCLUDED.street",
        "INSERT INTO addresses (person, road) VALUES ({id}, '{v}') ON CONFLICT (person) DO UPDATE SET road = EXCLUDED.road",
        "INSERT INTO addresses (person, road) VALUES ({id}, '{v}') ON CONFLICT (person) DO UPDATE SET road = EXCLUDED.road",
    ],
    removes: &["UPDATE people SET street = NULL WHERE id = {id}", "DELETE FROM addresses WHERE person = {id}"],
    sides: [
        "SELECT string_agg(id || '=' || coalesce(street, ''), ' ' ORDER BY id) FROM people WHERE street IS NOT NULL",
        "SELECT string_agg(person || '=' || road, ' ' ORDER BY person) FROM addresses",
    ],
    values: "SELECT string_agg(id || '=' || street, ' ') FROM people",
};

const MOVE: Move = Move {
    setup: "CREATE TABLE people (id bigint PRIMARY KEY, email text);
        CREATE TABLE profiles (id int PRIMARY KEY, person bigint UNIQUE REFERENCES people, seen int);
        INSERT INTO people SELECT i, '0:' || i FROM generate_series(1, 4000) AS i; INSERT INTO profiles SELECT id, id FROM people;",
    migration: "ALTER TABLE profiles ADD COLUMN email text;
        UPDATE profiles SET email = people.email FROM people WHERE people.id = person;
        ALTER TABLE people DROP COLUMN email;",
    writes: &[
        "UPDATE people SET email = '{v}' WHERE id = {id}",
        "UPDATE profiles SET email = '{v}' WHERE person = {id}",
        "UPDATE profiles SET email = '{v}', seen = 1 WHERE id = {id}",
    ],
    // A null over the null of a row that the backfill has not reached counts as not given, and changes nothing.
    removes: &[
        "UPDATE people SET email = NULL WHERE id = {id}",
        "UPDATE profiles SET email = NULL WHERE id = {id} AND email IS NOT NULL",
        "WITH gone AS (DELETE FROM profiles WHERE id = {id} RETURNING id) UPDATE people SET email = NULL WHERE id = {id}",
        "INSERT INTO profiles (id, person) SELECT id, id FROM people WHERE id = {id} AND email IS NULL ON CONFLICT DO NOTHING",
    ],
    sides: [
        "SELECT string_agg(id || '=' || email, ' ' ORDER BY id) FROM people WHERE email IS NOT NULL AND id IN (SELECT person FROM profiles)",
        "SELECT string_agg(person || '=' || email, ' ' ORDER BY person) FROM profiles WHERE email IS NOT NULL",
    ],
    values: "SELECT string_agg(id || '=' || email, ' ') FROM people",
};

const PARTED: Move = Move {
    setup: "CREATE TABLE people (id bigint PRIMARY KEY, email text) PARTITION BY RANGE (id);
        CREATE TABLE people_low PARTITION OF people FOR VALUES FROM (0) TO (2000); CREATE TABLE people_rest PARTITION OF people DEFAULT;
        CREATE TABLE profiles (id int, person bigint PRIMARY KEY REFERENCES people, seen int) PARTITION BY HASH (person);
        CREATE TABLE profiles_0 PARTITION OF profiles FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE profiles_1 PARTITION OF profiles FOR VALUES WITH (MODULUS 2, REMAINDER 1); CREATE INDEX ON profiles (id);
        INSERT INTO people SELECT i, '0:' || i FROM generate_series(1, 4000) AS i; INSERT INTO profiles SELECT id, id FROM people;",
    ..MOVE
};

/// What a session did: its last acknowledged write of each row, and how its statements ended.
#[derive(Default)]
struct Session {
    last: BTreeMap<u64, Option<String>>,
    done: u64,
    deadlocks: u64,
    errors: Vec<String>,
}

async fn session(url: String, number: u64, moved: &'static Move, stop: Arc<AtomicBool>) -> Session {
    let mut connection = connect(&url).await;
    let mut account = Session::default();
    let mut count = 0;
    while !stop.load(Ordering::SeqCst) {
        let id = fastrand::u64(1..=ROWS);
        count += 1;
        let value = format!("{number}:{count}");
        let write = fastrand::u8(0..8) > 0;
        let list = if write { moved.writes } else { moved.removes };
        let sql =
            list[fastrand::usize(0..list.len())].replace("{id}", &id.to_string()).replace("{v}", &value);
        match connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.clone()))).await {
            Ok(done) if done.rows_affected() > 0 => drop(account.last.insert(id, write.then_some(value))),
            Ok(_) => {}
            Err(error) => match error.as_database_error().and_then(|error| error.code()).as_deref() {
                Some("40P01") => account.deadlocks += 1,
                _ => account.errors.push(format!("{error}: {sql}")),
            },
        }
        account.done += 1;
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..40))).await;
    }
    account
}

/// Both sides agree in the end, each row holds the last write of some session, and hardly anything deadlocks.
async fn agree(moved: &'static Move) {
    let project = Project::new(moved.setup, &[("0001_move.sql", moved.migration)]).await;
    let stop = Arc::new(AtomicBool::new(false));
    project.migrate(&["expand"]).await.expect(0);
    let sessions: Vec<_> = (1..=SESSIONS)
        .map(|number| tokio::spawn(session(project.database.url.clone(), number, moved, Arc::clone(&stop))))
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    project.migrate(&["backfill", "--workers", "2"]).await.expect(0);
    tokio::time::sleep(Duration::from_secs(5)).await;
    stop.store(true, Ordering::SeqCst);
    let mut accounts = Vec::new();
    for session in sessions {
        accounts.push(session.await.unwrap());
    }
    let errors: Vec<&String> = accounts.iter().flat_map(|account| &account.errors).collect();
    assert!(errors.is_empty(), "{} errors, the first: {}", errors.len(), errors[0]);
    let done: u64 = accounts.iter().map(|account| account.done).sum();
    let deadlocks: u64 = accounts.iter().map(|account| account.deadlocks).sum();
    println!("{done} statements of {SESSIONS} sessions on {ROWS} rows, {deadlocks} deadlocks");
    assert!(done > 1_500, "only {done} statements");
    assert!(deadlocks * 1_000 <= done, "{deadlocks} deadlocks in {done} statements");
    let mut connection = project.database.connect().await;
    let (old, new) =
        (text(&mut connection, moved.sides[0]).await, text(&mut connection, moved.sides[1]).await);
    let differ: Vec<(&str, &str)> =
        old.split(' ').zip(new.split(' ')).filter(|(old, new)| old != new).take(5).collect();
    assert_eq!(old, new, "the sides differ: {differ:?}");
    let values = text(&mut connection, moved.values).await;
    let found: BTreeMap<u64, &str> = values
        .split(' ')
        .filter_map(|row| row.split_once('='))
        .map(|(id, value)| (id.parse().unwrap(), value))
        .collect();
    for id in 1..=ROWS {
        let untouched = format!("0:{id}");
        let mut last: BTreeSet<Option<&str>> =
            accounts.iter().filter_map(|account| account.last.get(&id)).map(Option::as_deref).collect();
        if last.is_empty() {
            last.insert(Some(&untouched));
        }
        let value = found.get(&id).copied();
        assert!(last.contains(&value), "row {id} holds {value:?}, the last writes were {last:?}");
    }
    project.migrate(&["verify"]).await.expect(0);
    project.register("web-1", "1").await;
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0).says("0001 is done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_sessions_that_write_both_sides_of_a_split_table_agree_in_the_end() {
    agree(&SPLIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_sessions_that_write_both_sides_of_a_moved_column_agree_in_the_end() {
    agree(&MOVE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_sessions_that_write_both_sides_in_partitions_agree_in_the_end() {
    agree(&PARTED).await;
}

/// What stands in a database once it is ready, the statements that old and new code then run, and what a query must give.
struct Case {
    setup: &'static str,
    file: &'static str,
    statements: &'static [&'static str],
    query: &'static str,
    gives: &'static str,
}

const PEOPLE: &str = "CREATE TABLE users (id bigint PRIMARY KEY, email text, active bool DEFAULT true);
    CREATE TABLE profiles (user_id bigint PRIMARY KEY, touched int);
    INSERT INTO users SELECT i, 'N' || i FROM generate_series(1, 5) AS i; INSERT INTO profiles SELECT id FROM users;";

const TO_PROFILES: &str = "ALTER TABLE profiles ADD COLUMN email text; UPDATE profiles AS p SET email = u.email FROM users AS u WHERE u.id = p.user_id;
    ALTER TABLE users DROP COLUMN email;";

const BIOS: &str = "CREATE TABLE users (id bigint PRIMARY KEY); CREATE TABLE bios (id bigserial PRIMARY KEY, user_id bigint NOT NULL UNIQUE, words text NOT NULL);
    INSERT INTO users SELECT generate_series(1, 5); INSERT INTO bios (user_id, words) SELECT id, 'N' || id FROM users WHERE id < 5;";

const TO_USERS: &str = "ALTER TABLE users ADD COLUMN bio text; UPDATE users SET bio = words FROM bios WHERE bios.user_id = users.id; DROP TABLE bios;";

const CASES: &[Case] = &[
    Case {
        // A condition that turns false takes the value from new code, not from old code.
        setup: PEOPLE,
        file: "ALTER TABLE profiles ADD COLUMN email text; UPDATE profiles AS p SET email = u.email FROM users AS u WHERE u.id = p.user_id AND u.active;
            ALTER TABLE users DROP COLUMN email;",
        statements: &["UPDATE users SET active = false WHERE id = 1"],
        query: "SELECT u.email || ' ' || coalesce(p.email, '-') FROM users AS u JOIN profiles AS p ON p.user_id = u.id WHERE u.id = 1",
        gives: "N1 -",
    },
    Case {
        // A row of a table that is merged goes to another row; that table's own key stays.
        setup: BIOS,
        file: TO_USERS,
        statements: &["UPDATE bios SET user_id = 5 WHERE user_id = 1"],
        query: "SELECT string_agg(id || ':' || coalesce(bio, '-'), ' ' ORDER BY id) FROM users",
        gives: "1:- 2:N2 3:N3 4:N4 5:N1",
    },
    Case {
        setup: BIOS,
        file: TO_USERS,
        statements: &[
            "UPDATE users SET id = 12 WHERE id = 2", "UPDATE bios SET user_id = 12 WHERE user_id = 2", "UPDATE users SET bio = NULL WHERE id = 3",
            "UPDATE users SET bio = 'new' WHERE id = 5", "DELETE FROM users WHERE id = 4", "DELETE FROM bios WHERE user_id = 1",
        ],
        query: "SELECT (SELECT string_agg(user_id || ':' || words, ' ' ORDER BY user_id) FROM bios) || ' / ' || string_agg(id || ':' || coalesce(bio, '-'), ' ' ORDER BY id) FROM users",
        gives: "5:new 12:N2 / 1:- 3:- 5:new 12:N2",
    },
    Case {
        // Every row of a table that goes is kept, also one with nothing but defaults.
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, name text, status text NOT NULL DEFAULT 'new'); INSERT INTO users VALUES (1, 'a');",
        file: "CREATE TABLE people (id bigint PRIMARY KEY, full_name text, status text NOT NULL DEFAULT 'new');
            INSERT INTO people (id, full_name, status) SELECT id, name, status FROM users; DROP TABLE users;",
        statements: &["INSERT INTO users (id) VALUES (8)"],
        query: "SELECT string_agg(id || ':' || status, ' ' ORDER BY id) FROM people",
        gives: "1:new 8:new",
    },
    Case {
        // A trigger of the user that changes the row once more is followed to where it ends.
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, email text, active bool);
            CREATE TABLE profiles (user_id bigint PRIMARY KEY); INSERT INTO users SELECT i, 'N' || i FROM generate_series(1, 3) AS i; INSERT INTO profiles SELECT id FROM users;
            CREATE FUNCTION bang() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE users SET email = email || '!' WHERE id > NEW.id AND NEW.email = 'bang'; RETURN NULL; END $$;
            CREATE TRIGGER bang AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION bang();",
        file: TO_PROFILES,
        statements: &["UPDATE users SET email = 'bang' WHERE id IN (1, 2)"],
        query: "SELECT string_agg(u.email || '=' || p.email, ' ' ORDER BY id) FROM users AS u JOIN profiles AS p ON p.user_id = u.id",
        gives: "bang=bang bang!=bang! N3!!=N3!!",
    },
    Case {
        // The row of the new table first, its source then.
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, street text); INSERT INTO users VALUES (1, 'a');",
        file: "CREATE TABLE addresses (id bigint PRIMARY KEY, road text NOT NULL); INSERT INTO addresses (id, road) SELECT id, street FROM users WHERE street IS NOT NULL;
            ALTER TABLE users DROP COLUMN street;",
        statements: &["INSERT INTO addresses VALUES (20, 'twenty')", "INSERT INTO users (id) VALUES (20)"],
        query: "SELECT street FROM users WHERE id = 20",
        gives: "twenty",
    },
    Case {
        // A null of new code is a default of old code, which must not be null.
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, lang text NOT NULL DEFAULT 'en'); CREATE TABLE profiles (user_id bigint PRIMARY KEY);
            INSERT INTO users VALUES (1, 'de'); INSERT INTO profiles VALUES (1);",
        file: "ALTER TABLE profiles ADD COLUMN lang text; UPDATE profiles SET lang = u.lang FROM users AS u WHERE u.id = user_id; ALTER TABLE users DROP COLUMN lang;",
        statements: &["UPDATE profiles SET lang = NULL WHERE user_id = 1"],
        query: "SELECT u.lang || coalesce(p.lang, '-') FROM users AS u, profiles AS p",
        gives: "en-",
    },
    Case {
        // Types that only the search path finds; NOT NULL; keys that are indexes; a key that is called like a variable.
        setup: "CREATE SCHEMA app; CREATE TYPE app.mood AS ENUM ('sad', 'ok'); CREATE TABLE users (found int NOT NULL, mood app.mood); CREATE UNIQUE INDEX ON users (found);
            CREATE TABLE profiles (found int NOT NULL); CREATE UNIQUE INDEX ON profiles (found); INSERT INTO users SELECT i, 'ok' FROM generate_series(1, 9) AS i;
            INSERT INTO profiles SELECT found FROM users;",
        file: "ALTER TABLE profiles ADD COLUMN mood app.mood NOT NULL; UPDATE profiles SET mood = users.mood FROM users WHERE users.found = profiles.found;
            ALTER TABLE users DROP COLUMN mood;",
        statements: &["UPDATE profiles SET mood = 'sad' WHERE found = 3", "UPDATE users SET mood = 'sad' WHERE found = 4", "INSERT INTO users (found) VALUES (10)",
            "INSERT INTO profiles VALUES (10, 'ok')"],
        query: "SELECT string_agg(found::text, ' ' ORDER BY found) || ' ' || count(mood) FROM users WHERE mood = 'sad' OR found = 10",
        gives: "3 4 10 3",
    },
    Case {
        // What cannot be computed fails no old code, and nobody who writes something else of the row.
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, age text); CREATE TABLE profiles (id bigint PRIMARY KEY, phone text); INSERT INTO users VALUES (1, '5'), (2, '6'); INSERT INTO profiles VALUES (1), (2);",
        file: "ALTER TABLE profiles ADD COLUMN age int, ADD COLUMN half int; UPDATE profiles AS p SET age = u.age::int FROM users AS u WHERE u.id = p.id;
            -- migrate: down age = profiles.age::text
            ALTER TABLE users DROP COLUMN age;",
        statements: &["UPDATE users SET age = 'bad' WHERE id = 1", "UPDATE profiles SET phone = '1' WHERE id = 1", "UPDATE profiles SET age = 7 WHERE id = 1"],
        query: "SELECT age FROM users WHERE id = 1",
        gives: "7",
    },
    Case {
        // A key and a value that change together, in the table that stays; keys that shift in one statement.
        setup: BIOS,
        file: TO_USERS,
        statements: &["UPDATE users SET id = 8, bio = 'new' WHERE id = 4", "UPDATE bios SET user_id = user_id + 20 WHERE user_id < 4", "INSERT INTO users VALUES (21), (22), (23)"],
        query: "SELECT string_agg(id || ':' || coalesce(bio, '-'), ' ' ORDER BY id) || ' / ' || (SELECT string_agg(user_id || ':' || words, ' ' ORDER BY user_id) FROM bios) FROM users",
        gives: "1:- 2:- 3:- 5:- 8:new 21:N1 22:N2 23:N3 / 8:new 21:N1 22:N2 23:N3",
    },
    Case {
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, name text); INSERT INTO users VALUES (3, 'c'), (2, 'b'), (1, 'a');",
        file: "CREATE TABLE people (id bigint PRIMARY KEY, full_name text); INSERT INTO people (id, full_name) SELECT id, name FROM users; DROP TABLE users;",
        statements: &["UPDATE users SET id = id + 1", "UPDATE people SET id = 10, full_name = 'new' WHERE id = 2"],
        query: "SELECT string_agg(id || ':' || full_name, ' ' ORDER BY id) FROM people",
        gives: "3:b 4:c 10:new",
    },
    Case {
        // Rows that change their partitions, on either side, with their key or without.
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, email text) PARTITION BY RANGE (id); CREATE TABLE users_low PARTITION OF users FOR VALUES FROM (0) TO (10);
            CREATE TABLE users_rest PARTITION OF users DEFAULT; INSERT INTO users SELECT i, 'N' || i FROM generate_series(1, 6) AS i;
            CREATE TABLE visits (user_id bigint, touched int) PARTITION BY RANGE (touched); CREATE TABLE visits_low PARTITION OF visits FOR VALUES FROM (0) TO (10);
            CREATE TABLE visits_rest PARTITION OF visits DEFAULT; CREATE INDEX ON visits (user_id); INSERT INTO visits SELECT id, id FROM users;",
        file: "ALTER TABLE visits ADD COLUMN email text; UPDATE visits SET email = u.email FROM users AS u WHERE u.id = user_id;
            ALTER TABLE users DROP COLUMN email;",
        statements: &["UPDATE visits SET touched = 50 WHERE user_id = 1", "UPDATE visits SET touched = 60, user_id = 3 WHERE user_id = 2",
            "UPDATE users SET id = 40, email = 'forty' WHERE id = 4", "UPDATE visits SET user_id = 40, touched = 40 WHERE user_id = 4", "INSERT INTO visits VALUES (5, 90)",
            "UPDATE users SET email = 'six' WHERE id = 6"],
        query: "SELECT string_agg(user_id || ':' || touched || ':' || coalesce(email, '-'), ' ' ORDER BY user_id, touched) FROM visits",
        gives: "1:50:N1 3:3:N3 3:60:N3 5:5:N5 5:90:N5 6:6:six 40:40:forty",
    },
    Case {
        // One to one, by keys that the tables are partitioned by.
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, email text) PARTITION BY RANGE (id); CREATE TABLE users_low PARTITION OF users FOR VALUES FROM (0) TO (10);
            CREATE TABLE users_rest PARTITION OF users DEFAULT; INSERT INTO users SELECT i, 'N' || i FROM generate_series(1, 6) AS i; INSERT INTO users VALUES (20, 'N20');
            CREATE TABLE profiles (user_id bigint PRIMARY KEY, touched int) PARTITION BY RANGE (user_id); CREATE TABLE profiles_low PARTITION OF profiles FOR VALUES FROM (0) TO (5);
            CREATE TABLE profiles_rest PARTITION OF profiles DEFAULT; INSERT INTO profiles SELECT id FROM users WHERE id < 10;",
        file: TO_PROFILES,
        statements: &["UPDATE profiles SET user_id = 20 WHERE user_id = 2", "UPDATE profiles SET email = 'three' WHERE user_id = 3", "UPDATE users SET email = 'four' WHERE id = 4",
            "DELETE FROM profiles WHERE user_id = 1", "INSERT INTO profiles (user_id, email) VALUES (1, 'one')", "UPDATE profiles SET user_id = 50, email = 'fifty' WHERE user_id = 5",
            "INSERT INTO users (id) VALUES (50)"],
        query: "SELECT (SELECT string_agg(id || ':' || coalesce(email, '-'), ' ' ORDER BY id) FROM users) || ' / ' || string_agg(user_id || ':' || coalesce(email, '-'), ' ' ORDER BY user_id) FROM profiles",
        gives: "1:one 2:N2 3:three 4:four 5:N5 6:N6 20:N20 50:fifty / 1:one 3:three 4:four 6:N6 20:N20 50:fifty",
    },
    Case {
        // Rules of the new table, wherever they are said, fail no old code.
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, street text); INSERT INTO users VALUES (1, 'a'), (2, 'b');",
        file: "CREATE TABLE addresses (id bigint PRIMARY KEY, road text NOT NULL, kind text); ALTER TABLE addresses ADD CHECK (road <> 'x'); CREATE UNIQUE INDEX ON addresses (road);
            INSERT INTO addresses (id, road, kind) SELECT id, street, 'home' FROM users WHERE street IS NOT NULL; ALTER TABLE users DROP COLUMN street;",
        statements: &["UPDATE users SET street = 'x' WHERE id = 1", "UPDATE users SET street = 'b' WHERE id = 1", "UPDATE users SET street = 'c' WHERE id = 1"],
        query: "SELECT road || kind FROM addresses WHERE id = 1",
        gives: "chome",
    },
    Case {
        // Many rows of one that goes: who deletes or renumbers one of them takes nothing from the others.
        setup: "CREATE TABLE teams (id bigint PRIMARY KEY, label text); INSERT INTO teams VALUES (1, 'one'), (2, 'two');
            CREATE TABLE users (id bigint PRIMARY KEY, team bigint); CREATE INDEX ON users (team); INSERT INTO users VALUES (1, 1), (2, 1), (3, 2), (4, 2);",
        file: "ALTER TABLE users ADD COLUMN label text; UPDATE users SET label = t.label FROM teams AS t WHERE t.id = team; DROP TABLE teams;",
        statements: &["DELETE FROM users WHERE id = 1", "UPDATE users SET team = 1 WHERE id = 3"],
        query: "SELECT (SELECT string_agg(id || ':' || label, ' ' ORDER BY id) FROM users) || ' / ' || string_agg(id || ':' || label, ' ' ORDER BY id) FROM teams",
        gives: "2:one 3:one 4:two / 1:one 2:two",
    },
    Case {
        // Rows that change their partition, with values that only one side has.
        setup: REGIONS,
        file: "CREATE TABLE people (id bigint, name text NOT NULL, region int NOT NULL, since int DEFAULT 2000, PRIMARY KEY (region, id)) PARTITION BY RANGE (region);
            CREATE TABLE people_low PARTITION OF people FOR VALUES FROM (0) TO (2); CREATE TABLE people_rest PARTITION OF people DEFAULT;
            INSERT INTO people (id, name, region) SELECT id, name, region FROM users; DROP TABLE users;",
        statements: &["UPDATE people SET since = 1999", "UPDATE users SET region = 2 WHERE id = 1", "UPDATE people SET region = 7, name = 'two' WHERE id = 2", "UPDATE users SET region = 1 - region WHERE id IN (3, 4)",
            "UPDATE people SET region = region + 5 WHERE id IN (5, 6)", "DELETE FROM people WHERE id = 7", "INSERT INTO people VALUES (8, 'eight', 1)", "UPDATE users SET region = 3 WHERE id = 8"],
        query: "SELECT (SELECT string_agg(id || name || region || coalesce(secret, '-'), ' ' ORDER BY id) FROM users) || ' / ' || string_agg(id || name || region || ':' || since, ' ' ORDER BY id) FROM people",
        gives: "1N12s1 2two7s2 3N30s3 4N41s4 5N56s5 6N65s6 8eight3- / 1N12:1999 2two7:1999 3N30:1999 4N41:1999 5N56:1999 6N65:1999 8eight3:2000",
    },
    Case {
        // A key that changes where nothing of new code reaches the source.
        setup: REGIONS,
        file: "CREATE TABLE people (id bigint, name text NOT NULL, region int NOT NULL, PRIMARY KEY (region, id)) PARTITION BY RANGE (region);
            CREATE TABLE people_low PARTITION OF people FOR VALUES FROM (0) TO (2); CREATE TABLE people_rest PARTITION OF people DEFAULT;
            INSERT INTO people (id, name, region) SELECT id, lower(name), region FROM users; DROP TABLE users;",
        statements: &["UPDATE people SET region = 7 WHERE id = 2", "UPDATE people SET id = 30 WHERE id = 3"],
        query: "SELECT (SELECT string_agg(id || name || region || secret, ' ' ORDER BY id) FROM users) || ' / ' || string_agg(id || name || region, ' ' ORDER BY id) FROM people",
        gives: "1N11s1 2N27s2 4N40s4 5N51s5 6N60s6 7N71s7 30N31s3 / 1n11 2n27 4n40 5n51 6n60 7n71 30n31",
    },
    Case {
        // A partitioned table that is merged into another one.
        setup: REGIONS,
        file: "ALTER TABLE folk ADD COLUMN name text; UPDATE folk SET name = users.name FROM users WHERE users.id = who AND users.region = place; DROP TABLE users;",
        statements: &["UPDATE users SET region = 2 WHERE id = 1", "UPDATE folk SET place = 2 WHERE who = 1", "UPDATE folk SET place = 5, name = 'two' WHERE who = 2", "UPDATE folk SET name = 'three' WHERE who = 3",
            "UPDATE users SET name = 'four' WHERE id = 4", "DELETE FROM users WHERE id = 5", "DELETE FROM folk WHERE who = 6"],
        query: "SELECT (SELECT string_agg(id || name || region || coalesce(secret, '-'), ' ' ORDER BY id) FROM users) || ' / ' || string_agg(who || coalesce(name, '-') || place, ' ' ORDER BY who) FROM folk",
        gives: "1N12s1 2two5s2 3three1s3 4four0s4 7N71s7 / 1N12 2two5 3three1 4four0 5-1 7N71",
    },
    Case {
        // A column of the target that is called like a name inside the triggers.
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, email text); CREATE TABLE profiles (user_id bigint PRIMARY KEY, t timestamptz, s int, o text);
            INSERT INTO users VALUES (1, 'N1'), (2, 'N2'); INSERT INTO profiles SELECT id FROM users;",
        file: TO_PROFILES,
        statements: &["UPDATE users SET email = 'new' WHERE id = 1", "UPDATE profiles SET email = 'newer' WHERE user_id = 2"],
        query: "SELECT string_agg(u.email || '=' || p.email, ' ' ORDER BY u.id) FROM users AS u JOIN profiles AS p ON p.user_id = u.id",
        gives: "new=new newer=newer",
    },
    Case {
        // A unique index of the new column rejects no old code.
        setup: PEOPLE,
        file: "ALTER TABLE profiles ADD COLUMN email text; UPDATE profiles AS p SET email = u.email FROM users AS u WHERE u.id = p.user_id;
            ALTER TABLE users DROP COLUMN email; CREATE UNIQUE INDEX ON profiles (email); ALTER TABLE profiles ADD UNIQUE (email);",
        statements: &["UPDATE users SET email = 'N2' WHERE id = 1", "UPDATE users SET email = 'N9' WHERE id = 2"],
        query: "SELECT string_agg(email, ' ' ORDER BY user_id) FROM profiles",
        gives: "N2 N9 N3 N4 N5",
    },
    Case {
        // A key that counts on its own, and takes what it is given.
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, email text); INSERT INTO users VALUES (1, 'a');",
        file: "CREATE TABLE addr (aid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text); INSERT INTO addr (aid, email) OVERRIDING SYSTEM VALUE SELECT id, email FROM users;
            ALTER TABLE users DROP COLUMN email;",
        statements: &["INSERT INTO users VALUES (20, 'twenty')"],
        query: "SELECT string_agg(aid || email, ' ' ORDER BY aid) FROM addr",
        gives: "1a 20twenty",
    },
    Case {
        // What old code left as it was does not come back over what new code wrote, though nothing reaches old code.
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, email text, name text); INSERT INTO users VALUES (1, 'e1', 'n1'), (2, 'e2', 'n2');",
        file: "CREATE TABLE people (id bigint PRIMARY KEY, mail text, name text, born date); INSERT INTO people (id, mail, name, born) SELECT id, upper(email), name, NULL FROM users; DROP TABLE users;",
        statements: &["UPDATE people SET mail = 'NEW' WHERE id = 1", "UPDATE users SET name = 'old code' WHERE id = 1", "UPDATE users SET email = 'e3' WHERE id = 2"],
        query: "SELECT string_agg(mail || ':' || name, ' ' ORDER BY id) FROM people",
        gives: "NEW:old code E3:n2",
    },
];

const REGIONS: &str = "CREATE TABLE users (id bigint, name text NOT NULL, region int NOT NULL, secret text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
    CREATE TABLE users_0 PARTITION OF users FOR VALUES IN (0); CREATE TABLE users_1 PARTITION OF users FOR VALUES IN (1); CREATE TABLE users_rest PARTITION OF users DEFAULT;
    INSERT INTO users SELECT i, 'N' || i, i % 2, 's' || i FROM generate_series(1, 7) AS i;
    CREATE TABLE folk (who bigint, place int, PRIMARY KEY (place, who)) PARTITION BY HASH (place);
    CREATE TABLE folk_0 PARTITION OF folk FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE folk_1 PARTITION OF folk FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    INSERT INTO folk SELECT id, region FROM users;";

#[tokio::test]
async fn each_side_follows_the_other_whatever_is_written() {
    for case in CASES {
        let project = Project::new(case.setup, &[("0001_move.sql", case.file)]).await;
        project.migrate(&["expand"]).await.expect(0);
        project.migrate(&["backfill"]).await.expect(0);
        for statement in case.statements {
            project.database.run(statement).await;
        }
        assert_eq!(project.database.text(case.query).await, case.gives, "{}", case.file);
        project.migrate(&["verify"]).await.expect(0);
        project.register("web-1", "1").await;
        project.migrate(&["contract"]).await.expect(0);
        project.migrate(&["reopen", "1", "--accept-nulls"]).await.expect(0);
        assert_eq!(project.database.text(case.query).await, case.gives, "after a reopen: {}", case.file);
    }
}

#[tokio::test]
async fn new_data_of_a_new_table_is_not_thrown_away_unasked() {
    let files = [(
        "0001_x.sql",
        "CREATE TABLE addresses (id bigint PRIMARY KEY, road text, city text);
        INSERT INTO addresses (id, road) SELECT id, email FROM users; ALTER TABLE users DROP COLUMN email;",
    )];
    let project = Project::new(PEOPLE, &files).await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    project.database.run("UPDATE addresses SET city = 'Berlin' WHERE id = 1").await;
    project.migrate(&["abort", "1"]).await.expect(4).says("rows in public.addresses");
    project.migrate(&["abort", "1", "--discard-new-data"]).await.expect(0);
}

#[tokio::test]
async fn a_later_file_waits_for_the_move_to_be_contracted() {
    let project = Project::new(PEOPLE, &[("0001_x.sql", TO_PROFILES)]).await;
    project.migrate(&["expand"]).await.expect(0);
    for file in [
        "DROP TABLE profiles;",
        "DROP TABLE users;",
        "ALTER TABLE profiles RENAME COLUMN email TO mail;",
        "ALTER TABLE users RENAME COLUMN id TO number;",
    ] {
        project.write("0002_x.sql", file);
        project.migrate(&["expand"]).await.expect(1).says("let it finish first");
    }
}

#[tokio::test]
async fn writes_to_a_table_that_goes_close_the_gate() {
    let project = Project::new(BIOS, &[("0001_x.sql", TO_USERS)]).await;
    project.migrate(&["expand"]).await.expect(0);
    project.migrate(&["backfill"]).await.expect(0);
    project.register("web-1", "1").await;
    project.database.run("UPDATE users SET bio = 'new' WHERE id = 1").await;
    assert_eq!(project.database.text("SELECT count(*)::text FROM pontoon.old_write").await, "0");
    project
        .database
        .run("SET application_name = 'nightly'; UPDATE bios SET words = 'old' WHERE user_id = 2")
        .await;
    // Nor does anybody wait for it.
    let mut holder = project.database.connect().await;
    super::support::run(&mut holder, "BEGIN; LOCK TABLE pontoon.old_write IN ACCESS EXCLUSIVE MODE").await;
    project
        .database
        .run("SET statement_timeout = '2s'; UPDATE bios SET words = 'older' WHERE user_id = 3")
        .await;
    super::support::run(&mut holder, "ROLLBACK").await;
    let mut command = project.command(&["contract"]);
    command.env("MIGRATE_QUIET", "60s");
    super::support::finish(command).await.expect(4).says("nightly");
}

#[tokio::test]
async fn what_cannot_be_moved_is_refused_by_name() {
    let odd = "CREATE TABLE odd (id bigint PRIMARY KEY DEFERRABLE, a text, b text, span int4range UNIQUE);";
    for (file, says) in [
        ("ALTER TABLE profiles ADD COLUMN email text; UPDATE profiles SET email = u.email FROM users AS u WHERE u.email = 'x';", "does not name a key"),
        ("ALTER TABLE profiles ADD COLUMN email text; UPDATE profiles SET email = u.email FROM users AS u WHERE u.id = user_id;\n-- migrate: down user_id = 1\nALTER TABLE profiles DROP COLUMN user_id;", "tells which rows belong together"),
        ("ALTER TABLE profiles ADD COLUMN a text; UPDATE profiles SET a = odd.a FROM odd WHERE odd.id = user_id;", "does not name a key"),
        ("ALTER TABLE users ADD COLUMN e text; UPDATE users SET e = p.touched::text FROM profiles AS p WHERE p.user_id = users.id AND users.id > p.touched;", "this condition"),
        ("ALTER TABLE profiles ADD COLUMN e text, ADD COLUMN f text; UPDATE profiles SET e = u.email, f = upper(u.email) FROM users AS u, odd WHERE u.id = user_id;", "more than one"),
        ("ALTER TABLE profiles ADD COLUMN e text; UPDATE profiles SET e = u.email || touched FROM users AS u WHERE u.id = user_id;", "computed from the source alone"),
        ("ALTER TABLE profiles ADD COLUMN e text DEFAULT ''; UPDATE profiles SET e = u.email FROM users AS u WHERE u.id = user_id;", "has a default"),
        ("ALTER TABLE profiles ADD COLUMN e text; UPDATE profiles SET e = u.email || random() FROM users AS u WHERE u.id = user_id;", "another value each time"),
        ("ALTER TABLE strict ADD COLUMN x int; ALTER TABLE profiles ADD COLUMN e text; UPDATE profiles SET e = s.name FROM strict AS s WHERE s.id = user_id; ALTER TABLE strict DROP COLUMN name;", "is NOT NULL and has no default"),
        ("ALTER TABLE profiles ADD COLUMN e text; UPDATE profiles SET e = u.email FROM users AS u WHERE u.id = user_id; ALTER TABLE users RENAME COLUMN id TO number;", "renamed"),
        ("CREATE TABLE n (id bigint PRIMARY KEY, e text); INSERT INTO n (id, e) SELECT id, email FROM users; UPDATE n SET e = 'x';", "data job"),
        ("CREATE TABLE n (id bigint, e text); INSERT INTO n (id, e) SELECT id, email FROM users;", "no PRIMARY KEY or UNIQUE"),
        ("CREATE TABLE n (id bigint PRIMARY KEY DEFERRABLE, e text); INSERT INTO n (id, e) SELECT id, email FROM users;", "no PRIMARY KEY or UNIQUE"),
        ("CREATE TABLE n (id bigint PRIMARY KEY, up bigint REFERENCES n, e text); INSERT INTO n (id, e) SELECT id, email FROM users;", "point at each other"),
        ("CREATE TABLE n (id bigint PRIMARY KEY); INSERT INTO n (id) SELECT id FROM users;", "nothing but the key"),
        ("CREATE TABLE n (id bigint PRIMARY KEY, e text); INSERT INTO n SELECT id, email FROM users;", "every column with its name"),
        ("CREATE TABLE n (id bigint PRIMARY KEY, e text); INSERT INTO n (id, e) SELECT id, email FROM users ON CONFLICT DO NOTHING;", "ON CONFLICT"),
        ("CREATE TABLE n (id bigint PRIMARY KEY, e text); CREATE TABLE m (id bigint PRIMARY KEY, f bool);
          INSERT INTO n (id, e) SELECT id, email FROM users; INSERT INTO m (id, f) SELECT id, active FROM users; DROP TABLE users;", "two moves out of"),
        ("CREATE TABLE n (id bigserial PRIMARY KEY, name text NOT NULL); INSERT INTO n (id, name) SELECT id, name FROM strict; DROP TABLE strict;", "count on their own"),
        ("CREATE TABLE n (id bigint PRIMARY KEY, name text); INSERT INTO n (id, name) SELECT id, name FROM strict; DROP TABLE strict;", "may be null"),
        ("CREATE TABLE n (id int PRIMARY KEY, e text); INSERT INTO n (id, e) SELECT id, email FROM users; DROP TABLE users;", "two keys could become one"),
        ("CREATE TABLE n (id timestamp PRIMARY KEY, a text); INSERT INTO n (id, a) SELECT at, a FROM dated; DROP TABLE dated;", "two keys could become one"),
        ("CREATE TABLE n (id bigint PRIMARY KEY, e text UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO n (id, e) SELECT id, email FROM users; ALTER TABLE users DROP COLUMN email;", "checked when a transaction ends"),
        ("ALTER TABLE profiles ADD COLUMN e text; UPDATE profiles SET e = u.email FROM users AS u WHERE u.id = user_id;\n-- migrate: down email = profiles.e || profiles.touched\nALTER TABLE users DROP COLUMN email;", "which does not move"),
        ("ALTER TABLE profiles ADD COLUMN e text; UPDATE profiles SET e = u.email FROM users AS u WHERE u.id = user_id AND u.id = touched; DROP TABLE users;", "a second condition"),
        ("CREATE TABLE n (id bigint PRIMARY KEY, e text); INSERT INTO n (id, e) WITH users AS (SELECT 1) SELECT id, email FROM users;", "a WITH clause"),
    ] {
        let setup = format!("{PEOPLE} {odd} CREATE TABLE strict (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, name text NOT NULL);
            CREATE TABLE dated (at timestamptz PRIMARY KEY, a text)");
        let project = Project::new(&setup, &[("0001_x.sql", file)]).await;
        project.migrate(&["plan"]).await.expect(1).says(says);
    }
}

/// A project whose one file is sealed.
pub(crate) async fn sealed(setup: &str, file: &str) -> Project {
    let project = Project::new(setup, &[("0001_move.sql", file)]).await;
    for command in ["expand", "backfill"] {
        project.migrate(&[command]).await.expect(0);
    }
    project.register("web-1", "1").await;
    project.migrate(&["contract"]).await.expect(0).says("sealed");
    project
}

#[tokio::test]
async fn what_new_code_writes_while_the_source_is_sealed_stays() {
    for (setup, file, statements, query, gives) in [
        (
            "CREATE TABLE teams (id int PRIMARY KEY, label text); CREATE TABLE users (id int PRIMARY KEY, team int); CREATE INDEX ON users (team);
             INSERT INTO teams VALUES (1, 'red'), (2, 'blue'); INSERT INTO users VALUES (1, 1), (2, 2), (3, 1);",
            "ALTER TABLE users ADD COLUMN label text; UPDATE users SET label = t.label FROM teams AS t WHERE t.id = users.team; ALTER TABLE teams DROP COLUMN label;",
            "UPDATE users SET label = 'own' WHERE id = 1; UPDATE users SET team = 2 WHERE id = 1; UPDATE users SET team = 2, label = 'red' WHERE id = 3;",
            "SELECT string_agg(id || ':' || team || ':' || label, ' ' ORDER BY id) FROM users",
            "1:2:own 2:2:blue 3:2:red",
        ),
        (
            "CREATE TABLE users (id int PRIMARY KEY); CREATE TABLE prof (uid int PRIMARY KEY, bio text, hid boolean NOT NULL DEFAULT false);
             INSERT INTO users VALUES (1), (2); INSERT INTO prof VALUES (1, 'b1', false), (2, 'b2', false);",
            "ALTER TABLE users ADD COLUMN bio text; UPDATE users SET bio = p.bio FROM prof AS p WHERE p.uid = users.id AND NOT p.hid; ALTER TABLE prof DROP COLUMN bio;",
            "UPDATE users SET bio = 'Z' WHERE id = 1; UPDATE prof SET hid = true WHERE uid = 1;",
            "SELECT string_agg(id || ':' || bio, ' ' ORDER BY id) FROM users",
            "1:Z 2:b2",
        ),
    ] {
        let project = sealed(setup, file).await;
        project.database.run(statements).await;
        assert_eq!(project.database.text(query).await, gives);
        project.migrate(&["contract", "--soak", "0s"]).await.expect(0).says("0001 is done");
        assert_eq!(project.database.text(query).await, gives);
    }
}

/// A row that the other table does not take is found before the old table goes.
#[tokio::test]
async fn a_row_that_found_no_place_stops_contract() {
    let setup = "CREATE TABLE users (id bigint PRIMARY KEY, name text, phone text); INSERT INTO users VALUES (1, 'a', 'p'), (2, 'b', 'p');
        CREATE TABLE notes (user_id bigint PRIMARY KEY);
        INSERT INTO notes VALUES (1), (2);";
    for (file, breaks, mends) in [
        (
            "CREATE TABLE people (id bigint PRIMARY KEY, name text NOT NULL, phone text); INSERT INTO people (id, name, phone) SELECT id, name, phone FROM users; DROP TABLE users;",
            "UPDATE users SET name = NULL WHERE id = 1",
            "UPDATE users SET name = 'c' WHERE id = 1",
        ),
        (
            "ALTER TABLE notes ADD COLUMN name varchar(3); UPDATE notes SET name = u.name FROM users AS u WHERE u.id = user_id; ALTER TABLE users DROP COLUMN name;",
            "UPDATE users SET name = 'aaaaa' WHERE id = 1",
            "UPDATE users SET name = 'aaa' WHERE id = 1",
        ),
    ] {
        let project = Project::new(setup, &[("0001_move.sql", file)]).await;
        project.migrate(&["expand"]).await.expect(0);
        project.migrate(&["backfill"]).await.expect(0);
        project.database.run(breaks).await;
        project.register("web-1", "1").await;
        project.migrate(&["contract"]).await.expect(1).says("id = 1");
        project.migrate(&["backfill"]).await.expect(1).says("migrate backfill");
        project.database.run(mends).await;
        project.migrate(&["backfill"]).await.expect(0);
        project.migrate(&["contract"]).await.expect(0).says("sealed");
    }
}

/// Where nothing is told to the source, a value that the target refuses leaves no other one in its place.
#[tokio::test]
async fn an_update_that_the_target_refuses_is_found_without_a_down() {
    let setup = "CREATE TABLE customers (id bigint PRIMARY KEY, email text); INSERT INTO customers VALUES (1, 'old');
        CREATE TABLE orders (id bigint PRIMARY KEY, customer_id bigint); CREATE INDEX ON orders (customer_id); INSERT INTO orders VALUES (1, 1);";
    let file = "ALTER TABLE orders ADD COLUMN email varchar(5); UPDATE orders SET email = c.email FROM customers AS c WHERE c.id = orders.customer_id;
        ALTER TABLE customers DROP COLUMN email;";
    let project = Project::new(setup, &[("0001_move.sql", file)]).await;
    for command in ["expand", "backfill"] {
        project.migrate(&[command]).await.expect(0);
    }
    project.register("web-1", "1").await;
    project.database.run("UPDATE customers SET email = 'toolong' WHERE id = 1").await;
    project.migrate(&["contract"]).await.expect(1).says("id = 1");
    project.database.run("UPDATE customers SET email = 'new' WHERE id = 1").await;
    project.migrate(&["backfill"]).await.expect(0);
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0).says("0001 is done");
    assert_eq!(project.database.text("SELECT email FROM orders").await, "new");
}

/// A row that gives only some of what a row of the new table must have makes none, takes none away, and is not passed over.
#[tokio::test]
async fn a_row_that_gives_half_of_what_is_needed_stops_contract() {
    let setup = "CREATE TABLE users (id bigint PRIMARY KEY, street text, city text); INSERT INTO users VALUES (1, 's', 'c'), (2, NULL, NULL);";
    let file =
        "CREATE TABLE addresses (id bigint PRIMARY KEY, street text NOT NULL, city text NOT NULL, note text);
        INSERT INTO addresses (id, street, city) SELECT id, street, city FROM users WHERE street IS NOT NULL;
        ALTER TABLE users DROP COLUMN street, DROP COLUMN city;";
    let project = Project::new(setup, &[("0001_move.sql", file)]).await;
    for command in ["expand", "backfill"] {
        project.migrate(&[command]).await.expect(0);
    }
    project.register("web-1", "1").await;
    let database = &project.database;
    database.run("UPDATE addresses SET note = 'n' WHERE id = 1").await;
    database.run("UPDATE users SET city = NULL WHERE id = 1; INSERT INTO users VALUES (9, 'x', NULL)").await;
    assert_eq!(database.text("SELECT concat_ws(' ', street, city, note) FROM addresses").await, "s c n");
    project.migrate(&["contract"]).await.expect(1).says("id = ");
    database.run("UPDATE users SET city = 'd' WHERE city IS NULL AND id <> 2").await;
    project.migrate(&["backfill"]).await.expect(0);
    project.migrate(&["contract", "--soak", "0s"]).await.expect(0).says("0001 is done");
    let rows = "SELECT string_agg(concat_ws(' ', id, street, city, note), ', ' ORDER BY id) FROM addresses";
    assert_eq!(database.text(rows).await, "1 s d n, 9 x d");
}

/// A key that changes to one that new code has used takes nothing from new code's row.
#[tokio::test]
async fn a_key_that_the_target_has_already_leaves_its_row_alone() {
    let setup = "CREATE TABLE users (id bigint PRIMARY KEY, email text); INSERT INTO users VALUES (1, 'a'), (2, 'b');";
    let file = "CREATE TABLE copied (id bigint PRIMARY KEY, email text); INSERT INTO copied (id, email) SELECT id, email FROM users;";
    let project = Project::new(setup, &[("0001_move.sql", file)]).await;
    for command in ["expand", "backfill"] {
        project.migrate(&[command]).await.expect(0);
    }
    let database = &project.database;
    database.run("INSERT INTO copied VALUES (5, 'new')").await;
    database.run("UPDATE users SET id = 5 WHERE id = 1").await;
    let rows = "SELECT string_agg(id || email, ' ' ORDER BY id) FROM copied WHERE id = 5";
    assert_eq!(database.text(rows).await, "5new");
}
