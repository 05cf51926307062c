"""Functions: what a call may do is known for built-in ones that compute, and for those that the constraints name."""

import re
from collections.abc import Iterator

from standfast.report import Finding, Verdict
from standfast.safety.parsing import Name
from standfast.safety.resolution import Function
from standfast.safety.rules.case import Case, Rule

_SYSTEM = "pg_catalog"
# Volatile by PostgreSQL's catalog, but they change nothing and reveal nothing.
_HARMLESS = frozenset({"clock_timestamp", "gen_random_uuid", "statement_timestamp", "timeofday", "uuidv4", "uuidv7"})
_OTHER_EACH_TIME = frozenset({"random", "random_normal"})
# Declared stable or immutable, yet they run SQL given as text, or read other objects by name.
_BLOCKED = re.compile(
    r"^(query_to_xml|cursor_to_xml|table_to_xml|schema_to_xml|database_to_xml|ts_stat|ts_rewrite|dblink|pg_read_|"
    r"pg_ls_|pg_stat_|pg_current_logfile|lo_|pg_get_viewdef|pg_sleep|current_setting|pg_show_all|pg_hba)"
)


class Functions(Rule):
    """All functions that a name may mean are judged: the arguments decide only when it runs."""

    id = "function"

    def before(self, case: Case) -> Iterator[Finding]:
        for name in sorted(case.statement.functions, key=str):
            yield from self._judge(case, name, case.resolution.functions.get(name, ()))
        for operator in sorted(case.statement.operators & case.resolution.own_operators, key=str):
            message = f"operator {operator} runs a function of the target's own"
            yield self.finding(Verdict.APPROVAL, message, operator=str(operator))
        yield from self._fields(case)

    def _fields(self, case: Case) -> Iterator[Finding]:
        """Judge `(row).name`, which calls the function `name` where the row has no such column."""
        columns = {column for relation in case.resolution.relations.values() for column in relation.columns}
        for parts in sorted(case.statement.columns | case.statement.returned):
            for name in sorted({*parts[1:]} - columns - {"*", "?"}) if parts[0] == "?" else ():
                yield self.finding(Verdict.APPROVAL, f"(...).{name} may call a function", function=name)

    def _judge(self, case: Case, name: Name, meanings: tuple[Function, ...]) -> Iterator[Finding]:
        if not meanings:
            yield self.finding(Verdict.BLOCK, f"there is no function {name}", mendable=True, function=str(name))
            return
        given = [_given(case, f"{meaning.schema}.{name.name}", f"{meaning.schema}.*") for meaning in meanings]
        for meaning, said in zip(meanings, given, strict=True):
            full_name = f"{meaning.schema}.{name.name}"
            verdict = _built_in(name.name, meaning)
            if said is not None and (verdict is not Verdict.BLOCK or meaning.schema != _SYSTEM):
                verdict = said  # what the catalogue blocks stays blocked
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
