"""Registrator's rules, case by case."""

from typing import Any

import pytest

from nacre.cloud.discovery.registrator import Service, Thing, services_of


def services(ports: list[tuple[int, str]], **settings: str) -> list[Service]:
    thing = Thing(
        name="web_1", image="reg.local:5000/team/redis:7", host="h1", address="10.0.0.5", settings=settings, ports=ports
    )
    return services_of(thing)


def shown(found: list[Service], *columns: str) -> list[tuple[Any, ...]]:
    return [(each.id, *(each.values[name] for name in columns)) for each in found]


def test_one_service_per_port_named_after_the_image() -> None:
    assert shown(services([(6379, "tcp")]), "name", "port") == [("h1:web_1:6379", "redis", 6379)]
    assert shown(services([(53, "tcp"), (53, "udp")]), "name", "tags") == [
        ("h1:web_1:53", "redis-53", []),
        ("h1:web_1:53:udp", "redis-53", ["udp"]),
    ]
    assert services([]) == []


def test_names_tags_and_metadata() -> None:
    found = services(
        [(80, "tcp"), (443, "tcp")], SERVICE_NAME="web", SERVICE_443_NAME="web-tls", SERVICE_TAGS=r"a,b\,c", SERVICE_REGION="eu"
    )
    assert shown(found, "name", "tags", "meta") == [
        ("h1:web_1:80", "web-80", ["a", "b,c"], {"region": "eu"}),
        ("h1:web_1:443", "web-tls", ["a", "b,c"], {"region": "eu"}),
    ]
    assert [each.id for each in services([(80, "tcp")], SERVICE_ID="mine")] == ["mine"]
    assert services([(80, "tcp")], SERVICE_IGNORE="yes") == []
    assert [each.values["port"] for each in services([(80, "tcp"), (81, "tcp")], SERVICE_80_IGNORE="1")] == [81]


@pytest.mark.parametrize(
    ("settings", "kind", "definition"),
    [
        (
            {"SERVICE_CHECK_HTTP": "/health", "SERVICE_CHECK_TCP": "true"},
            "http",
            {"HTTP": "http://10.0.0.5:80/health", "Interval": "10s"},
        ),
        ({"SERVICE_80_CHECK_TCP": "true", "SERVICE_CHECK_INTERVAL": "3s"}, "tcp", {"TCP": "10.0.0.5:80", "Interval": "3s"}),
        ({"SERVICE_CHECK_TTL": "30s"}, "ttl", {"TTL": "30s"}),
        ({"SERVICE_CHECK_SCRIPT": "true"}, "", {}),
        ({"SERVICE_CHECK_HTTP": "/", "SERVICE_CHECK_INTERVAL": "soon"}, "", {}),
    ],
)
def test_checks(settings: dict[str, str], kind: str, definition: dict[str, str]) -> None:
    (service,) = services([(80, "tcp")], **settings)
    assert service.check is not None
    ident, values = service.check
    assert (ident, values["type"], values["definition"], values["status"]) == (
        "service:h1:web_1:80",
        kind,
        definition,
        "critical",
    )
    assert bool(values["output"]) == (not kind)


def test_a_server_is_a_service_under_its_own_name_or_those_that_its_metadata_says() -> None:
    def server(**metadata: str) -> list[Service]:
        return services_of(
            Thing(name="db", image="cirros", host="h1", address="10.0.0.9", settings=metadata, ports=(), server_id="5e")
        )

    assert shown(server(), "name", "port") == [("h1:5e:0", "db", 0)]
    assert shown(server(SERVICE_5432_NAME="pg", SERVICE_99999_NAME="x"), "name", "port") == [("h1:5e:5432", "pg", 5432)]
