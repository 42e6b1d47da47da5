"""The one MetaData that every domain's `tables` adds to, and the column types they share."""

import time
import uuid
from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def table(name: str, *columns: Any, **kwargs: Any) -> sa.Table:
    return sa.Table(name, metadata, *columns, **kwargs)


def id_column(name: str = "id") -> sa.Column[str]:
    """A UUID4 (or another text that an API lets its users choose) as primary key."""
    return sa.Column(name, sa.String(64), primary_key=True)


def text(name: str, *args: Any, **kwargs: Any) -> sa.Column[str]:
    kwargs.setdefault("nullable", False)
    return sa.Column(name, sa.Text, *args, **kwargs)


def integer(name: str, *args: Any, **kwargs: Any) -> sa.Column[int]:
    kwargs.setdefault("nullable", False)
    return sa.Column(name, sa.BigInteger().with_variant(sa.Integer, "sqlite"), *args, **kwargs)


def boolean(name: str, *args: Any, **kwargs: Any) -> sa.Column[bool]:
    kwargs.setdefault("nullable", False)
    return sa.Column(name, sa.Boolean, *args, **kwargs)


def json(name: str, **kwargs: Any) -> sa.Column[Any]:
    """A JSON value. Read whole, written whole; what is filtered or joined has a column or a table of its own."""
    kwargs.setdefault("nullable", False)
    return sa.Column(name, sa.JSON(none_as_null=True), **kwargs)


def moment(name: str, **kwargs: Any) -> sa.Column[float]:
    """A moment in UTC, seconds since the epoch. Only shown and put in tokens; no lease compares it."""
    kwargs.setdefault("nullable", False)
    return sa.Column(name, sa.Float(53), **kwargs)


def new_id() -> str:
    return str(uuid.uuid4())


def new_hex_id() -> str:
    """A UUID4 without dashes, as Identity's ids are."""
    return uuid.uuid4().hex


def now() -> float:
    """Wall time, whole microseconds."""
    return round(time.time(), 6)
