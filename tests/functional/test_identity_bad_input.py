"""Whatever is sent, the answer is one of Identity's own: an error in its shape, and never a 5xx."""

import json
import string
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nacre.panes.edge.resource import Resource
from nacre.panes.openstack.identity.resources import REGULAR
from nacre.panes.openstack.identity.routes import ROUTES
from tests.support import Answer, Client

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
SEGMENTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
EXAMPLES = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def check(answer: Answer, what: Any) -> None:
    assert answer.status < 500, (answer.status, answer.body, what)
    if answer.status >= 400 and answer.body:
        error = answer.json["error"]
        assert error["code"] == answer.status
        assert error["message"]
        assert error["title"]


def quote(segment: str) -> str:
    return "".join(f"%{byte:02X}" for byte in segment.encode())


@pytest.mark.parametrize("resource", REGULAR, ids=lambda resource: resource.singular)
@EXAMPLES
@given(data=st.data())
def test_any_values_of_the_known_attributes(admin: Client, resource: Resource, data: st.DataObject) -> None:
    names = st.sampled_from([attribute.name for attribute in resource.attributes]) | st.text(max_size=5)
    sent = data.draw(st.dictionaries(names, ANYTHING, max_size=6))
    body = {resource.singular: sent}
    made = admin("POST", f"/identity{resource.path}", body)
    check(made, body)
    ident = made.json[resource.singular]["id"] if made.status == 201 else "none"
    check(admin("PATCH", f"/identity{resource.path}/{quote(ident)}", body), body)
    check(admin("GET", f"/identity{resource.path}/{quote(ident)}"), ident)


@EXAMPLES
@given(data=st.data())
def test_any_path_and_query_of_every_route(admin: Client, data: st.DataObject) -> None:
    route = data.draw(st.sampled_from([route for route in ROUTES if route.method != "DELETE"]))
    path = "".join(
        quote(data.draw(SEGMENTS)) if literal is None else literal
        for literal in (
            piece if position == 0 else None if position % 2 else piece
            for position, piece in enumerate(
                part for group in string.Formatter().parse(route.path) for part in group[:2] if part is not None
            )
        )
    )
    names = st.sampled_from(
        ["limit", "marker", "name", "name__contains", "enabled", "tags", "effective", "scope.project.id", "nocatalog"]
    )
    query = "&".join(f"{data.draw(names)}={quote(data.draw(SEGMENTS))}" for _ in range(data.draw(st.integers(0, 2))))
    body = None if route.method in ("GET", "HEAD") else data.draw(ANYTHING)
    check(admin(route.method, f"/identity{path}?{query}", body), (route, path, query, body))


@EXAMPLES
@given(body=ANYTHING, scope=ANYTHING, method=st.sampled_from(["password", "token", "application_credential", "x"]))
def test_any_body_of_authentication(admin: Client, body: Any, scope: Any, method: str) -> None:
    auth = {"identity": {"methods": [method], method: body}, "scope": scope}
    for sent in (body, {"auth": body}, {"auth": {"identity": body}}, {"auth": auth}):
        check(admin("POST", "/identity/v3/auth/tokens", sent), sent)


@pytest.mark.parametrize("depth", [20, 500, 980, 985, 1000, 200_000])
@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_deep_json(admin: Client, depth: int, brackets: str) -> None:
    opening = "[" if brackets == "[]" else '{"a":'
    inner = opening * depth + "1" + brackets[1] * depth
    for path, body in (
        ("regions", '{"region":{"extra_thing":' + inner + "}}"),
        ("users", '{"user":{"name":"deep","extra_thing":' + inner + "}}"),
        ("auth/tokens", '{"auth":' + inner + "}"),
    ):
        check(admin("POST", f"/identity/v3/{path}", body.encode()), (path, depth))
    check(admin("GET", "/identity/v3/regions"), depth)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"region":{"description":"\\ud800"}}',
        b'{"region":{"n":1e999}}',
        b"null",
        b"[]",
        b'{"region":[]}',
    ],
)
def test_bodies_that_are_no_json_objects(admin: Client, body: bytes) -> None:
    answer = admin("POST", "/identity/v3/regions", body)
    assert answer.status == 400, answer.body
    check(answer, body)


def test_numbers_of_any_size(admin: Client) -> None:
    for number in (2**63, 2**64, -(2**70), 10**400):
        body = {"region": {"number": number}}
        answer = admin("POST", "/identity/v3/regions", json.dumps(body).encode())
        check(answer, number)
        check(admin("GET", "/identity/v3/regions"), number)


def test_other_media_types(admin: Client) -> None:
    answer = admin("POST", "/identity/v3/regions", b"<region/>", {"Content-Type": "application/xml"})
    assert answer.status == 415
    check(answer, "xml")
