"""Patterns in a list of servers' filters."""

from types import SimpleNamespace
from typing import Any

import pytest
from multidict import MultiDict

from nacre.panes.openstack.compute import filters
from tests.support import Client


@pytest.mark.parametrize("name", ["ip", "ip6", "name"])
def test_a_pattern_that_is_none_or_takes_long_is_a_400_that_names_the_filter(member: Client, name: str) -> None:
    for pattern in ("%5B", "%28a%2B%29%2B%24"):
        refused = member("GET", f"/compute/v2.1/servers?{name}={pattern}")
        assert refused.status == 400, refused.body
        assert f"parameters {name}." in refused.json["badRequest"]["message"]
    assert member("GET", f"/compute/v2.1/servers?{name}=10%5C.").status == 200


@pytest.mark.parametrize(("is_admin", "order"), [(True, [("host_id", "desc"), ("name", "desc")]), (False, [("name", "desc")])])
def test_the_order_of_a_list_tells_nobody_but_an_admin_which_servers_are_on_one_host(is_admin: bool, order: list[Any]) -> None:
    query = MultiDict([("sort_key", "host"), ("sort_key", "display_name")])
    call: Any = SimpleNamespace(query=query, context=SimpleNamespace(is_admin=is_admin), at_least=lambda minor: True)
    assert list(filters._sort(call)) == order


def test_members_still_may_name_the_keys_of_hosts(member: Client) -> None:
    for key in ("host", "node"):
        assert member("GET", f"/compute/v2.1/servers?sort_key={key}").status == 200
