"""Certificates for `docker --tlsverify`: each stands for a user on a project (nacre.cloud.identity.certificates)."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from nacre.cloud.collection import Row
from nacre.cloud.identity import certificates
from nacre.cloud.identity.authority import Authority, request_of, serial_of
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.edge.times import seconds

DaysValid = Annotated[int, Meta(ge=1, le=certificates.DAYS_MAX)]


class New(Struct, forbid_unknown_fields=True):
    """`csr` is PKCS #10 in PEM; its subject does not count. `user_id` is the caller's where it says nothing."""

    csr: str
    user_id: str | None = None
    days: DaysValid = certificates.DAYS_MAX


def _shown(row: Row) -> dict[str, Any]:
    return {name: seconds(value) if name.endswith("_at") else value for name, value in row.items()}


async def create(call: Call) -> Reply:
    wanted = await call.body(New)
    request = request_of(wanted.csr)
    project_id, user_id = call.path["project"], wanted.user_id or call.context.user_id
    await call.read(certificates.check, project_id, user_id)
    authority: Authority = call.cloud.identity.authority
    signed = authority.sign(request, user_id, project_id, wanted.days)
    expires_at = signed.not_valid_after_utc.timestamp()
    row = await call.write(certificates.add, serial_of(signed), project_id, user_id, expires_at)
    return Reply({"certificate": {**_shown(row), "pem": authority.text(signed)}, "ca": authority.pem}, 201)


async def list_all(call: Call) -> Reply:
    rows = await call.read(certificates.list_of_project, call.path["project"])
    return Reply({"certificates": [_shown(row) for row in rows], "ca": call.cloud.identity.authority.pem})


async def revoke(call: Call) -> Reply:
    await call.write(certificates.revoke, call.path["project"], call.path["serial"])
    return Reply(status=204)


PATH = "/nacre/v1/projects/{project}/docker-certificates"

ROUTES: tuple[Route, ...] = (
    Route("GET", PATH, list_all, "nacre:docker_certificates", "List the certificates of a project's Docker clients"),
    Route("POST", PATH, create, "nacre:docker_certificates", "Sign a Docker client's certificate"),
    Route("DELETE", f"{PATH}/{{serial}}", revoke, "nacre:docker_certificates", "Revoke a Docker client's certificate"),
)
