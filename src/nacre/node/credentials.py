"""What a host shows to API processes: a key that never leaves it, and the certificate that the cloud's authority has signed for it."""

import asyncio
import os
import ssl
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import aiohttp
import msgspec

ASK_S = 30.0


class Issued(msgspec.Struct):
    """The answer to a signing request."""

    certificate: str
    ca: str


@dataclass(frozen=True)
class Credentials:
    """Three files in PEM."""

    certificate: Path
    key: Path
    authority: Path

    @classmethod
    def of(cls, folder: Path, host_id: str) -> Self:
        return cls(folder / f"{host_id}.pem", folder / f"{host_id}-key.pem", folder / "authority.pem")

    @property
    def are_there(self) -> bool:
        return self.certificate.exists() and self.key.exists() and self.authority.exists()

    def context(self) -> ssl.SSLContext:
        """Raises OSError where a file cannot be read."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # The authority signs servers' certificates for the API processes only, which may be reached under any address.
        context.check_hostname = False
        context.load_verify_locations(self.authority)
        context.load_cert_chain(self.certificate, self.key)
        return context

    async def ask(self, session: aiohttp.ClientSession, host_id: str) -> None:
        """Have a certificate made, by the API process of this machine. Raises OSError."""
        request = await asyncio.to_thread(self._request)
        try:
            timeout = aiohttp.ClientTimeout(total=ASK_S)
            async with session.post(f"/hosts/{host_id}/certificate", data=request, timeout=timeout) as response:
                if response.status != 200:
                    raise OSError(f"the API answered {response.status}: {await response.text()}")
                issued = msgspec.json.decode(await response.read(), type=Issued)
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
            raise OSError(f"no certificate could be had for this host: {error}") from error
        await asyncio.to_thread(self._keep, issued)

    def _request(self) -> str:
        # Only a host of an API process's own machine needs these, once: the node starts without them.
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        self.key.parent.mkdir(mode=0o700, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        _write(self.key, pem, 0o600)
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        return request.public_bytes(serialization.Encoding.PEM).decode()

    def _keep(self, issued: Issued) -> None:
        _write(self.authority, issued.ca.encode(), 0o644)
        _write(self.certificate, issued.certificate.encode(), 0o644)


def _write(path: Path, content: bytes, mode: int) -> None:
    """As a whole or not at all."""
    # Several hosts of one process may write the authority's at the same time.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
