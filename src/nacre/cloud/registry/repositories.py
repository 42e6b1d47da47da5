"""Repositories as the registry shows them: whose they are, their manifests, tags and blobs, and who may see them.

A repository is PROJECT/NAME: the project by its name or id, and the images' name as Docker's pane knows it in that project. A project's
own are all there for it; of another's, the manifests of images that are public or shared with it.
"""

import re
from dataclasses import dataclass

import sqlalchemy as sa

from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Forbidden, Invalid, NotFound
from nacre.cloud.identity.tables import projects
from nacre.cloud.image import layered, operations, references
from nacre.cloud.image.layered import Content
from nacre.cloud.image.manifests import Manifest, fitting
from nacre.cloud.image.references import Reference
from nacre.cloud.image.rules import Row
from nacre.cloud.image.tables import image_manifests, image_references, images, manifest_blobs, registry_blobs
from nacre.store.schema import now

NAME = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*")
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
NAME_CHARACTERS_MAX = 255
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
PAGE_MAX = 1000


@dataclass(frozen=True)
class Repository:
    """`full` as the client wrote it; `name` is what it is called in the project."""

    full: str
    project_id: str
    name: str


def find(conn: sa.Connection, ctx: Context, full: str, push: bool = False) -> Repository:
    """Raises Invalid (NAME_INVALID), NotFound (NAME_UNKNOWN), Forbidden (DENIED) for a push to what is not the caller's project."""
    if not NAME.fullmatch(full) or len(full) > NAME_CHARACTERS_MAX:
        raise Invalid(f"invalid repository name: {full}", code="NAME_INVALID")
    first, slash, name = full.partition("/")
    if not slash:
        raise Invalid(f"repositories are called PROJECT/NAME: {full} has no project", code="NAME_INVALID")
    project_id = project_of(conn, ctx, first)
    if push and (project_id is None or project_id != ctx.project_id):
        raise Forbidden(f"requested access to the resource is denied: {first} is not the project of this login", code="DENIED")
    if project_id is None:
        raise _unknown(full)
    return Repository(full, project_id, familiar(name))


def familiar(name: str) -> str:
    """As Docker's pane keeps it: library/redis is redis."""
    reference = references.parse(name)
    return reference.repository


def _unknown(full: str) -> NotFound:
    return NotFound(f"repository name not known to registry: {full}", code="NAME_UNKNOWN")


def project_of(conn: sa.Connection, ctx: Context, text: str) -> str | None:
    """The id of the project that is called so: the caller's own first, then the default domain's."""
    where = (sa.or_(projects.c.id == text, projects.c.name == text), projects.c.is_domain.is_(False))
    rows = conn.execute(sa.select(projects.c.id, projects.c.name, projects.c.domain_id).where(*where)).all()
    order = sorted(rows, key=lambda row: (row.id != ctx.project_id, row.id != text, row.domain_id != "default"))
    return str(order[0].id) if order else None


def _visible(ctx: Context, project_id: str) -> sa.ColumnElement[bool]:
    if ctx.project_id == project_id:
        return sa.true()
    return image_manifests.c.image_id.in_(sa.select(images.c.id).where(references.usable(ctx)))


def _manifests(ctx: Context, repository: Repository) -> sa.Select[tuple[object, ...]]:
    return sa.select(image_manifests).where(
        image_manifests.c.project_id == repository.project_id,
        image_manifests.c.repository == repository.name,
        _visible(ctx, repository.project_id),
    )


def manifest(conn: sa.Connection, ctx: Context, repository: Repository, reference: str) -> Row:
    """The row of a manifest by its digest or a tag. Raises NotFound (MANIFEST_UNKNOWN)."""
    digest: str | None = reference
    if not DIGEST.fullmatch(reference):
        where = _named(repository, reference)
        digest = conn.execute(sa.select(image_references.c.digest).where(*where)).scalar()
    query = _manifests(ctx, repository).where(image_manifests.c.digest == (digest or ""))
    row = conn.execute(query).mappings().first()
    if row is None:
        raise NotFound(f"manifest unknown: {repository.full}:{reference}", code="MANIFEST_UNKNOWN")
    return dict(row)


def _named(repository: Repository, tag: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        image_references.c.project_id == repository.project_id,
        image_references.c.repository == repository.name,
        image_references.c.tag == tag,
    )


def has_blob(conn: sa.Connection, ctx: Context, repository: Repository, digest: str) -> bool:
    """Whether the caller may have this blob from here: a manifest that it sees names it, or it was just brought."""
    if not DIGEST.fullmatch(digest):
        raise Invalid(f"invalid digest: {digest}", code="DIGEST_INVALID")
    known = _manifests(ctx, repository).subquery()
    query = sa.select(manifest_blobs.c.digest).join(known, known.c.id == manifest_blobs.c.manifest_id)
    if conn.execute(query.where(manifest_blobs.c.digest == digest).limit(1)).first() is not None:
        return True
    return ctx.project_id == repository.project_id and _brought(conn, repository, digest)


def _brought(conn: sa.Connection, repository: Repository, digest: str) -> bool:
    where = _blob_key(repository, digest)
    return conn.execute(sa.select(registry_blobs.c.digest).where(*where)).first() is not None


def _blob_key(repository: Repository, digest: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        registry_blobs.c.project_id == repository.project_id,
        registry_blobs.c.repository == repository.name,
        registry_blobs.c.digest == digest,
    )


def put_blob(conn: sa.Connection, repository: Repository, digest: str, size: int) -> None:
    """A blob was brought to the repository: it stays until a manifest names it, or for a while."""
    where = _blob_key(repository, digest)
    if not conn.execute(registry_blobs.update().where(*where).values(created_at=now())).rowcount:
        conn.execute(
            registry_blobs.insert().values(
                project_id=repository.project_id, repository=repository.name, digest=digest, size=size, created_at=now()
            )
        )


def delete_blob(conn: sa.Connection, ctx: Context, repository: Repository, digest: str) -> None:
    """Raises NotFound (BLOB_UNKNOWN), Conflict when a manifest names it."""
    if not has_blob(conn, ctx, repository, digest):
        raise NotFound(f"blob unknown to registry: {digest}", code="BLOB_UNKNOWN")
    if not conn.execute(registry_blobs.delete().where(*_blob_key(repository, digest))).rowcount:
        raise Conflict("the blob belongs to a manifest: delete that", code="UNSUPPORTED")


def check_complete(conn: sa.Connection, ctx: Context, repository: Repository, document: Manifest) -> None:
    """That everything which a manifest names is here. Raises NotFound."""
    if document.config is not None:
        for entry in (document.config, *document.layers):
            if not has_blob(conn, ctx, repository, entry.digest):
                raise NotFound(f"blob unknown to registry: {entry.digest}", code="MANIFEST_BLOB_UNKNOWN")
    for entry in document.manifests:
        where = (image_manifests.c.digest == entry.digest,)
        if conn.execute(_manifests(ctx, repository).where(*where)).first() is None:
            raise NotFound(f"manifest unknown: {entry.digest}", code="MANIFEST_BLOB_UNKNOWN")


def put_image(conn: sa.Connection, ctx: Context, repository: Repository, tag: str, document: Manifest, content: Content) -> None:
    """A pushed image: at once one of the project's images. Raises NotFound when something of it is missing."""
    check_complete(conn, ctx, repository, document)
    layered.add(conn, ctx, content, (Reference(repository.name, tag),))


def put_other(
    conn: sa.Connection,
    ctx: Context,
    repository: Repository,
    tag: str,
    document: Manifest,
    digest: str,
    size: int,
    media_type: str,
) -> None:
    """An index (its image is the one for this platform), or an artifact (no image). Raises NotFound."""
    check_complete(conn, ctx, repository, document)
    chosen, image_id = fitting(document), None
    if chosen is not None:
        where = _manifests(ctx, repository).where(image_manifests.c.digest == chosen.digest)
        image_id = conn.execute(where).mappings().one()["image_id"]
    named = [entry.digest for entry in (*document.layers, *document.manifests)]
    if document.config is not None:
        named.append(document.config.digest)
    layered.put_document(
        conn,
        repository.project_id,
        repository.name,
        digest,
        size,
        media_type,
        image_id,
        named,
        subject=document.subject.digest if document.subject else None,
        artifact_type=document.artifact_type or (document.config.media_type if document.config else None),
        annotations=document.annotations,
    )
    if tag:
        references.put(conn, repository.project_id, Reference(repository.name, tag), image_id, digest)


def delete_manifest(conn: sa.Connection, ctx: Context, repository: Repository, reference: str) -> list[str]:
    """Delete a tag, or a manifest with its tags and, when nothing else names it, its image. Returns digests whose blobs may go."""
    row = manifest(conn, ctx, repository, reference)
    if not DIGEST.fullmatch(reference):
        conn.execute(image_references.delete().where(*_named(repository, reference)))
        return []
    named = conn.execute(sa.select(manifest_blobs.c.digest).where(manifest_blobs.c.manifest_id == row["id"])).scalars().all()
    conn.execute(image_manifests.delete().where(image_manifests.c.id == row["id"]))
    conn.execute(
        image_references.delete().where(
            image_references.c.project_id == repository.project_id,
            image_references.c.repository == repository.name,
            image_references.c.digest == reference,
        )
    )
    return [reference, *named, *_delete_unnamed(conn, ctx, row["image_id"])]


def _delete_unnamed(conn: sa.Connection, ctx: Context, image_id: str | None) -> list[str]:
    """The image behind a deleted manifest, unless it has another name, is protected, or another project's."""
    for table in (image_manifests, image_references):
        if conn.execute(sa.select(table.c.project_id).where(table.c.image_id == image_id).limit(1)).first() is not None:
            return []
    row = conn.execute(sa.select(images).where(images.c.id == image_id)).mappings().first()
    if row is None or row["owner"] != ctx.project_id or row["protected"] or row["digest"] != row["manifest_digest"]:
        return []
    return operations.delete(conn, ctx, row["id"])


def tags(conn: sa.Connection, ctx: Context, repository: Repository, last: str, limit: int) -> tuple[list[str], bool]:
    """(tags after `last`, in order; whether there are more). Raises NotFound (NAME_UNKNOWN) for a repository without anything to see."""
    known = _manifests(ctx, repository)
    if conn.execute(known.limit(1)).first() is None:
        raise _unknown(repository.full)
    visible = known.subquery()
    query = sa.select(image_references.c.tag).where(
        image_references.c.project_id == repository.project_id,
        image_references.c.repository == repository.name,
        image_references.c.digest.in_(sa.select(visible.c.digest)),
        image_references.c.tag > last,
    )
    found = list(conn.execute(query.order_by(image_references.c.tag).limit(limit + 1)).scalars())
    return found[:limit], len(found) > limit


def catalog(conn: sa.Connection, ctx: Context, last: str, limit: int) -> tuple[list[str], bool]:
    """(full names of the repositories that the caller sees, after `last`, in order; whether there are more)."""
    seen = sa.or_(
        image_manifests.c.project_id == ctx.project_id,
        image_manifests.c.image_id.in_(sa.select(images.c.id).where(references.usable(ctx))),
    )
    query = sa.select(image_manifests.c.project_id, image_manifests.c.repository, projects.c.name).distinct()
    query = query.join(projects, projects.c.id == image_manifests.c.project_id).where(seen)
    names = []
    for row in conn.execute(query):
        prefix = row.name if _COMPONENT.fullmatch(row.name) else row.project_id
        if NAME.fullmatch(row.repository):
            names.append(f"{prefix}/{row.repository}")
    found = sorted(name for name in set(names) if name > last)
    return found[:limit], len(found) > limit


def referrers(conn: sa.Connection, ctx: Context, repository: Repository, digest: str, artifact_type: str) -> list[Row]:
    """The manifests whose subject is this digest."""
    query = _manifests(ctx, repository).where(image_manifests.c.subject == digest)
    if artifact_type:
        query = query.where(image_manifests.c.artifact_type == artifact_type)
    return [dict(row) for row in conn.execute(query.order_by(image_manifests.c.digest).limit(PAGE_MAX)).mappings()]
