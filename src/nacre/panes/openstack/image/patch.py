"""JSON patches of images, in the two media types that Image has for them.

v2.1: [{"op": "replace", "path": "/name", "value": "x"}] (RFC 6902, without test, move and copy)    v2.0: [{"replace": "/name", "value": "x"}]
"""

import re
from collections.abc import Callable
from typing import Any, cast

from nacre.cloud.errors import Invalid, Unsupported
from nacre.cloud.image import rules
from nacre.cloud.image.rules import Change
from nacre.panes.edge.call import decode
from nacre.panes.openstack.image import schemas

OPERATIONS = ("add", "replace", "remove")
OPERATIONS_MAX = 1000
_POINTER = re.compile(r"/((?:[^/~]|~0|~1)+)")


Operation = tuple[Any, Any, dict[str, Any]]
"""(op, path, the whole operation), not yet looked at."""


def split(content_type: str, body: bytes) -> list[Operation]:
    """Raises Unsupported, Invalid."""
    apart = MEDIA_TYPES.get(content_type)
    if apart is None:
        raise Unsupported(f"PATCH takes {' or '.join(MEDIA_TYPES)}, not {content_type}.")
    sent = decode(body, list[dict[str, Any]])
    if len(sent) > OPERATIONS_MAX:
        raise Invalid(f"A patch has at most {OPERATIONS_MAX} operations.", field="body")
    return [(*apart(operation), operation) for operation in sent]


def changes(operations: list[Operation]) -> list[Change]:
    """Raises Invalid, Forbidden."""
    return [_change(op, path, operation) for op, path, operation in operations]


def _split_v21(operation: dict[str, Any]) -> tuple[Any, Any]:
    if "op" not in operation or "path" not in operation:
        raise Invalid("Unable to find 'op' and 'path' in JSON Schema change", field="op")
    return operation["op"], operation["path"]


def _split_v20(operation: dict[str, Any]) -> tuple[Any, Any]:
    named = [name for name in OPERATIONS if name in operation]
    if len(named) != 1:
        raise Invalid(f"Operation objects must contain exactly one member named {', '.join(OPERATIONS)}.", field="op")
    return named[0], operation[named[0]]


def _change(op: Any, path: Any, operation: dict[str, Any]) -> Change:
    if op not in OPERATIONS:
        raise Invalid(f"Operations must be one of {', '.join(OPERATIONS)}, not {op!r}.", field="op")
    name = _name(path)
    if op == "remove":
        return Change("remove", name)
    if "value" not in operation:
        raise Invalid(f"Operation '{op}' requires a member named 'value'.", field="value")
    sent = operation["value"]
    rules.check_names([name])
    return Change(cast(Any, op), name, schemas.value(name, sent))


def _name(path: Any) -> str:
    """A JSON pointer (RFC 6901) to one top-level name."""
    if isinstance(path, str) and path.startswith("/locations"):
        rules.check_names(["locations"])
    match = _POINTER.fullmatch(path) if isinstance(path, str) else None
    if match is None:
        raise Invalid(
            f"Invalid JSON pointer for this resource: {path!r}; it must name one attribute, e.g. '/name'.", field="path"
        )
    return match[1].replace("~1", "/").replace("~0", "~")


MEDIA_TYPES: dict[str, Callable[[dict[str, Any]], tuple[Any, Any]]] = {
    "application/openstack-images-v2.1-json-patch": _split_v21,
    "application/openstack-images-v2.0-json-patch": _split_v20,
}
