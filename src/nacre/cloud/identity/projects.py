"""Projects and their tags: https://docs.openstack.org/api-ref/identity/v3/#projects."""

from collections.abc import Callable, Sequence

import sqlalchemy as sa

from nacre.cloud.collection import Collection, Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Forbidden, Invalid, NotFound
from nacre.cloud.identity import domains
from nacre.cloud.identity.cascades import forget_projects
from nacre.cloud.identity.changes import changed, hold_to_domain, home_domain, in_scope, merged, refuse_immutable, require
from nacre.cloud.identity.tables import project_tags, projects
from nacre.cloud.identity.trees import DEPTH_MAX, ancestors
from nacre.store import Criterion, Page, Query
from nacre.store.listing import Listing, columns_of
from nacre.store.schema import new_hex_id

TAGS_MAX = 80

_tags = (
    sa.select(sa.func.aggregate_strings(project_tags.c.tag, ","))
    .where(project_tags.c.project_id == projects.c.id)
    .scalar_subquery()
    .label("tags")
)


def _bearing(criterion: Criterion) -> list[sa.ColumnElement[bool]]:
    wanted = [tag for tag in str(criterion.value).split(",") if tag]
    return [sa.exists().where(project_tags.c.project_id == projects.c.id, project_tags.c.tag == tag) for tag in wanted]


TAG_FILTERS: dict[str, Callable[[Criterion], sa.ColumnElement[bool]]] = {
    "tags": lambda criterion: sa.and_(sa.true(), *_bearing(criterion)),
    "tags-any": lambda criterion: sa.or_(sa.false(), *_bearing(criterion)),
    "not-tags": lambda criterion: sa.not_(sa.and_(sa.true(), *_bearing(criterion))),
    "not-tags-any": lambda criterion: sa.not_(sa.or_(sa.false(), *_bearing(criterion))),
}
"""`tags=a,b` are the projects that bear both, `tags-any=a,b` those that bear one of them; and the others."""


def _before_create(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    if values.get("is_domain"):
        if values.get("parent_id") is not None or values.get("domain_id") is not None:
            raise Invalid("A project that is a domain has no parent and no domain.", field="is_domain")
        if not ctx.is_admin:
            raise Forbidden("Only an admin may make a domain.", field="is_domain")
        return domains.before_create(conn, ctx, values)
    domain_id, parent_id = values.get("domain_id"), values.get("parent_id")
    if parent_id is not None:
        parent = conn.execute(sa.select(projects).where(projects.c.id == parent_id)).mappings().first()
        if parent is None:
            raise Invalid(f"Invalid input for parent_id: project {parent_id} could not be found.", field="parent_id")
        own = parent["id"] if parent["is_domain"] else parent["domain_id"]
        if domain_id is not None and domain_id != own:
            raise Invalid("A project must be in its parent's domain.", field="domain_id")
        domain_id = own
        if len(ancestors(conn, parent_id)) >= DEPTH_MAX:
            raise Forbidden(f"Max hierarchy depth of {DEPTH_MAX} reached.", code="MaxDepth")
    domain_id = domain_id or home_domain(ctx)
    hold_to_domain(ctx, domain_id)
    require(conn, projects, "domain", domain_id, projects.c.is_domain)
    return {**values, "domain_id": domain_id, "parent_id": parent_id or domain_id, "is_domain": False}


def _before_update(conn: sa.Connection, ctx: Context, row: Row, changes: Row) -> Row:
    for name in ("domain_id", "parent_id", "is_domain"):
        if changes.pop(name, row[name]) != row[name]:
            raise Invalid(f"A project's {name} cannot be changed.", field=name)
    _refuse_own_domain(ctx, row)
    refuse_immutable(row, changes)
    changed(conn)
    return merged(row, changes, "options")


def _refuse_own_domain(ctx: Context, row: Row) -> None:
    """A manager sees its domain among the projects; to change it is an admin's."""
    if row["is_domain"] and not ctx.is_admin:
        raise Forbidden("Only an admin may change a domain.")


def _before_delete(conn: sa.Connection, ctx: Context, row: Row) -> None:
    refuse_immutable(row)
    _refuse_own_domain(ctx, row)
    if row["is_domain"]:
        domains.before_delete(conn, ctx, row)
        return
    if conn.execute(sa.select(projects.c.id).where(projects.c.parent_id == row["id"])).first() is not None:
        raise Forbidden(f"Cannot delete project {row['id']} since it is not a leaf in the hierarchy.", code="NotLeaf")
    forget_projects(conn, [row["id"]])


collection = Collection(
    kind="project",
    table=projects,
    listing=Listing(sa.select(projects, _tags), columns_of(projects), key=projects.c.id, custom=TAG_FILTERS),
    make_id=new_hex_id,
    before_create=_before_create,
    before_update=_before_update,
    before_delete=_before_delete,
    visible=lambda ctx: in_scope(ctx, projects.c.domain_id, projects.c.id == ctx.domain_id),
)


def create(conn: sa.Connection, ctx: Context, values: Row) -> Row:
    tags = values.pop("tags", None) or []
    row = collection.create(conn, ctx, values)
    changed(conn)
    return set_tags(conn, ctx, row["id"], tags) if tags else row


def get(conn: sa.Connection, ctx: Context, ident: str) -> Row:
    return collection.get(conn, ctx, ident)


def find(conn: sa.Connection, ctx: Context, query: Query) -> Page:
    """The projects; domains among them only when asked for by is_domain."""
    if not any(criterion.name == "is_domain" for criterion in query.criteria):
        query = Query(
            (*query.criteria, Criterion("is_domain", "eq", False)), query.sort, query.limit, query.marker, query.reverse
        )
    return collection.find(conn, ctx, query)


def serving(conn: sa.Connection) -> dict[str, str]:
    """The projects that may be worked in, id -> name: enabled ones of enabled domains."""
    domain = projects.alias("domain")
    joined = sa.select(projects.c.id, projects.c.name).join(domain, domain.c.id == projects.c.domain_id)
    rows = conn.execute(joined.where(sa.not_(projects.c.is_domain), projects.c.enabled, domain.c.enabled))
    return {row.id: row.name for row in rows}


def update(conn: sa.Connection, ctx: Context, ident: str, values: Row) -> Row:
    tags = values.pop("tags", None)
    row = collection.update(conn, ctx, ident, values)
    return row if tags is None else set_tags(conn, ctx, ident, tags)


def delete(conn: sa.Connection, ctx: Context, ident: str) -> None:
    collection.delete(conn, ctx, ident)


def set_tags(conn: sa.Connection, ctx: Context, ident: str, tags: Sequence[str]) -> Row:
    """Replace the project's tags. Raises Invalid for a tag with `/` or `,`, or too many."""
    _refuse_own_domain(ctx, get(conn, ctx, ident))
    wanted = list(dict.fromkeys(tags))
    if len(wanted) > TAGS_MAX:
        raise Invalid(f"A project has at most {TAGS_MAX} tags.", field="tags")
    for tag in wanted:
        if not tag or len(tag) > 255 or "/" in tag or "," in tag:
            raise Invalid(f"Invalid input for tags: {tag!r} is empty, too long, or holds '/' or ','.", field="tags")
    conn.execute(project_tags.delete().where(project_tags.c.project_id == ident))
    if wanted:
        conn.execute(project_tags.insert(), [{"project_id": ident, "tag": tag} for tag in wanted])
    return get(conn, ctx, ident)


def tags_of(row: Row) -> list[str]:
    return row["tags"].split(",") if row.get("tags") else []


def add_tag(conn: sa.Connection, ctx: Context, ident: str, tag: str) -> None:
    set_tags(conn, ctx, ident, [*tags_of(get(conn, ctx, ident)), tag])


def has_tag(conn: sa.Connection, ctx: Context, ident: str, tag: str) -> None:
    """Raises NotFound when the project does not bear the tag."""
    if tag not in tags_of(get(conn, ctx, ident)):
        raise NotFound.of("project tag", tag)


def remove_tag(conn: sa.Connection, ctx: Context, ident: str, tag: str) -> None:
    has_tag(conn, ctx, ident, tag)
    _refuse_own_domain(ctx, get(conn, ctx, ident))
    conn.execute(project_tags.delete().where(project_tags.c.project_id == ident, project_tags.c.tag == tag))


def rows_of(conn: sa.Connection, ctx: Context, idents: Sequence[str]) -> list[Row]:
    """The rows of these projects, in that order."""
    select = collection.listing.select.where(projects.c.id.in_(idents))
    rows = {row["id"]: dict(row) for row in conn.execute(select).mappings()}
    return [rows[ident] for ident in idents if ident in rows]
