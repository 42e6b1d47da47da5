"""Tutum's stack file (tutum.yml, docker-cloud.yml) as services for the API. Every key is known or refused by its name and line."""

import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

import yaml

MIB = 1 << 20
ELSEWHERE = ("build", "external_links", "env_file")
"""Compose's keys that a stack file has not."""
_SIZES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_PORT = re.compile(r"(?:([0-9]{1,5}):)?([0-9]{1,5})(?:/(tcp|udp))?")
_LINK = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*(?:\.[A-Za-z0-9][A-Za-z0-9-]*)?)(?::([A-Za-z0-9][A-Za-z0-9-]*))?")

Service = dict[str, Any]
Shell = Mapping[str, str]


class StackFileError(ValueError):
    """The message names line, service and key."""


def _text(value: Any, shell: Shell) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise StackFileError("a text is needed")
    return str(value)


def _flag(value: Any, shell: Shell) -> bool:
    if not isinstance(value, bool):
        raise StackFileError("true or false is needed")
    return value


def _number(value: Any, shell: Shell) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise StackFileError("a whole number is needed")
    return value


def _texts(value: Any, shell: Shell) -> list[str]:
    listed = value if isinstance(value, list) else [value]
    return [_text(each, shell) for each in listed]


def _list(value: Any, shell: Shell) -> list[str]:
    if not isinstance(value, list):
        raise StackFileError("a list is needed")
    return _texts(value, shell)


def _words(value: Any, shell: Shell) -> str:
    if isinstance(value, list):
        return shlex.join(_texts(value, shell))
    text = _text(value, shell)
    try:
        shlex.split(text)
    except ValueError as error:
        raise StackFileError(str(error)) from None
    return text


def _one_of(choices: Mapping[str, str]) -> Callable[[Any, Shell], str]:
    def convert(value: Any, shell: Shell) -> str:
        word = "no" if value is False else value
        if not isinstance(word, str) or word not in choices:
            raise StackFileError(f"one of {', '.join(choices)} is needed")
        return choices[word]

    return convert


def _size_mib(value: Any, shell: Shell) -> int:
    found = re.fullmatch(r"([0-9]+)([bkmg]?)b?", _text(value, shell).lower())
    if found is None:
        raise StackFileError("a size is needed: 512m, 1g, or bytes")
    return -(-int(found[1]) * _SIZES[found[2]] // MIB)


def _environment(value: Any, shell: Shell) -> list[Service]:
    """A map, or a list of KEY=VALUE; a KEY by itself has the shell's value."""
    if isinstance(value, dict):
        pairs = [(str(key), each) for key, each in value.items()]
    else:
        split = [each.partition("=") for each in _list(value, shell)]
        pairs = [(key, text if equals else None) for key, equals, text in split]
    found = []
    for key, each in pairs:
        if each is None and key not in shell:
            raise StackFileError(f"{key} has no value, and the shell has none either")
        text = shell[key] if each is None else str(each).lower() if isinstance(each, bool) else _text(each, shell)
        found.append({"key": key, "value": text})
    return found


def _labels(value: Any, shell: Shell) -> dict[str, str]:
    if isinstance(value, dict):
        return {str(key): "" if each is None else _text(each, shell) for key, each in value.items()}
    return {key: text for key, _, text in (each.partition("=") for each in _list(value, shell))}


def _links(value: Any, shell: Shell) -> list[Service]:
    found = []
    for text in _list(value, shell):
        match = _LINK.fullmatch(text)
        if match is None:
            raise StackFileError(f"{text!r} is not SERVICE, SERVICE:ALIAS or SERVICE.STACK:ALIAS")
        found.append({"to_service": match[1], "name": match[2] or match[1].partition(".")[0]})
    return found


def _ports(*, published: bool) -> Callable[[Any, Shell], list[Service]]:
    def convert(value: Any, shell: Shell) -> list[Service]:
        found = []
        for text in _list(value, shell):
            match = _PORT.fullmatch(text)
            if match is None or (match[1] and not published):
                raise StackFileError(f"{text!r} is not {'[OUTER:]' if published else ''}PORT[/tcp|/udp]")
            outer = int(match[1]) if match[1] else None
            port = {"inner_port": int(match[2]), "protocol": match[3] or "tcp", "published": published}
            found.append({**port, "outer_port": outer})
        return found

    return convert


def _volumes(value: Any, shell: Shell) -> list[Service]:
    found = []
    for text in _list(value, shell):
        parts = text.split(":")
        source, path, mode = (
            (None, parts[0], "rw") if len(parts) == 1 else (parts[0], parts[1], parts[2] if len(parts) == 3 else "rw")
        )
        if len(parts) > 3 or not path.startswith("/") or mode not in ("ro", "rw") or source == "":
            raise StackFileError(f"{text!r} is not [NAME:]/PATH[:ro|:rw]")
        found.append({"host_path": source, "container_path": path, "rewritable": mode == "rw"})
    return found


def _volumes_from(value: Any, shell: Shell) -> list[Service]:
    return [{"volumes_from": text} for text in _list(value, shell)]


_RESTARTS = {"no": "OFF", "on-failure": "ON_FAILURE", "always": "ALWAYS"}
_DESTROYS = {"no": "OFF", "on-success": "ON_SUCCESS", "always": "ALWAYS"}
_STRATEGIES = {name: name.upper() for name in ("emptiest_node", "high_availability", "every_node")}
KEYS: dict[str, tuple[str, Callable[[Any, Shell], Any]]] = {
    "image": ("image", _text),
    "autodestroy": ("autodestroy", _one_of(_DESTROYS)),
    "autoredeploy": ("autoredeploy", _flag),
    "cap_add": ("cap_add", _list),
    "cap_drop": ("cap_drop", _list),
    "cgroup_parent": ("cgroup_parent", _text),
    "command": ("run_command", _words),
    "deployment_strategy": ("deployment_strategy", _one_of(_STRATEGIES)),
    "devices": ("devices", _list),
    "dns": ("dns", _texts),
    "dns_search": ("dns_search", _texts),
    "environment": ("container_envvars", _environment),
    "expose": ("container_ports", _ports(published=False)),
    "extra_hosts": ("extra_hosts", _list),
    "labels": ("labels", _labels),
    "links": ("linked_to_service", _links),
    "net": ("net", _one_of({"bridge": "bridge", "host": "host"})),
    "pid": ("pid", _one_of({"none": "none", "host": "host"})),
    "ports": ("container_ports", _ports(published=True)),
    "privileged": ("privileged", _flag),
    "restart": ("autorestart", _one_of(_RESTARTS)),
    "roles": ("roles", _list),
    "security_opt": ("security_opt", _list),
    "sequential_deployment": ("sequential_deployment", _flag),
    "tags": ("tags", _texts),
    "target_num_containers": ("target_num_containers", _number),
    "volumes": ("bindings", _volumes),
    "volumes_from": ("bindings", _volumes_from),
    "working_dir": ("working_dir", _text),
    "entrypoint": ("entrypoint", _words),
    "user": ("user", _text),
    "hostname": ("hostname", _text),
    "domainname": ("domainname", _text),
    "mac_address": ("mac_address", _text),
    "cpu_shares": ("cpu_shares", _number),
    "cpuset": ("cpuset", _text),
    "mem_limit": ("memory", _size_mib),
    "memswap_limit": ("memory_swap", _size_mib),
    "read_only": ("read_only", _flag),
    "stdin_open": ("stdin_open", _flag),
    "tty": ("tty", _flag),
}
"""Key of the file -> the service's member in the API, and how its value becomes that."""


def parse(text: str, shell: Shell) -> list[Service]:
    """The services in the order of the file. Raises StackFileError."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise StackFileError(f"this is no YAML: {error}") from None
    if not isinstance(root, yaml.MappingNode) or not root.value:
        raise StackFileError("a stack file is a map of services")
    found = []
    for name, node in _members(root, "the file"):
        if not isinstance(node, yaml.MappingNode):
            raise StackFileError(f"line {node.start_mark.line + 1}: {name}: a service is a map of keys")
        found.append(_service(name, node, shell))
    return found


def _members(node: yaml.MappingNode, where: str) -> list[tuple[str, yaml.Node]]:
    found: dict[str, yaml.Node] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise StackFileError(f"line {line}: {where}: a key is a text")
        if key.value in found:
            raise StackFileError(f"line {line}: {where}: {key.value} is there twice")
        found[key.value] = value
    return list(found.items())


def _service(name: str, node: yaml.MappingNode, shell: Shell) -> Service:
    made: Service = {"name": name}
    members = _members(node, name)
    lines = {key.value: key.start_mark.line + 1 for key, _ in node.value}
    for key, value in members:
        where = f"line {lines[key]}: {name}: {key}"
        if key in ELSEWHERE:
            raise StackFileError(f"{where} is not supported in stack files")
        if key not in KEYS:
            raise StackFileError(f"{where} is not known")
        member, convert = KEYS[key]
        try:
            converted = convert(yaml.SafeLoader("").construct_document(value), shell)
        except StackFileError as error:
            raise StackFileError(f"{where}: {error}") from None
        except yaml.YAMLError as error:
            raise StackFileError(f"{where}: {error}") from None
        made[member] = [*made[member], *converted] if member in made else converted
    if "image" not in made:
        raise StackFileError(f"line {node.start_mark.line + 1}: {name}: image is missing")
    return made
