"""Keypairs: https://docs.openstack.org/api-ref/compute/#keypairs-keypairs. They belong to users, not to projects."""

import base64
import binascii
import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from nacre.cloud.collection import Row
from nacre.cloud.collection import find as find_page
from nacre.cloud.compute import quotas
from nacre.cloud.compute.tables import keypairs
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Invalid, NotFound, OverQuota
from nacre.store import Page, Query
from nacre.store.listing import Listing, columns_of
from nacre.store.schema import now

RSA_BITS = 2048
CERTIFICATE_DAYS = 3650
USER_PRINCIPAL_NAME = ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
DER_SHORT_MAX = 127
"""Bytes whose length fits the short form."""
PUBLIC_KEY_BYTES_MAX = 16_384
_NAME = re.compile(r"[a-zA-Z0-9 _\-@.]{1,255}")
_LISTING = Listing(sa.select(keypairs), columns_of(keypairs, "user_id", "name", "type"), key=keypairs.c.name)


class Generated(NamedTuple):
    public_key: str
    private_key: str


def generate() -> Generated:
    """A new RSA key. It takes a good part of a second of CPU: call it in a thread."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    public = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return Generated(f"{public.decode()} Generated-by-Nacre", pem.decode())


def generate_x509(user_id: str) -> Generated:
    """A new RSA key with a certificate that it signs itself, for the user's logins by certificate (Nova's x509 keypairs).

    The private part is a PKCS #12 bundle without a password, in base64, as Nova gives it. Call it in a thread.
    """
    private = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, user_id)])
    principal = x509.OtherName(USER_PRINCIPAL_NAME, _utf8(f"{user_id}@localhost"))
    begin = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - timedelta(days=1))
        .not_valid_after(begin + timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([principal]), critical=False)
        .sign(private, hashes.SHA256())
    )
    bundle = pkcs12.serialize_key_and_certificates(None, private, certificate, None, serialization.NoEncryption())
    return Generated(certificate.public_bytes(serialization.Encoding.PEM).decode(), base64.b64encode(bundle).decode())


def _utf8(text: str) -> bytes:
    """A UTF8String in DER (X.690, 8.1): a tag, the length, the text."""
    data = text.encode()[:DER_SHORT_MAX]
    return bytes((0x0C, len(data))) + data


def fingerprint_of(public_key: str, kind: str = "ssh") -> str:
    """How Nova names a key: MD5 of an ssh key's bytes, SHA-1 of a certificate's, in pairs of hex digits. Raises Invalid."""
    return _fingerprint_x509(public_key) if kind == "x509" else _fingerprint_ssh(public_key)


def _fingerprint_x509(text: str) -> str:
    try:
        certificate = x509.load_pem_x509_certificate(text.encode())
    except ValueError as error:
        raise Invalid(f"Keypair data is invalid: failed to generate fingerprint ({error}).", field="public_key") from None
    digest = certificate.fingerprint(hashes.SHA1()).hex()  # noqa: S303 - it names the key, it protects nothing
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))


def _fingerprint_ssh(public_key: str) -> str:
    """MD5 of the key's bytes, in pairs of hex digits: how Nova and `ssh-keygen -E md5` name a key. Raises Invalid."""
    if len(public_key) > PUBLIC_KEY_BYTES_MAX:
        raise Invalid(f"The public key is longer than {PUBLIC_KEY_BYTES_MAX} bytes.", field="public_key")
    try:
        serialization.load_ssh_public_key(public_key.encode())
        raw = base64.b64decode(public_key.split()[1], validate=True)
    except (ValueError, IndexError, TypeError, binascii.Error, UnsupportedAlgorithm) as error:
        raise Invalid(f"Keypair data is invalid: failed to generate fingerprint ({error}).", field="public_key") from None
    digest = hashlib.md5(raw, usedforsecurity=False).hexdigest()
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))


def create(conn: sa.Connection, ctx: Context, user_id: str, name: str, public_key: str, kind: str = "ssh") -> Row:
    """Raises Invalid (name or key), Conflict, OverQuota."""
    if _NAME.fullmatch(name) is None or name != name.strip():
        raise Invalid(f"Keypair data is invalid: the name {name!r} contains unsafe characters.", field="name")
    fingerprint = fingerprint_of(public_key, kind)
    limit = quotas.limits_of(conn, ctx.project_id)["key_pairs"]
    held = conn.execute(sa.select(sa.func.count()).where(keypairs.c.user_id == user_id)).scalar_one()
    if limit >= 0 and held >= limit:
        raise OverQuota("Quota exceeded, too many key pairs.", field="key_pairs")
    values = {
        "user_id": user_id,
        "name": name,
        "type": kind,
        "public_key": public_key,
        "fingerprint": fingerprint,
        "created_at": now(),
    }
    try:
        conn.execute(keypairs.insert().values(values))
    except sa.exc.IntegrityError:
        raise Conflict(f"Key pair '{name}' already exists.", code="KeyPairExists") from None
    return values


def get(conn: sa.Connection, ctx: Context, user_id: str, name: str) -> Row:
    """Raises NotFound."""
    statement = sa.select(keypairs).where(keypairs.c.user_id == user_id, keypairs.c.name == name)
    row = conn.execute(statement).mappings().first()
    if row is None:
        raise NotFound(f"Keypair {name} not found for user {user_id}", code="KeypairNotFound")
    return dict(row)


def find(conn: sa.Connection, ctx: Context, user_id: str, query: Query) -> Page:
    """The user's keypairs by name; a marker is a name."""
    return find_page(conn, _LISTING, query, keypairs.c.user_id == user_id)


def delete(conn: sa.Connection, ctx: Context, user_id: str, name: str) -> None:
    """Servers keep the key that they were made with."""
    get(conn, ctx, user_id, name)
    conn.execute(keypairs.delete().where(keypairs.c.user_id == user_id, keypairs.c.name == name))
