"""What the statements that write rows write, and where, as far as that can be told without the tables."""

from collections.abc import Iterable, Sequence
from typing import Any

from postgast.pg_query_pb2 import A_Expr_Kind, BoolExprType, CmdType, MergeMatchKind, OverridingKind

from standfast.safety.grammar.statement import Name, Write
from standfast.safety.grammar.tree import nodes, strings, unwrap

_PINS = frozenset({("=",), ("pg_catalog", "=")})
_LIKE = frozenset({"~~", "~~*"})


def writes_of_insert(node: Any, table: Name) -> list[Write]:
    """Return what an INSERT writes: rows, and what ON CONFLICT sets."""
    names = tuple(unwrap(column).name for column in node.cols)
    insert = Write(
        table,
        "insert",
        frozenset(names) or None,
        pinned=_given(names, _new_rows(unwrap(node.select_stmt))),
        by_order=not node.cols and node.HasField("select_stmt"),
        overriding=node.override == OverridingKind.OVERRIDING_SYSTEM_VALUE,
    )
    conflict = node.on_conflict_clause
    if not conflict.target_list:
        return [insert]
    columns, rebuilt = _set_columns(conflict.target_list, node.relation)
    pinned = _pinned(conflict.where_clause, node.relation)
    return [insert, Write(table, "update", columns, rebuilt=rebuilt, pinned=pinned)]


def write_of_update(node: Any, table: Name) -> Write:
    """Return what an UPDATE writes."""
    columns, rebuilt = _set_columns(node.target_list, node.relation)
    where = unwrap(node.where_clause) if node.HasField("where_clause") else None
    means_all = where is not None and _always(where)
    pinned = _pinned(node.where_clause, node.relation)
    return Write(table, "update", columns, where is not None, means_all, rebuilt, pinned)


def write_of_delete(node: Any, table: Name) -> Write:
    """Return what a DELETE writes."""
    where = unwrap(node.where_clause) if node.HasField("where_clause") else None
    means_all = where is not None and _always(where)
    pinned = _pinned(node.where_clause, node.relation)
    return Write(table, "delete", None, where is not None, means_all, pinned=pinned)


def writes_of_merge(node: Any, table: Name) -> list[Write]:
    """Return what a MERGE writes, and after that what each of its WHEN clauses does."""
    every = _always(unwrap(node.join_condition))
    writes = [Write(table, "merge", frozenset())]
    for clause in map(unwrap, node.merge_when_clauses):
        columns, rebuilt = _set_columns(clause.target_list, node.relation)
        pinned = _pinned(clause.condition, node.relation)
        if clause.match_kind == MergeMatchKind.MERGE_WHEN_MATCHED:
            pinned |= _pinned(node.join_condition, node.relation)
        if clause.command_type == CmdType.CMD_UPDATE:
            writes.append(Write(table, "update", columns, means_all=every, rebuilt=rebuilt, pinned=pinned))
        elif clause.command_type == CmdType.CMD_INSERT:
            names = tuple(unwrap(target).name for target in clause.target_list)
            given = _given(names, [list(map(unwrap, clause.values))])
            writes.append(Write(table, "insert", columns or None, pinned=given))
        elif clause.command_type == CmdType.CMD_DELETE:
            writes.append(Write(table, "delete", None, means_all=every, pinned=pinned))
    return writes


def _set_columns(targets: Any, relation: Any) -> tuple[frozenset[str], frozenset[str]]:
    """Return the columns that are set, and those of them whose new value mentions the present one."""
    own = {relation.relname, relation.alias.aliasname}
    columns, rebuilt = set(), set()
    for target in map(unwrap, targets):
        columns.add(target.name)
        if target.indirection:  # a part of it
            rebuilt.add(target.name)
        mentioned = (strings(ref.fields) for ref in nodes(target, "ColumnRef"))
        if any(parts[-1] == target.name and (len(parts) == 1 or parts[-2] in own) for parts in mentioned):
            rebuilt.add(target.name)
    return frozenset(columns), frozenset(rebuilt)


def _always(condition: Any) -> bool:
    """Tell whether a condition visibly holds for every row: it names no column, or compares one with itself."""
    name = type(condition).__name__
    if name == "BoolExpr" and condition.boolop != BoolExprType.NOT_EXPR:
        some = any if condition.boolop == BoolExprType.OR_EXPR else all
        return some(_always(unwrap(argument)) for argument in condition.args)
    if name == "A_Expr":
        left, right = unwrap(condition.lexpr), unwrap(condition.rexpr)
        if _names(left) and _names(left) == _names(right):
            return True
        if strings(condition.name)[-1] in _LIKE and type(right).__name__ == "A_Const":
            return set(right.sval.sval) == {"%"}
    return next(nodes(condition, "ColumnRef"), None) is None


def _names(node: Any) -> tuple[str, ...]:
    return strings(node.fields) if type(node).__name__ == "ColumnRef" else ()


def _pinned(condition: Any, relation: Any) -> frozenset[str]:
    """Return the columns of `relation` that a condition holds to one given value each; what is under OR holds none."""
    node = unwrap(condition)
    name = type(node).__name__
    if name == "BoolExpr" and node.boolop == BoolExprType.AND_EXPR:
        return frozenset().union(*(_pinned(argument, relation) for argument in node.args))
    if name != "A_Expr" or node.kind != A_Expr_Kind.AEXPR_OP or strings(node.name) not in _PINS:
        return frozenset()
    # Under an alias the table's own name may mean another table, such as the same one in FROM.
    alias = relation.alias.aliasname
    own = [(), (alias,)] if alias else [(), (relation.relname,), (relation.schemaname, relation.relname)]
    sides = unwrap(node.lexpr), unwrap(node.rexpr)
    named = ((_names(column), value) for column, value in (sides, sides[::-1]))
    return frozenset(parts[-1] for parts, value in named if parts and parts[:-1] in own and _is_given(value))


def _new_rows(query: Any) -> list[list[Any]]:
    """Return the expressions of each row that an INSERT writes, by position; none where that can't be told."""
    if type(query).__name__ != "SelectStmt" or any(
        True for target in query.target_list for _ in nodes(target, "A_Star")
    ):
        return [[]]
    rows = [list(map(unwrap, unwrap(row).items)) for row in query.values_lists]
    return rows or [[unwrap(unwrap(target).val) for target in query.target_list]]


def _given(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> frozenset[str]:
    """Return the columns that get a given value in each of the rows."""
    given = ({name for name, value in zip(names, row, strict=False) if _is_given(value)} for row in rows)
    return frozenset(names).intersection(*given)


def _is_given(node: Any) -> bool:
    """Tell whether an expression is a literal or a parameter, whatever type it is made to be."""
    while type(node).__name__ == "TypeCast":
        node = unwrap(node.arg)
    return type(node).__name__ == "ParamRef" or (type(node).__name__ == "A_Const" and not node.isnull)
