"""Stack files: what each key becomes, and how a bad file is refused."""

import pytest

from nacre.cli.stackfile import KEYS, StackFileError, parse
from nacre.cloud.stacks import engine
from nacre.panes.docker.schemas import Config, HostConfig, plain
from nacre.panes.edge.call import convert
from nacre.panes.stacks.schemas import StackCreate, spec_of

WHOLE = """
web:
  image: app:1
  command: [sh, -c, "echo 'a b'"]
  environment: [A=b, HOME]
  links: ["db:store", cache.other]
  ports: ["8080:80", 53/udp]
  expose: ["9000"]
  volumes: [/data, "shared:/s:ro"]
  volumes_from: [db]
  restart: no
  autodestroy: on-success
  deployment_strategy: every_node
  roles: [global]
  tags: web
  mem_limit: 1g
  dns: 10.0.0.2
  tty: true
db:
  image: db
  restart: on-failure
  environment: {N: 1, F: true}
"""


TUTUMS = """
image autodestroy autoredeploy cap_add cap_drop cgroup_parent command deployment_strategy devices dns dns_search environment expose
extra_hosts labels links net pid ports privileged restart roles security_opt sequential_deployment tags target_num_containers volumes
volumes_from working_dir entrypoint user hostname domainname mac_address cpu_shares cpuset mem_limit memswap_limit read_only stdin_open tty
"""


def test_a_file_becomes_services() -> None:
    web, db = parse(WHOLE, {"HOME": "/root"})
    assert web["run_command"] == """sh -c 'echo '"'"'a b'"'"''"""
    assert web["container_envvars"] == [{"key": "A", "value": "b"}, {"key": "HOME", "value": "/root"}]
    assert [(link["to_service"], link["name"]) for link in web["linked_to_service"]] == [
        ("db", "store"),
        ("cache.other", "cache"),
    ]
    assert [(port["inner_port"], port["outer_port"], port["published"]) for port in web["container_ports"]] == [
        (80, 8080, True),
        (53, None, True),
        (9000, None, False),
    ]
    assert web["bindings"][1] == {"host_path": "shared", "container_path": "/s", "rewritable": False}
    assert (web["autorestart"], web["autodestroy"], web["memory"]) == ("OFF", "ON_SUCCESS", 1024)
    assert db["container_envvars"] == [{"key": "N", "value": "1"}, {"key": "F", "value": "true"}]
    body = convert({"name": "s", "services": [web, db]}, StackCreate)
    assert [spec_of(each).name for each in body.services] == ["web", "db"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("web:\n  image: a\n  build: .\n", "line 3: web: build is not supported in stack files"),
        ("web:\n  image: a\n  colour: blue\n", "line 3: web: colour is not known"),
        ("web:\n  image: a\n  env_file: x\n", "line 3: web: env_file is not supported in stack files"),
        ("web:\n  command: a\n", "line 2: web: image is missing"),
        ("web:\n  image: a\n  image: b\n", "line 3: web: image is there twice"),
        ("web:\n  image: a\n  restart: unless-stopped\n", "line 3: web: restart: one of no, on-failure, always is needed"),
        ("web:\n  image: a\n  ports: ['80-90']\n", "line 3: web: ports: '80-90' is not [OUTER:]PORT[/tcp|/udp]"),
        ("web:\n  image: a\n  environment: [NOWHERE]\n", "line 3: web: environment: NOWHERE has no value"),
        ("web:\n  image: a\n  target_num_containers: two\n", "line 3: web: target_num_containers: a whole number is needed"),
        ("web: app\n", "line 1: web: a service is a map of keys"),
        ("- a\n", "a stack file is a map of services"),
        ("a: [\n", "this is no YAML"),
        ("", "a stack file is a map of services"),
        ("web:\n  image: !!python/object:os.system x\n", "line 2: web: image"),
    ],
)
def test_a_bad_file_is_refused_by_line_and_key(text: str, error: str) -> None:
    with pytest.raises(StackFileError) as caught:
        parse(text, {})
    assert error in str(caught.value)


def test_the_keys_are_tutums() -> None:
    assert KEYS.keys() == set(TUTUMS.split())


def test_the_engines_defaults_are_the_panes() -> None:
    assert engine.config() == plain(Config())
    assert engine.host_config() == plain(HostConfig())
