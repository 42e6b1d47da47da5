"""What is good once. That it was seen is a row, so that no other API process takes it a second time."""

import sqlalchemy as sa

from nacre.cloud.identity.tables import used_once
from nacre.store.schema import now


def first_use(conn: sa.Connection, kind: str, value: str, number: int, life_s: float) -> bool:
    """Whether this value did not come before with that number or a greater one. It is remembered for `life_s` seconds."""
    moment = now()
    conn.execute(used_once.delete().where(used_once.c.expires_at < moment))
    where = (used_once.c.kind == kind, used_once.c.value == value)
    known = conn.execute(sa.select(used_once.c.number).where(*where)).scalar()
    if known is not None and known >= number:
        return False
    values = {"number": number, "expires_at": moment + life_s}
    if known is None:
        conn.execute(used_once.insert().values(kind=kind, value=value, **values))
    else:
        conn.execute(used_once.update().where(*where).values(**values))
    return True
