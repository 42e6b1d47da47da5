"""Compute's tables."""

import sqlalchemy as sa

from nacre.store.schema import boolean, id_column, integer, json, moment, table, text

flavors = table(
    "flavors",
    id_column(),
    text("name", unique=True),
    text("description", nullable=True),
    integer("vcpus"),
    integer("memory_mb"),
    integer("disk_gb", default=0),
    integer("ephemeral_gb", default=0),
    integer("swap_mb", default=0),
    sa.Column("rxtx_factor", sa.Float, nullable=False, default=1.0),
    boolean("is_public", default=True),
    boolean("disabled", default=False),
    json("extra_specs", default=dict),
    moment("created_at"),
    moment("updated_at"),
)

flavor_access = table(
    "flavor_access",
    sa.Column("flavor_id", sa.String(64), sa.ForeignKey("flavors.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("project_id", sa.String(64), primary_key=True),
)

keypairs = table(
    "keypairs",
    sa.Column("user_id", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(255), primary_key=True),
    text("type", default="ssh"),
    text("public_key"),
    text("fingerprint"),
    moment("created_at"),
)

servers = table(
    "servers",
    id_column(),
    text("project_id"),
    text("user_id"),
    text("name"),
    text("description", nullable=True),
    text("hostname"),
    text("reservation_id"),
    integer("launch_index", default=0),
    # What it is made of, as it was when it was asked for.
    json("flavor"),
    # What it had before a resize that nobody has confirmed or reverted yet.
    json("old_flavor", nullable=True),
    # What is claimed for it: its flavor's size, the larger one of both during a resize.
    integer("vcpus"),
    integer("memory_mb"),
    integer("disk_gb"),
    text("image_id", nullable=True),
    json("image"),
    text("key_name", nullable=True),
    text("public_key", nullable=True),
    json("metadata", default=dict),
    json("tags", default=list),
    text("user_data", nullable=True),
    # What is written into it before its first boot: [{path, contents}], the contents in base64.
    json("files", default=list),
    # Root's password as crypt(5) has it; nobody keeps the password itself.
    text("password_hash", default=""),
    # The password that the guest chose, encrypted by itself with its public key, as it told the metadata service.
    text("encrypted_password", default=""),
    boolean("config_drive", default=False),
    text("disk_config", default="MANUAL"),
    text("access_ip_v4", default=""),
    text("access_ip_v6", default=""),
    text("availability_zone"),
    text("requested_zone", nullable=True),
    json("scheduler_hints", default=dict),
    text("host_id", sa.ForeignKey("hosts.id"), nullable=True),
    # The intent. `action` is what raised the generation last; `deadline` is when it must be met.
    text("power"),
    boolean("gone", default=False),
    text("action"),
    text("request_id"),
    integer("generation", default=1),
    integer("boots", default=1),
    integer("rebuilds", default=0),
    text("reboot", default="soft"),
    # While it is rescued: {image, password_hash} of the system that it boots instead of its own.
    json("rescue", nullable=True),
    moment("deadline", nullable=True),
    boolean("locked", default=False),
    text("locked_reason", nullable=True),
    # The observation.
    text("observed_state", nullable=True),
    integer("observed_generation", default=0),
    integer("observed_boots", default=0),
    integer("exit_code", nullable=True),
    text("fault", nullable=True),
    integer("fault_code", nullable=True),
    moment("fault_at", nullable=True),
    moment("launched_at", nullable=True),
    moment("created_at"),
    moment("updated_at"),
    sa.Index(None, "project_id", "created_at"),
    sa.Index(None, "project_id", "name"),
    sa.Index(None, "host_id"),
    sa.Index(None, "deadline"),
)
"""`power` is running, stopped, paused, suspended or shelved. The status that clients see is a function of these columns alone (see `states`)."""

instance_actions = table(
    "instance_actions",
    id_column("request_id"),
    sa.Column("server_id", sa.String(64), primary_key=True),
    text("action"),
    text("user_id"),
    text("project_id"),
    text("message", nullable=True),
    moment("start_time"),
    moment("updated_at"),
    sa.Index(None, "server_id", "start_time"),
)
"""What was asked of a server. The log outlives the server."""

instance_events = table(
    "instance_events",
    integer("id", primary_key=True, autoincrement=True),
    text("request_id"),
    text("server_id"),
    text("event"),
    text("host_id", nullable=True),
    moment("start_time"),
    moment("finish_time", nullable=True),
    text("result", nullable=True),
    text("details", nullable=True),
    sa.Index(None, "server_id", "request_id"),
)
"""The timeline of an action: each hop with its beginning and end, down to the node's own steps. `result` is Success or Error."""

quotas = table(
    "compute_quotas",
    sa.Column("project_id", sa.String(64), primary_key=True),
    sa.Column("resource", sa.String(64), primary_key=True),
    integer("limit"),
)
"""What an admin set for a project; what is not here has its default (see `quotas`)."""

user_quotas = table(
    "compute_user_quotas",
    sa.Column("project_id", sa.String(64), primary_key=True),
    sa.Column("user_id", sa.String(64), primary_key=True),
    sa.Column("resource", sa.String(64), primary_key=True),
    integer("limit"),
)
"""What an admin set for one user of a project, within the project's own limits."""

shelved_images = table(
    "shelved_images",
    sa.Column("server_id", sa.String(64), primary_key=True),
    text("image_id"),
    moment("retry_at", default=0.0),
)
"""The image that a server becomes as it is shelved, and of which it is made again: the cloud deletes it once the server runs again or is gone.

A row outlives its server; `shelving.sweep` looks at all of them. `retry_at` is when an image that could not be made is tried again."""

console_tokens = table(
    "console_tokens",
    id_column("token_hash"),
    sa.Column("server_id", sa.String(64), sa.ForeignKey("servers.id", ondelete="CASCADE"), nullable=False, index=True),
    text("console_type"),
    moment("expires_at"),
)
"""Who may open a server's console: the SHA-256 of each token that was given out and is still good."""

usage = table(
    "compute_usage",
    sa.Column("project_id", sa.String(64), primary_key=True),
    integer("instances", default=0),
    integer("cores", default=0),
    integer("ram", default=0),
)
"""One row per project, changed as the last statement of the transaction that changes a server; `audit` recounts it."""

aggregates = table(
    "aggregates",
    integer("id", primary_key=True, autoincrement=True),
    text("uuid", unique=True),
    text("name", unique=True),
    json("metadata", default=dict),
    moment("created_at"),
    moment("updated_at", nullable=True),
)
"""Groups of hosts. The key `availability_zone` in the metadata makes its hosts that zone's."""

aggregate_hosts = table(
    "aggregate_hosts",
    sa.Column("aggregate_id", sa.ForeignKey("aggregates.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("host_id", sa.String(64), sa.ForeignKey("hosts.id", ondelete="CASCADE"), primary_key=True),
)

server_groups = table(
    "server_groups",
    id_column(),
    text("project_id", index=True),
    text("user_id"),
    text("name"),
    text("policy"),
    json("rules", default=dict),
    moment("created_at"),
)
"""`policy` is affinity, anti-affinity, soft-affinity or soft-anti-affinity."""

server_group_members = table(
    "server_group_members",
    sa.Column("server_id", sa.String(64), sa.ForeignKey("servers.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("group_id", sa.String(64), sa.ForeignKey("server_groups.id", ondelete="CASCADE"), index=True, nullable=False),
)

migrations = table(
    "migrations",
    integer("id", primary_key=True, autoincrement=True),
    text("uuid", unique=True),
    text("server_id"),
    text("project_id"),
    text("user_id"),
    text("migration_type"),
    text("status"),
    text("source_host_id"),
    text("dest_host_id"),
    text("old_flavor_id"),
    text("new_flavor_id"),
    # While it is open (see `migrations.OPEN`): what is claimed for the server on the one of both hosts where it is not.
    integer("vcpus", default=0),
    integer("memory_mb", default=0),
    integer("disk_gb", default=0),
    # The power that the server had, and has again on the other host.
    text("power", default=""),
    # Nobody need confirm it.
    boolean("automatic", default=False),
    # Why it failed.
    text("message", default=""),
    moment("created_at"),
    moment("updated_at"),
    sa.Index(None, "server_id"),
    sa.Index(None, "source_host_id"),
)
"""The log of resizes and moves. It outlives the server."""

scheduler_decisions = table(
    "scheduler_decisions",
    integer("id", primary_key=True, autoincrement=True),
    text("server_id"),
    text("project_id"),
    text("request_id"),
    text("action"),
    text("host_id", nullable=True),
    text("hostname", nullable=True),
    integer("hosts"),
    json("detail"),
    moment("created_at"),
    sa.Index(None, "server_id", "id"),
)
"""Why each server is where it is: a row for each time that a place was looked for, without a host where there was none. `hosts` is how many
hosts there were; `detail` is in the shape that `decisions.Detail` has. A row outlives its server for a while."""

ended_servers = table(
    "ended_servers",
    id_column(),
    text("project_id"),
    text("name"),
    text("flavor"),
    integer("vcpus"),
    integer("memory_mb"),
    integer("disk_gb"),
    moment("started_at"),
    moment("ended_at"),
    sa.Index(None, "project_id", "ended_at"),
)
"""What a project has used of servers that are gone: one row each, for the usage reports."""
