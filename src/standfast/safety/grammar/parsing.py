"""From text to what it says. The only module that calls the parser.

Everything fails closed: what can't be parsed, holds more than one statement, or contains a construct that is not on the
list of known ones is refused, whatever it means.
"""

import re
from typing import Any

import postgast
from google.protobuf.message import DecodeError
from postgast.pg_query_pb2 import AlterTableType, ConstrType, ObjectType, Token

from standfast.safety.grammar.reader import read_tree
from standfast.safety.grammar.statement import Statement, StatementRefused
from standfast.safety.grammar.tree import strings, unwrap

MAX_STATEMENT_BYTES = 64 * 1024  # the parser's time grows with the square of nested comments

_DML = {
    "SelectStmt": "select",
    "InsertStmt": "insert",
    "UpdateStmt": "update",
    "DeleteStmt": "delete",
    "MergeStmt": "merge",
}
_COMMENTS = frozenset({Token.SQL_COMMENT, Token.C_COMMENT})
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


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
    read_tree(root, statement)
    return statement


def _without_comments(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the text with spaces in place of its comments, and the comments."""
    code, comments = bytearray(text.encode()), []
    for token in postgast.scan(text).tokens:
        if token.token in _COMMENTS:
            comments.append(code[token.start : token.end].decode())
            code[token.start : token.end] = b" " * (token.end - token.start)
    return code.decode(), tuple(comments)


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
