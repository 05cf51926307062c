"""What a statement says is read from PostgreSQL's own grammar; what can't be understood is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standfast.safety.constraints import KNOWN_KINDS
from standfast.safety.grammar.parsing import MAX_STATEMENT_BYTES, parse_statement
from standfast.safety.grammar.sources import cuts
from standfast.safety.grammar.statement import Name, Statement, StatementRefused

READ_AND_WRITTEN = [
    ("SELECT 1", "select"),
    ("VALUES (1), (2)", "select"),
    ("TABLE orders", "select"),
    ("WITH a AS (SELECT 1) SELECT * FROM a", "select"),
    ("INSERT INTO a VALUES (1)", "insert"),
    ("UPDATE a SET b = 1 WHERE c = 2", "update"),
    ("DELETE FROM a WHERE b = 1", "delete"),
    ("MERGE INTO a USING b ON a.id = b.id WHEN MATCHED THEN DELETE", "merge"),
    ("EXPLAIN DELETE FROM a WHERE b = 1", "explain"),
    ("EXPLAIN (FORMAT json) SELECT 1", "explain"),
    ("CREATE INDEX ON a (b)", "create_index"),
    ("CREATE UNIQUE INDEX ON a (lower(b)) WHERE c > 1", "create_index"),
    ("ALTER TABLE a ADD COLUMN b integer", "add_column"),
    ("ALTER TABLE a ADD COLUMN b text NOT NULL DEFAULT 'x', ADD COLUMN c date", "add_column"),
    ("ALTER TYPE a ADD VALUE 'b'", "add_enum_value"),
]
NEVER_ALLOWED = [
    "EXPLAIN ANALYZE SELECT 1",
    "EXPLAIN (analyze off) SELECT 1",
    "SELECT 1 INTO a",
    "SELECT 1 INTO TEMP a",
    "CREATE TABLE a AS SELECT 1",
    "CREATE INDEX CONCURRENTLY ON a (b)",
    "ALTER TABLE a ADD COLUMN b serial",
    "ALTER TABLE a ADD COLUMN b bigserial",
    "ALTER TABLE a ADD COLUMN b int NOT NULL",
    "ALTER TABLE a ADD COLUMN b int UNIQUE",
    "ALTER TABLE a ADD COLUMN b int REFERENCES c",
    "ALTER TABLE a ADD COLUMN b int GENERATED ALWAYS AS IDENTITY",
    "ALTER TABLE a ADD COLUMN b int GENERATED ALWAYS AS (c) STORED",
    "ALTER TABLE a ADD COLUMN b int, DROP COLUMN c",
    "ALTER TABLE a OWNER TO b",
    "ALTER TABLE a DISABLE ROW LEVEL SECURITY",
    "ALTER TYPE a ADD ATTRIBUTE b int CASCADE",
    "ALTER TYPE a RENAME VALUE 'b' TO 'c'",
    "TRUNCATE a",
    "DROP TABLE a",
    "GRANT SELECT ON a TO b",
    "REVOKE ALL ON a FROM b",
    "ALTER ROLE a SUPERUSER",
    "CREATE ROLE a",
    "DO 'BEGIN END'",
    "CALL a()",
    "COPY a TO PROGRAM 'x'",
    "COPY a FROM STDIN",
    "COPY (DELETE FROM a RETURNING 1) TO STDOUT",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT a",
    "RELEASE a",
    "PREPARE TRANSACTION 'a'",
    "COMMIT PREPARED 'a'",
    "SET a.b = 1",
    "SET ROLE a",
    "RESET ALL",
    "SHOW a",
    "DISCARD ALL",
    "SET CONSTRAINTS ALL DEFERRED",
    "PREPARE a AS SELECT 1",
    "EXECUTE a",
    "DEALLOCATE a",
    "DECLARE a CURSOR FOR SELECT 1",
    "FETCH a",
    "CLOSE a",
    "LISTEN a",
    "NOTIFY a",
    "UNLISTEN a",
    "LOCK a",
    "LOAD 'a'",
    "CHECKPOINT",
    "VACUUM a",
    "ANALYZE a",
    "REINDEX TABLE a",
    "CLUSTER a",
    "REFRESH MATERIALIZED VIEW a",
    "ALTER SYSTEM SET a = 1",
    "CREATE DATABASE a",
    "CREATE EXTENSION a",
    "CREATE FUNCTION a() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE TRIGGER a AFTER UPDATE ON b EXECUTE FUNCTION c()",
    "CREATE RULE a AS ON UPDATE TO b DO NOTHING",
    "CREATE VIEW a AS SELECT 1",
    "CREATE SCHEMA a",
    "CREATE POLICY a ON b",
    "CREATE PUBLICATION a",
    "COMMENT ON TABLE a IS 'b'",
    "IMPORT FOREIGN SCHEMA a FROM SERVER b INTO c",
]
EVERYWHERE = [
    "SELECT {}",
    "VALUES ({})",
    "SELECT * FROM {}",
    "SELECT * FROM a, LATERAL {} AS f",
    "SELECT * FROM ROWS FROM ({}, generate_series(1, 2)) AS f",
    "SELECT * FROM a JOIN b ON {}",
    "SELECT * FROM a WHERE x = {}",
    "SELECT * FROM a WHERE x IN (1, {})",
    "SELECT * FROM a WHERE x BETWEEN 1 AND {}",
    "SELECT * FROM a WHERE x IS DISTINCT FROM {}",
    "SELECT * FROM a WHERE NOT {}",
    "SELECT * FROM a WHERE {} IS NULL",
    "SELECT * FROM a WHERE EXISTS (SELECT {})",
    "SELECT * FROM a WHERE x = ANY (SELECT {})",
    "SELECT * FROM a GROUP BY {}",
    "SELECT * FROM a GROUP BY GROUPING SETS (({}), ())",
    "SELECT * FROM a GROUP BY x HAVING {}",
    "SELECT * FROM a ORDER BY {} DESC NULLS LAST",
    "SELECT * FROM a LIMIT {}",
    "SELECT * FROM a OFFSET {}",
    "SELECT DISTINCT ON ({}) x FROM a",
    "SELECT sum(x) FILTER (WHERE {}) FROM a",
    "SELECT string_agg(x, ',' ORDER BY {}) FROM a",
    "SELECT sum(x) OVER (PARTITION BY {}) FROM a",
    "SELECT sum(x) OVER (ORDER BY y ROWS BETWEEN {} PRECEDING AND CURRENT ROW) FROM a",
    "SELECT sum(x) OVER w FROM a WINDOW w AS (ORDER BY {})",
    "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY {}) FROM a",
    "SELECT CASE {} WHEN 1 THEN 2 END",
    "SELECT CASE WHEN {} THEN 2 END",
    "SELECT CASE WHEN true THEN {} END",
    "SELECT CASE WHEN true THEN 1 ELSE {} END",
    "SELECT COALESCE(1, {})",
    "SELECT GREATEST(1, {})",
    "SELECT NULLIF(1, {})",
    "SELECT ARRAY[1, {}]",
    "SELECT ARRAY(SELECT {})",
    "SELECT (x)[{}] FROM a",
    "SELECT (x)[1:{}] FROM a",
    "SELECT ROW(1, {})",
    "SELECT ({}).x",
    "SELECT {}::text",
    'SELECT {} COLLATE "C"',
    "SELECT {} AT TIME ZONE 'UTC'",
    "SELECT extract(year FROM {})",
    "SELECT - {}",
    "SELECT lower(upper({}))",
    "SELECT make_interval(days => {})",
    "SELECT 1 UNION SELECT {}",
    "(SELECT 1) EXCEPT (SELECT {})",
    "WITH q AS (SELECT {}) SELECT 1",
    "WITH RECURSIVE q AS (SELECT 1 UNION ALL SELECT {} FROM q) SELECT 1",
    "INSERT INTO a VALUES ({})",
    "INSERT INTO a SELECT {}",
    "INSERT INTO a VALUES (1) ON CONFLICT (({})) DO NOTHING",
    "INSERT INTO a VALUES (1) ON CONFLICT (x) WHERE {} DO NOTHING",
    "INSERT INTO a VALUES (1) ON CONFLICT (x) DO UPDATE SET y = {}",
    "INSERT INTO a VALUES (1) ON CONFLICT (x) DO UPDATE SET y = 1 WHERE {}",
    "INSERT INTO a VALUES (1) RETURNING {}",
    "UPDATE a SET x = {} WHERE y = 1",
    "UPDATE a SET (x, y) = (1, {}) WHERE y = 1",
    "UPDATE a SET (x, y) = (SELECT 1, {}) WHERE y = 1",
    "UPDATE a SET x[{}] = 1 WHERE y = 1",
    "UPDATE a SET x = 1 FROM {} f WHERE y = 1",
    "UPDATE a SET x = 1 WHERE {}",
    "UPDATE a SET x = 1 WHERE y = 1 RETURNING {}",
    "DELETE FROM a WHERE {}",
    "DELETE FROM a USING {} f WHERE y = 1",
    "DELETE FROM a WHERE y = 1 RETURNING {}",
    "MERGE INTO a USING b ON {} WHEN MATCHED THEN DELETE",
    "MERGE INTO a USING (SELECT {}) b ON a.x = b.x WHEN MATCHED THEN DELETE",
    "MERGE INTO a USING b ON a.x = b.x WHEN MATCHED AND {} THEN DELETE",
    "MERGE INTO a USING b ON a.x = b.x WHEN MATCHED THEN UPDATE SET y = {}",
    "MERGE INTO a USING b ON a.x = b.x WHEN NOT MATCHED THEN INSERT VALUES ({})",
    "MERGE INTO a USING b ON a.x = b.x WHEN MATCHED THEN DELETE RETURNING {}",
    "EXPLAIN SELECT {}",
    "CREATE INDEX ON a (({}))",
    "CREATE INDEX ON a (x) WHERE {}",
    "ALTER TABLE a ADD COLUMN x int DEFAULT {}",
]


def refusal(text: str, **limits: Any) -> str:
    with pytest.raises(StatementRefused) as refused:
        parse_statement(text, **limits)
    return refused.value.rule


def allowed_at_all(text: str) -> bool:
    """Tell whether any constraints could allow the statement."""
    try:
        return parse_statement(text).kind in KNOWN_KINDS
    except StatementRefused:
        return False


@pytest.mark.parametrize(("text", "kind"), READ_AND_WRITTEN)
def test_the_kind_is_the_one_that_constraints_name(text: str, kind: str) -> None:
    assert parse_statement(text).kind == kind
    assert kind in KNOWN_KINDS


@pytest.mark.parametrize("text", NEVER_ALLOWED)
def test_no_constraint_can_allow_any_other_kind(text: str) -> None:
    assert not allowed_at_all(text)


@pytest.mark.parametrize("position", EVERYWHERE)
@pytest.mark.parametrize(
    ("call", "name"),
    [
        ("pg_sleep(1)", Name(None, "pg_sleep")),
        ("PG_Sleep(1)", Name(None, "pg_sleep")),
        ('"pg_catalog"."pg_read_file"(1)', Name("pg_catalog", "pg_read_file")),
        ('U&"pg_sle\\0065p"(1)', Name(None, "pg_sleep")),
        ("shop.own(1)", Name("shop", "own")),
    ],
)
def test_a_function_is_seen_in_every_position(position: str, call: str, name: Name) -> None:
    assert name in parse_statement(position.format(call)).functions


@pytest.mark.parametrize(
    "text",
    [
        "SELECT xmlelement(name a)",
        "SELECT * FROM xmltable('/a' PASSING 'x' COLUMNS b int)",
        "SELECT * FROM json_table('[]', '$' COLUMNS (a int))",
        "SELECT * FROM a TABLESAMPLE system (1)",
        "UPDATE a SET b = 1 WHERE CURRENT OF c",
        "CREATE INDEX ON a ((xmlelement(name b)::text))",
        "WITH RECURSIVE q AS (SELECT 1 UNION SELECT 2) SEARCH DEPTH FIRST BY a SET b SELECT 1 FROM q",
    ],
)
def test_a_construct_that_is_not_known_to_be_safe_is_refused(text: str) -> None:
    assert refusal(text) == "statement.construct"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "statement.single"),
        ("  ;; ", "statement.single"),
        ("-- only a comment", "statement.single"),
        ("/* only /* a nested */ comment */", "statement.single"),
        ("SELECT 1; SELECT 2", "statement.single"),
        ("SELECT '--';\nDROP TABLE a", "statement.single"),
        ("SELECT '\\'; DROP TABLE a; --'", "statement.single"),
        ("SELECT /* ; */ 1; /* ; */ DROP TABLE a", "statement.single"),
        ("SELECT $a$;$b$;$a$; SELECT 2", "statement.single"),
        ("SELEC 1", "statement.syntax"),
        ("SELECT 1 WHERE id = :id", "statement.syntax"),
        ("SELECT 'open", "statement.syntax"),
        ("\ufeffSELECT 1", "statement.syntax"),
        ("SELECT " + "(SELECT " * 60 + "1" + ")" * 60, "statement.syntax"),
        ("SELECT " + " + ".join("1" * 200), "statement.syntax"),
        ("SELECT 1\x00; DROP TABLE a", "statement.characters"),
        ("SELECT 1\x1b[2K", "statement.characters"),
        ("SELECT '\x7f'", "statement.characters"),
        ("SELECT '\ud800'", "statement.characters"),
        ("SELECT '" + "x" * MAX_STATEMENT_BYTES + "'", "statement.size"),
        ("SELECT '" + "é" * (MAX_STATEMENT_BYTES // 2) + "'", "statement.size"),
        ("SELECT * FROM other.public.a", "object.database"),
        ("SELECT other.public.f()", "object.database"),
        ("UPDATE other.public.a SET b = 1 WHERE c = 1", "object.database"),
    ],
)
def test_text_that_is_not_one_understandable_statement_is_refused(text: str, rule: str) -> None:
    assert refusal(text) == rule


def test_a_target_can_have_a_tighter_limit() -> None:
    assert refusal("SELECT 1 + 1", max_bytes=11) == "statement.size"
    assert parse_statement("SELECT 1 + 1", max_bytes=12).kind == "select"


@pytest.mark.parametrize(
    "text", ["SELECT 1;", "SELECT 1; -- done", "/* a; b */ SELECT 1", "SELECT\t1\r\n", "SELECT 'DROP TABLE a; --'"]
)
def test_comments_and_text_in_quotes_are_only_text(text: str) -> None:
    statement = parse_statement(text)
    assert (statement.kind, statement.writes, statement.functions) == ("select", [], set())


DELETE = "DELETE FROM a WHERE {}"
UPDATE = "UPDATE a AS x SET b = {} FROM o WHERE b IS NOT NULL"
QUOTED = "UPDATE a SET b = '{}' WHERE c = 1"
MERGE = """
MERGE INTO a USING b ON a.c = b.c
WHEN MATCHED AND b.d THEN DELETE WHEN MATCHED THEN UPDATE SET e = 1 WHEN NOT MATCHED THEN INSERT VALUES (1)
"""


def written(text: str) -> list[tuple[str, str]]:
    return [(str(write.table), write.command) for write in parse_statement(text).writes]


@pytest.mark.parametrize(
    ("text", "writes"),
    [
        ("SELECT 1 FROM a", []),
        ("UPDATE ONLY s.a SET b = 1 WHERE c = 1", [("s.a", "update")]),
        ("WITH q AS (DELETE FROM a WHERE b = 1 RETURNING *) SELECT * FROM q", [("a", "delete")]),
        ("WITH q AS (INSERT INTO a VALUES (1)) UPDATE b SET c = 1 WHERE d = 1", [("a", "insert"), ("b", "update")]),
        ("SELECT 1 WHERE 1 IN (WITH q AS (DELETE FROM a WHERE b = 1 RETURNING 1) SELECT 1)", [("a", "delete")]),
        ("INSERT INTO a VALUES (1) ON CONFLICT DO NOTHING", [("a", "insert")]),
        ("INSERT INTO a VALUES (1) ON CONFLICT (b) DO UPDATE SET c = 1", [("a", "insert"), ("a", "update")]),
        (MERGE, [("a", "delete"), ("a", "insert"), ("a", "merge"), ("a", "update")]),
        ("CREATE INDEX ON a (b)", [("a", "create_index")]),
    ],
)
def test_every_write_is_seen_wherever_it_stands(text: str, writes: list[tuple[str, str]]) -> None:
    assert sorted(written(text)) == writes


@pytest.mark.parametrize(
    ("condition", "all_rows"),
    [
        ("true", True),
        ("1 = 1", True),
        ("$1", True),
        ("random() < 2", True),
        ("id = id", True),
        ("a.id >= a.id", True),
        ("id = 3 OR true", True),
        ("true AND id = id", True),
        ("id = 3 AND true", False),
        ("id = other_id", False),
        ("a.id = b.id", False),
        ("NOT done", False),
        ("EXISTS (SELECT 1 FROM b WHERE b.id = a.id)", False),
    ],
)
def test_a_condition_that_holds_for_every_row_is_seen(condition: str, all_rows: bool) -> None:
    (write,) = parse_statement(DELETE.format(condition)).writes
    assert (write.has_where, write.means_all) == (True, all_rows)


def test_a_missing_condition_is_seen() -> None:
    assert [write.has_where for write in parse_statement("WITH q AS (DELETE FROM a) DELETE FROM b").writes] == [
        False,
        False,
    ]


def columns(text: str) -> frozenset[str] | None:
    return parse_statement(text).writes[-1].columns


def test_the_columns_that_are_set_are_known_or_all_of_them() -> None:
    assert columns("UPDATE a SET b = 1, (c, d) = (2, 3), e[1] = 4, f.g = 5 WHERE x = 1") == frozenset("bcdef")
    assert columns("INSERT INTO a (b, c) VALUES (1, 2)") == frozenset("bc")
    assert columns("INSERT INTO a VALUES (1, 2)") is None
    assert columns("INSERT INTO a DEFAULT VALUES") is None
    assert columns("INSERT INTO a VALUES (1) ON CONFLICT (b) DO UPDATE SET c = 1") == frozenset("c")


@pytest.mark.parametrize(
    ("value", "builds"),
    [
        ("b || $1", True),
        ("jsonb_set(x.b, '{x}', $1)", True),
        ("x.b - 'k'", True),
        ("$1", False),
        ("'{}'", False),
        ("o.b || $1", False),
        ("to_jsonb(c)", False),
    ],
)
def test_a_value_that_builds_on_the_present_one_is_told_from_one_that_replaces_it(value: str, builds: bool) -> None:
    (write,) = parse_statement(UPDATE.format(value)).writes
    assert (write.rebuilt == {"b"}) is builds


def test_a_part_that_is_set_leaves_the_rest() -> None:
    (write,) = parse_statement("UPDATE a SET b['x'] = '1', c.d = 2, e = 3 WHERE f = 1").writes
    assert write.rebuilt == {"b", "c"}


@pytest.mark.parametrize(
    ("text", "clocked"),
    [
        ("UPDATE a SET b = now() WHERE c = 1", False),
        ("UPDATE a SET b = date_trunc('day', CURRENT_TIMESTAMP) WHERE c = 1", False),
        ("INSERT INTO a (b) VALUES (now())", False),
        ("INSERT INTO a (b) SELECT now() FROM c UNION SELECT now() FROM d", False),
        ("INSERT INTO a VALUES (1) ON CONFLICT (b) DO UPDATE SET c = now()", False),
        ("MERGE INTO a USING b ON a.c = b.c WHEN MATCHED THEN UPDATE SET d = now()", False),
        ("UPDATE a SET b = 1 WHERE c = 1 RETURNING now()", False),
        ("UPDATE a SET b = 1 WHERE owner = current_user", False),
        ("UPDATE a SET b = 'today' WHERE c = 1", False),
        ("UPDATE a SET b = 1 WHERE c < now()", True),
        ("UPDATE a SET b = 1 WHERE c < LOCALTIMESTAMP", True),
        ("UPDATE a SET b = 1 WHERE age(c) > '1 day'", True),
        ("UPDATE a SET b = 1 WHERE c < 'yesterday'", True),
        ("UPDATE a SET b = (SELECT d FROM e WHERE f < now()) WHERE c = 1", True),
        ("INSERT INTO a (b) SELECT c FROM d WHERE e < now()", True),
        ("INSERT INTO a (b) SELECT c FROM (SELECT c, now() AS n FROM d) q WHERE e < n", True),
        ("WITH t AS (SELECT now() AS n) DELETE FROM a USING t WHERE c < t.n", True),
        ("MERGE INTO a USING b ON a.c = b.c AND a.d < now() WHEN MATCHED THEN DELETE", True),
        ("MERGE INTO a USING b ON a.c = b.c WHEN MATCHED AND a.d < now() THEN DELETE", True),
    ],
)
def test_a_clock_that_chooses_rows_is_told_from_one_that_fills_them(text: str, clocked: bool) -> None:
    assert parse_statement(text).clocked is clocked


def test_what_the_statement_itself_returns_is_told_from_what_it_reads() -> None:
    own = parse_statement("UPDATE a SET b = c WHERE d = 1 RETURNING e, (SELECT f FROM g), (a).h")
    assert own.returned == {("e",), ("a",), ("?", "h")}
    assert {("c",), ("d",), ("f",)} <= own.columns
    within = parse_statement("WITH q AS (DELETE FROM a WHERE b = 1 RETURNING c) SELECT c FROM q")
    assert (within.returned, ("c",) in within.columns) == (set(), True)


def test_names_are_known_by_what_they_stand_for() -> None:
    statement = parse_statement(
        "WITH q AS (SELECT 1) UPDATE s.a AS t SET b = 1 FROM c, q, (SELECT 1) AS sub, f() AS fun WHERE t.id = 1 "
        "RETURNING WITH (NEW AS fresh) fresh.b"
    )
    target = Name("s", "a")
    assert {("t", target), ("old", target), ("fresh", target), ("c", Name(None, "c"))} <= statement.named
    assert statement.aliases == {"sub", "fun"}
    assert statement.with_names == {"q"}


@pytest.mark.parametrize(
    "text",
    [
        "SELECT x FROM a AS t(x)",
        "SELECT x FROM (a JOIN b ON true) AS t(x)",
        "SELECT count(*) FROM a NATURAL JOIN b",
    ],
)
def test_columns_under_other_names_may_be_any(text: str) -> None:
    assert ("*",) in parse_statement(text).columns


@pytest.mark.parametrize(
    "text",
    [
        "SELECT a OPERATOR(s.+) b",
        "SELECT a OPERATOR(s.+) ANY (b)",
        "SELECT a OPERATOR(s.+) ALL (b)",
        "SELECT a OPERATOR(s.+) ANY (SELECT b)",
        "SELECT a FROM b ORDER BY a USING OPERATOR(s.+)",
        "SELECT OPERATOR(s.+) a",
    ],
)
def test_an_operator_is_seen_in_every_position(text: str) -> None:
    assert Name("s", "+") in parse_statement(text).operators


def literals(text: str) -> list[tuple[str, str]]:
    return [(literal.kind.value, literal.text) for literal in parse_statement(text).literals]


def test_literals_are_those_that_say_something_about_data() -> None:
    assert literals("UPDATE a SET b = 'x', c = -5, d = 1.50, e = true, f = NULL WHERE g = $1") == [
        ("text", "x"),
        ("number", "-5"),
        ("number", "1.50"),
    ]
    assert literals("SELECT a::numeric(10, 2) FROM b LIMIT 10 OFFSET 20") == []
    assert literals("SELECT E'\\x41', U&'\\0042', B'101', 12345678901234567890, $$x$$") == [
        ("text", "A"),
        ("text", "B"),
        ("text", "b101"),
        ("number", "12345678901234567890"),
        ("text", "x"),
    ]


def test_parameters_are_numbered_as_the_server_numbers_them() -> None:
    assert parse_statement("SELECT $1, $3 + $1").parameters == {1, 3}


@pytest.mark.parametrize(
    ("text", "operators"),
    [
        ("SELECT a === b", {"==="}),
        ("SELECT a IN (1, 2)", {"="}),
        ("SELECT a NOT IN (1, 2)", {"<>"}),
        ("SELECT a IN (SELECT 1)", {"="}),
        ("SELECT a IS DISTINCT FROM b", {"="}),
        ("SELECT nullif(a, b)", {"="}),
        ("SELECT CASE a WHEN 1 THEN 2 END", {"="}),
        ("SELECT a LIKE 'x'", {"~~"}),
        ("SELECT a NOT BETWEEN SYMMETRIC 1 AND 2", {"<", "<=", ">", ">="}),
        ("SELECT 1 FROM a JOIN b USING (c)", {"="}),
        ("SELECT 1 FROM a NATURAL JOIN b", {"="}),
        ("SELECT 1 FROM a ORDER BY b USING ==<", {"==<"}),
    ],
)
def test_an_operator_is_seen_even_if_words_stand_for_it(text: str, operators: set[str]) -> None:
    assert {operator.name for operator in parse_statement(text).operators} == operators


@pytest.mark.parametrize(
    ("text", "types"),
    [
        ("SELECT a::b.c", {"b.c"}),
        ("SELECT CAST(a AS b[])", {"b"}),
        ("SELECT b 'x'", {"b"}),
        ("SELECT 1 FROM f() AS g(a b)", {"b"}),
        ("ALTER TABLE a ADD COLUMN c b", {"b"}),
        ("SELECT 1::integer, NULL::timestamp", set()),
    ],
)
def test_a_type_is_seen_wherever_values_of_it_are_made(text: str, types: set[str]) -> None:
    assert {str(name) for name in parse_statement(text).types} == types


@pytest.mark.parametrize(
    ("text", "limited"),
    [
        ("DELETE FROM a WHERE b IN (SELECT DISTINCT c FROM d)", False),
        ("DELETE FROM a WHERE b IN (SELECT DISTINCT ON (e) c FROM d)", True),
        ("DELETE FROM a USING (SELECT b, row_number() OVER () FROM a) q WHERE a.b = q.b", True),
        ("DELETE FROM a USING (SELECT b, sum(c) OVER () FROM a) q WHERE a.b = q.b", False),
        ("DELETE FROM a WHERE b IN (SELECT b FROM a OFFSET 1)", True),
    ],
)
def test_a_choice_among_equal_rows_is_seen(text: str, limited: bool) -> None:
    assert any(cuts(parse_statement(text))) is limited


def test_a_column_of_an_index_or_a_conflict_is_a_reference() -> None:
    for text in ("CREATE INDEX ON a (b)", "INSERT INTO a VALUES (1) ON CONFLICT (b) DO NOTHING"):
        assert parse_statement(text).columns == {("b",)}


def test_what_stands_after_a_dot_may_be_a_function() -> None:
    fields = parse_statement("SELECT a.b, (c).d, (e).f[1].g, h FROM a WHERE s.t.i = 1").fields
    assert {field.name for field in fields} == {"b", "d", "f", "g", "i"}


@pytest.mark.parametrize("text", ["SELECT 1 FROM a FOR UPDATE", "SELECT 1 FROM (SELECT 1 FROM a FOR KEY SHARE) q"])
def test_row_locks_are_seen(text: str) -> None:
    assert parse_statement(text).locks_rows


def test_a_row_lock_names_no_other_relation() -> None:
    assert parse_statement("SELECT 1 FROM a AS b FOR UPDATE OF b").reads == {Name(None, "a")}


@given(st.text(max_size=80))
def test_any_text_is_a_statement_or_is_refused(text: str) -> None:
    try:
        statement = parse_statement(text)
    except StatementRefused:
        return
    assert isinstance(statement, Statement)


@given(st.text(st.characters(exclude_characters="'\\", exclude_categories=["C"]), max_size=60))
def test_whatever_stands_in_quotes_stays_there(text: str) -> None:
    statement = parse_statement(QUOTED.format(text))
    assert [literal.text for literal in statement.literals] == [text, "1"]
    assert [write.command for write in statement.writes] == ["update"]


@pytest.mark.parametrize(
    ("text", "pinned"),
    [
        ("UPDATE a SET x = 1 WHERE t = 1", ["t"]),
        ("UPDATE a SET x = 1 WHERE $1 = t", ["t"]),
        ("UPDATE a SET x = 1 WHERE t = '1'::uuid", ["t"]),
        ("UPDATE a SET x = 1 WHERE t OPERATOR(pg_catalog.=) $1", ["t"]),
        ("UPDATE a SET x = 1 WHERE id > 5 AND (t = 1 AND u = 'x')", ["t", "u"]),
        ("UPDATE a SET x = 1 WHERE a.t = 1", ["t"]),
        ("UPDATE s.a SET x = 1 WHERE s.a.t = 1", ["t"]),
        ("UPDATE a AS b SET x = 1 WHERE b.t = 1", ["t"]),
        ("DELETE FROM a USING b WHERE a.id = b.id AND a.t = 1", ["t"]),
        ("UPDATE a SET x = 1 WHERE t = 1 OR u = 1", []),
        ("UPDATE a SET x = 1 WHERE NOT t = 1", []),
        ("UPDATE a SET x = 1 WHERE t <> 1", []),
        ("UPDATE a SET x = 1 WHERE t = NULL", []),
        ("UPDATE a SET x = 1 WHERE t OPERATOR(s.=) 1", []),
        ("UPDATE a SET x = 1 WHERE t IN (1, 2)", []),
        ("UPDATE a SET x = 1 WHERE t = ANY ($1)", []),
        ("UPDATE a SET x = 1 WHERE t IS NOT DISTINCT FROM 1", []),
        ("UPDATE a SET x = 1 WHERE t = t", []),
        ("UPDATE a SET x = 1 WHERE t = (SELECT 1)", []),
        ("UPDATE a SET x = 1 WHERE t = lower('x')", []),
        ("UPDATE a SET x = 1 WHERE id IN (SELECT id FROM a WHERE t = 1)", []),
        ("UPDATE a SET x = 1 WHERE EXISTS (SELECT 1 FROM b WHERE a.t = 1)", []),
        ("UPDATE a SET x = 1 FROM b WHERE b.t = 1", []),
        ("UPDATE a AS b SET x = 1 FROM a WHERE a.t = 1", []),  # the other a
        ("UPDATE a SET x = 1 FROM s.a AS b WHERE s.a.t = 1", []),
        ("UPDATE a SET x = 1 FROM b JOIN c ON a.t = 1 WHERE b.id = 1", []),
        ("DELETE FROM a", []),
        ("INSERT INTO a (t, x) VALUES (1, lower('x'))", ["t"]),
        ("INSERT INTO a (t, x) VALUES ($1, 2), ($2, now())", ["t"]),
        ("INSERT INTO a (t, x) VALUES (1, 2), (DEFAULT, 3)", ["x"]),
        ("INSERT INTO a (t) VALUES (NULL)", []),
        ("INSERT INTO a VALUES (1)", []),
        ("INSERT INTO a DEFAULT VALUES", []),
        ("INSERT INTO a (t, x) SELECT $1, b.x FROM b", ["t"]),
        ("INSERT INTO a (t, x) SELECT b.t, 1 FROM b", ["x"]),
        ("INSERT INTO a (x, t) SELECT b.*, 1 FROM b", []),
        ("INSERT INTO a (t) SELECT 1 UNION SELECT 2", []),
        ("MERGE INTO a USING b ON a.t = 1 AND a.id = b.id WHEN MATCHED THEN DELETE", ["t"]),
        ("MERGE INTO a USING b ON a.id = b.id WHEN MATCHED AND a.t = 1 THEN UPDATE SET x = 1", ["t"]),
        ("MERGE INTO a USING b ON a.t = 1 WHEN NOT MATCHED BY SOURCE THEN DELETE", []),
        ("MERGE INTO a USING b ON a.t = 1 WHEN NOT MATCHED THEN INSERT (t, x) VALUES (1, b.x)", ["t"]),
        ("MERGE INTO a USING b ON a.t = 1 WHEN NOT MATCHED THEN INSERT (t) VALUES (b.t)", []),
    ],
)
def test_a_column_is_pinned_only_if_every_row_must_have_the_given_value(text: str, pinned: list[str]) -> None:
    writes = [write for write in parse_statement(text).writes if write.command != "merge"]
    assert [sorted(write.pinned) for write in writes] == [pinned]


def test_an_upsert_pins_what_it_inserts_and_what_it_updates_each_for_itself() -> None:
    text = "INSERT INTO a (id, t) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET x = 1"
    assert [sorted(write.pinned) for write in parse_statement(text).writes] == [["id", "t"], []]
    assert [sorted(w.pinned) for w in parse_statement(f"{text} WHERE a.t = 2").writes] == [["id", "t"], ["t"]]
