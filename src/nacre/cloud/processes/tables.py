"""The API processes that serve over the store."""

import sqlalchemy as sa

from nacre.store.schema import boolean, id_column, integer, json, moment, table, text

api_processes = table(
    "api_processes",
    id_column(),
    text("hostname"),
    text("address", default=""),
    text("url", default=""),
    text("version"),
    integer("counter", default=0),
    json("heard", default=dict),
    boolean("leads", default=False),
    moment("started_at"),
)
"""One row for each process. Its `id` stays through restarts; `counter` rises with each start and each sign of life, so that the others see that
it lives (see `cloud.leases`). `heard` counts, for each host whose stream it holds, the signs of life that it has had from it: a host's lease is
renewed only once that is written here, so that no other process takes for dead what this one hears. `leads`: it is the one that runs the
sweepers. `address` is where its HTTP port is, `url` where nodes reach it by TLS; empty: nowhere."""

schema_state = table("schema_state", id_column(), text("oldest"))
"""One row: the oldest version of the schema whose code may serve over this one (see `cloud.schema`)."""

unfinished = table(
    "unfinished",
    sa.Column("kind", sa.String(32), primary_key=True),
    sa.Column("ident", sa.String(80), primary_key=True),
    text("process_id", index=True),
    text("project_id", default=""),
    moment("created_at"),
)
"""What a process has begun and only it can bring to its end: a row comes in the transaction that begins it, and goes in the one that ends it.
`kind` says what is to be done (cloud.abandoned) when the process is gone. `project_id` where a project has so many at once and no more."""
