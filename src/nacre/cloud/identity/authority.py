"""The cloud's certificate authority: it vouches for the API's own name for users on projects, and for hosts (RFC 5280).

STATE/api/tls/ca-key.pem   made at the first start; whoever has it is every user of the cloud (0600)
STATE/api/tls/ca.pem       what clients hold the server's certificate against
STATE/api/tls/server.pem   the server's key and certificate for Docker's clients, made anew at each start (0600)
STATE/api/tls/nodes.pem    the same for nodes
"""

import hashlib
import ipaddress
import os
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nacre.cloud.errors import Invalid

AUTHORITY_DAYS = 3650
SERVER_DAYS = 825
"""A process is started again within that time."""
SKEW = timedelta(minutes=5)
"""How far behind a client's clock may be."""
RSA_BITS_MIN, RSA_BITS_MAX = 2048, 8192
REQUEST_CHARS_MAX = 16 * 1024
HOSTS = "Nacre's hosts"
"""The organization in a host's certificate, where a user's has a project's id."""
KEYS = "an RSA key of 2048 to 8192 bits, an elliptic curve of NIST's of 256 to 521 bits, or Ed25519"

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class Authority:
    """Holds the key. Belongs to the API process."""

    def __init__(self, state: Path) -> None:
        self._directory = state / "tls"
        self._directory.mkdir(mode=0o700, exist_ok=True)
        self._key = _key(self._directory / "ca-key.pem")
        self._certificate = self._own(self._directory / "ca.pem")
        self.pem = _pem(self._certificate)
        """The authority's certificate."""
        self.fingerprint = self._certificate.fingerprint(hashes.SHA256()).hex()
        """What hosts that join hold it against (SHA-256 of its DER, in hex digits)."""

    def _own(self, path: Path) -> x509.Certificate:
        """Its certificate; one that was lost, or belongs to another key, is made again."""
        if path.exists():
            known = x509.load_pem_x509_certificate(path.read_bytes())
            if known.public_key() == self._key.public_key():
                return known
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Nacre")])
        made = (
            _builder(name, name, self._key.public_key(), x509.random_serial_number(), timedelta(days=AUTHORITY_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        _write(path, _pem(made).encode(), 0o644)
        return made

    def sign(self, request: x509.CertificateSigningRequest, user_id: str, project_id: str, days: int) -> x509.Certificate:
        """A client's certificate. The subject is ours to say: of the request only its key counts."""
        subject = x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, project_id), x509.NameAttribute(NameOID.COMMON_NAME, user_id)]
        )
        return self._leaf(subject, request.public_key(), timedelta(days=days), ExtendedKeyUsageOID.CLIENT_AUTH, ())

    def sign_host(self, request: x509.CertificateSigningRequest, host_id: str) -> x509.Certificate:
        """A host's certificate, for as long as the authority itself lasts."""
        subject = x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, HOSTS), x509.NameAttribute(NameOID.COMMON_NAME, host_id)]
        )
        life = self._certificate.not_valid_after_utc - datetime.now(UTC).replace(microsecond=0)
        return self._leaf(subject, request.public_key(), life, ExtendedKeyUsageOID.CLIENT_AUTH, ())

    def text(self, certificate: x509.Certificate) -> str:
        """In PEM."""
        return _pem(certificate)

    def server_context(self, names: Iterable[str], *, file: str = "server.pem", strangers: bool = False) -> ssl.SSLContext:
        """TLS for a server under these host names and addresses, which serves clients of this authority's only; with `strangers` also
        such as show no certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        shown = list(dict.fromkeys(names))
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Nacre's API")])
        certificate = self._leaf(
            subject,
            key.public_key(),
            timedelta(days=SERVER_DAYS),
            ExtendedKeyUsageOID.SERVER_AUTH,
            [_name(each) for each in shown],
        )
        path = self._directory / file
        _write(path, _private(key) + _pem(certificate).encode(), 0o600)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_OPTIONAL if strangers else ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=self.pem)
        context.load_cert_chain(path)
        # Every connection shows its certificate, and none changes it on the way.
        context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
        context.num_tickets = 0
        return context

    def _leaf(
        self,
        subject: x509.Name,
        key: object,
        life: timedelta,
        purpose: x509.ObjectIdentifier,
        names: Iterable[x509.GeneralName],
    ) -> x509.Certificate:
        assert isinstance(key, PublicKey)
        builder = (
            _builder(subject, self._certificate.subject, key, x509.random_serial_number(), life)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        listed = list(names)
        if listed:
            builder = builder.add_extension(x509.SubjectAlternativeName(listed), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def request_of(text: str) -> x509.CertificateSigningRequest:
    """A PKCS #10 request in PEM (RFC 2986). Raises Invalid for what is none, is not signed by its own key, or has a key of another kind."""
    if len(text) > REQUEST_CHARS_MAX:
        raise Invalid(f"csr is longer than {REQUEST_CHARS_MAX} characters.", field="csr")
    try:
        request = x509.load_pem_x509_csr(text.encode())
        key = request.public_key()
        good = _fits(key) and request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm):
        raise Invalid("csr is no certificate signing request in PEM.", field="csr") from None
    if not good:
        raise Invalid(f"csr must be signed by its own key, and that be {KEYS}.", field="csr")
    return request


def _fits(key: object) -> bool:
    if isinstance(key, rsa.RSAPublicKey):
        return RSA_BITS_MIN <= key.key_size <= RSA_BITS_MAX
    if isinstance(key, ec.EllipticCurvePublicKey):
        return isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1)
    return isinstance(key, ed25519.Ed25519PublicKey)


def host_of(certificate: x509.Certificate) -> str | None:
    """The id of the host that a certificate names; None for one of another kind."""
    kinds = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if [kind.value for kind in kinds] == [HOSTS] and len(names) == 1 else None


def key_of(request: x509.CertificateSigningRequest) -> str:
    """SHA-256 of the public key, in hex digits."""
    der = request.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def serial_of(certificate: x509.Certificate) -> str:
    return f"{certificate.serial_number:x}"


def _builder(subject: x509.Name, issuer: x509.Name, key: PublicKey, serial: int, life: timedelta) -> x509.CertificateBuilder:
    begins = datetime.now(UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(begins - SKEW)
        .not_valid_after(begins + life)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The key in that file; made when it is not there."""
    if path.exists():
        found = serialization.load_pem_private_key(path.read_bytes(), None)
        assert isinstance(found, ec.EllipticCurvePrivateKey), path
        return found
    made = ec.generate_private_key(ec.SECP256R1())
    _write(path, _private(made), 0o600)
    return made


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _write(path: Path, content: bytes, mode: int) -> None:
    """As a whole or not at all, and never readable by more than `mode` allows."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
