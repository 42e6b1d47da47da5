"""Stacks and services: make, change, start, stop, redeploy, scale, remove. Each writes what is wanted; the reconciler brings it about."""

import base64
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Forbidden, Invalid, NotFound
from nacre.cloud.identity import application_credentials
from nacre.cloud.image import references
from nacre.cloud.stacks import finding, making, specs
from nacre.cloud.stacks.specs import ServiceSpec, stored
from nacre.cloud.stacks.tables import service_containers, services, stacks
from nacre.store import announce
from nacre.store.schema import new_id, now

Row = dict[str, Any]

TOPIC = "stacks"
"""Announced with every change of what is wanted."""
STACKS_MAX = 1000
NOT_OF_CONTAINERS = frozenset(
    ("target_num_containers", "tags", "autoredeploy", "autodestroy", "autorestart", "sequential_deployment")
)
"""What a service may change without its containers' being other ones after that."""
SERVICES_MAX = 2000
"""Of one project."""


class Secret(msgspec.Struct, frozen=True):
    """A new secret for an application credential, and its hash."""

    text: str
    hashed: str


def create_stack(conn: sa.Connection, ctx: Context, name: str, wanted: Sequence[ServiceSpec], secrets: Sequence[Secret]) -> Row:
    """A stack with its services, none of which runs yet. `secrets` has one for each service with the role `global`.

    Raises Invalid, Conflict (a name), NotFound (an image, a link).
    """
    _require_project(ctx)
    if not specs.NAME.fullmatch(name):
        raise Invalid("name: letters, digits and dashes, 63 at most, are needed", field="name")
    own = stacks.c.project_id == ctx.project_id
    if conn.execute(sa.select(stacks.c.id).where(own, stacks.c.name == name, stacks.c.gone.is_(False))).first() is not None:
        raise Conflict(f"There is a stack {name} already")
    if conn.execute(sa.select(sa.func.count()).select_from(stacks).where(own)).scalar_one() >= STACKS_MAX:
        raise Conflict(f"The project has {STACKS_MAX} stacks: remove some")
    row: Row = {"id": new_id(), "project_id": ctx.project_id, "name": name, "created_at": now(), "gone": False}
    conn.execute(stacks.insert().values(row))
    left = list(secrets)
    for spec in wanted:
        create_service(conn, ctx, spec, stack_id=row["id"], secret=left.pop(0) if spec.roles else None, linked=False)
    for each in finding.services_of(conn, row["id"]):
        check_links(conn, ctx, each)
    return row


def create_service(
    conn: sa.Connection,
    ctx: Context,
    spec: ServiceSpec,
    *,
    stack_id: str | None = None,
    secret: Secret | None = None,
    linked: bool = True,
) -> Row:
    """A service that does not run yet. `linked` False: its links are looked at later. Raises Invalid, Conflict, NotFound, Forbidden."""
    _require_project(ctx)
    specs.check(spec)
    making.words(spec.run_command, "run_command")
    making.words(spec.entrypoint, "entrypoint")
    of_project = services.c.project_id == ctx.project_id
    taken = sa.select(services.c.id).where(
        of_project, services.c.name == spec.name, services.c.stack_id.is_not_distinct_from(stack_id), services.c.intent != "gone"
    )
    if conn.execute(taken).first() is not None:
        raise Conflict(f"There is a service {spec.name} already", field="name")
    if conn.execute(sa.select(sa.func.count()).select_from(services).where(of_project)).scalar_one() >= SERVICES_MAX:
        raise Conflict(f"The project has {SERVICES_MAX} services: remove some")
    image = references.resolve(conn, ctx, spec.image)
    moment = now()
    row: Row = {
        "id": new_id(),
        "project_id": ctx.project_id,
        "project_name": ctx.project_name,
        "user_id": ctx.user_id,
        "stack_id": stack_id,
        "name": spec.name,
        "spec": msgspec.to_builtins(spec),
        "target": spec.target_num_containers,
        "image_id": image["id"],
        "created_at": moment,
        "changed_at": moment,
        **_delegated(conn, ctx, spec, secret),
    }
    conn.execute(services.insert().values(row))
    announce(conn, TOPIC)
    made = get(conn, ctx, row["id"])
    if linked:
        check_links(conn, ctx, made)
    return made


def _require_project(ctx: Context) -> None:
    if ctx.project_id is None:
        raise Forbidden("A project-scoped token is needed")


def _delegated(conn: sa.Connection, ctx: Context, spec: ServiceSpec, secret: Secret | None) -> Row:
    """The role `global`: an application credential of who makes the service. Raises Forbidden for who may make none."""
    if not spec.roles:
        return {}
    if secret is None or ctx.token is None:
        raise Forbidden("roles: global needs a user's own token", field="roles")
    ident = new_id()
    values = {
        "user_id": ctx.user_id,
        "name": f"service {spec.name} {ident}",
        "secret_hash": secret.hashed,
        "description": f"TUTUM_AUTH of the service {spec.name}",
        "unrestricted": False,
    }
    credential = application_credentials.create(conn, ctx, values)["id"]
    proof = base64.b64encode(f"{credential}:{secret.text}".encode()).decode()
    return {"credential_id": credential, "authorization": f"Basic {proof}"}


def check_links(conn: sa.Connection, ctx: Context, row: Row) -> None:
    """Whether what it is linked to is there. Raises NotFound, Invalid."""
    spec = stored(row)
    for link in spec.linked_to_service:
        other = finding.service(conn, ctx, link.to_service, row["stack_id"])
        if other["id"] == row["id"]:
            raise Invalid(f"linked_to_service: {row['name']} is linked to itself", field="linked_to_service")
    for binding in spec.bindings:
        if binding.volumes_from:
            finding.service(conn, ctx, binding.volumes_from, row["stack_id"])


def get(conn: sa.Connection, ctx: Context, ident: str) -> Row:
    """A service by its id. Raises NotFound."""
    where = (services.c.id == ident, services.c.project_id == ctx.project_id)
    row = conn.execute(sa.select(services).where(*where)).mappings().first()
    if row is None:
        raise NotFound(f"Service {ident} was not found")
    return dict(row)


def change(conn: sa.Connection, row: Row, **values: Any) -> None:
    """Write what is wanted of a service; whatever was planned before is not done any more."""
    values = {"cause": "", **values, "generation": services.c.generation + 1, "changed_at": now()}
    conn.execute(services.update().where(services.c.id == row["id"]).values(values))
    announce(conn, TOPIC)


def _changeable(conn: sa.Connection, ctx: Context, ident: str) -> Row:
    row = get(conn, ctx, ident)
    if row["intent"] == "gone":
        raise Conflict(f"The service {row['name']} is being terminated")
    return row


def update_service(conn: sa.Connection, ctx: Context, ident: str, changes: Row, *, linked: bool = True) -> Row:
    """`changes` are members of the spec. The target is scaled to at once; the rest is for the containers that are made from now on.
    `linked` False: its links are looked at later.

    Raises NotFound, Conflict, Invalid.
    """
    row = _changeable(conn, ctx, ident)
    before = stored(row)
    for name in ("name", "deployment_strategy", "roles"):
        if name in changes and changes[name] != getattr(before, name):
            raise Invalid(f"{name}: cannot be changed", field=name)
    spec = specs.check(msgspec.structs.replace(before, **changes))
    making.words(spec.run_command, "run_command")
    making.words(spec.entrypoint, "entrypoint")
    values: Row = {"spec": msgspec.to_builtins(spec)}
    if changes.keys() - NOT_OF_CONTAINERS and row["intent"] != "created":
        values["synchronized"] = False
    if "image" in changes:
        values["image_id"] = references.resolve(conn, ctx, spec.image)["id"]
    if spec.target_num_containers != before.target_num_containers or "target_num_containers" in changes:
        values |= _scaled(row, spec.target_num_containers)
    change(conn, row, **values)
    changed = get(conn, ctx, ident)
    if linked:
        check_links(conn, ctx, changed)
    return changed


def _scaled(row: Row, target: int) -> Row:
    """Raises Invalid under EVERY_NODE."""
    if stored(row).deployment_strategy == "EVERY_NODE" and target != row["target"]:
        raise Invalid("target_num_containers: a service on every node is not scaled by hand", field="target_num_containers")
    specs.check_target(target)
    scaling = row["intent"] == "running" and target != row["target"]
    return {"target": target, **({"phase": "scaling"} if scaling else {})}


def scale(conn: sa.Connection, ctx: Context, ident: str, target: int) -> Row:
    row = _changeable(conn, ctx, ident)
    values = _scaled(row, target)
    spec = msgspec.structs.replace(stored(row), target_num_containers=target)
    change(conn, row, spec=msgspec.to_builtins(spec), **values)
    return get(conn, ctx, ident)


def start(conn: sa.Connection, ctx: Context, ident: str) -> Row:
    """All of its containers run after that, those too that somebody stopped. Raises NotFound, Conflict."""
    row = _changeable(conn, ctx, ident)
    _set_due(conn, ident, due=True)
    change(conn, row, intent="running", phase="starting")
    return get(conn, ctx, ident)


def stop(conn: sa.Connection, ctx: Context, ident: str) -> Row:
    row = _changeable(conn, ctx, ident)
    if row["intent"] == "created":
        raise Conflict(f"The service {row['name']} does not run")
    _set_due(conn, ident, due=False)
    change(conn, row, intent="stopped", phase="stopping")
    return get(conn, ctx, ident)


def _set_due(conn: sa.Connection, ident: str, *, due: bool) -> None:
    conn.execute(service_containers.update().where(service_containers.c.service_id == ident).values(due=due))


def redeploy(conn: sa.Connection, ctx: Context, ident: str, *, reuse_volumes: bool = True, body: str | None = None) -> Row:
    """All its containers are made anew, of what the image's name means now. `body` is what a trigger brought."""
    row = _changeable(conn, ctx, ident)
    change(
        conn,
        row,
        intent="running",
        phase="redeploying",
        revision=row["revision"] + 1,
        reuse_volumes=reuse_volumes,
        synchronized=True,
        image_id=references.resolve(conn, ctx, stored(row).image)["id"],
        **({} if body is None else {"trigger_body": body}),
    )
    return get(conn, ctx, ident)


def remove(conn: sa.Connection, ctx: Context, ident: str) -> Row:
    """It goes with the last of its containers. Raises NotFound."""
    row = get(conn, ctx, ident)
    if row["intent"] != "gone":
        change(conn, row, intent="gone", phase="")
    return get(conn, ctx, ident)


def remove_stack(conn: sa.Connection, ctx: Context, ident: str) -> Row:
    """It goes with the last of its services."""
    row = finding.stack(conn, ctx, ident)
    conn.execute(stacks.update().where(stacks.c.id == row["id"]).values(gone=True))
    for each in finding.services_of(conn, row["id"]):
        remove(conn, ctx, each["id"])
    announce(conn, TOPIC)
    return {**row, "gone": True}
