"""Where hosts come that have no certificate yet, and where those that have one ask how they stand.

GET  /enrol          the authority's certificate, which the host holds against the fingerprint in its token, and this machine's time
POST /enrol          a token's secret and a signing request for each host, for their certificates (nacre.cloud.hosts.joining)
POST /hosts/{host}/certificate   a signing request of a host of this machine, for a certificate that it shows to other API processes
GET  /hosts/{host}   whether the host is up and accepted; with ?together=1 also how many are that enrolled by the same token
"""

import asyncio
import re
import time
import uuid
from typing import Annotated, Any

import msgspec
from aiohttp import web
from cryptography import x509
from msgspec import Meta, Struct

from nacre.cloud import errors
from nacre.cloud.core import Cloud
from nacre.cloud.hosts import joining
from nacre.cloud.identity.authority import Authority, key_of, request_of, serial_of

PATH = "/enrol"
BODY_BYTES_MAX = 4 * 1024 * 1024
HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
"""A host name (RFC 1123), which is in URLs and in `availability_zone` of who asks for a host."""
STATUS_OF: dict[type[errors.CloudError], int] = {
    errors.Invalid: 400,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.Conflict: 409,
}


class Candidate(Struct, forbid_unknown_fields=True):
    csr: str
    """PKCS #10 in PEM; its subject does not count."""
    hostname: str


class Enrolment(Struct, forbid_unknown_fields=True):
    secret: Annotated[str, Meta(max_length=256)]
    hosts: Annotated[list[Candidate], Meta(min_length=1, max_length=joining.HOSTS_MAX)]


async def show_authority(cloud: Cloud) -> web.Response:
    return web.json_response({"ca": cloud.identity.authority.pem, "time": time.time()})


async def enrol(cloud: Cloud, request: web.Request) -> web.Response:
    """All of the hosts or none: nothing is kept of a request that is refused."""
    try:
        body = await request.clone(client_max_size=BODY_BYTES_MAX).read()
        issued = await _enrol(cloud, msgspec.json.decode(body, type=Enrolment))
    except msgspec.DecodeError as error:
        return _refusal(400, str(error))
    except errors.CloudError as error:
        status = next((status for kind, status in STATUS_OF.items() if isinstance(error, kind)), 500)
        return _refusal(status, error.message)
    answer = {"hosts": issued, "ca": cloud.identity.authority.pem, "cloud_id": cloud.settings.cloud_id}
    return web.json_response(answer, status=201)


async def _enrol(cloud: Cloud, wanted: Enrolment) -> list[dict[str, Any]]:
    # Nobody without a token makes this process look at a thousand requests' signatures, or sign anything.
    cloud.store.read_now(joining.known, wanted.secret)
    requests = []
    for candidate in wanted.hosts:
        if not HOSTNAME.fullmatch(candidate.hostname):
            raise errors.Invalid(f"{candidate.hostname!r} is no host name.", field="hostname")
        requests.append(request_of(candidate.csr))
    keys = [key_of(request) for request in requests]
    if len(set(keys)) < len(keys):
        raise errors.Invalid("Each host needs a key of its own.", field="csr")
    cloud.store.read_now(joining.check, wanted.secret, keys)
    newcomers = await asyncio.to_thread(_signed, cloud.identity.authority, wanted.hosts, requests, keys)
    return await cloud.store.write(joining.enrol, wanted.secret, newcomers)


def _signed(
    authority: Authority, candidates: list[Candidate], requests: list[x509.CertificateSigningRequest], keys: list[str]
) -> list[joining.Newcomer]:
    made = []
    for candidate, request, key in zip(candidates, requests, keys, strict=True):
        host_id = str(uuid.uuid4())
        certificate = authority.sign_host(request, host_id)
        expires_at = certificate.not_valid_after_utc.timestamp()
        pem = authority.text(certificate)
        made.append(joining.Newcomer(host_id, candidate.hostname, key, serial_of(certificate), pem, expires_at))
    return made


async def certify(cloud: Cloud, request: web.Request) -> web.Response:
    """The body is a signing request in PEM. The node of this machine, which was known by its user, may have one for any host of its own."""
    host_id = request.match_info["host"]
    try:
        csr = request_of((await request.read()).decode("ascii", "replace"))
        signed = await asyncio.to_thread(cloud.identity.authority.sign_host, csr, host_id)
        pem, expires_at = cloud.identity.authority.text(signed), signed.not_valid_after_utc.timestamp()
        newcomer = joining.Newcomer(host_id, "", key_of(csr), serial_of(signed), pem, expires_at)
        await cloud.store.write(joining.certify, newcomer)
    except errors.CloudError as error:
        return _refusal(next((status for kind, status in STATUS_OF.items() if isinstance(error, kind)), 500), error.message)
    return web.json_response({"certificate": pem, "ca": cloud.identity.authority.pem})


def show_host(cloud: Cloud, host_id: str, connected: frozenset[str], *, together: bool) -> web.Response:
    """How the host stands; with `together` also how those do that enrolled with it. They share a process: one question instead of hundreds."""
    shown = {**cloud.store.read_now(joining.state_of, host_id), "connected": host_id in connected}
    if together:
        shown["together"] = cloud.store.read_now(joining.together, host_id, connected)
    return web.json_response(shown)


def _refusal(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"code": status, "message": message}}, status=status)
