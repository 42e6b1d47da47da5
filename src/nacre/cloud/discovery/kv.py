"""Keys, and the locks that sessions hold on them (https://developer.hashicorp.com/consul/api-docs/kv).

A write is a verb of a transaction. What a verb says no to raises `Refused`: the transaction is rolled back, a plain PUT answers false.
"""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.discovery.indexes import Change, Found, Span, below, changing, of_keys, one_key
from nacre.cloud.discovery.tables import keys, lock_delays, sessions
from nacre.cloud.errors import CloudError, Invalid
from nacre.store import Prepared

FLAGS_MAX = 2**64 - 1
KEYS_MAX = 20_000
"""Of one project: with their values, of 512 KiB at the most, they are all in the store."""


class Refused(CloudError):
    """The verb's condition does not hold. The message is Consul's."""


class KeyOp(Struct, frozen=True):
    verb: str
    key: str
    value: bytes = b""
    flags: int = 0
    index: int = 0
    session: str = ""


_ONE = Prepared(sa.select(keys).where(keys.c.project_id == sa.bindparam("project"), keys.c.key == sa.bindparam("ident")))
_HELD = Prepared(sa.select(sa.func.count()).select_from(keys).where(keys.c.project_id == sa.bindparam("project")))
_INSERT = Prepared(keys.insert())
_UPDATE = Prepared(
    keys.update()
    .where(keys.c.project_id == sa.bindparam("project"), keys.c.key == sa.bindparam("ident"))
    .values(
        value=sa.bindparam("new_value"),
        flags=sa.bindparam("new_flags"),
        session=sa.bindparam("new_session"),
        lock_index=sa.bindparam("new_lock_index"),
        modify_index=sa.bindparam("new_index"),
    )
)


def project_of(ctx: Context) -> str:
    """Raises Invalid for a caller without a project."""
    if ctx.project_id is None:
        raise Invalid("Discovery needs a project: use a project-scoped token.")
    return ctx.project_id


def get(conn: sa.Connection, ctx: Context, key: str) -> Found:
    """The key's row in a list, empty where there is none."""
    row = _ONE.first(conn, project=project_of(ctx), ident=key)
    if row is not None:
        return Found(row["modify_index"], [row])
    return Found(of_keys(conn, project_of(ctx), one_key(key)), [])


def tree(conn: sa.Connection, ctx: Context, prefix: str) -> Found:
    """All rows whose keys begin with the prefix, in order."""
    span = below(prefix)
    return Found(of_keys(conn, project_of(ctx), span), _rows(conn, project_of(ctx), span))


def _rows(conn: sa.Connection, project_id: str, span: Span) -> list[Row]:
    statement = sa.select(keys).where(keys.c.project_id == project_id, span.holds(keys.c.key)).order_by(keys.c.key)
    return [dict(row) for row in conn.execute(statement).mappings()]


def names(conn: sa.Connection, ctx: Context, prefix: str, separator: str) -> Found:
    """The keys that begin with the prefix, each up to the first separator behind it."""
    span = below(prefix)
    statement = sa.select(keys.c.key).where(keys.c.project_id == project_of(ctx), span.holds(keys.c.key)).order_by(keys.c.key)
    found = list(conn.execute(statement).scalars())
    if separator:
        found = list(dict.fromkeys(_cut(key, len(prefix), separator) for key in found))
    return Found(of_keys(conn, project_of(ctx), span), found)


def _cut(key: str, start: int, separator: str) -> str:
    place = key.find(separator, start)
    return key if place < 0 else key[: place + len(separator)]


def write(conn: sa.Connection, ctx: Context, op: KeyOp) -> None:
    """One verb by itself. Raises Refused, and Invalid for a session that is not there."""
    with changing(conn, project_of(ctx)) as change:
        WRITES[op.verb](change, op)


def _existing(change: Change, key: str) -> Row | None:
    return _ONE.first(change.conn, project=change.project_id, ident=key)


def _put(change: Change, row: Row | None, op: KeyOp, session: str | None, lock_index: int) -> Row:
    """Write the row, unless nothing of it changes: then nobody is woken."""
    new = {"value": op.value, "flags": str(op.flags), "session": session, "lock_index": lock_index}
    if row is not None and all(row[name] == value for name, value in new.items()):
        return row
    if row is None:
        _check_room(change)
    change.set_key(op.key)
    if row is None:
        made = {"project_id": change.project_id, "key": op.key, **new}
        made |= {"create_index": change.index, "modify_index": change.index}
        _INSERT.run(change.conn, **made)
        return made
    values = {f"new_{name}": value for name, value in new.items()}
    _UPDATE.run(change.conn, project=change.project_id, ident=op.key, new_index=change.index, **values)
    return {**row, **new, "modify_index": change.index}


def _check_room(change: Change) -> None:
    if _HELD.scalar(change.conn, project=change.project_id) >= KEYS_MAX:
        raise Invalid(f"the project has {KEYS_MAX} keys already")


def _set(change: Change, op: KeyOp) -> Row:
    row = _existing(change, op.key)
    return _put(change, row, op, row["session"] if row else None, row["lock_index"] if row else 0)


def _cas(change: Change, op: KeyOp) -> Row:
    row = _existing(change, op.key)
    if op.index != (row["modify_index"] if row else 0):
        raise Refused(f'failed to set key "{op.key}", index is stale')
    return _set(change, op)


def _lock(change: Change, op: KeyOp) -> Row:
    if not op.session:
        raise Invalid("missing session")
    held = sa.select(sessions.c.id).where(sessions.c.id == op.session, sessions.c.project_id == change.project_id)
    if change.conn.execute(held).first() is None:
        raise Invalid(f'invalid session "{op.session}"')
    delayed = sa.select(lock_delays.c.key).where(lock_delays.c.project_id == change.project_id, lock_delays.c.key == op.key)
    if change.conn.execute(delayed).first() is not None:
        raise Refused(f'failed to lock key "{op.key}", due to lock-delay')
    row = _existing(change, op.key)
    if row and row["session"] == op.session:
        return _put(change, row, op, op.session, row["lock_index"])
    if row and row["session"]:
        raise Refused(f'failed to lock key "{op.key}", lock is already held')
    return _put(change, row, op, op.session, (row["lock_index"] if row else 0) + 1)


def _unlock(change: Change, op: KeyOp) -> Row:
    if not op.session:
        raise Invalid("missing session")
    row = _existing(change, op.key)
    if row is None or row["session"] != op.session:
        raise Refused(f'failed to unlock key "{op.key}", lock isn\'t held, or is held by another session')
    return _put(change, row, op, None, row["lock_index"])


def _delete(change: Change, op: KeyOp) -> None:
    delete_span(change, one_key(op.key))


def _delete_tree(change: Change, op: KeyOp) -> None:
    delete_span(change, below(op.key))


def _delete_cas(change: Change, op: KeyOp) -> None:
    row = _existing(change, op.key)
    if row is not None and row["modify_index"] != op.index:
        raise Refused(f'failed to delete key "{op.key}", index is stale')
    delete_span(change, one_key(op.key))


def delete_span(change: Change, span: Span) -> None:
    """The keys of the span go, whoever holds them."""
    where = (keys.c.project_id == change.project_id, span.holds(keys.c.key))
    if change.conn.execute(sa.select(keys.c.key).where(*where).limit(1)).first() is None:
        return
    change.delete_keys(span)
    change.conn.execute(keys.delete().where(*where))


def release(change: Change, row: Row) -> None:
    """The lock's holder is lost: the key stays, and nobody holds it."""
    op = KeyOp("unlock", row["key"], row["value"], int(row["flags"]))
    _put(change, row, op, None, row["lock_index"])


WRITES: dict[str, Callable[[Change, KeyOp], Any]] = {
    "set": _set,
    "cas": _cas,
    "lock": _lock,
    "unlock": _unlock,
    "delete": _delete,
    "delete-tree": _delete_tree,
    "delete-cas": _delete_cas,
}
"""verb -> what it does; the row that it leaves, or None."""


def _read_one(change: Change, op: KeyOp) -> list[Row]:
    row = _existing(change, op.key)
    if row is None:
        raise Refused(f'key "{op.key}" doesn\'t exist')
    return [row]


def _read_maybe(change: Change, op: KeyOp) -> list[Row]:
    row = _existing(change, op.key)
    empty = {"key": op.key, "value": b"", "flags": "0", "session": None, "lock_index": 0, "create_index": 0, "modify_index": 0}
    return [row or empty]


def _read_tree(change: Change, op: KeyOp) -> list[Row]:
    return _rows(change.conn, change.project_id, below(op.key))


def _check_index(change: Change, op: KeyOp) -> list[Row]:
    (row,) = _read_one(change, op)
    if row["modify_index"] != op.index:
        raise Refused(f'current modify index for key "{op.key}" is {row["modify_index"]}, not {op.index}')
    return [row]


def _check_session(change: Change, op: KeyOp) -> list[Row]:
    (row,) = _read_one(change, op)
    if row["session"] != (op.session or None):
        raise Refused(f'key "{op.key}" is not locked by session "{op.session}"')
    return [row]


def _check_not_exists(change: Change, op: KeyOp) -> list[Row]:
    if _existing(change, op.key) is not None:
        raise Refused(f'key "{op.key}" exists')
    return []


READS: dict[str, Callable[[Change, KeyOp], list[Row]]] = {
    "get": _read_one,
    "get-or-empty": _read_maybe,
    "get-tree": _read_tree,
    "check-index": _check_index,
    "check-session": _check_session,
    "check-not-exists": _check_not_exists,
}
"""Verbs that only look, inside a transaction. Only the first three show values."""
