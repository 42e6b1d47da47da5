"""Docker's names of images: what they may look like, and which image one means.

Grammar: https://pkg.go.dev/github.com/distribution/reference. A name is kept in its familiar form: `docker.io/library/redis` is `redis`,
`docker.io/a/b` is `a/b`, any other registry's name stays whole.
"""

import re
from dataclasses import dataclass

import sqlalchemy as sa

from nacre.cloud.context import Context
from nacre.cloud.errors import Conflict, Invalid, NotFound
from nacre.cloud.image.rules import Row
from nacre.cloud.image.tables import image_manifests, image_members, image_references, images
from nacre.store.schema import now

NAME_CHARACTERS_MAX = 255
REFERENCES_MAX = 10_000
"""Names of one project."""
DEFAULT_TAG = "latest"

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_DOMAIN_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
_ANY_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")
_HEX = re.compile(r"[0-9a-f]{1,64}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Reference:
    """`repository` in its familiar form; neither tag nor digest, one of them, or both."""

    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def tagged(self) -> "Reference":
        """With the default tag where there is none."""
        return self if self.tag or self.digest else Reference(self.repository, DEFAULT_TAG)

    @property
    def domain(self) -> str:
        """The registry's host and port."""
        first, slash, _ = self.repository.partition("/")
        return first if slash and _is_domain(first) else "docker.io"

    @property
    def path(self) -> str:
        """The name in the registry: `library/redis`."""
        if self.domain != "docker.io":
            return self.repository.partition("/")[2]
        return self.repository if "/" in self.repository else f"library/{self.repository}"

    def __str__(self) -> str:
        return self.repository + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """A name as a user writes it. Raises Invalid in Docker's words."""
    if _HEX.fullmatch(text) and len(text) == 64:
        raise Invalid(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    name, at, digest = text.partition("@")
    domain, path = _split(name)
    path, colon, tag = path.partition(":")
    if path.lower() != path:
        raise Invalid(f"invalid reference format: repository name ({path}) must be lowercase")
    if not _PATH.fullmatch(path) or not _DOMAIN.fullmatch(domain) or (colon and not _TAG.fullmatch(tag)):
        raise Invalid("invalid reference format")
    if at and not _ANY_DIGEST.fullmatch(digest):
        raise Invalid("invalid reference format")
    if at and not _SHA256.fullmatch(digest):
        raise Invalid("unsupported digest algorithm" if not digest.startswith("sha256:") else "invalid checksum digest length")
    repository = path.removeprefix("library/") if domain == "docker.io" and path.count("/") == 1 else path
    if domain != "docker.io":
        repository = f"{domain}/{path}"
    if len(f"{domain}/{path}") > NAME_CHARACTERS_MAX:
        raise Invalid(f"repository name must not be more than {NAME_CHARACTERS_MAX} characters")
    return Reference(repository, tag, digest)


def _split(name: str) -> tuple[str, str]:
    """(domain, path with the tag)."""
    first, slash, rest = name.partition("/")
    if not slash or not _is_domain(first):
        return "docker.io", name if slash else f"library/{name}"
    if first in ("docker.io", "index.docker.io"):
        return "docker.io", rest if "/" in rest else f"library/{rest}"
    return first, rest


def _is_domain(first: str) -> bool:
    return "." in first or ":" in first or first == "localhost" or first.lower() != first


def tagged(text: str) -> str:
    """A name in its familiar form with its tag, as containers show their image's; what is no name stays as it is."""
    try:
        return str(parse(text).tagged)
    except Invalid:
        return text


def tag_of(text: str) -> str:
    """A tag by itself. Raises Invalid."""
    if not _TAG.fullmatch(text):
        raise Invalid("invalid tag format")
    return text


def no_such_image(text: str) -> NotFound:
    """Clients match on this text."""
    return NotFound(f"No such image: {text}", code="no_such_image")


def usable(ctx: Context) -> sa.ColumnElement[bool]:
    """The images of Docker's pane: for containers, with their data, and the project's own, public, or shared with it and accepted."""
    own = images.c.owner == ctx.project_id
    accepted = sa.select(image_members.c.image_id).where(
        image_members.c.member_id == ctx.project_id, image_members.c.status == "accepted"
    )
    shared = sa.and_(images.c.visibility == "shared", images.c.id.in_(accepted))
    visible = sa.or_(own, images.c.visibility == "public", shared)
    return sa.and_(images.c.status == "active", images.c.docker_id.is_not(None), visible)


def resolve(conn: sa.Connection, ctx: Context, reference: str) -> Row:
    """The row of `images` that a user means: by name, name:tag, name@digest, id, a prefix of the id, or the Image API's id or name.

    Raises NotFound `No such image: X:tag`, and Invalid for what can be no name.
    """
    row = find(conn, ctx, reference)
    if row is None:
        raise no_such_image(shown(reference))
    return row


def shown(reference: str) -> str:
    """As the errors name it: with its tag."""
    if _HEX.fullmatch(reference.removeprefix("sha256:")) and len(reference) >= 64:
        return reference
    return str(parse(reference).tagged)


def find(conn: sa.Connection, ctx: Context, reference: str) -> Row | None:
    """As `resolve`; None when there is none."""
    ident = reference.removeprefix("sha256:")
    if len(ident) == 64 and _HEX.fullmatch(ident):
        return _best(conn, ctx, images.c.docker_id == f"sha256:{ident}")
    if _UUID.fullmatch(reference):
        row = _best(conn, ctx, images.c.id == reference)
        if row is not None:
            return row
    if not reference.startswith("sha256:"):
        row = by_name(conn, ctx, parse(reference))
        if row is not None:
            return row
    return _by_prefix(conn, ctx, ident) if _HEX.fullmatch(ident) else None


def by_name(conn: sa.Connection, ctx: Context, reference: Reference) -> Row | None:
    """The project's own names come first, then those of images that others let it see."""
    if reference.digest:
        named = sa.select(image_manifests.c.image_id).where(
            image_manifests.c.repository == reference.repository, image_manifests.c.digest == reference.digest
        )
        return _best(conn, ctx, images.c.id.in_(named))
    tag = reference.tag or DEFAULT_TAG
    named = sa.select(image_references.c.image_id).where(
        image_references.c.repository == reference.repository, image_references.c.tag == tag
    )
    own = _best(conn, ctx, images.c.id.in_(named.where(image_references.c.project_id == ctx.project_id)))
    if own is not None:
        return own
    plain = plain_name(reference.repository, tag)
    own = _best(conn, ctx, sa.and_(plain, images.c.owner == ctx.project_id))
    if own is not None:
        return own
    theirs = named.where(image_references.c.project_id == images.c.owner).correlate(images)
    return _best(conn, ctx, sa.or_(images.c.id.in_(theirs), plain))


def plain_name(repository: str, tag: str) -> sa.ColumnElement[bool]:
    """An image that the Image API knows by this name: its name is `repository`, or `repository:tag`."""
    names = [f"{repository}:{tag}", *([repository] if tag == DEFAULT_TAG else [])]
    return images.c.name.in_(names)


def _best(conn: sa.Connection, ctx: Context, where: sa.ColumnElement[bool]) -> Row | None:
    """The project's own before another's, then the newest."""
    order = (sa.case((images.c.owner == ctx.project_id, 0), else_=1), images.c.created_at.desc())
    row = conn.execute(sa.select(images).where(usable(ctx), where).order_by(*order).limit(1)).mappings().first()
    return None if row is None else dict(row)


def _by_prefix(conn: sa.Connection, ctx: Context, prefix: str) -> Row | None:
    """None as well when several images begin so."""
    where = (usable(ctx), images.c.docker_id.like(f"sha256:{prefix}%"))
    found = conn.execute(sa.select(images.c.docker_id).where(*where).distinct().limit(2)).scalars().all()
    return _best(conn, ctx, images.c.docker_id == found[0]) if len(found) == 1 else None


def reference_of(row: Row) -> Reference | None:
    """The name that an image has by its name in the Image API; None when that is no name for Docker."""
    try:
        return parse(row["name"] or "").tagged
    except Invalid:
        return None


def put(conn: sa.Connection, project_id: str, reference: Reference, image_id: str | None, digest: str | None) -> Row | None:
    """Give the image this name; whatever had it loses it. Returns the reference's row as it was before."""
    key = (
        image_references.c.project_id == project_id,
        image_references.c.repository == reference.repository,
        image_references.c.tag == reference.tag,
    )
    before = conn.execute(sa.select(image_references).where(*key)).mappings().first()
    values = {"image_id": image_id, "digest": digest, "updated_at": now()}
    if before is not None:
        conn.execute(image_references.update().where(*key).values(**values))
    else:
        count = conn.execute(sa.select(sa.func.count()).where(image_references.c.project_id == project_id)).scalar_one()
        if count >= REFERENCES_MAX:
            raise Conflict(f"the project has {REFERENCES_MAX} image names: remove some")
        conn.execute(
            image_references.insert().values(project_id=project_id, repository=reference.repository, tag=reference.tag, **values)
        )
    # An image of the project that had this very name by the Image API has it no longer.
    conn.execute(
        images.update()
        .where(images.c.owner == project_id, images.c.docker_id.is_not(None), images.c.id != (image_id or ""))
        .where(plain_name(reference.repository, reference.tag))
        .values(name=None, updated_at=now())
    )
    return None if before is None else dict(before)


def of_images(conn: sa.Connection, ctx: Context, rows: list[Row]) -> dict[str, list[Reference]]:
    """Image id -> its names as this project sees them, sorted. A name means one image only."""
    idents = [row["id"] for row in rows]
    query = sa.select(image_references).where(image_references.c.image_id.in_(idents))
    found: dict[str, set[Reference]] = {ident: set() for ident in idents}
    owner = {row["id"]: row["owner"] for row in rows}
    entries = list(conn.execute(query).mappings())
    taken: set[Reference] = set()
    for own in (True, False):
        for entry in entries:
            if own != (entry["project_id"] == ctx.project_id) or (not own and entry["project_id"] != owner[entry["image_id"]]):
                continue
            reference = Reference(entry["repository"], entry["tag"])
            if own or reference not in taken:
                taken.add(reference)
                found[entry["image_id"]].add(reference)
        for row in sorted(rows, key=lambda row: -row["created_at"]):
            plain = reference_of(row)
            if own == (row["owner"] == ctx.project_id) and plain is not None and plain.tag and plain not in taken:
                taken.add(plain)
                found[row["id"]].add(plain)
    return {ident: sorted(names, key=str) for ident, names in found.items()}


def digests_of(conn: sa.Connection, ctx: Context, idents: list[str]) -> dict[str, list[str]]:
    """Image id -> its RepoDigests (`name@sha256:...`) as this project sees them."""
    query = sa.select(image_manifests).where(image_manifests.c.image_id.in_(idents))
    found: dict[str, list[str]] = {ident: [] for ident in idents}
    for row in conn.execute(query.order_by(image_manifests.c.repository, image_manifests.c.created_at)).mappings():
        if row["project_id"] == ctx.project_id:
            found[row["image_id"]].append(f"{row['repository']}@{row['digest']}")
    return found
