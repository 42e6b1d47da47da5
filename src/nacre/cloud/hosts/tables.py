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
    integer("vcpus", default=0),
    integer("memory_mb", default=0),
    integer("disk_gb", default=0),
    integer("claimed_vcpus", default=0),
    integer("claimed_memory_mb", default=0),
    integer("claimed_disk_gb", default=0),
    integer("guests", default=0),
    integer("generation", default=0),
    moment("created_at"),
    moment("updated_at"),
)
"""One row per host. `revision` numbers the changes of its desired state without a gap, raised under this row's lock;
the claimed_* columns are the scheduler's book, changed in the transaction that places or removes a guest."""

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
