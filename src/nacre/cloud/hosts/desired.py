"""Marks: how a change of intent finds its way to the nodes.

An operation that changes what host H must bring about calls `mark(conn, H, kind, id)` in the same transaction. After the commit the
process that holds H's stream tells the node, the node fetches since its last revision, and `since` compiles the specs of what was marked.
A mark carries no content: marking too much costs a fetch, never correctness.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from nacre.cloud.hosts.tables import host_desired, hosts
from nacre.protocol.messages import KINDS, Desired, Gone, Item, Kind, Spec
from nacre.store import Prepared, among, announce, insert

Compiler = Callable[[sa.Connection, str, Sequence[str]], Mapping[str, Any]]
"""(conn, host id, ids) -> the specs (structs of the protocol) of those ids that must be on the host; an id that is left out must go."""


def topic(host_id: str) -> str:
    """The store's topic on which a host's new revision is announced."""
    return f"host:{host_id}"


_RAISE = Prepared(
    hosts.update().where(hosts.c.id == sa.bindparam("host")).values(revision=hosts.c.revision + 1).returning(hosts.c.revision)
)
_INSERT_NOTE = insert(host_desired)
_NOTE = Prepared(
    _INSERT_NOTE.on_conflict_do_update(
        index_elements=["host_id", "kind", "object_id"], set_={"revision": _INSERT_NOTE.excluded.revision}
    )
)

_MARKED = Prepared(
    sa.select(host_desired.c.kind, host_desired.c.object_id, host_desired.c.revision)
    .where(host_desired.c.host_id == sa.bindparam("host"), host_desired.c.revision > sa.bindparam("after"))
    .order_by(host_desired.c.revision)
)
_REVISION = Prepared(sa.select(hosts.c.revision).where(hosts.c.id == sa.bindparam("host")))
_FORGET = Prepared(
    host_desired.delete().where(
        host_desired.c.host_id == sa.bindparam("host"),
        host_desired.c.kind == sa.bindparam("of_kind"),
        among(host_desired.c.object_id),
    )
)


def mark(conn: sa.Connection, host_id: str, kind: Kind, *object_ids: str) -> None:
    """These things of the host have changed (come, changed or gone)."""
    mark_all(conn, host_id, [(kind, ident) for ident in object_ids])


def mark_all(conn: sa.Connection, host_id: str, things: Sequence[tuple[Kind, str]]) -> None:
    """The same for things of several kinds, under one revision."""
    if not things:
        return
    revision = _RAISE.scalar(conn, host=host_id)
    if revision is None:
        return
    _NOTE.run_all(
        conn,
        [{"host_id": host_id, "kind": kind, "object_id": ident, "revision": revision} for kind, ident in dict.fromkeys(things)],
    )
    announce(conn, topic(host_id), revision)


def since(conn: sa.Connection, compilers: Mapping[Kind, Compiler], host_id: str, revision: int) -> Desired:
    """What changed since that revision; everything for 0, and for one that has not been yet: the store has lost what the node has seen, or
    is an older one. Items come in the order in which they are to be made."""
    now = _REVISION.scalar(conn, host=host_id) or 0
    if revision > now:
        revision = 0
    marks: dict[Kind, dict[str, int]] = {kind: {} for kind in KINDS}
    for row in _MARKED.rows(conn, host=host_id, after=revision):
        marks[row["kind"]][row["object_id"]] = row["revision"]
    items: list[Item] = []
    gone: list[Gone] = []
    for kind in KINDS:
        specs = compilers[kind](conn, host_id, tuple(marks[kind])) if marks[kind] else {}
        for object_id, marked in marks[kind].items():
            spec = specs.get(object_id)
            if spec is None:
                gone.append(Gone(kind, object_id, marked))
            else:
                items.append(_item(kind, object_id, marked, spec))
    return Desired(now, revision == 0, tuple(items), tuple(gone))


def _item(kind: Kind, object_id: str, revision: int, spec: Spec) -> Item:
    return Item(kind, object_id, revision, **{kind: spec})  # type: ignore[arg-type]


def settle(
    conn: sa.Connection, compilers: Mapping[Kind, Compiler], host_id: str, kind: Kind, object_ids: Sequence[str]
) -> list[str]:
    """The node says that nothing is left of these: forget them, unless they are wanted again meanwhile. Returns those forgotten."""
    wanted = compilers[kind](conn, host_id, object_ids)
    forgotten = [ident for ident in object_ids if ident not in wanted]
    if forgotten:
        _FORGET.run(conn, host=host_id, of_kind=kind, ids=forgotten)
    return forgotten
