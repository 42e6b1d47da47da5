"""Time-based one-time passwords (RFC 6238): six digits, SHA-1, steps of 30 seconds, as authenticator apps make them.

The secrets are credentials of type `totp` whose blob is the key in base32.
"""

import base64
import binascii
import hashlib
import hmac
import struct
import time

import sqlalchemy as sa

from nacre.cloud.identity import once
from nacre.cloud.identity.tables import credentials

STEP_S = 30
DIGITS = 6
STEPS_BACK = 1
"""A passcode is taken for that many steps more than its own, as RFC 6238 (5.2) advises."""
REMEMBERED_S = 3600.0
"""So long the step in which a user came last: far longer than clocks of API processes differ."""


def passcode(secret: bytes, counter: int) -> str:
    """RFC 4226, 5.3."""
    digest = hmac.new(secret, struct.pack(">Q", counter), hashlib.sha1).digest()
    offset = digest[-1] & 0xF
    number = struct.unpack(">I", digest[offset : offset + 4])[0] & 0x7FFFFFFF
    return str(number % 10**DIGITS).zfill(DIGITS)


def key_of(blob: str) -> bytes | None:
    """None for a blob that is no base32."""
    text = blob.replace(" ", "").rstrip("=")
    try:
        return base64.b32decode(text + "=" * (-len(text) % 8), casefold=True)
    except (binascii.Error, ValueError):
        return None


def matching(conn: sa.Connection, user_id: str, given: str) -> int | None:
    """The step of which that passcode is, by any of the user's keys."""
    step = int(time.time()) // STEP_S
    rows = conn.execute(sa.select(credentials.c.blob).where(credentials.c.user_id == user_id, credentials.c.type == "totp"))
    for blob in rows.scalars():
        secret = key_of(blob)
        for counter in range(step, step - STEPS_BACK - 1, -1):
            if secret and hmac.compare_digest(passcode(secret, counter).encode(), given.encode("utf-8", "surrogatepass")):
                return counter
    return None


def first_use(conn: sa.Connection, user_id: str, counter: int) -> bool:
    """A passcode is good once (RFC 6238, 5.2), and none of an earlier step after it."""
    return once.first_use(conn, "totp", user_id, counter, REMEMBERED_S)
