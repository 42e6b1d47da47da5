"""Several verbs as one (https://developer.hashicorp.com/consul/api-docs/txn): all of them happen under one index, or none."""

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.discovery import catalog
from nacre.cloud.discovery.indexes import Change, changing
from nacre.cloud.discovery.kv import READS, WRITES, KeyOp, Refused, project_of
from nacre.cloud.discovery.tables import checks, nodes, services
from nacre.cloud.errors import CloudError, Conflict, Invalid

OPERATIONS_MAX = 128


class RolledBack(Conflict):
    """`details["errors"]` is a list of (number of the operation, what is wrong)."""


class CatalogOp(Struct, frozen=True):
    """A verb on a node, service or check: `key` names it (name, or node and id), `values` are the row's columns."""

    kind: str
    verb: str
    key: Row
    values: Row
    index: int = 0


class Result(Struct, frozen=True):
    """What an operation shows: kind, row, and whether the row's value belongs to it."""

    kind: str
    row: Row
    with_value: bool = False


TABLES: dict[str, sa.Table] = {"Node": nodes, "Service": services, "Check": checks}
PUT: dict[str, Callable[[Change, Row, Row], Row]] = {
    "Node": lambda change, key, values: catalog.put_node(change, key["name"], values),
    "Service": lambda change, key, values: catalog.put_service(change, key["node"], key["id"], values),
    "Check": lambda change, key, values: catalog.put_check(change, key["node"], key["id"], values),
}
DROP: dict[str, Callable[[Change, Row], Any]] = {
    "Node": lambda change, key: catalog.drop_node(change, key["name"]),
    "Service": lambda change, key: catalog.drop_service(change, key["node"], key["id"]),
    "Check": lambda change, key: catalog.drop_check(change, key["node"], key["id"]),
}


def run(conn: sa.Connection, ctx: Context, operations: Sequence[KeyOp | CatalogOp]) -> list[Result]:
    """The results, in order; deletes have none. Raises RolledBack."""
    results: list[Result] = []
    errors: list[tuple[int, str]] = []
    with changing(conn, project_of(ctx)) as change:
        for number, op in enumerate(operations):
            try:
                results += _key(change, op) if isinstance(op, KeyOp) else _catalog(change, op)
            except CloudError as error:
                errors.append((number, error.message))
        if errors:
            raise RolledBack("the transaction was rolled back", errors=errors)
    return results


def _key(change: Change, op: KeyOp) -> list[Result]:
    if op.verb in READS:
        shows = op.verb.startswith("get")
        return [Result("KV", row, with_value=shows) for row in READS[op.verb](change, op)]
    if op.verb not in WRITES:
        raise Invalid(f'unknown KV verb "{op.verb}"')
    row = WRITES[op.verb](change, op)
    return [Result("KV", row)] if row is not None else []


def _catalog(change: Change, op: CatalogOp) -> list[Result]:
    row = _existing(change, op)
    what = f"{op.kind.lower()} {'/'.join(op.key.values())!r}"
    if op.verb in ("cas", "delete-cas") and (row["modify_index"] if row else 0) != op.index:
        raise Refused(f"failed to {'set' if op.verb == 'cas' else 'delete'} {what}, index is stale")
    match op.verb:
        case "get":
            if row is None:
                raise Refused(f"{what} doesn't exist")
            return [Result(op.kind, row)]
        case "set" | "cas":
            _require_node(change, op)
            return [Result(op.kind, PUT[op.kind](change, op.key, op.values))]
        case "delete" | "delete-cas":
            DROP[op.kind](change, op.key)
            return []
    raise Invalid(f'unknown {op.kind} verb "{op.verb}"')


def _require_node(change: Change, op: CatalogOp) -> None:
    if op.kind != "Node":
        where = (nodes.c.project_id == change.project_id, nodes.c.name == op.key["node"])
        if change.conn.execute(sa.select(nodes.c.name).where(*where)).first() is None:
            raise Invalid("Missing node registration")


def _existing(change: Change, op: CatalogOp) -> Row | None:
    table = TABLES[op.kind]
    where = [table.c.project_id == change.project_id, *(table.c[name] == value for name, value in op.key.items())]
    row = change.conn.execute(sa.select(table).where(*where)).mappings().first()
    return None if row is None else dict(row)
