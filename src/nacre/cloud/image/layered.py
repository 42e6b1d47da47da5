"""Images made of layers: rows of `images` like any other, whose bytes are shared layer by layer."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute.images import naming
from nacre.cloud.context import Context
from nacre.cloud.errors import Forbidden
from nacre.cloud.image import export, manifests, references
from nacre.cloud.image.references import Reference
from nacre.cloud.image.rules import Row
from nacre.cloud.image.tables import image_layers, image_manifests, images, manifest_blobs, registry_blobs
from nacre.store import Prepared, among
from nacre.store.schema import new_id, now


@dataclass(frozen=True)
class Layer:
    digest: str
    size: int
    media_type: str
    diff_id: str


@dataclass(frozen=True)
class Content:
    """What a layered image is, with all its blobs in the store."""

    docker_id: str
    """The digest of the config's bytes."""
    config: dict[str, Any]
    config_size: int
    layers: tuple[Layer, ...]
    manifest_digest: str
    manifest_size: int
    media_type: str = manifests.OCI_MANIFEST

    @property
    def exported(self) -> export.Exported:
        """As it is written into an archive, without names."""
        layers = tuple(export.Source(layer.digest, layer.size) for layer in self.layers)
        manifest = export.Source(self.manifest_digest, self.manifest_size)
        return export.Exported(manifest, self.media_type, export.Source(self.docker_id, self.config_size), layers)


def add(
    conn: sa.Connection,
    ctx: Context,
    content: Content,
    names: tuple[Reference, ...] = (),
    parent: str | None = None,
    hidden: bool = False,
) -> Row:
    """The project's image with this content: the one it has, or a new one. Each name gets it, and each repository its manifest.

    `hidden`: the Image API's lists leave a new one out until it has a name (what lies between the steps of a build).
    """
    if ctx.project_id is None:
        raise Forbidden("An image needs a project: use a project-scoped token.")
    row = _of_content(conn, ctx.project_id, content.docker_id)
    if row is None:
        row = _insert(conn, ctx, content, parent, hidden)
    elif row["manifest_digest"] is None:
        attach(conn, row["id"], content)
    for name in names:
        put_manifest(conn, ctx.project_id, name.repository, row["id"], content)
        if name.tag:
            references.put(conn, ctx.project_id, name, row["id"], content.manifest_digest)
            _call(conn, row, str(name))
    return row


def _call(conn: sa.Connection, row: Row, name: str) -> None:
    """The Image API shows an image without a name under the first that Docker gives it."""
    if row["name"] is None:
        row["name"] = name
        conn.execute(images.update().where(images.c.id == row["id"]).values(name=name, os_hidden=False))


def _of_content(conn: sa.Connection, project_id: str, docker_id: str) -> Row | None:
    where = (images.c.owner == project_id, images.c.docker_id == docker_id, images.c.status == "active")
    row = conn.execute(sa.select(images).where(*where).order_by(images.c.created_at).limit(1)).mappings().first()
    return None if row is None else dict(row)


def _insert(conn: sa.Connection, ctx: Context, content: Content, parent: str | None, hidden: bool) -> Row:
    moment = now()
    row: Row = {
        "id": new_id(),
        "name": None,
        "owner": ctx.project_id,
        "visibility": "shared",
        "status": "active",
        "container_format": "docker",
        "disk_format": "raw",
        "size": export.size_of(export.plan([content.exported])),
        "digest": content.manifest_digest,
        "docker_id": content.docker_id,
        "config": content.config,
        "parent": parent,
        "os_hidden": hidden,
        "created_at": moment,
        "updated_at": moment,
    }
    conn.execute(images.insert().values(**row))
    attach(conn, row["id"], content)
    return dict(conn.execute(sa.select(images).where(images.c.id == row["id"])).mappings().one())


def attach(conn: sa.Connection, image_id: str, content: Content) -> None:
    """Write down the layers of an image that is there."""
    conn.execute(
        images.update()
        .where(images.c.id == image_id)
        .values(docker_id=content.docker_id, config=content.config, manifest_digest=content.manifest_digest, updated_at=now())
    )
    if content.layers:
        conn.execute(
            image_layers.insert(),
            [
                {
                    "image_id": image_id,
                    "position": position,
                    "digest": layer.digest,
                    "size": layer.size,
                    "media_type": layer.media_type,
                    "diff_id": layer.diff_id,
                }
                for position, layer in enumerate(content.layers)
            ],
        )


def put_manifest(conn: sa.Connection, project_id: str, repository: str, image_id: str | None, content: Content) -> None:
    """A repository of the project has this image's manifest."""
    blobs = [content.docker_id, *(layer.digest for layer in content.layers)]
    put_document(
        conn, project_id, repository, content.manifest_digest, content.manifest_size, content.media_type, image_id, blobs
    )


def put_document(
    conn: sa.Connection,
    project_id: str,
    repository: str,
    digest: str,
    size: int,
    media_type: str,
    image_id: str | None,
    blobs: list[str],
    **more: Any,
) -> None:
    """A repository of the project has this manifest or index. Again: only its image may have become another."""
    key = (
        image_manifests.c.project_id == project_id,
        image_manifests.c.repository == repository,
        image_manifests.c.digest == digest,
    )
    known = conn.execute(sa.select(image_manifests.c.id).where(*key)).scalar()
    if known is not None:
        conn.execute(image_manifests.update().where(*key).values(image_id=image_id))
        return
    ident = new_id()
    conn.execute(
        image_manifests.insert().values(
            id=ident,
            project_id=project_id,
            repository=repository,
            digest=digest,
            size=size,
            media_type=media_type,
            image_id=image_id,
            created_at=now(),
            **more,
        )
    )
    named = list(dict.fromkeys(blobs))
    if named:
        conn.execute(manifest_blobs.insert(), [{"manifest_id": ident, "digest": blob} for blob in named])
        brought = (registry_blobs.c.project_id == project_id, registry_blobs.c.repository == repository)
        conn.execute(registry_blobs.delete().where(*brought, registry_blobs.c.digest.in_(named)))


_LAYERS = Prepared(
    sa.select(image_layers).where(among(image_layers.c.image_id)).order_by(image_layers.c.image_id, image_layers.c.position)
)


def layers_of(conn: sa.Connection, idents: list[str]) -> dict[str, list[Layer]]:
    """Image id -> its layers from the lowest up; none for an archive that was never taken apart."""
    found: dict[str, list[Layer]] = {ident: [] for ident in idents}
    for row in _LAYERS.rows(conn, ids=idents):
        found[row["image_id"]].append(Layer(row["digest"], row["size"], row["media_type"], row["diff_id"]))
    return found


def blobs_of(conn: sa.Connection, image_id: str) -> list[str]:
    """Every digest that goes unnamed, perhaps, when the image's row goes."""
    row = conn.execute(sa.select(images).where(images.c.id == image_id)).mappings().one()
    own = [row[name] for name in ("digest", "manifest_digest", "docker_id") if row[name]]
    named = sa.select(image_layers.c.digest).where(image_layers.c.image_id == image_id)
    listed = sa.select(image_manifests).where(image_manifests.c.image_id == image_id).subquery()
    inner = sa.select(manifest_blobs.c.digest).join(listed, listed.c.id == manifest_blobs.c.manifest_id)
    more = [conn.execute(query).scalars().all() for query in (named, sa.select(listed.c.digest), inner)]
    return list(dict.fromkeys([*own, *(digest for digests in more for digest in digests)]))


def size_of_named(conn: sa.Connection, digest: str) -> int | None:
    """The size of a blob that some row of a layered image or of the registry names, or some server's image; None: nobody does."""
    for table in (image_layers, image_manifests, registry_blobs):
        size = conn.execute(sa.select(table.c.size).where(table.c.digest == digest).limit(1)).scalar()
        if size is not None:
            return int(size)
    for column in (images.c.docker_id, images.c.manifest_digest, manifest_blobs.c.digest):
        if conn.execute(sa.select(column).where(column == digest).limit(1)).first() is not None:
            return 0
    return 0 if any(conn.execute(query.limit(1)).first() is not None for query in naming(digest)) else None
