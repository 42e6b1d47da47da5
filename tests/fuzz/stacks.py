"""A good body for each route of Tutum's API."""

from typing import Any

SERVICE = {
    "name": "web",
    "image": "{image_id}",
    "run_command": "sleep 9",
    "target_num_containers": 2,
    "container_ports": [{"inner_port": 80, "protocol": "tcp", "outer_port": None, "published": False}],
    "container_envvars": [{"key": "A", "value": "b"}],
    "bindings": [{"container_path": "/data", "host_path": None, "rewritable": True}],
    "tags": ["a", {"name": "b"}],
    "autorestart": "ALWAYS",
    "labels": {"a": "b"},
    "memory": 64,
}
BODIES: dict[tuple[str, str], tuple[Any, ...]] = {}
for _prefix in ("/api/v1", "/api/app/v1"):
    BODIES |= {
        ("POST", f"{_prefix}/stack/"): ({"name": "fuzz", "services": [SERVICE]},),
        ("PATCH", f"{_prefix}/stack/{{uuid}}/"): ({"services": [SERVICE]},),
        ("POST", f"{_prefix}/service/"): (SERVICE,),
        ("PATCH", f"{_prefix}/service/{{uuid}}/"): ({"target_num_containers": 3, "image": "{image_id}"},),
        ("POST", f"{_prefix}/service/{{uuid}}/scale/"): ({"target_num_containers": 3},),
        ("POST", f"{_prefix}/service/{{uuid}}/trigger/"): ({"name": "t", "operation": "SCALEUP"},),
    }
