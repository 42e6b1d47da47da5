"""A place for a server that is there already and goes to another host: unshelve, evacuate."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from nacre.cloud.compute import scheduling, server_groups
from nacre.cloud.compute.rules import request_of
from nacre.cloud.network.driven import drivers_of
from nacre.cloud.scheduler import HostView, Ratios, Strategy, plan

Row = dict[str, Any]


class Placing(Struct, frozen=True):
    """What a pane knows and the scheduler needs."""

    alive: frozenset[str]
    ratios: Ratios
    facts: scheduling.FactsOf
    strategy: Strategy


def choose(conn: sa.Connection, row: Row, known: Placing, *, without: Collection[str] = ()) -> HostView:
    """The host for a server with its own hints and group; `without` are hosts that it must not be on. Raises NoValidHost, ExpressionError."""
    conditions = scheduling.conditions_of(row["scheduler_hints"])
    drivers = drivers_of(conn, row["id"])
    if drivers:
        conditions = replace(conditions, network_drivers=drivers)
    seen = scheduling.views(conn, row["project_id"], conditions, alive=known.alive, ratios=known.ratios, facts=known.facts)
    hosts = tuple(host for host in seen.values() if host.id not in without)
    request = request_of(row, conditions, known.strategy, group=server_groups.of_member(conn, row["id"]))
    return plan(hosts, request)[0]
