"""Manifests and configs as documents: image-spec's `manifest.md`, `image-index.md`, `config.md`, and Docker's schema 2.

They come from outside: every size has a bound, every digest a form, and what is no manifest is an Invalid.
"""

import hashlib
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from nacre.cloud.errors import Invalid

MANIFEST_BYTES_MAX = 4 << 20
CONFIG_BYTES_MAX = 8 << 20
LAYERS_MAX = 256
INDEX_MAX = 512

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"

MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEXES = (OCI_INDEX, DOCKER_LIST)
CONFIGS = (OCI_CONFIG, DOCKER_CONFIG)
"""A manifest with one of these configs is an image; any other is an artifact."""
ARCHITECTURE = "amd64"

Digest = Annotated[str, Meta(pattern="^sha256:[0-9a-f]{64}$")]


class Platform(Struct, frozen=True):
    architecture: str = ""
    os: str = ""


class Descriptor(Struct, frozen=True, rename={"media_type": "mediaType"}):
    digest: Digest
    size: Annotated[int, Meta(ge=0, lt=1 << 62)]
    media_type: str = ""
    platform: Platform | None = None


class Manifest(Struct, frozen=True, rename={"media_type": "mediaType", "artifact_type": "artifactType"}):
    """A manifest or an index: the one has `config` and `layers`, the other `manifests`."""

    media_type: str = ""
    config: Descriptor | None = None
    layers: Annotated[tuple[Descriptor, ...], Meta(max_length=LAYERS_MAX)] = ()
    manifests: Annotated[tuple[Descriptor, ...], Meta(max_length=INDEX_MAX)] = ()
    subject: Descriptor | None = None
    artifact_type: str = ""
    annotations: dict[str, str] | None = None

    @property
    def is_index(self) -> bool:
        return self.config is None

    @property
    def is_image(self) -> bool:
        return self.config is not None and self.config.media_type in CONFIGS


class _RootFs(Struct, frozen=True):
    diff_ids: Annotated[tuple[Digest, ...], Meta(max_length=LAYERS_MAX)] = ()


class _Config(Struct, frozen=True):
    rootfs: _RootFs = _RootFs()


_decoder = msgspec.json.Decoder(Manifest)


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def decode(data: bytes, media_type: str = "") -> Manifest:
    """Raises Invalid."""
    try:
        manifest = _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Invalid(f"manifest invalid: {error}", code="MANIFEST_INVALID") from None
    kind = manifest.media_type or media_type
    if kind not in (*MANIFESTS, *INDEXES):
        raise Invalid(f"manifest invalid: unsupported media type {kind or 'missing'}", code="MANIFEST_INVALID")
    if media_type and manifest.media_type and media_type != manifest.media_type:
        raise Invalid("manifest invalid: its mediaType is not that of the request", code="MANIFEST_INVALID")
    if (kind in INDEXES) != manifest.is_index:
        raise Invalid("manifest invalid: neither a manifest nor an index", code="MANIFEST_INVALID")
    return manifest


def decode_config(data: bytes) -> tuple[dict[str, Any], tuple[str, ...]]:
    """(the document, its diff ids). Raises Invalid."""
    if len(data) > CONFIG_BYTES_MAX:
        raise Invalid(f"the image's config is larger than {CONFIG_BYTES_MAX} bytes", code="MANIFEST_INVALID")
    try:
        document = msgspec.json.decode(data, type=dict[str, Any])
        checked = msgspec.convert(document, type=_Config)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Invalid(f"the image's config is invalid: {error}", code="MANIFEST_INVALID") from None
    inner = document.get("config")
    if inner is not None and not isinstance(inner, dict):
        raise Invalid("the image's config is invalid: `config` is no object", code="MANIFEST_INVALID")
    return document, checked.rootfs.diff_ids


def encode(document: Any) -> bytes:
    """JSON, the same bytes each time."""
    return msgspec.json.encode(document, order="deterministic")


def make(config: tuple[str, int], layers: list[tuple[str, int, str]]) -> bytes:
    """An OCI manifest over a config (digest, size) and layers (digest, size, media type)."""
    return encode(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": config[0], "size": config[1]},
            "layers": [{"mediaType": kind, "digest": digest, "size": size} for digest, size, kind in layers],
        }
    )


def fitting(manifest: Manifest) -> Descriptor | None:
    """The entry of an index that is for this platform."""
    for entry in manifest.manifests:
        platform = entry.platform
        if platform is not None and platform.architecture == ARCHITECTURE and platform.os in ("", "linux"):
            return entry
    return next((entry for entry in manifest.manifests if entry.platform is None), None)
