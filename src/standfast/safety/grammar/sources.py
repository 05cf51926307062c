"""Where the values and the rows of a statement come from: what it copies, joins, looks up, and cuts off."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from postgast.pg_query_pb2 import A_Expr_Kind, BoolExprType, CmdType, SubLinkType

from standfast.safety.grammar.statement import Name, Statement
from standfast.safety.grammar.tree import children, nodes, strings, unwrap

Reference = tuple[str, ...]
"""A column as written: `("name",)`, `("customers", "name")`, `("*",)`."""

_TRUTHS = frozenset({"BooleanTest", "BoolExpr", "NullTest"})
_COMPARISONS = frozenset({"=", "<>", "!=", "<", ">", "<=", ">=", "~", "~*", "!~", "!~*", "~~", "!~~"})
_MEASURES = frozenset({"bit_length", "char_length", "character_length", "count", "length", "octet_length"})
_RANKS = frozenset({"first_value", "lag", "last_value", "lead", "nth_value", "ntile", "row_number"})
_ROWS = frozenset({"UpdateStmt", "DeleteStmt"})
_QUERIES_OF_ONE_COLUMN = frozenset({SubLinkType.ANY_SUBLINK, SubLinkType.ALL_SUBLINK, SubLinkType.EXPR_SUBLINK})


@dataclass(frozen=True)
class Copy:
    """A column whose value a write stores in another one, as it is or in another form."""

    table: Name
    column: str | None
    """Where it is stored; None if the statement doesn't say."""
    reference: Reference


@dataclass(frozen=True)
class Join:
    """A write that takes rows of other relations, too: UPDATE ... FROM and DELETE ... USING."""

    table: Name
    alias: str
    """By which name the statement refers to the table."""
    conditions: tuple[frozenset[Reference], ...]
    """The columns in each of the conditions that all have to hold."""


@dataclass(frozen=True)
class Lookup:
    """A subquery for one column, named without saying of which relation."""

    column: str
    relations: frozenset[Name]
    """From which it selects."""


@dataclass(frozen=True)
class Cut:
    """A query of which only some rows are kept: by LIMIT, OFFSET, DISTINCT ON or their rank."""

    relation: Name | None
    """From which it selects; None if that is not just one."""
    order: frozenset[str]
    """The columns that it is ordered by."""


def copies(statement: Statement) -> Iterator[Copy]:
    """Yield what the writes of a statement copy."""
    for node in nodes(statement.tree, "UpdateStmt"):
        yield from _copies(node.relation, _assigned(node.target_list))
    for node in nodes(statement.tree, "InsertStmt"):
        yield from _copies(node.relation, _inserted(node))
        yield from _copies(node.relation, _assigned(node.on_conflict_clause.target_list))
    for node in nodes(statement.tree, "MergeStmt"):
        for clause in map(unwrap, node.merge_when_clauses):
            if clause.command_type == CmdType.CMD_UPDATE:
                yield from _copies(node.relation, _assigned(clause.target_list))
            else:
                yield from _copies(node.relation, _named(clause.target_list, list(map(unwrap, clause.values))))


def joins(statement: Statement) -> Iterator[Join]:
    """Yield the writes that take rows of other relations and say which rows they mean."""
    for kind in _ROWS:
        for node in nodes(statement.tree, kind):
            others = node.from_clause if kind == "UpdateStmt" else node.using_clause
            if others and node.HasField("where_clause"):
                alias = node.relation.alias.aliasname or node.relation.relname
                yield Join(_table(node.relation), alias, tuple(_conditions(unwrap(node.where_clause))))


def lookups(statement: Statement) -> Iterator[Lookup]:
    """Yield the subqueries of one column that select from named relations only."""
    for sublink in nodes(statement.tree, "SubLink"):
        query = unwrap(sublink.subselect)
        values = [unwrap(unwrap(target).val) for target in query.target_list]
        if sublink.sub_link_type not in _QUERIES_OF_ONE_COLUMN or [type(v).__name__ for v in values] != ["ColumnRef"]:
            continue
        reference = strings(values[0].fields)
        relations = [relation for part in query.from_clause for relation in _relations(unwrap(part))]
        rows = {relation.alias.aliasname or relation.relname for relation in relations if relation is not None}
        if len(reference) == 1 and reference[0] not in rows | {"*"} and relations and None not in relations:
            yield Lookup(reference[0], frozenset(map(_table, relations)))


def cuts(statement: Statement) -> Iterator[Cut]:
    """Yield the queries that keep some of their rows, and those that number them."""
    for query in nodes(statement.tree, "SelectStmt"):
        one_of_each = any(item.WhichOneof("node") for item in query.distinct_clause)  # plain DISTINCT has an empty one
        if query.HasField("limit_count") or query.HasField("limit_offset") or one_of_each:
            relations = [relation for part in query.from_clause for relation in _relations(unwrap(part))]
            alone = len(relations) == 1 and relations[0] is not None
            order = [unwrap(unwrap(sort).node) for sort in query.sort_clause]
            columns = frozenset(strings(node.fields)[-1] for node in order if type(node).__name__ == "ColumnRef")
            yield Cut(_table(relations[0]) if alone else None, columns)
    for call in nodes(statement.tree, "FuncCall"):
        if call.HasField("over") and strings(call.funcname)[-1] in _RANKS:
            yield Cut(None, frozenset())


def _table(relation: Any) -> Name:
    return Name(relation.schemaname or None, relation.relname)


def _copies(relation: Any, stored: Iterable[tuple[str | None, Any]]) -> Iterator[Copy]:
    for column, value in stored:
        for reference in _carried(value):
            yield Copy(_table(relation), column, reference)


def _assigned(targets: Any) -> Iterator[tuple[str, Any]]:
    """Yield each column of a SET list with its value."""
    for target in map(unwrap, targets):
        value = unwrap(target.val)
        if type(value).__name__ == "MultiAssignRef":
            source = unwrap(value.source)
            if type(source).__name__ == "RowExpr":
                value = unwrap(source.args[value.colno - 1])
            elif type(source).__name__ == "SubLink":
                value = unwrap(unwrap(unwrap(source.subselect).target_list[value.colno - 1]).val)
        yield target.name, value


def _inserted(node: Any) -> Iterator[tuple[str | None, Any]]:
    """Yield each value that an INSERT stores, with its column."""
    for query in _unioned(unwrap(node.select_stmt)) if node.HasField("select_stmt") else ():
        yield from _named(node.cols, [unwrap(unwrap(target).val) for target in query.target_list])
        for row in query.values_lists:
            yield from _named(node.cols, list(map(unwrap, unwrap(row).items)))


def _named(columns: Any, values: list[Any]) -> Iterator[tuple[str | None, Any]]:
    names: list[str | None] = [unwrap(column).name for column in columns]
    if len(names) != len(values):  # no names are given, or `*` stands for several values
        names = [None] * len(values)
    return zip(names, values, strict=True)


def _unioned(query: Any) -> Iterator[Any]:
    """Yield the queries of which a UNION consists, or the one query."""
    if query.HasField("larg"):
        yield from _unioned(query.larg)
        yield from _unioned(query.rarg)
    else:
        yield query


def _carried(node: Any) -> Iterator[Reference]:
    """Yield the columns whose values are in the value of an expression, and don't only decide or measure it."""
    name = type(node).__name__
    parts: Iterable[Any] = (child for _, child in children(node))
    if name == "ColumnRef":
        yield strings(node.fields)
    elif name == "SubLink":
        alone = node.sub_link_type in (SubLinkType.EXPR_SUBLINK, SubLinkType.ARRAY_SUBLINK)
        queries = _unioned(unwrap(node.subselect)) if alone else ()
        parts = [target for query in queries for target in query.target_list]
    elif name == "CaseExpr":
        parts = [*(unwrap(when).result for when in node.args), node.defresult]
    elif name == "FuncCall":
        parts = node.args if strings(node.funcname)[-1] not in _MEASURES else ()
    elif name in _TRUTHS or (name == "A_Expr" and _compares(node)):
        parts = ()
    for part in parts:
        yield from _carried(unwrap(part))


def _compares(node: Any) -> bool:
    if node.kind == A_Expr_Kind.AEXPR_OP:
        return strings(node.name)[-1] in _COMPARISONS
    return bool(node.kind != A_Expr_Kind.AEXPR_NULLIF)


def _conditions(where: Any) -> Iterator[frozenset[Reference]]:
    """Yield the columns in each condition that has to hold."""
    if type(where).__name__ == "BoolExpr" and where.boolop == BoolExprType.AND_EXPR:
        for argument in where.args:
            yield from _conditions(unwrap(argument))
    else:
        yield frozenset(strings(reference.fields) for reference in nodes(where, "ColumnRef"))


def _relations(part: Any) -> Iterator[Any]:
    """Yield the relations in a part of FROM, None for what is not simply one."""
    name = type(part).__name__
    if name == "JoinExpr" and not part.HasField("alias"):
        yield from _relations(unwrap(part.larg))
        yield from _relations(unwrap(part.rarg))
    else:
        yield part if name == "RangeVar" and not part.alias.colnames else None
