"""Volumes' tables."""

import sqlalchemy as sa

from nacre.store.schema import boolean, id_column, integer, json, moment, table, text

volumes = table(
    "volumes",
    id_column(),
    text("project_id"),
    text("name"),
    text("base"),
    text("driver"),
    text("plugin", default=""),
    text("profile", default=""),
    integer("size_bytes", nullable=True),
    text("source_id", default=""),
    json("options", default=dict),
    json("labels", default=dict),
    boolean("anonymous", default=False),
    boolean("used", default=False),
    text("host_id", sa.ForeignKey("hosts.id"), nullable=True),
    # The intent.
    boolean("gone", default=False),
    # The observation.
    text("observed", nullable=True),
    json("state", nullable=True),
    text("fault", default=""),
    moment("created_at"),
    sa.UniqueConstraint("project_id", "base"),
    sa.Index(None, "host_id"),
)
"""`name` is the text that the client gave (`myVol@gold`), `base` what of it names the volume (`myVol`; the id once it is to be removed).
`driver` is shown as it was asked for; `plugin` is empty for the nodes' own. A volume that no container has used yet is empty, and may
still be made on another host. `state` is the node's last protocol.volumes.VolumeState."""

plugins = table(
    "volume_plugins",
    sa.Column("host_id", sa.String(64), sa.ForeignKey("hosts.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("name", sa.String(255), primary_key=True),
)
"""Which volume plugins each host has, as its node says."""

quotas = table(
    "volume_quotas",
    sa.Column("project_id", sa.String(64), primary_key=True),
    sa.Column("resource", sa.String(64), primary_key=True),
    integer("limit"),
)
"""What an admin set for a project, or under `class:default` for all; what is not here has its default (see `quotas`)."""
