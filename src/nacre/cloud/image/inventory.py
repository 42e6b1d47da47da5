"""A project's images as Docker counts them: by the id of the config, under all their names; listed, untagged, removed, pruned."""

from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from nacre.cloud.compute.tables import servers
from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Forbidden
from nacre.cloud.image import layered, operations, references
from nacre.cloud.image.layered import Layer
from nacre.cloud.image.references import Reference
from nacre.cloud.image.rules import Row
from nacre.cloud.image.tables import image_manifests, image_references, images, manifest_blobs

FORCED = "(must be forced)"
PARENTS_MAX = 1100
"""Images that lie between the steps of one build: a Dockerfile has no more instructions."""


@dataclass
class Entry:
    """One image of Docker's: `rows` are the Image API's images with its content, the project's own first."""

    docker_id: str
    rows: list[Row]
    names: list[Reference] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    containers: int = 0

    @property
    def row(self) -> Row:
        return self.rows[0]

    @property
    def config(self) -> dict[str, Any]:
        document: dict[str, Any] = self.row["config"] or {}
        return document

    @property
    def settings(self) -> dict[str, Any]:
        """The config's `config`: Entrypoint, Cmd, Env, Labels ..."""
        return self.config.get("config") or {}

    @property
    def labels(self) -> dict[str, str]:
        found = self.settings.get("Labels")
        return found if isinstance(found, dict) else {}

    @property
    def size(self) -> int:
        """Of the layers as they are kept; of an archive that was not taken apart, of the archive."""
        return sum(layer.size for layer in self.layers) if self.layers else int(self.row["size"] or 0)

    @property
    def dangling(self) -> bool:
        return not self.names


def entries(conn: sa.Connection, ctx: Context, docker_id: str | None = None) -> list[Entry]:
    """What the project may use, the newest first; with `docker_id` that one only."""
    query = sa.select(images).where(references.usable(ctx))
    if docker_id is not None:
        query = query.where(images.c.docker_id == docker_id)
    order = sa.case((images.c.owner == ctx.project_id, 0), else_=1)
    rows = [dict(row) for row in conn.execute(query.order_by(order, images.c.created_at.desc())).mappings()]
    idents = [row["id"] for row in rows]
    names = references.of_images(conn, ctx, rows)
    digests = references.digests_of(conn, ctx, idents)
    layers = layered.layers_of(conn, idents)
    used = {ident: len(found) for ident, found in _users(conn, ctx, idents).items()}
    found: dict[str, Entry] = {}
    for row in rows:
        entry = found.setdefault(row["docker_id"], Entry(row["docker_id"], []))
        entry.rows.append(row)
        entry.names += [name for name in names[row["id"]] if name not in entry.names]
        entry.digests += [digest for digest in digests[row["id"]] if digest not in entry.digests]
        entry.layers = entry.layers or layers[row["id"]]
        entry.containers += used[row["id"]]
    return sorted(found.values(), key=lambda entry: -entry.row["created_at"])


def entry(conn: sa.Connection, ctx: Context, reference: str) -> Entry:
    """Raises NotFound."""
    row = references.resolve(conn, ctx, reference)
    return entries(conn, ctx, row["docker_id"])[0]


def _users(conn: sa.Connection, ctx: Context, idents: list[str]) -> dict[str, list[Row]]:
    """Image id -> the project's servers (containers among them) that were made from it."""
    found: dict[str, list[Row]] = {ident: [] for ident in idents}
    columns = (servers.c.id, servers.c.image_id, servers.c.power, servers.c.name, servers.c.observed_state)
    where = (servers.c.project_id == ctx.project_id, servers.c.gone.is_(False), servers.c.image_id.in_(idents))
    for row in conn.execute(sa.select(*columns).where(*where)).mappings():
        found[row["image_id"]].append(dict(row))
    return found


def tag(conn: sa.Connection, ctx: Context, source: str, target: Reference) -> Row:
    """Give an image another name. Raises NotFound, Invalid."""
    row = references.resolve(conn, ctx, source)
    assert ctx.project_id is not None
    references.put(conn, ctx.project_id, target, row["id"], row["manifest_digest"])
    _copy_manifest(conn, ctx.project_id, row, target.repository)
    return row


def _copy_manifest(conn: sa.Connection, project_id: str, row: Row, repository: str) -> None:
    """The repository of the new name can be pulled from the registry, like the one of the old."""
    if row["manifest_digest"] is None:
        return
    where = (image_manifests.c.digest == row["manifest_digest"],)
    known = conn.execute(sa.select(image_manifests).where(*where).limit(1)).mappings().first()
    layers = layered.layers_of(conn, [row["id"]])[row["id"]]
    if known is not None:
        blobs = [row["docker_id"], *(layer.digest for layer in layers)]
        size, kind = known["size"], known["media_type"]
        layered.put_document(conn, project_id, repository, row["manifest_digest"], size, kind, row["id"], blobs)


@dataclass
class Removed:
    """What a removal did: lines for Docker's answer, and digests whose blobs may go."""

    untagged: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    bytes: int = 0


def remove(conn: sa.Connection, ctx: Context, reference: str, force: bool) -> Removed:
    """Untag, and delete what has no name left. Raises NotFound, Conflict in Docker's words, Forbidden for what is not the project's."""
    row = references.resolve(conn, ctx, reference)
    found = entries(conn, ctx, row["docker_id"])[0]
    done = Removed()
    named = _named(reference, found)
    short = found.docker_id.removeprefix("sha256:")[:12]
    if named is None:
        repositories = {name.repository for name in found.names}
        if len(repositories) > 1 and not force:
            raise Conflict(
                f"conflict: unable to delete {short} {FORCED} - image is referenced in multiple repositories", code="conflict"
            )
        _check_unused(conn, ctx, found, f"unable to delete {short}", force)
        for name in found.names:
            _untag(conn, ctx, found, name, done)
        _delete(conn, ctx, found, done)
        return done
    if len(found.names) <= 1:
        _check_unused(conn, ctx, found, f'unable to remove repository reference "{reference}"', force, named=True)
    _untag(conn, ctx, found, named, done)
    if len(found.names) <= 1 and not any(
        user for users in _users(conn, ctx, [r["id"] for r in found.rows]).values() for user in users
    ):
        _delete(conn, ctx, found, done)
    return done


def _named(reference: str, found: Entry) -> Reference | None:
    """The name by which an image was called; None when it was called by its id."""
    if reference.startswith("sha256:") or len(reference) == 64:
        return None
    try:
        wanted = references.parse(reference)
    except Exception:  # It was found by an id that can be no name.
        return None
    if wanted.digest:
        return wanted if any(digest == f"{wanted.repository}@{wanted.digest}" for digest in found.digests) else None
    return wanted.tagged if wanted.tagged in found.names else None


def _check_unused(conn: sa.Connection, ctx: Context, found: Entry, what: str, force: bool, named: bool = False) -> None:
    """Raises Conflict when a container runs from it, and, unless forced, when one is stopped."""
    users = [user for users in _users(conn, ctx, [row["id"] for row in found.rows]).values() for user in users]
    short = found.docker_id.removeprefix("sha256:")[:12]
    for user in sorted(users, key=lambda user: user["power"] != "running"):
        container = user["id"].replace("-", "")[:12]
        if named and not force:
            raise Conflict(f"conflict: {what} (must force) - container {container} is using its referenced image {short}")
        if user["power"] == "running" and not named:
            raise Conflict(f"conflict: {what} (cannot be forced) - image is being used by running container {container}")
        if not force:
            raise Conflict(f"conflict: {what} {FORCED} - image is being used by stopped container {container}")


def _untag(conn: sa.Connection, ctx: Context, found: Entry, name: Reference, done: Removed) -> None:
    key = (image_references.c.project_id == ctx.project_id, image_references.c.repository == name.repository)
    if name.digest:
        conn.execute(
            image_manifests.delete().where(
                image_manifests.c.project_id == ctx.project_id,
                image_manifests.c.repository == name.repository,
                image_manifests.c.digest == name.digest,
            )
        )
        done.untagged.append(str(name))
        return
    removed = conn.execute(image_references.delete().where(*key, image_references.c.tag == name.tag)).rowcount
    for row in found.rows:
        if row["owner"] == ctx.project_id and references.reference_of(row) == name:
            others = [str(other) for other in found.names if other != name]
            conn.execute(images.update().where(images.c.id == row["id"]).values(name=next(iter(others), None)))
            removed = 1
    if not removed:
        raise Forbidden(f"the image {name} is another project's: it cannot be removed")
    done.untagged.append(str(name))
    _forget_digests(conn, ctx, found, name.repository, done)


def _forget_digests(conn: sa.Connection, ctx: Context, found: Entry, repository: str, done: Removed) -> None:
    """An image that has no tag in a repository any more has no digest there either."""
    idents = [row["id"] for row in found.rows]
    tagged = sa.select(image_references.c.tag).where(
        image_references.c.project_id == ctx.project_id,
        image_references.c.repository == repository,
        image_references.c.image_id.in_(idents),
    )
    if conn.execute(tagged.limit(1)).first() is not None:
        return
    where = (
        image_manifests.c.project_id == ctx.project_id,
        image_manifests.c.repository == repository,
        image_manifests.c.image_id.in_(idents),
    )
    rows = conn.execute(sa.select(image_manifests.c.id, image_manifests.c.digest).where(*where)).all()
    blobs = sa.select(manifest_blobs.c.digest).where(manifest_blobs.c.manifest_id.in_([row.id for row in rows]))
    done.dropped += [*(row.digest for row in rows), *conn.execute(blobs).scalars()]
    done.untagged += [f"{repository}@{row.digest}" for row in rows]
    conn.execute(image_manifests.delete().where(*where))


def _delete(conn: sa.Connection, ctx: Context, found: Entry, done: Removed) -> None:
    """The project's rows with this content go; another project's image stays what it is."""
    own = [row for row in found.rows if row["owner"] == ctx.project_id]
    for row in own:
        try:
            done.dropped += operations.delete(conn, ctx, row["id"])
        except Forbidden as error:
            raise Conflict(f"conflict: {error.message}") from None
    if own:
        done.deleted.append(found.docker_id)
        done.bytes += found.size
        _delete_parent(conn, ctx, found.row["parent"], done)
    elif not done.untagged:
        raise Forbidden("the image is another project's: it cannot be removed")


def _delete_parent(conn: sa.Connection, ctx: Context, docker_id: str | None, done: Removed) -> None:
    """What lay between the steps of a build goes with the last image that was made of it."""
    for _ in range(PARENTS_MAX):
        found = next(iter(entries(conn, ctx, docker_id)), None) if docker_id else None
        if found is None or docker_id is None or not _is_between(conn, ctx, found):
            return
        for row in found.rows:
            done.dropped += operations.delete(conn, ctx, row["id"])
        done.deleted.append(docker_id)
        docker_id = found.row["parent"]


def _is_between(conn: sa.Connection, ctx: Context, found: Entry) -> bool:
    """Whether nobody but its children needs it, and it has none."""
    own = all(row["owner"] == ctx.project_id and row["os_hidden"] and not row["protected"] for row in found.rows)
    children = sa.select(images.c.id).where(images.c.parent == found.docker_id, images.c.owner == ctx.project_id)
    return own and found.dangling and not found.containers and conn.execute(children.limit(1)).first() is None


def remove_made(conn: sa.Connection, ctx: Context, docker_id: str) -> Removed:
    """Remove an image that a build made and nobody needs: one that has got a name, a child or a container stays."""
    done = Removed()
    found = next(iter(entries(conn, ctx, docker_id)), None)
    if found is not None and _is_between(conn, ctx, found):
        for row in found.rows:
            done.dropped += operations.delete(conn, ctx, row["id"])
        done.deleted.append(docker_id)
    return done


def prune(conn: sa.Connection, ctx: Context, chosen: list[str]) -> Removed:
    """Remove these images (docker ids), as far as they are the project's and no container uses them."""
    done = Removed()
    for docker_id in chosen:
        for found in entries(conn, ctx, docker_id):
            own = all(row["owner"] == ctx.project_id and not row["protected"] for row in found.rows)
            if own and not found.containers:
                for name in found.names:
                    _untag(conn, ctx, found, name, done)
                _delete(conn, ctx, found, done)
    return done
