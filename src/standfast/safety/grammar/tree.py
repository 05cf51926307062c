"""PostgreSQL's parse tree as its parser gives it: protobuf messages in messages."""

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message


def unwrap(node: Any) -> Any:
    """Return what stands in a `Node`, which is only a place for any kind of message."""
    if type(node).__name__ == "Node":
        which = node.WhichOneof("node")
        if which is not None:
            return getattr(node, which)
    return node


def children(node: Message) -> Iterator[tuple[str, Message]]:
    """Yield everything directly below a node, with the role that it has there."""
    for descriptor, value in node.ListFields():
        if descriptor.type != FieldDescriptor.TYPE_MESSAGE:
            continue
        for item in [value] if isinstance(value, Message) else value:
            child = unwrap(item)
            if type(child).__name__ != "Node":  # an empty place in a list
                yield descriptor.name, child


def nodes(node: Any, wanted: str) -> Iterator[Any]:
    """Yield the nodes of one type at and below a node."""
    if type(node).__name__ == wanted:
        yield node
    for _, child in children(node):
        yield from nodes(child, wanted)


def strings(parts: Any) -> tuple[str, ...]:
    """Return the parts of a name as written; `?` stands for what is no name, such as a subscript."""
    return tuple("*" if type(n).__name__ == "A_Star" else getattr(n, "sval", "?") for n in map(unwrap, parts))
