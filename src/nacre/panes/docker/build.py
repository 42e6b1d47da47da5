"""POST /build: the classic builder's call (Engine API, `ImageBuild`), as `docker build` without BuildKit makes it."""

import asyncio
import base64
import binascii
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import msgspec

from nacre.cloud.builds import arguments, builder, context
from nacre.cloud.builds.builder import Build, Options
from nacre.cloud.builds.running import Template
from nacre.cloud.errors import Invalid
from nacre.cloud.image import references
from nacre.cloud.image.references import Reference
from nacre.cloud.image.spool import spool
from nacre.panes.docker import skopeo, transfers
from nacre.panes.docker.downloads import download
from nacre.panes.docker.lines import ClientGone, Lines, progress
from nacre.panes.docker.query import flag, number
from nacre.panes.docker.schemas import ContainerCreate, HostConfig, NetworkingConfig, Ulimit, plain
from nacre.panes.docker.skopeo import Credentials
from nacre.panes.edge import Call, Reply, Route

T = TypeVar("T")
Row = dict[str, Any]

NAMES_MAX = 100
LOOK_S = 1.0
"""How often it is looked whether the client is still there while a command says nothing."""
HUB = "https://index.docker.io/v1/"
_LIMITS = {
    "memory": "Memory",
    "memswap": "MemorySwap",
    "cpushares": "CpuShares",
    "cpuperiod": "CpuPeriod",
    "cpuquota": "CpuQuota",
    "shmsize": "ShmSize",
}
"""Numbers of the query, and their names in HostConfig."""
_TEXTS = {"cpusetcpus": "CpusetCpus", "cpusetmems": "CpusetMems", "networkmode": "NetworkMode", "cgroupparent": "CgroupParent"}
_REFUSED = {
    "remote": "a remote context is not available: the builder fetches nothing; send the context as the request's body",
    "squash": "squash is not available: the layers of an image stay what they are",
    "outputs": "outputs are BuildKit's, which this builder is not",
    "isolation": "isolation is not available on linux",
}
_NOTHING = frozenset(("", "0", "false", "[]", "{}", "null", "default"))


async def build(call: Call) -> Reply:
    for name, message in _REFUSED.items():
        if call.query.get(name, "") not in _NOTHING:
            raise Invalid(message, field=name)
    if call.query.get("version", "1") not in ("", "1"):
        raise Invalid("BuildKit is not available here: use the classic builder (DOCKER_BUILDKIT=0)", field="version")
    if _json(call, "cachefrom", list[str]):
        raise Invalid("cachefrom is not available: the cache is the project's own", field="cachefrom")
    transfers.check_platform(call.query.get("platform", ""))
    options, expressions = _options(call)
    template = _template(call, expressions)
    known = _registries(call.request.headers.get("X-Registry-Config"))
    call.cloud.store.read_now(builder.require_room, call.context.project_id or "")
    return await progress(call, lambda lines: _while_there(lines, _build(call, lines, options, template, known)))


async def _build(call: Call, lines: Lines, options: Options, template: Template, known: dict[str, Credentials]) -> None:
    quiet = flag(call, "q")

    async def say(text: str) -> None:
        if quiet:
            lines.check()
        else:
            await lines.send(stream=text)

    async def fetch(name: str) -> None:
        wanted = references.parse(name).tagged
        await transfers.fetch(call, wanted, known.get(wanted.domain, Credentials()), lines, say)

    name = context.dockerfile_name(call.query.get("dockerfile", ""))
    async with spool(call.cloud) as scratch:
        found = await context.receive(call.cloud, transfers.chunks(call.request.content), scratch, name)
        state = await Build(call.cloud, call.context, found, options, template, say, fetch, partial(download, call)).run(scratch)
    if quiet:
        await lines.send(stream=f"{state.docker_id}\n")
        return
    await lines.send(aux={"ID": state.docker_id})
    await lines.send(stream=f"Successfully built {state.docker_id.removeprefix('sha256:')[:12]}\n")
    for tagged in options.names:
        await lines.send(stream=f"Successfully tagged {tagged}\n")


async def _while_there(lines: Lines, work: Any) -> None:
    """Raises ClientGone, the work ended, when the client hangs up first."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait((task,), timeout=LOOK_S)
            if not task.done():
                lines.check()
        task.result()
    finally:
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError, ClientGone):
                await task


def _json(call: Call, name: str, shape: type[T]) -> T | None:
    """A parameter that is JSON. Raises Invalid."""
    text = call.query.get(name, "")
    if not text or text == "null":
        return None
    try:
        return msgspec.json.decode(text.encode(), type=shape)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Invalid(f"invalid {name}: {error}", field=name) from None


def _options(call: Call) -> tuple[Options, tuple[str, ...]]:
    given, expressions = arguments.separate(_json(call, "buildargs", dict[str, str | None]) or {})
    tags = call.query.getall("t", [])
    if len(tags) > NAMES_MAX:
        raise Invalid(f"more than {NAMES_MAX} names", field="t")
    return Options(
        names=tuple(dict.fromkeys(_name(text) for text in tags if text)),
        arguments=given,
        labels=_json(call, "labels", dict[str, str]) or {},
        target=call.query.get("target", ""),
        no_cache=flag(call, "nocache"),
        pull=flag(call, "pull"),
    ), expressions


def _name(text: str) -> Reference:
    name = references.parse(text)
    if name.digest:
        raise Invalid("build tag cannot contain a digest", field="t")
    return name.tagged


def _template(call: Call, expressions: tuple[str, ...]) -> Template:
    """Limits and the network of the build's containers."""
    host = plain(HostConfig(ulimits=_json(call, "ulimits", list[Ulimit]) or None))
    host |= {key: number(call, name) or 0 for name, key in _LIMITS.items()}
    host |= {key: call.query.get(name, "") for name, key in _TEXTS.items()}
    extra = call.query.get("extrahosts", "")
    if extra:
        host["ExtraHosts"] = (_json(call, "extrahosts", list[str]) or []) if extra.startswith("[") else extra.split(",")
    config = {name: value for name, value in plain(ContainerCreate()).items() if name not in ("HostConfig", "NetworkingConfig")}
    return Template({**config, "Labels": {}}, host, plain(NetworkingConfig()), expressions)


def _registries(header: str | None) -> dict[str, Credentials]:
    """X-Registry-Config: registry -> who asks. Raises Invalid."""
    if not header:
        return {}
    try:
        data = base64.b64decode(header.encode()[: skopeo.AUTH_BYTES_MAX] + b"==", altchars=b"-_")
        found = msgspec.json.decode(data, type=dict[str, Credentials] | None) or {}
    except (msgspec.MsgspecError, binascii.Error, ValueError) as error:
        raise Invalid(f"invalid X-Registry-Config header: {error}") from None
    return {"docker.io" if name == HUB else name.split("//")[-1].partition("/")[0]: who for name, who in found.items()}


ROUTES: tuple[Route, ...] = (Route("POST", "/build", build, "docker:images", "Build an image of a Dockerfile", streams=True),)
