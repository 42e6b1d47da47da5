"""A regular collection: CRUD over one table, with hooks for what is special. Irregular domains write the same five functions by hand.

    create(conn, ctx, values) -> row      get(conn, ctx, id) -> row      find(conn, ctx, query) -> Page
    update(conn, ctx, id, values) -> row  delete(conn, ctx, id) -> None

A row is a dict keyed by column names.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import sqlalchemy as sa

from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Invalid, NotFound
from nacre.store.listing import Listing, Page, Query, UnknownMarker, UnknownName
from nacre.store.schema import new_id, now

Row = dict[str, Any]


class Operations(Protocol):
    """What the resource layer calls. A module with these five functions fits, and so does a Collection."""

    def create(self, conn: sa.Connection, ctx: Context, values: Row, /) -> Row: ...
    def get(self, conn: sa.Connection, ctx: Context, ident: str, /) -> Row: ...
    def find(self, conn: sa.Connection, ctx: Context, query: Query, /) -> Page: ...
    def update(self, conn: sa.Connection, ctx: Context, ident: str, values: Row, /) -> Row: ...
    def delete(self, conn: sa.Connection, ctx: Context, ident: str, /) -> None: ...


def _keep(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    return values


def _keep_changes(conn: sa.Connection, ctx: Context, row: Row, changes: Row) -> Row:
    return changes


def _allow(conn: sa.Connection, ctx: Context, row: Row) -> None:
    return None


@dataclass(frozen=True)
class Collection:
    """One kind of plain resource over one table; the callables are what sets it apart from the others."""

    kind: str
    table: sa.Table
    listing: Listing
    make_id: Callable[[], str] = new_id
    before_create: Callable[[sa.Connection, Context, Row], Row] = _keep
    before_update: Callable[[sa.Connection, Context, Row, Row], Row] = _keep_changes
    before_delete: Callable[[sa.Connection, Context, Row], None] = _allow
    visible: Callable[[Context], sa.ColumnElement[bool] | None] = lambda ctx: None
    """The rows a caller may see, as a condition; None is all."""

    def create(self, conn: sa.Connection, ctx: Context, values: Row) -> Row:
        """Raises Conflict when an id or a unique name is taken."""
        values = self.before_create(conn, ctx, {"id": self.make_id(), **values})
        for stamp in ("created_at", "updated_at"):
            if stamp in self.table.c and stamp not in values:
                values[stamp] = now()
        try:
            conn.execute(self.table.insert().values(values))
        except sa.exc.IntegrityError as error:
            raise Conflict(f"A {self.kind} with that id or name already exists.", code="Conflict") from error
        return self.get(conn, ctx, values["id"])

    def get(self, conn: sa.Connection, ctx: Context, ident: str) -> Row:
        """Raises NotFound, also for what the caller may not see."""
        row = conn.execute(self.listing.select.where(self.listing.key == ident, *self._where(ctx))).mappings().first()
        if row is None:
            raise NotFound.of(self.kind, ident)
        return dict(row)

    def find(self, conn: sa.Connection, ctx: Context, query: Query) -> Page:
        return find(conn, self.listing, query, *self._where(ctx))

    def update(self, conn: sa.Connection, ctx: Context, ident: str, values: Row) -> Row:
        row = self.get(conn, ctx, ident)
        changes = self.before_update(conn, ctx, row, dict(values))
        if "updated_at" in self.table.c:
            changes["updated_at"] = now()
        if changes:
            try:
                conn.execute(self.table.update().where(self.table.c.id == ident).values(changes))
            except sa.exc.IntegrityError as error:
                raise Conflict(f"A {self.kind} with that name already exists.", code="Conflict") from error
        return self.get(conn, ctx, ident)

    def delete(self, conn: sa.Connection, ctx: Context, ident: str) -> None:
        """Raises Conflict while something still refers to it."""
        row = self.get(conn, ctx, ident)
        self.before_delete(conn, ctx, row)
        try:
            conn.execute(self.table.delete().where(self.table.c.id == ident))
        except sa.exc.IntegrityError as error:
            raise Conflict(f"{self.kind.capitalize()} {ident} is in use.", code=f"{self.kind.title()}InUse") from error

    def _where(self, ctx: Context) -> tuple[sa.ColumnElement[bool], ...]:
        condition = self.visible(ctx)
        return () if condition is None else (condition,)


def find(conn: sa.Connection, listing: Listing, query: Query, *where: sa.ColumnElement[bool]) -> Page:
    """A page of a listing, with its errors in the cloud's terms."""
    try:
        return listing.run(conn, query, *where)
    except UnknownMarker as error:
        raise Invalid(f"marker [{error}] not found", field="marker", code="MarkerNotFound") from None
    except UnknownName as error:
        raise Invalid(f"{error} is not an attribute to sort or filter by.", field=str(error.args[0])) from None
