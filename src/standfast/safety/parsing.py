"""What a statement says, by PostgreSQL's own grammar. The only module that calls the parser.

Everything fails closed: what can't be parsed, holds more than one statement, or contains a construct that is not on the
list of known ones is refused, whatever it means.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import postgast
from google.protobuf.message import DecodeError
from postgast.pg_query_pb2 import (
    A_Expr_Kind,
    AlterTableType,
    BoolExprType,
    CmdType,
    ConstrType,
    MergeMatchKind,
    ObjectType,
    OverridingKind,
    SQLValueFunctionOp,
    SubLinkType,
    Token,
)

from standfast.safety.tree import children, nodes, strings, unwrap

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
_COMMENTS = frozenset({Token.SQL_COMMENT, Token.C_COMMENT})
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
    columns: frozenset[str] | None
    """Columns that it sets; None for all of them."""
    has_where: bool = True
    means_all: bool = False
    """Its condition holds for every row, whatever is in it."""
    rebuilt: frozenset[str] = frozenset()
    """Columns whose new value is made from the present one."""
    pinned: frozenset[str] = frozenset()
    """Columns that it holds to one given value: by `=` in its AND-ed condition, or as what each new row gets."""
    by_order: bool = False
    """An INSERT that names no columns: its values go by their order in the table."""
    overriding: bool = False
    """An INSERT that gives values to columns which the server fills itself."""


@dataclass
class Statement:
    """What one statement says."""

    kind: str
    bare: str = ""
    """The text with spaces in place of its comments."""
    comments: tuple[str, ...] = ()
    tree: Any = None
    """As parsed, for `standfast.safety.sources`."""
    reads: set[Name] = field(default_factory=set)
    """Relations named anywhere but as a write's target; names of WITH queries included."""
    with_names: set[str] = field(default_factory=set)
    writes: list[Write] = field(default_factory=list)
    columns: set[tuple[str, ...]] = field(default_factory=set)
    """Column references as written; `*` stands for all columns."""
    returned: set[tuple[str, ...]] = field(default_factory=set)
    """The same, in RETURNING of a write."""
    functions: set[Name] = field(default_factory=set)
    types: set[Name] = field(default_factory=set)
    """Types that are named, but those of the grammar itself, such as `integer`."""
    operators: set[Name] = field(default_factory=set)
    literals: list[Literal] = field(default_factory=list)
    parameters: set[int] = field(default_factory=set)
    named: set[tuple[str, Name]] = field(default_factory=set)
    """By which names the statement refers to relations: their aliases, or their own names."""
    aliases: set[str] = field(default_factory=set)
    """Names given to anything but one relation: joins, queries, functions."""
    locks_rows: bool = False
    clocked: bool = False
    """The clock is read anywhere but in a value that is written."""

    @property
    def fields(self) -> frozenset[Name]:
        """What stands after a dot, where PostgreSQL takes `x.name` for `name(x)` if x has no such column."""
        references = self.columns | self.returned
        names = {name for parts in references for name in (parts[1:] if parts[0] == "?" else parts[1:][-1:])}
        return frozenset(Name(None, name) for name in names - {"*", "?"})


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
    root = unwrap(tree.stmts[0].stmt)
    bare, comments = _without_comments(text)
    statement = Statement(_kind(root), bare, comments, root)
    if type(root).__name__ in _KNOWN_NODES:  # any other kind of statement is judged by its kind alone
        _Reader(statement).read(root, _Place())
    return statement


def _without_comments(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the text with spaces in place of its comments, and the comments."""
    code, comments = bytearray(text.encode()), []
    for token in postgast.scan(text).tokens:
        if token.token in _COMMENTS:
            comments.append(code[token.start : token.end].decode())
            code[token.start : token.end] = b" " * (token.end - token.start)
    return code.decode(), tuple(comments)


def names_time(value: Any) -> bool:
    """Tell whether PostgreSQL would read the text as a time that depends on the clock, such as `yesterday 10:00`."""
    return isinstance(value, str) and _CLOCK_WORD.fullmatch(value) is not None


def _check_text(text: str, max_bytes: int) -> None:
    if control := _CONTROL.search(text):
        raise StatementRefused("statement.characters", f"contains the control character U+{ord(control[0]):04X}")
    size = len(text.encode())
    if size > max_bytes:
        raise StatementRefused("statement.size", f"has {size} bytes, at most {max_bytes} are allowed")


def _kind(root: Any) -> str:
    name = type(root).__name__
    if name == "SelectStmt" and root.HasField("into_clause"):
        return "create_table_as"
    if name in _DML:
        return _DML[name]
    if name == "ExplainStmt":
        options = {unwrap(option).defname for option in root.options}
        return "explain_analyze" if "analyze" in options else "explain"
    if name == "IndexStmt":
        return "create_index_concurrently" if root.concurrent else "create_index"
    if name == "AlterEnumStmt":
        return "add_enum_value" if not root.old_val else "rename_enum_value"
    if name == "AlterTableStmt":
        plain = root.objtype == ObjectType.OBJECT_TABLE and all(map(_adds_plain_column, map(unwrap, root.cmds)))
        return "add_column" if plain else "alter_table"
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name.removesuffix("Stmt")).lstrip("_")


def _adds_plain_column(command: Any) -> bool:
    """Tell whether a command adds a column that costs neither a rewrite nor a check of the table's rows."""
    if command.subtype != AlterTableType.AT_AddColumn:
        return False
    column = unwrap(getattr(command, "def"))
    if "serial" in strings(column.type_name.names)[-1]:
        return False
    constraints = {unwrap(constraint).contype for constraint in column.constraints}
    filled = ConstrType.CONSTR_DEFAULT in constraints
    return constraints <= {ConstrType.CONSTR_DEFAULT, ConstrType.CONSTR_NULL} | (
        {ConstrType.CONSTR_NOTNULL} if filled else set()
    )


def _qualified(parts: tuple[str, ...]) -> Name:
    """Return a name of one or two parts; a longer one names another database, whatever its first part says."""
    if len(parts) > 2:  # noqa: PLR2004
        raise StatementRefused("object.database", f"names the database in {'.'.join(parts)}; leave it out")
    return Name(parts[0] if len(parts) > 1 else None, parts[-1])


_WRITERS = frozenset({"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "IndexStmt", "AlterTableStmt"})
_QUIET = frozenset({"limit_count", "limit_offset", "typmods", "array_bounds"})
_OPERATORS = frozenset({"oper_name", "use_op"})
_PINS = frozenset({("=",), ("pg_catalog", "=")})
_LIKE = frozenset({"~~", "~~*"})
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
_CLOCKS = frozenset({"age", "clock_timestamp", "now", "statement_timestamp", "timeofday", "transaction_timestamp"})
_CLOCK_WORD = re.compile(r"[\W\d]*(?:now|today|tomorrow|yesterday)\b[\W\d]*[a-z/_]*", re.IGNORECASE)
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
        table = self._table(node.relation)
        names = frozenset(unwrap(column).name for column in node.cols) or None
        insert = Write(
            table,
            "insert",
            names,
            pinned=_given(tuple(unwrap(column).name for column in node.cols), _new_rows(unwrap(node.select_stmt))),
            by_order=not node.cols and node.HasField("select_stmt"),
            overriding=node.override == OverridingKind.OVERRIDING_SYSTEM_VALUE,
        )
        writes = [insert]
        conflict = node.on_conflict_clause
        if conflict.target_list:
            columns, rebuilt = _set_columns(conflict.target_list, node.relation)
            pinned = _pinned(conflict.where_clause, node.relation)
            writes.append(Write(table, "update", columns, rebuilt=rebuilt, pinned=pinned))
        self._write(node, *writes)

    def _read_updatestmt(self, node: Any, _place: _Place) -> None:
        table = self._table(node.relation)
        columns, rebuilt = _set_columns(node.target_list, node.relation)
        where = unwrap(node.where_clause) if node.HasField("where_clause") else None
        means_all = where is not None and _always(where)
        pinned = _pinned(node.where_clause, node.relation)
        self._write(node, Write(table, "update", columns, where is not None, means_all, rebuilt, pinned))

    def _read_deletestmt(self, node: Any, _place: _Place) -> None:
        where = unwrap(node.where_clause) if node.HasField("where_clause") else None
        means_all = where is not None and _always(where)
        pinned = _pinned(node.where_clause, node.relation)
        table = self._table(node.relation)
        self._write(node, Write(table, "delete", None, where is not None, means_all, pinned=pinned))

    def _read_mergestmt(self, node: Any, _place: _Place) -> None:
        table = self._table(node.relation)
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
        self._write(node, *writes)

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
        self._statement.clocked |= name.name in _CLOCKS and not place.sets

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
