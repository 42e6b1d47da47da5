"""Image's tables."""

from typing import Any

import sqlalchemy as sa

from nacre.store.schema import boolean, id_column, integer, json, moment, table, text

images = table(
    "images",
    id_column(),
    text("name", nullable=True),
    text("status"),
    text("visibility"),
    text("owner", nullable=True),
    text("container_format", nullable=True),
    text("disk_format", nullable=True),
    integer("size", nullable=True),
    integer("virtual_size", nullable=True),
    text("checksum", nullable=True),
    text("os_hash_algo", nullable=True),
    text("os_hash_value", nullable=True),
    integer("min_disk", default=0),
    integer("min_ram", default=0),
    boolean("protected", default=False),
    boolean("os_hidden", default=False),
    text("digest", nullable=True),
    json("staged", nullable=True),
    text("upload_id", nullable=True),
    text("docker_id", nullable=True),
    json("config", nullable=True),
    text("manifest_digest", nullable=True),
    text("parent", nullable=True),
    text("import_result", default="", server_default=""),
    moment("created_at"),
    moment("updated_at"),
    sa.Index(None, "owner"),
    sa.Index(None, "digest"),
    sa.Index(None, "docker_id"),
    sa.Index(None, "parent"),
    sa.Index(None, "created_at"),
)
"""`digest` names the bytes, also of data that is staged and waits for its import (`staged` then holds its size and hashes).
`upload_id` is the upload (or import) that holds the image in `saving`: the end of one that lost its claim changes nothing.
`import_result`: success or failure of the last import; empty: there was none.

An image for containers has `docker_id`, the sha256 of its OCI config, and `config`, the document itself. Its bytes are one blob (`digest`),
or layers (`image_layers`), or both, once the layers of an archive were needed one by one. With layers, the config's own bytes lie in the
blob `docker_id` and `manifest_digest` names the manifest. `parent` is the docker_id of the image that it was built from."""

image_layers = table(
    "image_layers",
    sa.Column("image_id", sa.String(64), sa.ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    integer("position", primary_key=True),
    text("digest"),
    integer("size"),
    text("media_type"),
    text("diff_id"),
    sa.Index(None, "digest"),
)
"""From the lowest up. `diff_id` is the sha256 of the layer's tar, `digest` that of its bytes as they are kept (gzipped or not)."""

image_manifests = table(
    "image_manifests",
    id_column(),
    text("project_id"),
    text("repository"),
    text("digest"),
    text("media_type"),
    integer("size"),
    text("image_id", sa.ForeignKey("images.id", ondelete="CASCADE"), nullable=True, index=True),
    text("subject", nullable=True),
    text("artifact_type", nullable=True),
    json("annotations", nullable=True),
    moment("created_at"),
    sa.UniqueConstraint("project_id", "repository", "digest"),
    sa.Index(None, "digest"),
)
"""The manifests of a project's repositories: a RepoDigest each. `image_id` is the image that a manifest is; for an index that of this
platform; None for what is no image (a signature). `subject`, `artifact_type` and `annotations` are for the registry's referrers."""

manifest_blobs = table(
    "manifest_blobs",
    sa.Column("manifest_id", sa.String(64), sa.ForeignKey("image_manifests.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("digest", sa.String(80), primary_key=True),
    sa.Index(None, "digest"),
)
"""What a manifest names: config, layers, and an index's manifests."""

image_references = table(
    "image_references",
    sa.Column("project_id", sa.String(64), primary_key=True),
    sa.Column("repository", sa.String(255), primary_key=True),
    sa.Column("tag", sa.String(128), primary_key=True),
    text("image_id", sa.ForeignKey("images.id", ondelete="CASCADE"), nullable=True, index=True),
    text("digest", nullable=True),
    moment("updated_at"),
)
"""Docker's names: repository (in its familiar form, `docker.io/library/` left out) and tag. `digest` is the manifest that was tagged, an
index perhaps; None for an image that is an archive and has no manifest."""

registry_uploads = table(
    "registry_uploads",
    id_column(),
    text("project_id"),
    text("repository"),
    integer("size", default=0),
    moment("updated_at", index=True),
)
"""Blobs on their way into the registry; the bytes so far lie in a file named by the id."""

registry_blobs = table(
    "registry_blobs",
    sa.Column("project_id", sa.String(64), primary_key=True),
    sa.Column("repository", sa.String(255), primary_key=True),
    sa.Column("digest", sa.String(80), primary_key=True),
    integer("size"),
    moment("created_at", index=True),
    sa.Index(None, "digest"),
)
"""Blobs that were brought to a repository and that no manifest of it names yet."""

image_properties = table(
    "image_properties",
    sa.Column("image_id", sa.String(64), sa.ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("name", sa.String(255), primary_key=True),
    text("value"),
    sa.Index(None, "name", "value"),
)

image_tags = table(
    "image_tags",
    sa.Column("image_id", sa.String(64), sa.ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("tag", sa.String(255), primary_key=True),
)

image_members = table(
    "image_members",
    sa.Column("image_id", sa.String(64), sa.ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("member_id", sa.String(64), primary_key=True),
    text("status"),
    moment("created_at"),
    moment("updated_at"),
    sa.Index(None, "member_id"),
)
"""The projects with which an image is shared. `status`: pending, accepted (then it is in the member's lists), rejected."""

image_locations = table(
    "image_locations",
    sa.Column("image_id", sa.String(64), sa.ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    integer("position", primary_key=True),
    text("url"),
    json("metadata"),
)
"""Where on the web an image's data is, besides the store. The first one was its source."""

image_tasks = table(
    "image_tasks",
    id_column(),
    text("type"),
    text("status"),
    text("owner", nullable=True),
    text("image_id", nullable=True, index=True),
    text("user_id"),
    text("request_id"),
    json("input"),
    json("result", nullable=True),
    text("message"),
    moment("created_at", index=True),
    moment("updated_at"),
    moment("expires_at", nullable=True),
)
"""Imports. `status`: pending, processing, success, failure; an ended one is forgotten at `expires_at`. `type` is api_image_import for what
was asked of an image, import for what was asked of the tasks themselves."""

metadef_namespaces = table(
    "image_metadef_namespaces",
    id_column(),
    text("namespace", unique=True),
    text("display_name", nullable=True),
    text("description", nullable=True),
    text("visibility"),
    boolean("protected"),
    text("owner"),
    moment("created_at", index=True),
    moment("updated_at"),
)


def _of_namespace(name: str, *columns: sa.Column[Any]) -> sa.Table:
    """What a namespace holds, each under a name of its own."""
    return table(
        name,
        id_column(),
        text("namespace_id", sa.ForeignKey("image_metadef_namespaces.id", ondelete="CASCADE")),
        text("name"),
        *columns,
        moment("created_at"),
        moment("updated_at"),
        sa.UniqueConstraint("namespace_id", "name"),
    )


metadef_objects = _of_namespace("image_metadef_objects", json("content"))
metadef_properties = _of_namespace("image_metadef_properties", json("content"))
metadef_tags = _of_namespace("image_metadef_tags")
metadef_associations = _of_namespace("image_metadef_associations", json("content"))
"""`name` is the resource type's, `content` its prefix and target."""

left_blobs = table("left_blobs", sa.Column("digest", sa.String(80), primary_key=True))
"""Bytes that a server named whose image is gone, and that perhaps nobody names any more: `leaving.sweep` looks, and drops them."""
