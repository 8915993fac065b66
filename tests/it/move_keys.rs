//! Moves between tables: rows that change the keys by which they belong together, and rows that come and go in one statement.

use super::moves::sealed;
use super::support::{Project, run, try_run};

/// Plays statements between backfill and contract; what they leave is there while open, when verified, sealed and reopened.
pub(super) async fn plays(setup: &str, file: &str, statements: &[&str], query: &str, gives: &str) {
    let project = Project::new(setup, &[("0001_move.sql", file)]).await;
    for command in ["expand", "backfill"] {
        project.migrate(&[command]).await.expect(0);
    }
    for statement in statements {
        project.database.run(statement).await;
    }
    assert_eq!(project.database.text(query).await, gives, "{file}\n{statements:?}");
    project.migrate(&["verify"]).await.expect(0);
    project.register("web-1", "1").await;
    project.migrate(&["contract"]).await.expect(0).says("sealed");
    project.migrate(&["reopen", "1", "--accept-nulls"]).await.expect(0);
    assert_eq!(project.database.text(query).await, gives, "after a reopen: {file}\n{statements:?}");
}

const PROFILES: &str = "CREATE TABLE users (id bigint PRIMARY KEY, email text UNIQUE, active bool NOT NULL DEFAULT true);
    CREATE TABLE profiles (id bigint PRIMARY KEY, user_id bigint UNIQUE);
    INSERT INTO users VALUES (1, 'N1', true), (2, 'N2', true), (5, 'N5', false), (6, NULL, true), (7, 'N7', true);
    INSERT INTO profiles VALUES (1, 1), (2, 2);";

const ORDERS: &str = "CREATE TABLE customers (id bigint PRIMARY KEY, email text, active bool NOT NULL DEFAULT true);
    CREATE TABLE orders (id bigint PRIMARY KEY, customer_id bigint); CREATE INDEX ON orders (customer_id);
    INSERT INTO customers VALUES (1, 'N1', true), (2, 'N2', true), (5, 'N5', false); INSERT INTO orders VALUES (1, 1), (2, 1), (3, 2);";

const TO_ORDERS: &str = "ALTER TABLE orders ADD COLUMN email text; UPDATE orders SET email = c.email FROM customers AS c WHERE c.id = customer_id;
    ALTER TABLE customers DROP COLUMN email;";

/// Old code points a row at another row of the source: that one keeps what it has, and the row takes it, be it nothing.
#[tokio::test]
async fn a_row_that_names_another_source_row_changes_nothing_there() {
    let active = "ALTER TABLE profiles ADD COLUMN email text;
        UPDATE profiles AS p SET email = u.email FROM users AS u WHERE u.id = p.user_id AND u.active; ALTER TABLE users DROP COLUMN email;";
    plays(
        PROFILES,
        active,
        &[
            "UPDATE profiles SET user_id = 5 WHERE id = 1",
            "UPDATE profiles SET user_id = 6 WHERE id = 2",
            "UPDATE profiles SET user_id = 7 WHERE id = 2",
        ],
        "SELECT (SELECT string_agg(id || ':' || coalesce(email, '-'), ' ' ORDER BY id) FROM users) || ' / ' ||
            string_agg(user_id || ':' || coalesce(email, '-'), ' ' ORDER BY user_id) FROM profiles",
        "1:N1 2:N2 5:N5 6:- 7:N7 / 5:- 7:N7",
    )
    .await;
    plays(
        ORDERS,
        &TO_ORDERS.replace("customer_id;", "customer_id AND c.active;"),
        &["UPDATE orders SET customer_id = 5 WHERE id = 1", "UPDATE orders SET customer_id = 2 WHERE id = 2"],
        "SELECT string_agg(id || ':' || coalesce(email, '-'), ' ' ORDER BY id) FROM orders",
        "1:- 2:N2 3:N2",
    )
    .await;
}

/// A row that names another source row and gives nothing takes what that one gives; one whose source row has another key now, and is
/// left out by the WHERE, keeps what new code gave.
#[tokio::test]
async fn a_null_beside_another_key_is_nothing_given() {
    let file = "ALTER TABLE profiles ADD COLUMN email text;
        UPDATE profiles AS p SET email = u.email FROM users AS u WHERE u.id = p.user_id AND u.active; ALTER TABLE users DROP COLUMN email;";
    let setup =
        PROFILES.replace("user_id bigint UNIQUE", "user_id bigint UNIQUE REFERENCES users ON UPDATE CASCADE");
    let both = "SELECT (SELECT string_agg(id || ':' || coalesce(email, '-'), ' ' ORDER BY id) FROM users) || ' / ' ||
        string_agg(user_id || ':' || coalesce(email, '-'), ' ' ORDER BY user_id) FROM profiles";
    plays(
        &setup,
        file,
        &[
            "UPDATE profiles SET user_id = 7, email = NULL WHERE id = 2",
            "INSERT INTO profiles (id, user_id) VALUES (5, 5)",
            "UPDATE profiles SET email = 'Y' WHERE user_id = 5",
            "UPDATE users SET id = 50 WHERE id = 5",
        ],
        both,
        "1:N1 2:N2 6:- 7:N7 50:Y / 1:N1 7:N7 50:Y",
    )
    .await;
}

/// A source row that is renumbered takes its rows of the target along, with what new code gave them.
#[tokio::test]
async fn a_renumbered_source_row_leaves_values_as_they_are() {
    let orders = ORDERS.replace(
        "customer_id bigint)",
        "customer_id bigint REFERENCES customers ON UPDATE CASCADE ON DELETE SET NULL)",
    );
    let insert = "INSERT INTO customers VALUES (1, 'N1', true), (2, 'N2', true), (5, 'N5', false); INSERT INTO orders VALUES (1, 1), (2, 1), (3, 2);";
    plays(
        &orders.replace(insert, &format!("{insert} INSERT INTO orders VALUES (4, NULL), (5, 5);")),
        TO_ORDERS,
        &[
            "UPDATE orders SET email = 'own' WHERE id = 1",
            "UPDATE customers SET id = 10 WHERE id = 1",
            "UPDATE orders SET customer_id = 10 WHERE id IN (3, 4)",
            "UPDATE customers SET id = id + 1, email = CASE WHEN id = 2 THEN 'new' ELSE email END WHERE id IN (2, 10)",
            "UPDATE customers SET id = id - 1 WHERE id IN (3, 11)",
            "UPDATE orders SET email = 'mine' WHERE id = 2",
            "INSERT INTO customers VALUES (11, 'N11', true), (12, 'N12', true)",
            "INSERT INTO orders VALUES (11, 11), (12, 12)",
            "UPDATE orders SET email = 'eleven' WHERE id = 11",
            "UPDATE customers SET id = id - 3 WHERE id >= 10",
            "UPDATE customers SET id = id - 1 WHERE id >= 7",
            "UPDATE orders SET customer_id = 8 WHERE id = 12",
            // What a deleted row gave stays until the row names another one.
            "DELETE FROM customers WHERE id = 5",
            "UPDATE orders SET customer_id = 2 WHERE id = 5",
        ],
        "SELECT string_agg(id || ':' || coalesce(email, '-'), ' ' ORDER BY id) FROM orders",
        "1:own 2:mine 3:N1 4:N1 5:new 11:eleven 12:N12",
    )
    .await;
    // A key that is wider than the foreign key; a partitioned source; a row that the backfill has not reached; two moves.
    let two = "CREATE TABLE customers (id bigint PRIMARY KEY, email text, phone text, tenant int NOT NULL DEFAULT 1) {by};
        CREATE TABLE orders (id bigint PRIMARY KEY, customer_id bigint REFERENCES customers ON UPDATE CASCADE, tenant int NOT NULL DEFAULT 1);
        CREATE INDEX ON orders (customer_id); INSERT INTO customers VALUES (1, 'N1', 'P1'), (2, 'N2', 'P2'); INSERT INTO orders VALUES (1, 1), (2, 2);";
    let parted = "PARTITION BY RANGE (id); CREATE TABLE customers_low PARTITION OF customers FOR VALUES FROM (0) TO (5);
        CREATE TABLE customers_rest PARTITION OF customers DEFAULT";
    let add = "ALTER TABLE orders ADD COLUMN email text, ADD COLUMN phone text;";
    let gone = "ALTER TABLE customers DROP COLUMN email, DROP COLUMN phone;";
    let both = "UPDATE orders AS o SET email = c.email, phone = c.phone FROM customers AS c WHERE c.id = customer_id;";
    let wide = &both.replace("customer_id;", "customer_id AND c.tenant = o.tenant;");
    for by in ["", parted] {
        for moves in [both, wide] {
            let setup = two.replace("{by}", by);
            plays(
                &setup,
                &format!("{add} {moves} {gone}"),
                &[
                    "UPDATE orders SET email = 'own' WHERE id = 1",
                    "UPDATE customers SET id = 10 WHERE id = 1",
                ],
                "SELECT string_agg(id || ':' || email || ':' || phone, ' ' ORDER BY id) FROM orders",
                "1:own:P1 2:N2:P2",
            )
            .await;
            let project = Project::new(&setup, &[("0001_move.sql", &format!("{add} {moves} {gone}"))]).await;
            project.migrate(&["expand"]).await.expect(0);
            project.database.run("UPDATE customers SET id = 10, email = 'x' WHERE id = 1").await;
            project.migrate(&["backfill"]).await.expect(0);
            let row = "SELECT email || ':' || phone FROM orders WHERE id = 1";
            assert_eq!(project.database.text(row).await, "x:P1", "{by} {moves}");
        }
    }
    let one = "ALTER TABLE orders ADD COLUMN email text; UPDATE orders SET email = c.email FROM customers AS c WHERE c.id = customer_id;
        ALTER TABLE customers DROP COLUMN email;";
    let other = one.replace("email", "phone");
    let project =
        Project::new(&two.replace("{by}", ""), &[("0001_move.sql", one), ("0002_move.sql", &other)]).await;
    for command in ["expand", "backfill"] {
        project.migrate(&[command]).await.expect(0);
    }
    project.database.run("UPDATE orders SET email = 'own', phone = 'own' WHERE id = 1").await;
    project.database.run("UPDATE customers SET id = 10 WHERE id = 1").await;
    let row = "SELECT email || ':' || phone FROM orders WHERE id = 1";
    assert_eq!(project.database.text(row).await, "own:own");
    // A name of two words is one only in the new shape.
    let names = PROFILES
        .replace("email text UNIQUE", "name text")
        .replace("user_id bigint UNIQUE", "user_id bigint UNIQUE REFERENCES users ON UPDATE CASCADE");
    plays(
        &names,
        "ALTER TABLE profiles ADD COLUMN first text, ADD COLUMN last text;
            UPDATE profiles AS p SET first = split_part(u.name, ' ', 1), last = substring(u.name FROM position(' ' IN u.name) + 1) FROM users AS u WHERE u.id = p.user_id;
            -- migrate: down name = concat_ws(' ', profiles.first, profiles.last)
            ALTER TABLE users DROP COLUMN name;",
        &[
            "UPDATE profiles SET first = 'Anna Maria', last = 'Lee' WHERE id = 1",
            "UPDATE users SET id = 10 WHERE id = 1",
            "UPDATE profiles SET first = NULL, last = NULL, user_id = 7 WHERE id = 2",
        ],
        "SELECT (SELECT string_agg(id || ':' || coalesce(name, '-'), ' ' ORDER BY id) FROM users) || ' / ' ||
            string_agg(user_id || ':' || first || ',' || last, ' ' ORDER BY user_id) FROM profiles",
        "2:N2 5:N5 6:- 7:N7 10:Anna Maria Lee / 7:N7,N7 10:Anna Maria,Lee",
    )
    .await;
}

/// Where a key decides on the partition, a change of it is a row that goes and one that comes.
#[tokio::test]
async fn keys_that_cross_partitions_keep_their_rows() {
    let parted = "CREATE TABLE users (id bigint PRIMARY KEY, name text) PARTITION BY RANGE (id);
        CREATE TABLE users_low PARTITION OF users FOR VALUES FROM (0) TO (5); CREATE TABLE users_rest PARTITION OF users DEFAULT;
        INSERT INTO users VALUES (2, 'b'), (4, 'd'), (5, 'e'), (6, 'f'), (7, 'g');";
    let plain = "CREATE TABLE users (id bigint PRIMARY KEY, name text);
        INSERT INTO users VALUES (2, 'b'), (4, 'd'), (5, 'e'), (6, 'f'), (7, 'g');";
    let people = "CREATE TABLE people (id bigint PRIMARY KEY, name text, phone text);";
    let parted_people = "CREATE TABLE people (id bigint PRIMARY KEY, name text, phone text) PARTITION BY RANGE (id);
        CREATE TABLE people_low PARTITION OF people FOR VALUES FROM (0) TO (5); CREATE TABLE people_rest PARTITION OF people DEFAULT;";
    let both = "SELECT (SELECT string_agg(id || ':' || name, ' ' ORDER BY id) FROM users) || ' / ' ||
        string_agg(id || ':' || name || ':' || coalesce(phone, '-'), ' ' ORDER BY id) FROM people";
    let phones = "UPDATE people SET phone = 'p' || id";
    for (setup, people) in
        [(plain, people), (parted, people), (plain, parted_people), (parted, parted_people)]
    {
        let file =
            format!("{people} INSERT INTO people (id, name) SELECT id, name FROM users; DROP TABLE users;");
        for table in ["users", "people"] {
            let shift = format!("UPDATE {table} SET id = id - 1, name = upper(name) WHERE id > 3");
            plays(
                setup,
                &file,
                &[phones, &shift, "UPDATE people SET name = 'new' WHERE id = 2"],
                both,
                "2:new 3:D 4:E 5:F 6:G / 2:new:p2 3:D:p4 4:E:p5 5:F:p6 6:G:p7",
            )
            .await;
        }
        // Nothing of new code comes to the source here.
        let one_way = file.replace("SELECT id, name", "SELECT id, lower(name)");
        plays(
            setup,
            &one_way,
            &[
                phones,
                "UPDATE people SET name = 'new' WHERE id = 4",
                "UPDATE people SET id = 40 WHERE id = 4",
                "UPDATE people SET name = 'newer' WHERE id = 7",
                "UPDATE people SET id = 8 WHERE id = 7",
                "UPDATE users SET id = 3 WHERE id = 6",
                "DELETE FROM people WHERE id = 2",
                "UPDATE people SET id = 6 WHERE id = 8",
                "UPDATE people SET id = id - 1 WHERE id < 40",
            ],
            both,
            "2:f 4:e 5:g 40:d / 2:f:p6 4:e:p5 5:newer:p7 40:new:p4",
        )
        .await;
    }
}

/// A key that a row of the source has which the WHERE left out is not free for new code's rows, partitioned or not.
#[tokio::test]
async fn a_key_of_a_row_that_was_left_out_is_not_taken_over() {
    let setup = "CREATE TABLE users (id bigint PRIMARY KEY, name text, deleted_at date); INSERT INTO users VALUES (3, 'c', '2026-01-01'), (4, 'd', NULL);";
    let parted = "PARTITION BY RANGE (id); CREATE TABLE people_1 PARTITION OF people DEFAULT";
    for by in ["", parted] {
        let file = format!(
            "CREATE TABLE people (id bigint PRIMARY KEY, name text, deleted_at date) {by};
            INSERT INTO people (id, name, deleted_at) SELECT id, name, deleted_at FROM users WHERE deleted_at IS NULL; DROP TABLE users;"
        );
        let project = Project::new(setup, &[("0001_move.sql", &file)]).await;
        for command in ["expand", "backfill"] {
            project.migrate(&[command]).await.expect(0);
        }
        let mut new = project.database.connect().await;
        let refused = try_run(&mut new, "UPDATE people SET id = 3 WHERE id = 4").await.unwrap_err();
        assert_eq!(refused.as_database_error().unwrap().code().unwrap(), "23505");
        let names = "SELECT string_agg(id || name, ' ' ORDER BY id) FROM users";
        assert_eq!(project.database.text(names).await, "3c 4d");
    }
}

/// One statement deletes a row and makes it again, or gives its key to another one.
#[tokio::test]
async fn a_key_that_one_statement_frees_and_takes_again_keeps_its_row() {
    let people = "CREATE TABLE people (id bigint PRIMARY KEY, street text);
        INSERT INTO people SELECT i, CASE WHEN i <> 3 THEN 'N' || i END FROM generate_series(1, 6) AS i;";
    let split = "CREATE TABLE addresses (person bigint PRIMARY KEY, road text NOT NULL);
        INSERT INTO addresses (person, road) SELECT id, street FROM people WHERE street IS NOT NULL; ALTER TABLE people DROP COLUMN street;";
    let again = "WITH gone AS (DELETE FROM addresses WHERE person = 1 RETURNING person)
        INSERT INTO addresses (person, road) SELECT person, 'new' FROM gone";
    let down = "UPDATE addresses SET person = person - 1 WHERE person > 3";
    let both = "SELECT (SELECT string_agg(id || ':' || coalesce(street, '-'), ' ' ORDER BY id) FROM people) || ' / ' ||
        string_agg(person || ':' || coalesce(road, '-'), ' ' ORDER BY person) FROM addresses";
    let gives = "1:new 2:N2 3:N4 4:N5 5:N6 6:- / 1:new 2:N2 3:N4 4:N5 5:N6";
    for file in [split, &split.replace(" NOT NULL)", ")")] {
        plays(people, file, &[again, down], both, gives).await;
    }
    let whole = "CREATE TABLE addresses (person bigint PRIMARY KEY, road text);
        INSERT INTO addresses (person, road) SELECT id, street FROM people; DROP TABLE people;";
    let shift = "DELETE FROM addresses WHERE person = 3";
    let gives = "1:new 2:N2 3:N4 4:N5 5:N6 / 1:new 2:N2 3:N4 4:N5 5:N6";
    plays(people, whole, &[again, shift, down], both, gives).await;

    let bios = "CREATE TABLE users (id bigint PRIMARY KEY); CREATE TABLE bios (user_id bigint PRIMARY KEY, words text NOT NULL);
        INSERT INTO users SELECT generate_series(1, 6); DELETE FROM users WHERE id = 3; INSERT INTO bios SELECT id, 'N' || id FROM users;";
    let merge = "ALTER TABLE users ADD COLUMN bio text; UPDATE users SET bio = words FROM bios WHERE bios.user_id = users.id; DROP TABLE bios;";
    let again = "WITH gone AS (DELETE FROM users WHERE id = 1 RETURNING id) INSERT INTO users (id, bio) SELECT id, 'new' FROM gone";
    let down = "UPDATE users SET id = id - 1 WHERE id > 3";
    let both =
        "SELECT (SELECT string_agg(user_id || ':' || words, ' ' ORDER BY user_id) FROM bios) || ' / ' ||
        string_agg(id || ':' || coalesce(bio, '-'), ' ' ORDER BY id) FROM users";
    plays(bios, merge, &[again, down], both, gives).await;
    let one_way = merge.replace("= words", "= upper(words)");
    let kept = "SELECT string_agg(id || ':' || coalesce(bio, '-'), ' ' ORDER BY id) FROM users";
    let own = ["UPDATE users SET bio = 'mine' WHERE id = 1", "UPDATE users SET id = 20 WHERE id = 1", down];
    plays(bios, &one_way, &own, kept, "2:N2 3:N4 4:N5 5:N6 19:mine").await;
}

/// Source rows change their keys without a foreign key: a row of the target holds what the row that it names now holds.
#[tokio::test]
async fn source_rows_that_swap_their_keys_are_followed() {
    let swap = [
        "UPDATE customers SET id = 99 WHERE id = 1",
        "UPDATE customers SET id = 1 WHERE id = 2",
        "UPDATE customers SET id = 2 WHERE id = 99",
    ];
    let orders = "SELECT string_agg(id || ':' || coalesce(email, '-'), ' ' ORDER BY id) FROM orders";
    plays(ORDERS, TO_ORDERS, &swap, orders, "1:N2 2:N2 3:N1").await;
}

/// Rows of the target that come while expand has only one table's triggers in place are not left behind.
#[tokio::test]
async fn a_row_that_comes_between_the_two_tables_triggers_follows() {
    for held in ["customers", "orders"] {
        let project = Project::new(ORDERS, &[("0001_move.sql", TO_ORDERS)]).await;
        let database = &project.database;
        let mut holder = database.connect().await;
        run(&mut holder, &format!("BEGIN; LOCK TABLE {held} IN ACCESS SHARE MODE")).await;
        let mut command = project.command(&["expand"]);
        command.env("MIGRATE_LOCK_TOTAL", "2s");
        let stopped = super::support::finish(command).await;
        assert_ne!(stopped.code, Some(0));
        database.run("INSERT INTO orders VALUES (9, 1)").await;
        database.run("UPDATE customers SET email = 'new' WHERE id = 1").await;
        run(&mut holder, "ROLLBACK").await;
        for command in ["expand", "backfill", "verify"] {
            project.migrate(&[command]).await.expect(0);
        }
        let email = database.text("SELECT email FROM orders WHERE id = 9").await;
        assert_eq!(email, "new", "{held} was held");
    }
}

/// While sealed new code is alone: what it leaves empty stays so, and does not stand in the way of contract.
#[tokio::test]
async fn what_new_code_leaves_empty_while_sealed_is_meant() {
    let no_way_back = "UPDATE orders SET email = NULL WHERE id = 1; INSERT INTO orders VALUES (9, 2)";
    let there = "UPDATE profiles SET email = NULL WHERE id = 1; DELETE FROM profiles WHERE id = 2; INSERT INTO profiles (id, user_id) VALUES (2, 2);
        INSERT INTO profiles (id, user_id, email) VALUES (3, 6, 'six'); UPDATE profiles SET user_id = 7 WHERE id = 3";
    let to_profiles = TO_ORDERS
        .replace("orders", "profiles")
        .replace("customers AS c", "users AS c")
        .replace("TABLE customers", "TABLE users")
        .replace("customer_id", "user_id");
    for (setup, file, statements, query, gives) in [
        (ORDERS, TO_ORDERS, no_way_back, "orders", "1:- 2:N1 3:N2 9:-"),
        // The unique index of the hidden column is still there.
        (PROFILES, &to_profiles, there, "profiles", "1:- 2:- 3:six"),
    ] {
        let project = sealed(setup, file).await;
        project.database.run(statements).await;
        project.migrate(&["verify"]).await.expect(0);
        project.migrate(&["contract", "--soak", "0s"]).await.expect(0).says("0001 is done");
        let rows =
            format!("SELECT string_agg(id || ':' || coalesce(email, '-'), ' ' ORDER BY id) FROM {query}");
        assert_eq!(project.database.text(&rows).await, gives);
    }
}

#[tokio::test]
async fn keys_that_one_side_cannot_follow_are_refused() {
    let setup = "CREATE TABLE desks (id bigint PRIMARY KEY, label text); CREATE TABLE employees (id bigint PRIMARY KEY, desk_id bigint UNIQUE);
        CREATE TABLE numbered (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, label text);
        CREATE TABLE billing (id bigint PRIMARY KEY); CREATE TABLE shipping (id bigint PRIMARY KEY);
        CREATE TABLE drawers (id bigint PRIMARY KEY, desk_id bigint); CREATE INDEX ON drawers (desk_id);
        CREATE TABLE lamps (id bigint PRIMARY KEY, desk_id bigint); CREATE INDEX ON lamps (desk_id);";
    let project = Project::new(setup, &[]).await;
    let place = |table: &str, key: &str| {
        format!(
            "ALTER TABLE {table} ADD COLUMN label text; UPDATE {table} SET label = d.label FROM desks AS d WHERE d.id = {table}.{key};"
        )
    };
    let made = "CREATE TABLE tags (id bigint PRIMARY KEY, label text NOT NULL); INSERT INTO tags (id, label) SELECT id, label FROM desks WHERE label IS NOT NULL;";
    let gone = "ALTER TABLE desks DROP COLUMN label;";
    for (file, says) in [
        (format!("{} DROP TABLE desks;", place("employees", "desk_id")), "their own primary key"),
        (
            "CREATE TABLE tags (id bigint PRIMARY KEY, label text); INSERT INTO tags (id, label) SELECT id, label FROM numbered; DROP TABLE numbered;"
                .to_owned(),
            "GENERATED ALWAYS",
        ),
        (format!("{} {} {gone}", place("billing", "id"), place("shipping", "id")), "something else of this file"),
        (format!("{} {} {gone}", place("billing", "id"), place("drawers", "desk_id")), "something else of this file"),
        (format!("{made} {} {gone}", place("drawers", "desk_id")), "something else of this file"),
        (
            format!("ALTER TABLE desks ADD COLUMN loud text; UPDATE desks SET loud = upper(label); {} {gone}", place("billing", "id")),
            "something else of this file",
        ),
    ] {
        project.write("0001_move.sql", &file);
        project.migrate(&["plan"]).await.expect(1).says(says);
    }
    // Nothing comes back from either.
    let both = format!("{} {} {gone}", place("lamps", "desk_id"), place("drawers", "desk_id"));
    project.write("0001_move.sql", &both);
    project.migrate(&["plan"]).await.expect(0);
}
