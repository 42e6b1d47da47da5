"""A place for a server that is there already and goes to another host: unshelve, evacuate."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from nacre.cloud.compute import decisions, scheduling, server_groups
from nacre.cloud.compute.rules import request_of
from nacre.cloud.network.driven import drivers_of
from nacre.cloud.scheduler import HostView, Ratios, Strategy

Row = dict[str, Any]


class Placing(Struct, frozen=True):
    """What a pane knows and the scheduler needs."""

    alive: frozenset[str]
    ratios: Ratios
    facts: scheduling.FactsOf
    strategy: Strategy


def choose(conn: sa.Connection, row: Row, known: Placing, *, without: Collection[str] = (), action: str = "move") -> HostView:
    """The host for a server with its own hints and group, its row locked until the claim is made in the same transaction; `without` are hosts
    that it must not be on, `action` is what the decision is kept under. Raises NoValidHost, ExpressionError, Contended."""
    conditions = scheduling.conditions_of(row["scheduler_hints"])
    drivers = drivers_of(conn, row["id"])
    if drivers:
        conditions = replace(conditions, network_drivers=drivers)
    search = scheduling.Search(conn, row["project_id"], alive=known.alive, ratios=known.ratios, facts=known.facts)
    group = server_groups.of_member(conn, row["id"])
    request = request_of(row, conditions, known.strategy, group=group, without=without)
    found = search.choose(request, row)
    decisions.record(conn, row, action, request, found)
    return found.best[0]
