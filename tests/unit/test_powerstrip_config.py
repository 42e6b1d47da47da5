"""adapters.yml: what is taken, and what is said of what is not."""

import pytest

from nacre.panes.powerstrip.config import ConfigError, parse

GOOD = """
version: 1
endpoints:
  "POST /*/containers/create":
    pre: [network, flocker]
    post: [audit]
  "* /*/containers/*":
    post: [audit]
  "POST /v1.[45]*/containers/create":
    pre: [late]
adapters:
  network: http://127.0.0.1:1/adapter
  flocker: http://127.0.0.1:2/flocker-adapter
  audit: http://127.0.0.1:3
  late: http://127.0.0.1:4
"""


def test_every_pattern_that_fits_counts_in_the_order_of_the_file() -> None:
    before, after = parse(GOOD).matching("POST", "/v1.50/containers/create")
    assert [adapter.name for adapter in before] == ["network", "flocker", "late"]
    assert [adapter.name for adapter in after] == ["audit", "audit"]
    assert parse(GOOD).matching("GET", "/v1.50/images/json") == ((), ())
    before, after = parse(GOOD).matching("POST", "/v1.16/containers/create")
    assert [adapter.name for adapter in before] == ["network", "flocker"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("- 1", "map"),
        ("{", "not YAML"),
        ("adapters: {}", "endpoints"),
        ("endpoints: {}", "adapters"),
        ("{version: 2, endpoints: {}, adapters: {}}", "version 2"),
        ("{endpoints: {'GET /x': {}}, adapters: {}}", "neither a pre nor a post"),
        ("{endpoints: {'GET /x': {during: []}}, adapters: {}}", "'during'"),
        ("{endpoints: {'GET /x': {pre: a}}, adapters: {a: 'http://h'}}", "list"),
        ("{endpoints: {'GET /x': {pre: [b]}}, adapters: {a: 'http://h'}}", "'b' is not defined"),
        ("{endpoints: {'/x': {pre: [a]}}, adapters: {a: 'http://h'}}", "METHOD /path"),
        ("{endpoints: {}, adapters: {a: 'ftp://h'}}", "no http URL"),
    ],
)
def test_what_makes_no_sense_is_named(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        parse(text)
