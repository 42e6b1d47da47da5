"""A container becomes an image: what it changed is a layer on top of its image's (docker commit)."""

from typing import Any

import msgspec

from nacre.cloud.containers import lookup
from nacre.cloud.core import GuestStream
from nacre.cloud.errors import Conflict, Invalid
from nacre.cloud.image import changes, commits, layered, manifests
from nacre.cloud.image.intake import Intake
from nacre.cloud.image.layered import Layer
from nacre.cloud.image.rules import Row
from nacre.panes.docker.transfers import wanted_name
from nacre.panes.edge import Call, Reply
from nacre.panes.edge.call import decode

KEPT = (
    *("User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels"),
    *("StopSignal", "Healthcheck", "OnBuild", "Shell"),
)
"""What of a container's config becomes its image's."""


async def commit(call: Call) -> Reply:
    """201 with the image's id."""
    query = call.query
    if not query.get("container"):
        raise Invalid("container not given")
    names = (wanted_name(query["repo"], query.get("tag", "")),) if query.get("repo") else ()
    sent = await _sent(call)
    server = await call.read(lookup.find, query["container"])
    config, layers = await commits.base_of(call.cloud, server["image"])
    container = (server["container"] or {}).get("config") or {}
    settings = merged(config.get("config") or {}, container, sent)
    config["config"] = changes.apply(settings, query.getall("changes", []))
    pause = query.get("pause", "1").lower() not in ("0", "false")
    async with Intake(call.cloud) as intake:
        blob = await intake.stream(commits.layer_of(await _open(call, server, pause)))
        layers.append(Layer(blob.digest, blob.size, manifests.OCI_LAYER, blob.digest))
        commits.note(config, blob.digest, " ".join(settings.get("Cmd") or ()), query.get("comment", ""), query.get("author", ""))
        content = await intake.content(manifests.encode(config), layers)
        await call.write(layered.add, content, names, server["image"].get("docker_id"))
    return Reply({"Id": content.docker_id}, 201)


async def _sent(call: Call) -> Row:
    """The body: nothing, null, or a container's config."""
    data = await call.raw_body()
    found = decode(data, dict[str, Any] | None) if data.strip() else None  # type: ignore[arg-type]
    kept = {name: value for name, value in (found or {}).items() if name in KEPT and value}
    try:
        msgspec.convert(kept.get("Env") or [], list[str])
        msgspec.convert(kept.get("Labels") or {}, dict[str, str])
    except msgspec.ValidationError as error:
        raise Invalid(f"invalid config: {error}") from None
    return kept


def merged(base: Row, *overs: Row) -> Row:
    """The image's settings under the container's under the request's; environments and labels are joined."""
    made = dict(base)
    for over in overs:
        for name in KEPT:
            value = over.get(name)
            if not value:
                continue
            if name == "Env":
                env = dict(entry.partition("=")[::2] for entry in [*(made.get("Env") or []), *value])
                made["Env"] = [f"{key}={text}" for key, text in env.items()]
            elif name in ("Labels", "ExposedPorts", "Volumes"):
                made[name] = {**(made.get(name) or {}), **value}
            else:
                made[name] = value
    return made


async def _open(call: Call, server: Row, pause: bool) -> GuestStream:
    if server["host_id"] is None:
        raise Conflict("the container is on no host")
    return await call.cloud.hosts.open(server["host_id"], "commit", server["id"], {"pause": pause})
