"""What the resources of Networking have in common: who sees and owns them, standard attributes, tags, lists."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from nacre.cloud.collection import Row, find
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Forbidden, Invalid, NotFound
from nacre.cloud.network.tables import tags
from nacre.store import Criterion, Listing, Page, Prepared, Query, among
from nacre.store.schema import new_id, now

IDS_PER_STATEMENT_MAX = 5_000
"""SQLite takes at most 32,766 variables in a statement."""


class RevisionMismatch(Conflict):
    """The thing has been changed since the caller looked (If-Match)."""


def require_revision(row: Row, wanted: int | None) -> None:
    """Raises RevisionMismatch when the caller names a revision that the thing has no more. None names none."""
    if wanted is not None and row.get("revision_number") != wanted:
        raise RevisionMismatch(
            f"Constrained to {wanted}, but current revision is {row.get('revision_number')}",
            code="RevisionNumberConstraintFailed",
        )


DNS_LABEL_MAX = 63


def dns_label(name: str) -> str:
    """A name as one DNS label; empty for one without a letter or digit."""
    text = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name.lower())
    return text.strip("-")[:DNS_LABEL_MAX].strip("-")


def in_slices(ids: Iterable[str]) -> Iterator[list[str]]:
    unique = list(dict.fromkeys(ids))
    for start in range(0, len(unique), IDS_PER_STATEMENT_MAX):
        yield unique[start : start + IDS_PER_STATEMENT_MAX]


def rows_of(conn: sa.Connection, select: sa.Select[Any], column: sa.ColumnElement[Any], ids: Iterable[str]) -> list[Row]:
    """The rows whose column is one of the ids."""
    return [dict(row) for some in in_slices(ids) for row in conn.execute(select.where(column.in_(some))).mappings()]


def chosen(select: sa.Select[Any], column: sa.ColumnElement[Any]) -> Prepared:
    """The same as a statement that runs often: for `rows_among`."""
    return Prepared(select.where(among(column)))


def rows_among(conn: sa.Connection, statement: Prepared, ids: Iterable[str]) -> list[Row]:
    wanted = list(dict.fromkeys(ids))
    return statement.rows(conn, ids=wanted) if wanted else []


def grouped(rows: Iterable[Row], key: str) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row[key], []).append(row)
    return found


def project_of(ctx: Context, values: Row) -> str:
    """Takes the project out of what was sent: the caller's own, or any for an admin. Raises Invalid, Forbidden."""
    asked = values.pop("project_id", None)
    if asked and asked != ctx.project_id and not ctx.is_admin:
        raise Forbidden("Only an admin may make things for another project.", field="project_id", code="PolicyNotAuthorized")
    project_id = asked or ctx.project_id
    if not project_id:
        raise Invalid("The token has no project: send project_id, or use a token of a project.", field="project_id")
    return str(project_id)


def stamped(project_id: str, values: Row) -> Row:
    """A new row's standard attributes, and the values."""
    moment = now()
    return {"id": new_id(), "project_id": project_id, "created_at": moment, "updated_at": moment, "revision_number": 1} | values


def touch(conn: sa.Connection, table: sa.Table, ident: str, changes: Mapping[str, Any]) -> None:
    """Write changes, and count them in the revision number."""
    conn.execute(
        table.update().where(table.c.id == ident).values(**changes, revision_number=table.c.revision_number + 1, updated_at=now())
    )


def _tagged(table: sa.Table, names: Sequence[str]) -> sa.Select[Any]:
    return sa.select(tags.c.resource_id).where(tags.c.tag.in_(names))


def _tag_criteria(table: sa.Table) -> dict[str, Callable[[Criterion], sa.ColumnElement[bool]]]:
    """tags (all), tags-any, not-tags (not all), not-tags-any (none): each a comma-separated list, split by the dialect."""

    def every(criterion: Criterion) -> sa.ColumnElement[bool]:
        return sa.and_(sa.true(), *(table.c.id.in_(_tagged(table, [name])) for name in criterion.value))

    def some(criterion: Criterion) -> sa.ColumnElement[bool]:
        return table.c.id.in_(_tagged(table, criterion.value))

    return {
        "tags": every,
        "tags-any": some,
        "not-tags": lambda criterion: sa.not_(every(criterion)),
        "not-tags-any": lambda criterion: sa.not_(some(criterion)),
    }


def _complete_nothing(conn: sa.Connection, rows: list[Row]) -> None:
    return None


@dataclass(frozen=True)
class Readable:
    """How one resource is read: `visible` says which rows exist for a caller, `complete` adds what lies in other tables to rows in place."""

    kind: str
    table: sa.Table
    visible: Callable[[Context], sa.ColumnElement[bool] | None]
    complete: Callable[[sa.Connection, list[Row]], None] = _complete_nothing
    extra: Mapping[str, sa.ColumnElement[Any]] = field(default_factory=dict)
    """Derived columns, also filtered and sorted by."""
    custom: Mapping[str, Callable[[Criterion], sa.ColumnElement[bool]]] = field(default_factory=dict)
    listing: Listing = field(init=False)

    def __post_init__(self) -> None:
        derived = [column.label(name) for name, column in self.extra.items()]
        listing = Listing(
            sa.select(self.table, *derived),
            {**dict(self.table.c.items()), **self.extra},
            key=self.table.c.id,
            custom={**_tag_criteria(self.table), **self.custom},
        )
        object.__setattr__(self, "listing", listing)

    def get(self, conn: sa.Connection, ctx: Context, ident: str) -> Row:
        """Raises NotFound, also for what the caller may not see."""
        rows = self.some(conn, self.table.c.id == ident, *self._where(ctx))
        if not rows:
            raise self.missing(ident)
        return rows[0]

    def plain(self, conn: sa.Connection, ctx: Context, ident: str, *, owned: bool = False) -> Row:
        """The table's row alone. With `owned`, Forbidden for what is seen but another project's."""
        row = conn.execute(sa.select(self.table).where(self.table.c.id == ident, *self._where(ctx))).mappings().first()
        if row is None:
            raise self.missing(ident)
        if owned and not ctx.is_admin and row["project_id"] != ctx.project_id:
            raise Forbidden(f"{self.kind} {ident} is another project's.", code="PolicyNotAuthorized")
        return dict(row)

    def some(self, conn: sa.Connection, *where: sa.ColumnElement[bool]) -> list[Row]:
        """Complete rows."""
        rows = [dict(row) for row in conn.execute(self.listing.select.where(*where)).mappings()]
        self._complete(conn, rows)
        return rows

    def find(self, conn: sa.Connection, ctx: Context, query: Query) -> Page:
        page = find(conn, self.listing, query, *self._where(ctx))
        self._complete(conn, page.rows)
        return page

    def missing(self, ident: object) -> NotFound:
        return NotFound.of(self.kind, ident, code=self.kind.title().replace(" ", "") + "NotFound")

    def _complete(self, conn: sa.Connection, rows: list[Row]) -> None:
        if not rows:
            return
        self.complete(conn, rows)
        by_id = grouped(rows_of(conn, sa.select(tags), tags.c.resource_id, (row["id"] for row in rows)), "resource_id")
        for row in rows:
            row["tags"] = sorted(tag["tag"] for tag in by_id.get(row["id"], ()))

    def _where(self, ctx: Context) -> tuple[sa.ColumnElement[bool], ...]:
        condition = self.visible(ctx)
        return () if condition is None else (condition,)


def own_rows(table: sa.Table) -> Callable[[Context], sa.ColumnElement[bool] | None]:
    """A project's own things; all for an admin."""

    def visible(ctx: Context) -> sa.ColumnElement[bool] | None:
        return None if ctx.is_admin else table.c.project_id == (ctx.project_id or "")

    return visible


_FORGET_TAGS = Prepared(tags.delete().where(tags.c.resource_id == sa.bindparam("ident")))


def forget_tags(conn: sa.Connection, ident: str) -> None:
    _FORGET_TAGS.run(conn, ident=ident)
