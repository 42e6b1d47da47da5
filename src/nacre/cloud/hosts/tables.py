"""The hosts and what each of them must bring about."""

import sqlalchemy as sa

from nacre.store.schema import boolean, id_column, integer, json, moment, table, text

hosts = table(
    "hosts",
    id_column(),
    text("hostname", unique=True),
    integer("revision", default=0),
    text("boot_id", default=""),
    text("hypervisor_type", default=""),
    json("runtimes", default=list),
    text("tunnel_ip", nullable=True),
    text("availability_zone", default="nova"),
    boolean("enabled", default=True),
    text("disabled_reason", nullable=True),
    boolean("forced_down", default=False),
    json("labels", default=dict),
    text("architecture", default=""),
    json("traits", default=list),
    integer("vcpus", default=0),
    integer("memory_mb", default=0),
    integer("disk_gb", default=0),
    integer("claimed_vcpus", default=0),
    integer("claimed_memory_mb", default=0),
    integer("claimed_disk_gb", default=0),
    integer("guests", default=0),
    integer("generation", default=0),
    boolean("enrolled", default=False),
    text("acceptance", default="accepted"),
    text("acceptance_cause", default=""),
    boolean("external", default=False),
    boolean("lost", default=False),
    integer("underlay_mtu", default=0),
    text("stream", default=""),
    moment("created_at"),
    moment("updated_at"),
)
"""One row per host. `generation` rises with every change that the scheduler should know of (see `fleet`); `traits` are those that an
operator gave the host, through Placement. `revision` numbers the changes of its desired state without a gap, raised under this row's lock;
the claimed_* columns are the scheduler's book, changed in the transaction that places or removes a guest. A host that has `enrolled` comes
by its certificate; it gets no work before its `acceptance`, which is waiting, failed (with the cause) or accepted. Routers are borne by the
cloud's own machine and by hosts with an `external` device, if the sweeper has not found them `lost`. `stream` is the latest that the node has opened:
what comes by an earlier one is not written down any more."""

host_tokens = table(
    "host_tokens",
    id_column(),
    text("secret_hash", unique=True),
    integer("hosts_max", default=1),
    text("keys", default=""),
    moment("created_at"),
    moment("expires_at", index=True),
    moment("used_at", nullable=True),
)
"""Tokens by which hosts may enrol, each once. `keys` is a hash of the keys that it was used for."""

host_certificates = table(
    "host_certificates",
    id_column("serial"),
    text("host_id", sa.ForeignKey("hosts.id", ondelete="CASCADE"), index=True),
    text("token_id", index=True),
    text("key"),
    text("pem"),
    moment("issued_at"),
    moment("expires_at"),
)
"""What each joined host shows. One without a row is worth nothing. `key` is the SHA-256 of its public key."""

host_drains = table(
    "host_drains",
    sa.Column("host_id", sa.String(64), sa.ForeignKey("hosts.id", ondelete="CASCADE"), primary_key=True),
    integer("total", default=0),
    json("staying", default=dict),
    moment("started_at"),
    moment("finished_at", nullable=True),
)
"""Hosts that are being emptied: how many servers were there at the beginning, and why those that have to stay do (server id -> reason)."""

host_desired = table(
    "host_desired",
    sa.Column("host_id", sa.String(64), sa.ForeignKey("hosts.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("kind", sa.String(20), primary_key=True),
    sa.Column("object_id", sa.String(64), primary_key=True),
    integer("revision"),
    sa.Index(None, "host_id", "revision"),
)
"""Which things concern a host, and the host's revision at which each last changed. The spec itself is compiled from the domains'
tables when the node fetches: a thing without a spec must go, and its row stays until the node has seen that nothing is left."""

custom_traits = table("custom_traits", id_column("name"), moment("created_at"))
"""Traits that an operator has made, and may give to hosts."""
