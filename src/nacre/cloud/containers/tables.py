"""What is kept of a container beyond its server."""

import sqlalchemy as sa

from nacre.store.schema import boolean, id_column, integer, json, moment, table, text

containers = table(
    "containers",
    sa.Column("server_id", sa.String(64), sa.ForeignKey("servers.id", ondelete="CASCADE"), primary_key=True),
    text("project_id"),
    text("name"),
    json("config"),
    json("host_config"),
    json("spec"),
    json("labels", default=dict),
    text("image_ref"),
    text("swarm_id"),
    boolean("auto_remove", default=False),
    boolean("was_started", default=False),
    json("state", nullable=True),
    json("halt", nullable=True),
    text("error", default=""),
    sa.UniqueConstraint("project_id", "name"),
    sa.Index(None, "swarm_id"),
)
"""`config` and `host_config` are the Engine API's, as they were asked for; `spec` is what the node gets (protocol.containers.Container);
`state` is the node's last protocol.containers.ContainerState. `halt` says how the pending stop is to be done where that is not as
configured: {signal, timeout_s}. `error` is why the last start failed. The name is the server's too: unique here, in the project, and free
again (then it is the server's id) as soon as the container is to be removed."""

execs = table(
    "container_execs",
    id_column(),
    text("server_id", sa.ForeignKey("servers.id", ondelete="CASCADE"), index=True),
    json("config"),
    boolean("running", default=False),
    integer("exit_code", nullable=True),
    integer("pid", default=0),
    moment("created_at"),
)
"""`id` has 64 hex digits."""

events = table(
    "container_events",
    integer("id", primary_key=True, autoincrement=True),
    text("project_id"),
    text("type"),
    text("action"),
    text("actor_id"),
    json("attributes", default=dict),
    moment("at"),
    sa.Index(None, "project_id", "at"),
    sa.Index(None, "actor_id"),
)
"""The log behind `docker events`, of every kind of thing; a sweeper keeps it to a length. `actor_id` is the id that Docker shows."""

grants = table(
    "container_grants",
    sa.Column("project_id", sa.String(64), primary_key=True),
    sa.Column("policy", sa.String(64), primary_key=True),
)
"""What an admin allows a project beyond the policy table (docker:privileged, docker:host_paths ...)."""

publishing = table(
    "container_publishing",
    sa.Column("project_id", sa.String(64), primary_key=True),
    text("place"),
)
"""Where a project's containers publish their ports, when an admin has said it: publishing.PLACES."""

networks = table(
    "container_networks",
    sa.Column("network_id", sa.String(64), sa.ForeignKey("networks.id", ondelete="CASCADE"), primary_key=True),
    text("project_id"),
    text("driver"),
    boolean("is_bridge", default=False),
    boolean("internal", default=False),
    boolean("attachable", default=False),
    boolean("own_pool", default=False),
    json("labels", default=dict),
    json("options", default=dict),
    json("ipam", default=dict),
    sa.Index(
        "uq_container_networks_bridge",
        "project_id",
        unique=True,
        sqlite_where=sa.text("is_bridge"),
        postgresql_where=sa.text("is_bridge"),
    ),
)
"""What Docker's pane knows of a network beyond Networking. `is_bridge` marks the project's default network, whatever its own name is;
`own_pool` says that its subnets were chosen by who made it. A network without a row here was made by Neutron."""
