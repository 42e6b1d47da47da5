"""Labels that an operator writes on hosts, for the scheduler's expressions and `docker info`."""

import re
from collections.abc import Mapping

import sqlalchemy as sa

from nacre.cloud.context import Context
from nacre.cloud.errors import Invalid, NotFound
from nacre.cloud.hosts import fleet
from nacre.cloud.hosts.operations import Row
from nacre.cloud.hosts.tables import hosts
from nacre.cloud.scheduler.conditions import BUILT_IN
from nacre.store.schema import now

LABELS_MAX = 64
VALUE_CHARACTERS_MAX = 255
RESERVED = frozenset({"node", "ostype", *BUILT_IN})
"""What expressions know of every host already."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9\-_.]{1,254}")
"""What an expression can ask for."""


def find(conn: sa.Connection, ref: str) -> Row:
    """A host by its id or name. Raises NotFound."""
    row = conn.execute(sa.select(hosts).where(sa.or_(hosts.c.id == ref, hosts.c.hostname == ref))).mappings().first()
    if row is None:
        raise NotFound.of("Host", ref)
    return dict(row)


def change(conn: sa.Connection, ctx: Context, ref: str, changes: Mapping[str, str | None]) -> dict[str, str]:
    """Write labels on a host; None takes one off. Returns all of them. Raises NotFound, Invalid."""
    row = find(conn, ref)
    for name, value in changes.items():
        _check(name, value)
    labels = {name: value for name, value in {**row["labels"], **changes}.items() if value is not None}
    if len(labels) > LABELS_MAX:
        raise Invalid(f"A host has {LABELS_MAX} labels at most.", field="labels")
    conn.execute(hosts.update().where(hosts.c.id == row["id"]).values(labels=labels, updated_at=now()))
    fleet.changed(conn, row["id"])
    return labels


def _check(name: str, value: str | None) -> None:
    if not _NAME.fullmatch(name):
        raise Invalid(f"The label {name!r} is not two or more of letters, digits and -_., beginning with a letter.", field=name)
    if name in RESERVED:
        raise Invalid(f"The label {name} is every host's own and cannot be set.", field=name)
    if value is not None and (len(value) > VALUE_CHARACTERS_MAX or not value.isprintable()):
        raise Invalid(f"A label's value is a line of {VALUE_CHARACTERS_MAX} characters at most.", field=name)
