"""Manifests, tags, the catalog, referrers."""

from typing import Any

from aiohttp import web

from nacre.cloud.errors import Invalid, NotFound, TooLarge
from nacre.cloud.image import contents, data, manifests, references
from nacre.cloud.image.intake import Intake
from nacre.cloud.image.layered import Content, Layer
from nacre.cloud.image.manifests import Manifest
from nacre.cloud.registry import repositories
from nacre.cloud.registry.repositories import DIGEST, PAGE_MAX
from nacre.panes.edge import Call, Reply
from nacre.panes.registry.dialect import page


async def base(call: Call) -> Reply:
    return Reply({})


async def show(call: Call) -> Reply:
    repository = await call.read(repositories.find, call.path["name"])
    row = await call.read(repositories.manifest, repository, call.path["reference"])
    headers = {"Docker-Content-Digest": row["digest"], "ETag": f'"{row["digest"]}"'}
    if call.request.method == "HEAD":
        headers |= {"Content-Length": str(row["size"]), "Content-Type": row["media_type"]}
        return Reply(response=web.Response(headers=headers))
    return Reply(await contents.read_blob(call.cloud, row["digest"]), headers=headers, content_type=row["media_type"])


async def put(call: Call) -> Reply:
    repository = await call.read(repositories.find, call.path["name"], push=True)
    reference = call.path["reference"]
    body = await _body(call)
    digest = manifests.digest_of(body)
    if ":" in reference and reference != digest:
        raise Invalid(f"provided digest did not match uploaded content: {digest}", code="DIGEST_INVALID")
    tag = "" if ":" in reference else references.tag_of(reference)
    document = manifests.decode(body, call.request.content_type if "Content-Type" in call.request.headers else "")
    kind = document.media_type or call.request.content_type
    async with Intake(call.cloud) as intake:
        await intake.document(body)
        await call.write(repositories.check_complete, repository, document)
        content = await _content(call, document, digest, len(body), kind)
        if content is not None:
            await call.write(repositories.put_image, repository, tag, document, content)
        else:
            await call.write(repositories.put_other, repository, tag, document, digest, len(body), kind)
    headers = {"Location": f"/v2/{repository.full}/manifests/{reference}", "Docker-Content-Digest": digest}
    if document.subject is not None:
        headers["OCI-Subject"] = document.subject.digest
    return Reply(status=201, headers=headers)


async def _body(call: Call) -> bytes:
    length = call.request.content_length
    if length is not None and length > manifests.MANIFEST_BYTES_MAX:
        raise TooLarge(f"a manifest has {manifests.MANIFEST_BYTES_MAX} bytes at most")
    try:
        return await call.request.read()
    except web.HTTPRequestEntityTooLarge:
        raise TooLarge(f"a manifest has {manifests.MANIFEST_BYTES_MAX} bytes at most") from None
    except (web.RequestPayloadError, ValueError) as error:
        raise Invalid(f"The body could not be read: {error}", code="MANIFEST_INVALID") from None


async def _content(call: Call, document: Manifest, digest: str, size: int, kind: str) -> Content | None:
    """What a manifest is as an image; None for an index, an artifact, and what only looks like an image."""
    if not document.is_image or document.config is None or document.config.size > manifests.CONFIG_BYTES_MAX:
        return None
    blobs = call.cloud.blobs
    if any(_size(blobs.path(entry.digest)) != entry.size for entry in (document.config, *document.layers)):
        raise Invalid("a size in the manifest is not that of its blob", code="SIZE_INVALID")
    try:
        config = await contents.read_blob(call.cloud, document.config.digest)
        decoded, diff_ids = manifests.decode_config(config)
    except Invalid:
        return None
    if len(diff_ids) != len(document.layers):
        return None
    layers = tuple(
        Layer(entry.digest, entry.size, entry.media_type, diff_id)
        for entry, diff_id in zip(document.layers, diff_ids, strict=True)
    )
    return Content(document.config.digest, decoded, len(config), layers, digest, size, kind)


def _size(path: Any) -> int:
    try:
        return int(path.stat().st_size)
    except OSError:
        raise NotFound("blob unknown to registry", code="MANIFEST_BLOB_UNKNOWN") from None


async def delete(call: Call) -> Reply:
    repository = await call.read(repositories.find, call.path["name"], push=True)
    digests = await call.write(repositories.delete_manifest, repository, call.path["reference"])
    data.drop_all(call.cloud, digests)
    return Reply(status=202)


async def tags(call: Call) -> Reply:
    repository = await call.read(repositories.find, call.path["name"])
    last, limit = page(call, PAGE_MAX)
    found, more = await call.read(repositories.tags, repository, last, limit)
    headers = _next(f"/v2/{repository.full}/tags/list", found, limit) if more and found else {}
    return Reply({"name": repository.full, "tags": found}, headers=headers)


async def catalog(call: Call) -> Reply:
    last, limit = page(call, PAGE_MAX)
    found, more = await call.read(repositories.catalog, last, limit)
    return Reply({"repositories": found}, headers=_next("/v2/_catalog", found, limit) if more and found else {})


def _next(path: str, found: list[str], limit: int) -> dict[str, str]:
    """RFC 8288."""
    return {"Link": f'<{path}?n={limit}&last={found[-1]}>; rel="next"'}


async def referrers(call: Call) -> Reply:
    repository = await call.read(repositories.find, call.path["name"])
    digest, wanted = call.path["digest"], call.query.get("artifactType", "")
    if not DIGEST.fullmatch(digest):
        raise Invalid(f"invalid digest: {digest}", code="DIGEST_INVALID")
    rows = await call.read(repositories.referrers, repository, digest, wanted)
    listed = [
        {
            "mediaType": row["media_type"],
            "digest": row["digest"],
            "size": row["size"],
            **({"artifactType": row["artifact_type"]} if row["artifact_type"] else {}),
            **({"annotations": row["annotations"]} if row["annotations"] else {}),
        }
        for row in rows
    ]
    body = {"schemaVersion": 2, "mediaType": manifests.OCI_INDEX, "manifests": listed}
    headers = {"OCI-Filters-Applied": "artifactType"} if wanted else {}
    return Reply(manifests.encode(body), headers=headers, content_type=manifests.OCI_INDEX)
