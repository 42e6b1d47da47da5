"""Services and their triggers."""

import secrets
from typing import Any

from nacre.cloud.errors import Invalid, TooLarge
from nacre.cloud.stacks import operations, triggers
from nacre.cloud.stacks.operations import Secret
from nacre.cloud.stacks.specs import ServiceSpec
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.stacks import render, views
from nacre.panes.stacks.dialect import page
from nacre.panes.stacks.schemas import Scale, ServiceCreate, ServiceUpdate, TriggerCreate, given, spec_of
from nacre.panes.stacks.views import ServiceView

Row = dict[str, Any]

SECRET_BYTES = 32
TRIGGER_POLICY = None
"""A trigger is called without a token: its address is the capability."""


async def new_secrets(call: Call, specs: list[ServiceSpec]) -> list[Secret]:
    """One for each service with the role `global`."""
    found = []
    for spec in specs:
        if spec.roles:
            text = secrets.token_urlsafe(SECRET_BYTES)
            found.append(Secret(text, await call.cloud.identity.passwords.hash(text)))
    return found


def matches(view: ServiceView, query: Any) -> bool:
    return all(
        wanted is None or wanted == value
        for wanted, value in (
            (query.get("name"), view.row["name"]),
            (query.get("state"), view.state),
            (query.get("stack__name"), view.stack_name),
        )
    )


async def _shown(call: Call, ident: str, status: int = 200) -> Reply:
    return Reply(render.service(await call.read(views.service, ident)), status)


async def list_services(call: Call) -> Reply:
    rows = [view for view in await call.read(views.all_services) if matches(view, call.query)]
    return page(call, rows, render.service)


async def create(call: Call) -> Reply:
    spec = spec_of(await call.body(ServiceCreate))
    secret = next(iter(await new_secrets(call, [spec])), None)
    row = await call.write(operations.create_service, spec, secret=secret)
    return await _shown(call, row["id"], 201)


async def get(call: Call) -> Reply:
    return await _shown(call, call.path["uuid"])


async def update(call: Call) -> Reply:
    changes = given(await call.body(ServiceUpdate))
    row = await call.write(operations.update_service, call.path["uuid"], changes)
    return await _shown(call, row["id"])


async def remove(call: Call) -> Reply:
    row = await call.write(operations.remove, call.path["uuid"])
    return await _shown(call, row["id"], 202)


async def start(call: Call) -> Reply:
    row = await call.write(operations.start, call.path["uuid"])
    return await _shown(call, row["id"], 202)


async def stop(call: Call) -> Reply:
    row = await call.write(operations.stop, call.path["uuid"])
    return await _shown(call, row["id"], 202)


async def scale(call: Call) -> Reply:
    """To the body's target; without a body the target is brought about as it is."""
    body = await call.body(Scale) if call.request.can_read_body else Scale()
    target = body.target_num_containers
    if target is None:
        target = (await call.read(operations.get, call.path["uuid"]))["target"]
    row = await call.write(operations.scale, call.path["uuid"], target)
    return await _shown(call, row["id"], 202)


def reuses_volumes(call: Call) -> bool:
    """Raises Invalid."""
    text = call.query.get("reuse_volumes", "true").lower()
    if text not in ("true", "false"):
        raise Invalid("reuse_volumes: true or false is needed", field="reuse_volumes")
    return text == "true"


async def redeploy(call: Call) -> Reply:
    row = await call.write(operations.redeploy, call.path["uuid"], reuse_volumes=reuses_volumes(call))
    return await _shown(call, row["id"], 202)


async def list_triggers(call: Call) -> Reply:
    return page(call, await call.read(triggers.find, call.path["uuid"]), render.trigger)


async def create_trigger(call: Call) -> Reply:
    body = await call.body(TriggerCreate)
    return Reply(render.trigger(await call.write(triggers.create, call.path["uuid"], body.name, body.operation)), 201)


async def get_trigger(call: Call) -> Reply:
    return Reply(render.trigger(await call.read(triggers.get, call.path["uuid"], call.path["trigger"])))


async def remove_trigger(call: Call) -> Reply:
    await call.write(triggers.remove, call.path["uuid"], call.path["trigger"])
    return Reply(status=204)


async def call_trigger(call: Call) -> Reply:
    """Whoever knows the address; whatever the body says reaches the containers as TUTUM_TRIGGER_BODY."""
    if (call.request.content_length or 0) > triggers.BODY_BYTES_MAX:
        raise TooLarge(f"The body has {triggers.BODY_BYTES_MAX} bytes at most")
    data = await call.request.content.read(triggers.BODY_BYTES_MAX + 1) if call.request.can_read_body else b""
    if len(data) > triggers.BODY_BYTES_MAX:
        raise TooLarge(f"The body has {triggers.BODY_BYTES_MAX} bytes at most")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise Invalid("The body is not UTF-8") from None
    if "\x00" in text:
        raise Invalid("The body holds a NUL")
    ident, secret = call.path["uuid"], call.path["trigger"]
    await call.cloud.store.write(triggers.call, ident, secret, text, call.request_id)
    return Reply({}, 202)


ROUTES: tuple[Route, ...] = (
    Route("GET", "/service/", list_services, "stacks:read", "List services"),
    Route("POST", "/service/", create, "stacks:write", "Create a service"),
    Route("GET", "/service/{uuid}/", get, "stacks:read", "Show a service"),
    Route("PATCH", "/service/{uuid}/", update, "stacks:write", "Change or scale a service"),
    Route("DELETE", "/service/{uuid}/", remove, "stacks:write", "Terminate a service"),
    Route("POST", "/service/{uuid}/start/", start, "stacks:write", "Start a service"),
    Route("POST", "/service/{uuid}/stop/", stop, "stacks:write", "Stop a service"),
    Route("POST", "/service/{uuid}/scale/", scale, "stacks:write", "Scale a service"),
    Route("POST", "/service/{uuid}/redeploy/", redeploy, "stacks:write", "Make a service's containers anew"),
    Route("GET", "/service/{uuid}/trigger/", list_triggers, "stacks:write", "List a service's triggers"),
    Route("POST", "/service/{uuid}/trigger/", create_trigger, "stacks:write", "Create a trigger"),
    Route("GET", "/service/{uuid}/trigger/{trigger}/", get_trigger, "stacks:write", "Show a trigger"),
    Route("DELETE", "/service/{uuid}/trigger/{trigger}/", remove_trigger, "stacks:write", "Revoke a trigger"),
    Route("POST", "/service/{uuid}/trigger/{trigger}/call/", call_trigger, TRIGGER_POLICY, "Call a trigger"),
)
"""Triggers are secrets: who may only read does not see them."""
