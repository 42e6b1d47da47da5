"""Images on their way in and out: pull, push, load, save, import, commit; and what a registry says."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import BadHttpMessage
from msgspec import Struct

from nacre.cloud.errors import Invalid, NotFound, Unauthorized
from nacre.cloud.image import archives, changes, contents, export, inventory, layered, manifests, references
from nacre.cloud.image.intake import Intake
from nacre.cloud.image.layered import Content, Layer
from nacre.cloud.image.references import Reference, parse
from nacre.cloud.image.spool import keep_file, spool
from nacre.panes.docker import skopeo
from nacre.panes.docker.lines import Lines, progress
from nacre.panes.edge import Call, Reply
from nacre.panes.edge.times import micros
from nacre.store.schema import now

UPLOAD_IDLE_MAX_S = 120
"""An upload from which nothing comes for so long is given up."""
NAMES_MAX = 100
"""Images saved in one archive."""


async def chunks(content: StreamReader) -> AsyncIterator[bytes]:
    """A body as it comes. Raises Invalid when it stalls or ends too soon."""
    while True:
        try:
            async with asyncio.timeout(UPLOAD_IDLE_MAX_S):
                chunk = await content.readany()
        except TimeoutError:
            raise Invalid(f"No data came for {UPLOAD_IDLE_MAX_S} seconds; the upload is given up.") from None
        except BadHttpMessage as error:
            raise Invalid(f"unexpected EOF: {error.message}") from None
        except (web.RequestPayloadError, ConnectionError) as error:
            raise Invalid(f"unexpected EOF: {error}") from None
        if not chunk:
            return
        yield chunk


async def create(call: Call) -> Reply:
    if call.query.get("fromImage"):
        return await progress(call, lambda lines: _pull(call, lines))
    source = call.query.get("fromSrc", "")
    if source != "-":
        raise Invalid(
            "fromSrc takes the archive as the request's body (`-`): fetching a URL is not supported"
            if source
            else "no image named"
        )
    return await progress(call, lambda lines: _import(call, lines))


# Pull


async def _pull(call: Call, lines: Lines) -> None:
    name = parse(call.query["fromImage"])
    tag = call.query.get("tag", "")
    if tag.startswith("sha256:"):
        name = parse(f"{name.repository}@{tag}")
    elif tag:
        name = Reference(name.repository, references.tag_of(tag))
    check_platform(call.query.get("platform", ""))
    who = skopeo.credentials(call.request.headers.get("X-Registry-Auth"))
    async with spool(call.cloud) as scratch:
        transfer = skopeo.Transfer(scratch, who, call.cloud.settings, lines.check)
        wanted = [name]
        if not (name.tag or name.digest):
            wanted = [Reference(name.repository, each) for each in await transfer.tags(name)]
        for each in wanted:
            await _pull_one(call, lines, transfer, each, scratch / "image")


def check_platform(platform: str) -> None:
    system, _, architecture = platform.partition("/")
    if platform and (system != "linux" or architecture.partition("/")[0] not in ("", "amd64", "x86_64")):
        raise NotFound(f"no matching manifest for {platform} in the manifest list entries: the hosts are linux/amd64")


async def _pull_one(call: Call, lines: Lines, transfer: skopeo.Transfer, name: Reference, folder: Path) -> None:
    seen: list[str] = []
    begun = False
    async for line in transfer.fetch(name, folder):
        if not begun:
            await lines.status(f"Pulling from {name.path}", name.tag or name.digest)
            begun = True
        if line.startswith("Copying blob "):
            short = line.split()[2].removeprefix("sha256:")[:12]
            seen.append(short)
            await lines.status("Pulling fs layer", short, progressDetail={})
    before = await call.read(references.by_name, name)
    content = await _keep(call, name, folder)
    for short in dict.fromkeys(seen):
        await lines.status("Pull complete", short, progressDetail={})
    await lines.status(f"Digest: {content.manifest_digest}")
    same = before is not None and before["docker_id"] == content.docker_id
    outcome = "Image is up to date for" if same else "Downloaded newer image for"
    await lines.status(f"Status: {outcome} {name}")


async def _keep(call: Call, name: Reference, folder: Path) -> Content:
    async with Intake(call.cloud) as intake:
        content = await _of_folder(intake, folder)
        await call.write(layered.add, content, (name,))
    return content


async def fetch(
    call: Call, name: Reference, who: skopeo.Credentials, lines: Lines, say: Callable[[str], Awaitable[None]]
) -> None:
    """Bring the base of a build here, in a few words."""
    async with spool(call.cloud) as scratch:
        transfer = skopeo.Transfer(scratch, who, call.cloud.settings, lines.check)
        await say(f"{name.tag or name.digest}: Pulling from {name.path}\n")
        async for _ in transfer.fetch(name, scratch / "image"):
            lines.check()
        content = await _keep(call, name, scratch / "image")
    await say(f"Digest: {content.manifest_digest}\nStatus: Downloaded newer image for {name}\n")


async def _of_folder(intake: Intake, folder: Path) -> Content:
    """A `dir:` folder becomes blobs: each file is checked against its digest. Raises Invalid."""
    data = await asyncio.to_thread((folder / "manifest.json").read_bytes)
    manifest = manifests.decode(data)
    if manifest.config is None or not manifest.is_image:
        raise Invalid("the registry's answer is no image for containers")
    config = await asyncio.to_thread((folder / manifest.config.digest.removeprefix("sha256:")).read_bytes)
    document, diff_ids = manifests.decode_config(config)
    if len(diff_ids) != len(manifest.layers):
        raise Invalid(f"invalid manifest, layers length mismatch: expected {len(diff_ids)}, got {len(manifest.layers)}")
    kept: dict[str, int] = {}
    for entry in (manifest.config, *manifest.layers):
        if entry.digest not in kept:
            kept[entry.digest] = (await intake.file(folder / entry.digest.removeprefix("sha256:"), entry.digest)).size
    layers = tuple(
        Layer(entry.digest, kept[entry.digest], entry.media_type, diff_id)
        for entry, diff_id in zip(manifest.layers, diff_ids, strict=True)
    )
    blob = await intake.document(data)
    kind = manifest.media_type or manifests.OCI_MANIFEST
    return Content(manifest.config.digest, document, len(config), layers, blob.digest, blob.size, kind)


# Push


async def push(call: Call) -> Reply:
    name = parse(call.path["name"])
    tag = call.query.get("tag", "")
    if tag:
        name = Reference(name.repository, references.tag_of(tag))
    return await progress(call, lambda lines: _push(call, lines, name))


async def _push(call: Call, lines: Lines, name: Reference) -> None:
    found = await call.read(inventory.entries)
    wanted = sorted({each for entry in found for each in entry.names if each.repository == name.repository}, key=str)
    if name.tag:
        wanted = [each for each in wanted if each.tag == name.tag]
    if not wanted:
        raise NotFound(f"An image does not exist locally with the tag: {name.repository}")
    who = skopeo.credentials(call.request.headers.get("X-Registry-Auth"))
    async with spool(call.cloud) as scratch:
        transfer = skopeo.Transfer(scratch, who, call.cloud.settings, lines.check)
        await lines.status(f"The push refers to repository [{name.domain}/{name.path}]")
        for number, each in enumerate(wanted):
            await _push_one(call, lines, transfer, each, scratch / str(number))


async def _push_one(call: Call, lines: Lines, transfer: skopeo.Transfer, name: Reference, folder: Path) -> None:
    content = await contents.of_image(call.cloud, await call.read(references.resolve, str(name)))
    await asyncio.to_thread(_lay_out, call, content, folder)
    for layer in content.layers:
        await lines.status("Preparing", layer.diff_id.removeprefix("sha256:")[:12], progressDetail={})
    async for line in transfer.send(folder, name):
        if line.startswith("Copying blob "):
            await lines.status("Pushing", line.split()[2].removeprefix("sha256:")[:12], progressDetail={})
    for layer in content.layers:
        await lines.status("Pushed", layer.diff_id.removeprefix("sha256:")[:12], progressDetail={})
    raw = await transfer.inspect(name)
    digest = manifests.digest_of(raw)
    await lines.status(f"{name.tag}: digest: {digest} size: {len(raw)}")
    await lines.send(progressDetail={}, aux={"Tag": name.tag, "Digest": digest, "Size": len(raw)})


def _lay_out(call: Call, content: Content, folder: Path) -> None:
    """A `dir:` folder of links to the blobs."""
    folder.mkdir()
    (folder / "version").write_text("Directory Transport Version: 1.1\n")
    (folder / "manifest.json").write_bytes(call.cloud.blobs.path(content.manifest_digest).read_bytes())
    for digest in {content.docker_id, *(layer.digest for layer in content.layers)}:
        target = folder / digest.removeprefix("sha256:")
        try:
            os.link(call.cloud.blobs.path(digest), target)
        except FileNotFoundError:
            raise NotFound(f"The data {digest} is missing from the store.") from None


# Load, import, save


async def load(call: Call) -> Reply:
    return await progress(call, lambda lines: _load(call, lines))


async def _load(call: Call, lines: Lines) -> None:
    async with spool(call.cloud) as scratch, Intake(call.cloud) as intake:
        archive = scratch / "archive.tar"
        await keep_file(call.cloud, chunks(call.request.content), archive)
        loaded = await contents.load(call.cloud, archive, intake, scratch)
        named = [(content, tuple(parse(name).tagged for name in names)) for content, names in loaded]
        await call.write(_add_all, named)
    for content, names in named:
        for name in names:
            await lines.send(stream=f"Loaded image: {name}\n")
        if not names:
            await lines.send(stream=f"Loaded image ID: {content.docker_id}\n")


def _add_all(conn: Any, ctx: Any, named: list[tuple[Content, tuple[Reference, ...]]]) -> None:
    for content, names in named:
        layered.add(conn, ctx, content, names)


async def _import(call: Call, lines: Lines) -> None:
    repository = call.query.get("repo", "")
    names = (wanted_name(repository, call.query.get("tag", "")),) if repository else ()
    settings = changes.apply({}, call.query.getall("changes", []))
    limit = call.cloud.settings.image_size_max_bytes
    async with spool(call.cloud) as scratch, Intake(call.cloud) as intake:
        path = scratch / "layer.tar"
        await keep_file(call.cloud, chunks(call.request.content), path)
        try:
            await asyncio.to_thread(archives.check_tar, path, limit)
            diff_id = await asyncio.to_thread(archives.diff_id_of, path, limit)
        except archives.BrokenArchive as error:
            raise archives.invalid(error) from None
        blob = await intake.file(path)
        kind = manifests.OCI_LAYER if blob.digest == diff_id else manifests.OCI_LAYER_GZIP
        comment = call.query.get("message") or "Imported from -"
        document = archives.config_of(diff_id, {}, comment, micros(now()))
        document["config"] = settings
        content = await intake.content(manifests.encode(document), [Layer(blob.digest, blob.size, kind, diff_id)])
        await call.write(layered.add, content, names)
    await lines.status(content.docker_id)


def wanted_name(repository: str, tag: str) -> Reference:
    """`repo` and `tag` of a query as one name. Raises Invalid."""
    name = parse(repository)
    if name.digest:
        raise Invalid("cannot import digest reference")
    if tag:
        name = Reference(name.repository, references.tag_of(tag))
    if name.repository == "sha256":
        raise Invalid("refusing to create an ambiguous tag using digest algorithm as name")
    return name.tagged


async def save_one(call: Call) -> Reply:
    return await _save(call, [call.path["name"]])


async def save_many(call: Call) -> Reply:
    return await _save(call, call.query.getall("names", []))


async def _save(call: Call, wanted: list[str]) -> Reply:
    if not 0 < len(wanted) <= NAMES_MAX:
        raise Invalid(f"name 1 to {NAMES_MAX} images")
    chosen: dict[str, tuple[Content, tuple[str, ...]]] = {}
    for text in wanted:
        entry = await call.read(inventory.entry, text)
        content = await contents.of_image(call.cloud, entry.row)
        _, names = chosen.get(entry.docker_id, (content, ()))
        chosen[entry.docker_id] = (content, tuple(dict.fromkeys((*names, *_saved_names(text, entry)))))
    planned = contents.members(list(chosen.values()))
    stream = contents.stream(call.cloud, planned)
    return Reply(response=await send_archive(call, planned, stream, "application/x-tar"))


def _saved_names(text: str, entry: inventory.Entry) -> list[str]:
    """A name is saved as it was asked for; a repository with all its tags; an id without any."""
    try:
        name = parse(text)
    except Invalid:
        return []
    matching = [each for each in entry.names if each.repository == name.repository and name.tag in ("", each.tag)]
    return [str(each) for each in matching]


async def send_archive(
    call: Call, planned: list[export.Member], stream: AsyncIterator[bytes], content_type: str
) -> web.StreamResponse:
    """An archive as an answer, with its length."""
    headers = {**call.service.headers, "Content-Type": content_type, "Content-Length": str(export.size_of(planned))}
    response = web.StreamResponse(headers=headers)
    response.headers["X-Openstack-Request-Id"] = call.request_id
    await response.prepare(call.request)
    if call.request.method != "HEAD":
        with suppress(ConnectionError):
            async for chunk in stream:
                await response.write(chunk)
    await response.write_eof()
    return response


# What registries say


async def search(call: Call) -> Reply:
    raise Invalid("searching is a service of Docker Hub's own, which the cloud does not ask")


async def distribution(call: Call) -> Reply:
    name = parse(call.path["name"]).tagged
    who = skopeo.credentials(call.request.headers.get("X-Registry-Auth"))
    async with spool(call.cloud) as scratch:
        transfer = skopeo.Transfer(scratch, who, call.cloud.settings, lambda: None)
        raw = await transfer.inspect(name)
    manifest = manifests.decode(raw)
    platforms = [
        {"architecture": entry.platform.architecture, "os": entry.platform.os} for entry in manifest.manifests if entry.platform
    ]
    kind = manifest.media_type or (manifests.OCI_INDEX if manifest.is_index else manifests.OCI_MANIFEST)
    descriptor = {"mediaType": kind, "digest": manifests.digest_of(raw), "size": len(raw)}
    return Reply({"Descriptor": descriptor, "Platforms": platforms or [{"architecture": "amd64", "os": "linux"}]})


class Auth(Struct, frozen=True):
    """The body of POST /auth."""

    username: str = ""
    password: str = ""
    serveraddress: str = ""
    identitytoken: str = ""


async def auth(call: Call) -> Reply:
    sent = await call.body(Auth)
    if not sent.username or not sent.password:
        raise Unauthorized("login attempt failed: a user name and a password are needed")
    host = sent.serveraddress.removeprefix("https://").removeprefix("http://").partition("/")[0] or "docker.io"
    domain = "docker.io" if host in ("index.docker.io", "docker.io") else host
    parse(f"{domain}/x" if domain != "docker.io" else "x")
    async with spool(call.cloud) as scratch:
        await skopeo.log_in(scratch, call.cloud.settings, domain, sent.username, sent.password)
    return Reply({"Status": "Login Succeeded", "IdentityToken": ""})
