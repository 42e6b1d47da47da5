"""adapters.yml: which adapters are asked before and after which calls.

    version: 1
    endpoints:
      "POST /*/containers/create":
        pre: [network]
        post: [audit]
    adapters:
      network: http://127.0.0.1:6675/adapter
      audit: http://127.0.0.1:6676/adapter

A pattern is a shell glob over `METHOD /path`, the query left out; `*` goes across slashes. Of several patterns that fit, all count, in the
order of the file.
"""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from msgspec import Struct

PROTOCOL_VERSION = 1
HOOKS = ("pre", "post")
CONFIG_BYTES_MAX = 1 << 20


class ConfigError(ValueError):
    """The file cannot be used; the text says where and why."""


class Adapter(Struct, frozen=True):
    name: str
    url: str


class Endpoint(Struct, frozen=True):
    pattern: str
    pre: tuple[Adapter, ...]
    post: tuple[Adapter, ...]


class Adapters(Struct, frozen=True):
    """The whole file, checked."""

    endpoints: tuple[Endpoint, ...]

    def matching(self, method: str, path: str) -> tuple[tuple[Adapter, ...], tuple[Adapter, ...]]:
        """The adapters to ask before and after this call."""
        fitting = [endpoint for endpoint in self.endpoints if fnmatchcase(f"{method} {path}", endpoint.pattern)]
        return (
            tuple(adapter for endpoint in fitting for adapter in endpoint.pre),
            tuple(adapter for endpoint in fitting for adapter in endpoint.post),
        )


def load(path: Path) -> Adapters:
    """Raises ConfigError and OSError."""
    if path.stat().st_size > CONFIG_BYTES_MAX:
        raise ConfigError(f"{path} is larger than {CONFIG_BYTES_MAX} bytes")
    return parse(path.read_text())


def parse(text: str) -> Adapters:
    """Raises ConfigError."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML: {error}") from None
    if not isinstance(document, dict):
        raise ConfigError("the file must hold a map with the keys version, endpoints and adapters")
    version = document.get("version", PROTOCOL_VERSION)
    if version != PROTOCOL_VERSION:
        raise ConfigError(f"version {version!r} is not known, only {PROTOCOL_VERSION}")
    adapters = {str(name): _adapter(str(name), url) for name, url in _map(document, "adapters").items()}
    return Adapters(tuple(_endpoint(pattern, hooks, adapters) for pattern, hooks in _map(document, "endpoints").items()))


def _map(document: dict[str, Any], key: str) -> dict[Any, Any]:
    value = document.get(key)
    if not isinstance(value, dict):
        raise ConfigError(f"the key {key!r} is missing or no map")
    return value


def _adapter(name: str, url: Any) -> Adapter:
    parts = urlsplit(str(url))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"adapter {name!r}: {url!r} is no http URL")
    return Adapter(name, str(url))


def _endpoint(pattern: Any, hooks: Any, adapters: dict[str, Adapter]) -> Endpoint:
    if not isinstance(pattern, str) or len(pattern.split(" ", 1)) != 2:
        raise ConfigError(f"endpoint {pattern!r}: write it as 'METHOD /path'")
    if not isinstance(hooks, dict) or not hooks:
        raise ConfigError(f"endpoint {pattern!r} names neither a pre nor a post hook")
    for key, names in hooks.items():
        if key not in HOOKS:
            raise ConfigError(f"endpoint {pattern!r}: the key {key!r} is neither pre nor post")
        if not isinstance(names, list):
            raise ConfigError(f"endpoint {pattern!r}: {key} must be a list of adapters")
        for name in names:
            if name not in adapters:
                raise ConfigError(f"endpoint {pattern!r}: adapter {name!r} is not defined")
    pre, post = (tuple(adapters[name] for name in hooks.get(key, [])) for key in HOOKS)
    return Endpoint(pattern, pre, post)
