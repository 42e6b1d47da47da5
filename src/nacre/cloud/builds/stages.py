"""Images while they are built: each step makes one of the one before, or finds it in the cache.

What a step makes waits in memory, documents and all, until a container needs it or the build ends: then all of it is written at once.
"""

import asyncio
import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from nacre.cloud.builds import trees
from nacre.cloud.builds.context import plain
from nacre.cloud.builds.tables import build_steps
from nacre.cloud.builds.trees import Tree
from nacre.cloud.context import Context
from nacre.cloud.core import Cloud
from nacre.cloud.errors import Invalid
from nacre.cloud.image import contents, layered, manifests, references
from nacre.cloud.image.intake import Intake
from nacre.cloud.image.layered import Content, Layer
from nacre.cloud.image.rules import Row
from nacre.cloud.image.tables import images
from nacre.store.schema import new_id, now

LAYER_BYTES_MAX = 64 << 30
"""A layer when it is unpacked."""


@dataclass(frozen=True)
class State:
    """An image: `docker_id` is empty for `scratch`. `config` is the whole OCI document; nobody changes it."""

    docker_id: str
    config: Row
    layers: tuple[Layer, ...]

    @property
    def settings(self) -> Row:
        """A copy of what containers are made with."""
        copied: Row = json.loads(json.dumps(self.config.get("config") or {}))
        return copied


SCRATCH = State("", {"architecture": manifests.ARCHITECTURE, "os": "linux", "config": {}}, ())


@dataclass
class _Made:
    state: State
    parent: str
    key: str
    config: bytes
    manifest: bytes


@dataclass
class Images:
    """The images of one build. Belongs to one task."""

    cloud: Cloud
    ctx: Context
    intake: Intake
    scratch: Path
    made: list[str] = field(default_factory=list)
    """The docker_ids of what this build wrote down, in order."""
    _waiting: list[_Made] = field(default_factory=list)
    _found: dict[tuple[str, str], State] = field(default_factory=dict)
    _trees: dict[tuple[str, ...], Tree] = field(default_factory=dict)

    async def named(self, reference: str) -> State | None:
        """An image that the project may use; None without one. Raises Invalid for what is no name."""
        row = self.cloud.store.read_now(references.find, self.ctx, reference)
        if row is None:
            return None
        content = await contents.of_image(self.cloud, row)
        return State(content.docker_id, content.config, content.layers)

    def cached(self, parent: State, key: str) -> State | None:
        known = self._found.get((parent.docker_id, key))
        return known or self.cloud.store.read_now(_cached, self.ctx.project_id or "", parent.docker_id, key)

    def add(
        self, parent: State, key: str, settings: Row, created_by: str, layer: Layer | None = None, author: str | None = None
    ) -> State:
        """A new image of the parent. Raises Invalid when it has all the layers that it may have."""
        created = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        config: Row = json.loads(json.dumps(parent.config))
        config |= {"created": created, "config": settings, **({"author": author} if author else {})}
        root = config.setdefault("rootfs", {"type": "layers", "diff_ids": []})
        layers = parent.layers
        line: Row = {"created": created, "created_by": created_by}
        if layer is None:
            line["empty_layer"] = True
        else:
            if len(layers) >= manifests.LAYERS_MAX:
                raise Invalid(f"max depth exceeded: an image has {manifests.LAYERS_MAX} layers at most")
            root["diff_ids"].append(layer.diff_id)
            layers = (*layers, layer)
        config.setdefault("history", []).append(line)
        data = manifests.encode(config)
        state = State(manifests.digest_of(data), config, layers)
        manifest = manifests.make((state.docker_id, len(data)), [(each.digest, each.size, each.media_type) for each in layers])
        self._waiting.append(_Made(state, parent.docker_id, key, data, manifest))
        self._found[parent.docker_id, key] = state
        return state

    def new_file(self) -> Path:
        """A name in the scratch folder that nothing bears."""
        return self.scratch / f"{new_id()}.tar"

    async def keep_layer(self, path: Path) -> Layer:
        """A tar in the scratch folder becomes a layer."""
        blob = await self.intake.file(path)
        return Layer(blob.digest, blob.size, manifests.OCI_LAYER, blob.digest)

    async def flush(self) -> None:
        """Write down what waits, in one transaction."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        await asyncio.gather(*(self.intake.document(data) for each in waiting for data in (each.config, each.manifest)))
        await self.cloud.store.write(_add, self.ctx, waiting)
        self.made += [each.state.docker_id for each in waiting]

    async def tree(self, state: State) -> Tree:
        """The image's file system."""
        key = tuple(layer.diff_id for layer in state.layers)
        if key not in self._trees:
            paths = [(self.cloud.blobs.path(layer.digest), layer) for layer in state.layers]
            self._trees[key] = await asyncio.to_thread(_tree, paths, self.scratch)
        return self._trees[key]


def key_of(*parts: Any) -> str:
    """What a step does, in one word."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _tree(layers: list[tuple[Path, Layer]], scratch: Path) -> Tree:
    tree = Tree()
    for path, layer in layers:
        unpacked = scratch / f"{layer.diff_id.removeprefix('sha256:')}.tar"
        tree.add(trees.members(unpacked if unpacked.is_file() else plain(path, unpacked, LAYER_BYTES_MAX), layer=True))
    return tree


def _cached(conn: sa.Connection, project_id: str, parent: str, key: str) -> State | None:
    where = (build_steps.c.project_id == project_id, build_steps.c.parent == parent, build_steps.c.key == key)
    joined = sa.join(images, build_steps, build_steps.c.image_id == images.c.id)
    query = sa.select(images.c.id, images.c.docker_id, images.c.config).select_from(joined).where(*where)
    row = conn.execute(query.order_by(build_steps.c.created_at.desc()).limit(1)).first()
    if row is None:
        return None
    return State(row.docker_id, row.config, tuple(layered.layers_of(conn, [row.id])[row.id]))


def _add(conn: sa.Connection, ctx: Context, made: list[_Made]) -> None:
    for each in made:
        state = each.state
        digest = manifests.digest_of(each.manifest)
        content = Content(state.docker_id, state.config, len(each.config), state.layers, digest, len(each.manifest))
        row = layered.add(conn, ctx, content, parent=each.parent or None, hidden=True)
        if conn.execute(sa.select(build_steps.c.key).where(build_steps.c.image_id == row["id"])).first() is None:
            conn.execute(
                build_steps.insert().values(
                    image_id=row["id"], project_id=ctx.project_id, parent=each.parent, key=each.key, created_at=now()
                )
            )
