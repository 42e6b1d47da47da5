"""The generated pages say what the tables say."""

from pathlib import Path

import pytest

from nacre.panes.coverage import PAGES, operations, who
from nacre.panes.services import SERVICES

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", PAGES)
def test_the_pages_are_up_to_date(name: str) -> None:
    written = (DOCS / name).read_text(encoding="utf-8")
    assert written == PAGES[name](), f"docs/{name} is out of date: run `python -m nacre.panes.coverage docs`"


def test_every_route_and_every_policy_row_is_on_them() -> None:
    api, policy = PAGES["api.md"](), PAGES["policy.md"]()
    for service in SERVICES:
        for route in operations(service):
            assert f"| `{route.method} {route.path or '/'}` |" in api
            assert route.summary
        for name, rule in service.policies.items():
            assert f"| `{name}` | {who(rule)} |" in policy
