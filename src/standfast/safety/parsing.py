"""What a statement says, by PostgreSQL's own grammar. The only module that knows the parser.

Everything fails closed: what can't be parsed, holds more than one statement, or contains a construct that is not on the
list of known ones is refused, whatever it means.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import postgast
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from postgast.pg_query_pb2 import A_Expr_Kind, AlterTableType, ConstrType

MAX_STATEMENT_BYTES = 64 * 1024  # the parser's time grows with the square of nested comments

_DML = {
    "SelectStmt": "select",
    "InsertStmt": "insert",
    "UpdateStmt": "update",
    "DeleteStmt": "delete",
    "MergeStmt": "merge",
}
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
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class StatementRefused(Exception):  # noqa: N818 - becomes a finding, not an error
    """The text is not one statement that can be understood."""

    def __init__(self, rule: str, message: str, *, mendable: bool = True) -> None:
        super().__init__(message)
        self.rule = rule
        self.message = message
        self.mendable = mendable


@dataclass(frozen=True)
class Name:
    """A possibly qualified name, as the server folds it."""

    schema: str | None
    name: str

    def __str__(self) -> str:
        """`schema.name`, or the name alone."""
        return f"{self.schema}.{self.name}" if self.schema else self.name


class LiteralKind(StrEnum):
    """What a literal is."""

    TEXT = "text"
    NUMBER = "number"


@dataclass(frozen=True)
class Literal:
    """A constant in the statement; true, false, null and limits are not worth mentioning."""

    kind: LiteralKind
    text: str


@dataclass(frozen=True)
class Write:
    """One place where the statement writes: itself, or a part of its WITH."""

    table: Name
    command: str
    """`insert`, `update`, `delete` or `merge`."""
    has_where: bool
    columns: frozenset[str] | None
    """Columns that it sets; None for all of them."""


@dataclass
class Statement:
    """What one statement says."""

    kind: str
    reads: set[Name] = field(default_factory=set)
    """Relations named anywhere but as a write's target; names of WITH queries included."""
    with_names: set[str] = field(default_factory=set)
    writes: list[Write] = field(default_factory=list)
    columns: set[tuple[str, ...]] = field(default_factory=set)
    """Column references as written; `*` stands for all columns."""
    returned: set[tuple[str, ...]] = field(default_factory=set)
    """The same, in RETURNING of a write."""
    functions: set[Name] = field(default_factory=set)
    operators: set[Name] = field(default_factory=set)
    """Operators that are named with a schema."""
    literals: list[Literal] = field(default_factory=list)
    parameters: set[int] = field(default_factory=set)
    aliases: set[str] = field(default_factory=set)
    """Names given to relations within the statement."""
    locks_rows: bool = False
    replaces_rows: bool = False
    """ON CONFLICT DO UPDATE."""
    limited: bool = False
    """A LIMIT or OFFSET without a unique order may choose other rows each time."""


def parse_statement(text: str, *, max_bytes: int = MAX_STATEMENT_BYTES) -> Statement:
    """Return what the one statement in `text` says.

    Raises:
        StatementRefused: naming the rule and what is wrong.
    """
    _check_text(text, max_bytes)
    try:
        tree = postgast.parse(text)
    except postgast.PgQueryError as error:
        raise StatementRefused("statement.syntax", f"not valid PostgreSQL: {error}") from None
    except (DecodeError, RecursionError):
        raise StatementRefused("statement.syntax", "nested too deeply to be checked; write it simpler") from None
    if len(tree.stmts) != 1:
        raise StatementRefused("statement.single", f"expected one statement, got {len(tree.stmts)}")
    root = _unwrap(tree.stmts[0].stmt)
    statement = Statement(kind=_kind(root))
    _Reader(statement).read(root)
    return statement


def _check_text(text: str, max_bytes: int) -> None:
    if control := _CONTROL.search(text):
        raise StatementRefused("statement.characters", f"contains the control character U+{ord(control[0]):04X}")
    size = len(text.encode())
    if size > max_bytes:
        raise StatementRefused("statement.size", f"has {size} bytes, at most {max_bytes} are allowed")


def _unwrap(node: Any) -> Any:
    if type(node).__name__ == "Node":
        which = node.WhichOneof("node")
        if which is not None:
            return getattr(node, which)
    return node


def _children(node: Message) -> Iterator[tuple[str, Message]]:
    for descriptor, value in node.ListFields():
        if descriptor.type != FieldDescriptor.TYPE_MESSAGE:
            continue
        for item in [value] if isinstance(value, Message) else value:
            yield descriptor.name, _unwrap(item)


def _kind(root: Any) -> str:
    name = type(root).__name__
    if name == "SelectStmt" and root.HasField("into_clause"):
        return "create_table_as"
    if name in _DML:
        return _DML[name]
    if name == "ExplainStmt":
        options = {_unwrap(option).defname for option in root.options}
        return "explain_analyze" if "analyze" in options else "explain"
    if name == "IndexStmt":
        return "create_index_concurrently" if root.concurrent else "create_index"
    if name == "AlterEnumStmt":
        return "add_enum_value" if not root.old_val else "rename_enum_value"
    if name == "AlterTableStmt":
        return "add_column" if all(map(_adds_plain_column, map(_unwrap, root.cmds))) else "alter_table"
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name.removesuffix("Stmt")).lstrip("_")


def _adds_plain_column(command: Any) -> bool:
    """Tell whether a command adds a column that costs neither a rewrite nor a check of the table's rows."""
    if command.subtype != AlterTableType.AT_AddColumn:
        return False
    column = _unwrap(getattr(command, "def"))
    serial = "serial" in _strings(column.type_name.names)[-1]
    return not serial and all(
        _unwrap(c).contype in (ConstrType.CONSTR_DEFAULT, ConstrType.CONSTR_NULL) for c in column.constraints
    )


def _strings(nodes: Any) -> tuple[str, ...]:
    return tuple("*" if type(n).__name__ == "A_Star" else getattr(n, "sval", "?") for n in map(_unwrap, nodes))


def _qualified(parts: tuple[str, ...]) -> Name:
    """Return a name of one or two parts; a longer one names another database, whatever its first part says."""
    if len(parts) > 2:  # noqa: PLR2004
        raise StatementRefused("object.database", f"names the database in {'.'.join(parts)}; leave it out")
    return Name(parts[0] if len(parts) > 1 else None, parts[-1])


_WRITERS = frozenset({"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "IndexStmt", "AlterTableStmt"})
_QUIET = frozenset({"limit_count", "limit_offset", "typmods", "array_bounds"})


class _Reader:
    """Walks a tree, every child of every node, and notes what it says."""

    def __init__(self, statement: Statement) -> None:
        self._statement = statement

    def read(self, node: Any, *, quiet: bool = False) -> None:
        """Note `node` and everything below it; `quiet` where literals say nothing about data."""
        name = type(node).__name__
        if name not in _KNOWN_NODES:
            if self._statement.kind in _DML.values() or self._statement.kind == "explain":
                raise StatementRefused("statement.construct", f"contains {name}, which is not known to be safe")
            return  # another kind of statement is judged by its kind alone
        reader = getattr(self, f"_read_{name.lower()}", None)
        if reader is not None:
            reader(node, quiet)
        if name == "ReturningClause":
            return
        for role, child in _children(node):
            if role != "relation" or name not in _WRITERS:
                self.read(child, quiet=quiet or role in _QUIET)

    def _read_returningclause(self, node: Any, _quiet: bool) -> None:
        statement = self._statement
        inner = replace(statement, columns=set())  # all other sets are shared
        for _, child in _children(node):
            _Reader(inner).read(child)
        statement.returned |= inner.columns
        statement.locks_rows |= inner.locks_rows
        statement.limited |= inner.limited

    def _read_joinexpr(self, node: Any, _quiet: bool) -> None:
        self._statement.columns |= {(name,) for name in _strings(node.using_clause)}
        if node.is_natural:
            self._statement.columns.add(("*",))

    def _read_indexstmt(self, node: Any, _quiet: bool) -> None:
        self._write(node, self._statement.kind, has_where=True, columns=frozenset())

    def _read_altertablestmt(self, node: Any, _quiet: bool) -> None:
        self._write(node, self._statement.kind, has_where=True, columns=frozenset())

    def _read_selectstmt(self, node: Any, _quiet: bool) -> None:
        self._statement.limited |= node.HasField("limit_count") or node.HasField("limit_offset")

    def _read_rangevar(self, node: Any, _quiet: bool) -> None:
        self._statement.reads.add(self._table(node))
        if node.HasField("alias"):
            self._statement.aliases.add(node.alias.aliasname)

    def _table(self, node: Any) -> Name:
        if node.catalogname:
            raise StatementRefused("object.database", f"names the database {node.catalogname!r}; leave it out")
        if node.relpersistence != "p":
            raise StatementRefused("statement.construct", "creates a temporary or unlogged table", mendable=False)
        return Name(node.schemaname or None, node.relname)

    def _write(self, node: Any, command: str, *, has_where: bool, columns: frozenset[str] | None) -> None:
        table = self._table(node.relation)
        if node.relation.HasField("alias"):
            self._statement.aliases.add(node.relation.alias.aliasname)
        self._statement.writes.append(Write(table, command, has_where, columns))

    def _read_insertstmt(self, node: Any, _quiet: bool) -> None:
        names = frozenset(_unwrap(column).name for column in node.cols) or None
        conflict = node.on_conflict_clause
        if node.HasField("on_conflict_clause") and conflict.target_list and names is not None:
            names |= {_unwrap(target).name for target in conflict.target_list}
            self._statement.replaces_rows = True
        elif node.HasField("on_conflict_clause") and conflict.target_list:
            self._statement.replaces_rows = True
        self._write(node, "insert", has_where=True, columns=names)

    def _read_updatestmt(self, node: Any, _quiet: bool) -> None:
        names = frozenset(_unwrap(target).name for target in node.target_list)
        self._write(node, "update", has_where=node.HasField("where_clause"), columns=names)

    def _read_deletestmt(self, node: Any, _quiet: bool) -> None:
        self._write(node, "delete", has_where=node.HasField("where_clause"), columns=None)

    def _read_mergestmt(self, node: Any, _quiet: bool) -> None:
        self._write(node, "merge", has_where=True, columns=None)

    def _read_commontableexpr(self, node: Any, _quiet: bool) -> None:
        self._statement.with_names.add(node.ctename)

    def _read_alias(self, node: Any, _quiet: bool) -> None:
        self._statement.aliases.add(node.aliasname)
        if node.colnames:  # columns under other names: any of them may be meant
            self._statement.columns.add(("*",))

    def _read_columnref(self, node: Any, _quiet: bool) -> None:
        self._statement.columns.add(_strings(node.fields))

    def _read_a_indirection(self, node: Any, _quiet: bool) -> None:
        self._statement.columns.add(("?", *_strings(node.indirection)))

    def _read_funccall(self, node: Any, _quiet: bool) -> None:
        self._statement.functions.add(_qualified(_strings(node.funcname)))

    def _read_a_expr(self, node: Any, _quiet: bool) -> None:
        parts = _strings(node.name)
        if len(parts) > 1 and parts[0] != "pg_catalog" and node.kind == A_Expr_Kind.AEXPR_OP:
            self._statement.operators.add(_qualified(parts))

    def _read_a_const(self, node: Any, quiet: bool) -> None:
        which = node.WhichOneof("val")
        if quiet or which in (None, "boolval"):
            return
        kind = LiteralKind.NUMBER if which in ("ival", "fval") else LiteralKind.TEXT
        value = getattr(getattr(node, which), which)
        self._statement.literals.append(Literal(kind, str(value)))

    def _read_paramref(self, node: Any, _quiet: bool) -> None:
        self._statement.parameters.add(node.number)

    def _read_lockingclause(self, _node: Any, _quiet: bool) -> None:
        self._statement.locks_rows = True
