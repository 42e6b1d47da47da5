"""What is kept of builds."""

import sqlalchemy as sa

from nacre.store.schema import moment, table, text

build_steps = table(
    "build_steps",
    sa.Column("image_id", sa.String(64), sa.ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    text("project_id"),
    text("parent"),
    text("key"),
    moment("created_at"),
    sa.Index(None, "project_id", "parent", "key"),
)
"""The cache: the image that a step made. `parent` is the docker_id of the image that it was made from (empty for none), `key` says what the
step does, with the bytes that it copies. A row goes with its image."""

build_containers = table(
    "build_containers",
    sa.Column("server_id", sa.String(64), sa.ForeignKey("servers.id", ondelete="CASCADE"), primary_key=True),
    text("build_id"),
    moment("created_at"),
)
"""The containers that builds run in: those of a build that is no more are removed by the sweeper."""
