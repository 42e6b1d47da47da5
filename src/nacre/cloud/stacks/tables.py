"""What is kept of stacks: what is wanted of each service, and which containers were made for it. What runs is the servers' own."""

import sqlalchemy as sa

from nacre.store.schema import boolean, id_column, integer, json, moment, table, text

stacks = table(
    "stacks",
    id_column(),
    text("project_id"),
    text("name"),
    moment("created_at"),
    boolean("gone", default=False),
    sa.Index(None, "project_id", "name"),
)
"""`gone`: it is to be removed, and goes with the last of its services."""

services = table(
    "services",
    id_column(),
    text("project_id"),
    text("project_name"),
    text("user_id"),
    text("stack_id", sa.ForeignKey("stacks.id"), nullable=True, index=True),
    text("name"),
    json("spec"),
    integer("target"),
    text("intent", default="created"),
    text("phase", default=""),
    integer("revision", default=1),
    boolean("reuse_volumes", default=True),
    boolean("synchronized", default=True),
    text("image_id", default=""),
    text("trigger_body", default=""),
    text("credential_id", default=""),
    text("authorization", default=""),
    text("cause", default=""),
    integer("generation", default=1),
    moment("created_at"),
    moment("changed_at"),
    sa.Index(None, "project_id", "name"),
)
"""`spec` is a stacks.specs.ServiceSpec, `intent` one of rules.Intent, `phase` the operation that is under way (rules.Phase). A container
of an older `revision` is to be made anew; `image_id` is what the image's name meant when the revision was made, `trigger_body` what the last
trigger brought. `synchronized` is false when there may be containers that were made of an older spec. `generation` rises with every change:
what was planned before it is not done any more. `cause` says why it is not as wanted. `credential_id` and `authorization` are the
application credential of a service with the role `global`."""

service_containers = table(
    "service_containers",
    sa.Column("server_id", sa.String(64), primary_key=True),
    text("service_id", sa.ForeignKey("services.id"), index=True),
    integer("number"),
    text("name"),
    integer("revision"),
    boolean("leaving", default=False),
    boolean("destroyed", default=False),
    boolean("due", default=False),
    integer("restarts", default=0),
    text("host_id", default=""),
)
"""A container that the cloud made for a service. The row outlives the server, so that what was taken away by somebody else is known;
`leaving` says that the service itself wants it away, `destroyed` that it went by autodestroy and is not to be replaced, `due` that it is
to be started once more."""

triggers = table(
    "service_triggers",
    id_column(),
    text("service_id", sa.ForeignKey("services.id"), index=True),
    text("name", default=""),
    text("operation"),
    moment("created_at"),
)
"""`id` is the capability: 64 random hex digits. Whoever knows it may call it, until the row is gone."""
