"""The rule `function`."""

import re
from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.grammar.statement import Name
from standfast.safety.resolution import Function
from standfast.safety.rules.case import Case, Example, Rule

_SYSTEM = "pg_catalog"
# Volatile by PostgreSQL's catalog, but they change nothing and reveal nothing.
_HARMLESS = frozenset(
    {
        "clock_timestamp",
        "gen_random_uuid",
        "statement_timestamp",
        "timeofday",
        "timezone",  # AT TIME ZONE: for times of day it is volatile in PostgreSQL 14
        "uuidv4",
        "uuidv7",
    }
)
_OTHER_EACH_TIME = frozenset({"random", "random_normal"})
# Declared stable or immutable, yet they run SQL given as text, or read other objects by name.
_BLOCKED = re.compile(
    r"^(query_to_xml|cursor_to_xml|table_to_xml|schema_to_xml|database_to_xml|ts_stat|ts_rewrite|dblink|pg_read_|"
    r"pg_ls_|pg_stat_|pg_current_logfile|lo_|pg_sleep|current_setting|pg_show_|pg_hba|"
    # What the catalogs say is no more a plan's business by function than by name.
    r"pg_get_|pg_describe_object|pg_identify_object|(obj|col|shobj)_description|pg_relation_file|pg_tablespace_|"
    r"pg_sequence_|pg_prepared_|pg_cursor|pg_available_|pg_listening_|pg_options_to_table|inet_(client|server)_)"
)


class Functions(Rule):
    id = "function"
    verdict = Verdict.APPROVAL
    rationale = (
        "What a call may do is known for built-in functions that only compute, and for those that the constraints "
        "name. Functions that reach beyond the rows of the plan, or run SQL given as text, are blocked whatever the "
        "constraints say. All functions that a name may mean are judged: the arguments decide only when it runs."
    )
    examples = (
        Example(sql="SELECT upper(name), now() FROM shop.customers WHERE id = 7", why="built-in, and only computes"),
        Example(sql="SELECT pg_sleep(60)", finds=Verdict.BLOCK, why="holds up the server"),
        Example(
            sql="SELECT query_to_xml('DELETE FROM shop.orders', true, true, '')",
            finds=Verdict.BLOCK,
            why="runs SQL that no rule has seen",
        ),
        Example(
            sql="SELECT nextval('shop.orders_id_seq')", finds=Verdict.BLOCK, why="a used up value never comes back"
        ),
        Example(
            sql="SELECT shop.greeting(name) FROM shop.customers WHERE id = 7",
            setup="CREATE FUNCTION shop.greeting(text) RETURNS text LANGUAGE sql AS 'SELECT ''Dear '' || $1'",
            finds=Verdict.APPROVAL,
            why="nobody said what the target's own function does",
        ),
        Example(
            sql="SELECT shop.greeting(name) FROM shop.customers WHERE id = 7",
            setup="CREATE FUNCTION shop.greeting(text) RETURNS text LANGUAGE sql AS 'SELECT ''Dear '' || $1'",
            constraints="functions: {auto: [shop.greeting]}",
            why="the constraints vouch for it",
        ),
        Example(
            sql="ALTER TABLE shop.orders ADD COLUMN token uuid DEFAULT gen_random_uuid()",
            finds=Verdict.BLOCK,
            why="a volatile default rewrites the whole table",
        ),
    )

    def before(self, case: Case) -> Iterator[Finding]:
        for name in sorted(case.statement.functions, key=str):
            yield from self._judge(case, name, case.resolution.functions.get(name, ()))
        for operator in sorted(case.statement.operators & case.resolution.own_operators, key=str):
            message = f"operator {operator} runs a function of the target's own"
            yield self.finding(Verdict.APPROVAL, message, operator=str(operator))
        yield from self._fields(case)
        yield from self._unnamed(case)

    def _fields(self, case: Case) -> Iterator[Finding]:
        """Judge `x.name`, which calls the function `name` where x is no relation with such a column."""
        names: set[str] = set()
        for parts in case.statement.columns | case.statement.returned:
            if parts[0] == "?":
                names.update(parts[1:])
            elif len(parts) > 1 and not case.meant_by(parts[-2]):
                names.add(parts[-1])
        for name in sorted(names):
            meanings = case.resolution.functions.get(Name(None, name), ())
            if called := tuple(meaning for meaning in meanings if meaning.takes_one):
                yield from self._judge(case, Name(None, name), called)

    def _unnamed(self, case: Case) -> Iterator[Finding]:
        """Judge what runs without being named: in views, and where values of a type are made."""
        runs = {name: relation.runs for name, relation in case.resolution.relations.items()}
        named = {*case.statement.reads, *(write.table for write in case.statement.writes)}
        by_name = [(name, runs[name]) for name in named if name in runs]
        by_name += [(name, case.resolution.types.get(name, frozenset())) for name in case.statement.types]
        for name, functions in sorted(by_name, key=str):
            for function in sorted(functions):
                verdict = _given(case, function, f"{function.partition('.')[0]}.*") or Verdict.APPROVAL
                if verdict is not Verdict.AUTO:
                    yield self.finding(verdict, f"{name} runs function {function}", function=function)

    def _judge(self, case: Case, name: Name, meanings: tuple[Function, ...]) -> Iterator[Finding]:
        if not meanings:
            yield self.finding(Verdict.BLOCK, f"there is no function {name}", mendable=True, function=str(name))
            return
        given = [_given(case, f"{meaning.schema}.{name.name}", f"{meaning.schema}.*") for meaning in meanings]
        for meaning, said in zip(meanings, given, strict=True):
            full_name = f"{meaning.schema}.{name.name}"
            verdict = _built_in(name.name, meaning)
            if said is not None and (verdict is not Verdict.BLOCK or meaning.schema != _SYSTEM):
                verdict = said  # what this rule blocks stays blocked
            if case.statement.kind == "add_column" and meaning.volatility == "v":
                verdict = Verdict.BLOCK  # it would rewrite the whole table
            if verdict is Verdict.BLOCK:
                message = f"function {full_name} acts beyond the rows of this plan, or hides what it does"
                yield self.finding(Verdict.BLOCK, message, function=full_name)
                return
            if verdict is Verdict.APPROVAL:
                yield self.finding(Verdict.APPROVAL, f"calls function {full_name}", function=full_name)
                return


def _given(case: Case, *names: str) -> Verdict | None:
    functions = case.constraints.functions
    for verdict, listed in (
        (Verdict.BLOCK, functions.block),
        (Verdict.APPROVAL, functions.approval),
        (Verdict.AUTO, functions.auto),
    ):
        if not set(listed).isdisjoint(names):
            return verdict
    return None


def _built_in(name: str, meaning: Function) -> Verdict:
    if meaning.schema != _SYSTEM:
        return Verdict.APPROVAL
    if _BLOCKED.match(name):
        return Verdict.BLOCK
    if meaning.volatility in "is" or name in _HARMLESS:
        return Verdict.AUTO
    return Verdict.APPROVAL if name in _OTHER_EACH_TIME else Verdict.BLOCK
