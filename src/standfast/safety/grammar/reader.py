"""Walks the tree of a statement and notes what it says."""

from dataclasses import dataclass
from typing import Any

from postgast.pg_query_pb2 import A_Expr_Kind, SQLValueFunctionOp, SubLinkType

from standfast.safety.grammar.clock import CLOCKS, names_time
from standfast.safety.grammar.statement import Literal, LiteralKind, Name, Statement, StatementRefused, Write
from standfast.safety.grammar.tree import children, strings, unwrap
from standfast.safety.grammar.writes import write_of_delete, write_of_update, writes_of_insert, writes_of_merge

_KNOWN_NODES = frozenset(
    {
        "A_ArrayExpr",
        "A_Const",
        "A_Expr",
        "A_Indices",
        "A_Indirection",
        "A_Star",
        "Alias",
        "AlterEnumStmt",
        "AlterTableCmd",
        "AlterTableStmt",
        "BitString",
        "BoolExpr",
        "Boolean",
        "BooleanTest",
        "CaseExpr",
        "CaseWhen",
        "CoalesceExpr",
        "CollateClause",
        "ColumnDef",
        "ColumnRef",
        "CommonTableExpr",
        "Constraint",
        "DefElem",
        "DeleteStmt",
        "ExplainStmt",
        "Float",
        "FuncCall",
        "GroupingFunc",
        "GroupingSet",
        "IndexElem",
        "IndexStmt",
        "InferClause",
        "InsertStmt",
        "Integer",
        "JoinExpr",
        "List",
        "LockingClause",
        "MergeStmt",
        "MergeWhenClause",
        "MinMaxExpr",
        "MultiAssignRef",
        "NamedArgExpr",
        "NullTest",
        "OnConflictClause",
        "ParamRef",
        "RangeFunction",
        "RangeSubselect",
        "RangeVar",
        "ResTarget",
        "ReturningClause",
        "ReturningOption",
        "RowExpr",
        "SQLValueFunction",
        "SelectStmt",
        "SetToDefault",
        "SortBy",
        "String",
        "SubLink",
        "TypeCast",
        "TypeName",
        "UpdateStmt",
        "WindowDef",
        "WithClause",
    }
)
_WRITERS = frozenset({"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "IndexStmt", "AlterTableStmt"})
_QUIET = frozenset({"limit_count", "limit_offset", "typmods", "array_bounds"})
_OPERATORS = frozenset({"oper_name", "use_op"})
_EQUALS = Name(None, "=")  # what USING, IN and CASE compare with, without saying so
_BETWEEN = frozenset(Name(None, operator) for operator in ("<", "<=", ">", ">="))
_BETWEEN_KINDS = frozenset(
    {
        A_Expr_Kind.AEXPR_BETWEEN,
        A_Expr_Kind.AEXPR_NOT_BETWEEN,
        A_Expr_Kind.AEXPR_BETWEEN_SYM,
        A_Expr_Kind.AEXPR_NOT_BETWEEN_SYM,
    }
)
_SETTERS = frozenset({"UpdateStmt", "OnConflictClause", "MergeWhenClause"})
_USERS = frozenset(
    {
        SQLValueFunctionOp.SVFOP_CURRENT_CATALOG,
        SQLValueFunctionOp.SVFOP_CURRENT_ROLE,
        SQLValueFunctionOp.SVFOP_CURRENT_SCHEMA,
        SQLValueFunctionOp.SVFOP_CURRENT_USER,
        SQLValueFunctionOp.SVFOP_SESSION_USER,
        SQLValueFunctionOp.SVFOP_USER,
    }
)


@dataclass(frozen=True)
class _Place:
    """Where in a statement a node stands."""

    quiet: bool = False
    """Literals say nothing about data here."""
    feeds: bool = False
    """The query whose rows an INSERT writes."""
    sets: bool = False
    """A value that is written or returned: it doesn't choose rows."""
    within: bool = False
    """Inside of a WITH query."""
    returned: bool = False
    """RETURNING of the statement itself."""

    def below(self, node: str, role: str) -> "_Place":
        """Return the place of a child of `node`."""
        sets, feeds = self.sets, False
        if node == "SelectStmt":
            feeds = self.feeds and role in ("larg", "rarg")
            sets = self.feeds and role in ("target_list", "values_lists")
        elif node in _SETTERS:
            sets = role in ("target_list", "values", "returning_clause")
        elif node == "InsertStmt":
            feeds, sets = role == "select_stmt", role == "returning_clause"
        elif node == "SubLink":
            sets = False
        return _Place(
            quiet=self.quiet or role in _QUIET,
            feeds=feeds,
            sets=sets,
            within=self.within or node == "CommonTableExpr",
            returned=(self.returned and node != "SubLink") or (role == "returning_clause" and not self.within),
        )


def read_tree(root: Any, statement: Statement) -> None:
    """Note in `statement` what its tree says; any kind of statement that is not known is judged by its kind alone."""
    if type(root).__name__ in _KNOWN_NODES:
        _Reader(statement).read(root, _Place())


class _Reader:
    """Walks a tree, every child of every node, and notes what it says."""

    def __init__(self, statement: Statement) -> None:
        self._statement = statement

    def read(self, node: Any, place: _Place) -> None:
        """Note `node` and everything below it."""
        name = type(node).__name__
        if name not in _KNOWN_NODES:
            raise StatementRefused("statement.construct", f"contains {name}, which is not known to be safe")
        reader = getattr(self, f"_read_{name.lower()}", None)
        if reader is not None:
            reader(node, place)
        for role, child in children(node):
            if role in _OPERATORS or role == "locked_rels":  # which repeats names that stand in FROM
                continue
            if name == "RangeVar" and role == "alias":
                self._rename_columns(child)
            elif role != "relation" or name not in _WRITERS:
                self.read(child, place.below(name, role))
        for role in _OPERATORS.intersection(node.DESCRIPTOR.fields_by_name.keys()):
            self._operator(getattr(node, role))

    def _read_joinexpr(self, node: Any, _place: _Place) -> None:
        self._statement.columns |= {(name,) for name in strings(node.using_clause)}
        if node.is_natural:
            self._statement.columns.add(("*",))
        if node.is_natural or node.using_clause:
            self._statement.operators.add(_EQUALS)

    def _read_indexstmt(self, node: Any, _place: _Place) -> None:
        self._write(node, Write(self._table(node.relation), self._statement.kind, frozenset()))

    def _read_altertablestmt(self, node: Any, _place: _Place) -> None:
        self._write(node, Write(self._table(node.relation), self._statement.kind, frozenset()))

    def _read_rangevar(self, node: Any, _place: _Place) -> None:
        self._statement.reads.add(self._name(node))

    def _name(self, node: Any) -> Name:
        """Return a relation's name, and note under which name the statement refers to it."""
        table = self._table(node)
        self._statement.named.add((node.alias.aliasname if node.HasField("alias") else node.relname, table))
        return table

    def _table(self, node: Any) -> Name:
        if node.catalogname:
            raise StatementRefused("object.database", f"names the database {node.catalogname!r}; leave it out")
        if node.relpersistence != "p":
            raise StatementRefused("statement.construct", "creates a temporary or unlogged table", mendable=False)
        return Name(node.schemaname or None, node.relname)

    def _write(self, node: Any, *writes: Write) -> None:
        table = self._name(node.relation)
        self._statement.writes += writes
        if "returning_clause" in node.DESCRIPTOR.fields_by_name and node.HasField("returning_clause"):
            options = [unwrap(option).value for option in node.returning_clause.options]
            self._statement.named |= {(alias, table) for alias in ("old", "new", *options)}

    def _read_insertstmt(self, node: Any, _place: _Place) -> None:
        self._write(node, *writes_of_insert(node, self._table(node.relation)))

    def _read_updatestmt(self, node: Any, _place: _Place) -> None:
        self._write(node, write_of_update(node, self._table(node.relation)))

    def _read_deletestmt(self, node: Any, _place: _Place) -> None:
        self._write(node, write_of_delete(node, self._table(node.relation)))

    def _read_mergestmt(self, node: Any, _place: _Place) -> None:
        self._write(node, *writes_of_merge(node, self._table(node.relation)))

    def _read_commontableexpr(self, node: Any, _place: _Place) -> None:
        self._statement.with_names.add(node.ctename)

    def _read_alias(self, node: Any, _place: _Place) -> None:
        self._statement.aliases.add(node.aliasname)
        self._rename_columns(node)

    def _rename_columns(self, alias: Any) -> None:
        if alias.colnames:  # columns under other names: any of them may be meant
            self._statement.columns.add(("*",))

    def _read_columnref(self, node: Any, place: _Place) -> None:
        references = self._statement.returned if place.returned else self._statement.columns
        references.add(strings(node.fields))

    def _read_a_indirection(self, node: Any, place: _Place) -> None:
        references = self._statement.returned if place.returned else self._statement.columns
        references.add(("?", *strings(node.indirection)))

    def _read_funccall(self, node: Any, place: _Place) -> None:
        name = _qualified(strings(node.funcname))
        self._statement.functions.add(name)
        self._statement.clocked |= name.name in CLOCKS and not place.sets

    def _read_typename(self, node: Any, _place: _Place) -> None:
        name = _qualified(strings(node.names))
        if name.schema != "pg_catalog":
            self._statement.types.add(name)

    def _read_indexelem(self, node: Any, _place: _Place) -> None:
        if node.name:
            self._statement.columns.add((node.name,))

    def _read_sqlvaluefunction(self, node: Any, place: _Place) -> None:
        self._statement.clocked |= node.op not in _USERS and not place.sets

    def _read_a_expr(self, node: Any, _place: _Place) -> None:
        if node.kind in _BETWEEN_KINDS:
            self._statement.operators |= _BETWEEN
        else:
            self._operator(node.name)

    def _read_caseexpr(self, node: Any, _place: _Place) -> None:
        if node.HasField("arg"):
            self._statement.operators.add(_EQUALS)

    def _read_sublink(self, node: Any, _place: _Place) -> None:
        if node.sub_link_type == SubLinkType.ANY_SUBLINK and not node.oper_name:
            self._statement.operators.add(_EQUALS)

    def _operator(self, parts: Any) -> None:
        if parts:
            self._statement.operators.add(_qualified(strings(parts)))

    def _read_a_const(self, node: Any, place: _Place) -> None:
        which = node.WhichOneof("val")
        if place.quiet or which in (None, "boolval"):
            return
        kind = LiteralKind.NUMBER if which in ("ival", "fval") else LiteralKind.TEXT
        value = str(getattr(getattr(node, which), which))
        self._statement.literals.append(Literal(kind, value))
        self._statement.clocked |= names_time(value) and not place.sets

    def _read_paramref(self, node: Any, _place: _Place) -> None:
        self._statement.parameters.add(node.number)

    def _read_lockingclause(self, _node: Any, _place: _Place) -> None:
        self._statement.locks_rows = True


def _qualified(parts: tuple[str, ...]) -> Name:
    """Return a name of one or two parts; a longer one names another database, whatever its first part says."""
    if len(parts) > 2:  # noqa: PLR2004
        raise StatementRefused("object.database", f"names the database in {'.'.join(parts)}; leave it out")
    return Name(parts[0] if len(parts) > 1 else None, parts[-1])
