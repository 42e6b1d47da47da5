"""Patterns in a list of servers' filters."""

import pytest

from tests.support import Client


@pytest.mark.parametrize("name", ["ip", "ip6", "name"])
def test_a_pattern_that_is_none_or_takes_long_is_a_400_that_names_the_filter(member: Client, name: str) -> None:
    for pattern in ("%5B", "%28a%2B%29%2B%24"):
        refused = member("GET", f"/compute/v2.1/servers?{name}={pattern}")
        assert refused.status == 400, refused.body
        assert f"parameters {name}." in refused.json["badRequest"]["message"]
    assert member("GET", f"/compute/v2.1/servers?{name}=10%5C.").status == 200
