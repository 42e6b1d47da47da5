"""Discovery's tables. Every row belongs to a project; the indexes are those of the project's one counter."""

from typing import Any

import sqlalchemy as sa

from nacre.store.schema import boolean, id_column, integer, json, table, text


def _project() -> sa.Column[str]:
    return sa.Column("project_id", sa.String(64), primary_key=True)


def _key(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, primary_key=True)


def _raised() -> list[sa.Column[Any]]:
    return [integer("create_index"), integer("modify_index")]


indexes = table("discovery_indexes", _project(), integer("value", default=1), integer("floor", default=1))
"""`value` is the index of the project's last change. `floor` is the highest index of any mark that was thrown away."""

marks = table("discovery_marks", _project(), _key("topic"), integer("index"))
"""When each topic was last touched: for what cannot tell by itself, such as a key that is gone."""

keys = table(
    "discovery_keys",
    _project(),
    _key("key"),
    sa.Column("value", sa.LargeBinary, nullable=False),
    text("flags", default="0"),
    text("session", nullable=True),
    integer("lock_index", default=0),
    *_raised(),
    sa.Index(None, "session"),
)
"""`flags` are 64 bits without a sign, more than the store's integers hold: decimal digits."""

sessions = table(
    "discovery_sessions",
    id_column(),
    text("project_id", index=True),
    text("name", default=""),
    text("node"),
    integer("lock_delay_ns"),
    text("behavior"),
    text("ttl", default=""),
    json("node_checks"),
    json("service_checks"),
    integer("renewals", default=0),
    *_raised(),
)
"""`renewals` is the holder's counter: whoever watches measures by its own clock how long ago it rose."""

lock_delays = table("discovery_lock_delays", _project(), _key("key"), integer("delay_ns"), integer("since_index"))
"""Keys that nobody may lock for a while, because their holder was lost. Taken away by a sweeper that measures the delay."""

nodes = table(
    "discovery_nodes",
    _project(),
    _key("name"),
    text("id", default=""),
    text("address", default=""),
    json("meta", default=dict),
    json("tagged_addresses", default=dict),
    text("host_id", nullable=True),
    *_raised(),
)
"""`host_id` where the node is a host of the cloud, which is there for the project's own services on it."""

services = table(
    "discovery_services",
    _project(),
    _key("node"),
    _key("id"),
    text("name"),
    json("tags", default=list),
    text("address", default=""),
    integer("port", default=0),
    json("meta", default=dict),
    json("tagged_addresses", default=dict),
    json("weights", default=dict),
    boolean("enable_tag_override", default=False),
    text("server_id", nullable=True),
    *_raised(),
    sa.Index(None, "project_id", "name"),
    sa.Index(None, "server_id"),
)
"""`server_id` where the service was registered by itself, for a server or container."""

checks = table(
    "discovery_checks",
    _project(),
    _key("node"),
    _key("id"),
    text("name", default=""),
    text("status"),
    text("notes", default=""),
    text("output", default=""),
    text("service_id", default=""),
    text("service_name", default=""),
    text("type", default=""),
    json("definition", default=dict),
    integer("renewals", default=0),
    *_raised(),
    sa.Index(None, "type"),
)
"""`type` is ttl, http or tcp where the cloud keeps the check's status; empty where whoever registered it does."""

events = table(
    "discovery_events",
    integer("ltime", primary_key=True, autoincrement=True),
    text("id"),
    text("project_id", index=True),
    text("name"),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    text("node_filter", default=""),
    text("service_filter", default=""),
    text("tag_filter", default=""),
    integer("index"),
)
