"""Build arguments: what the client gives, what ARG declares, and what instructions see of both.

Source: https://docs.docker.com/reference/dockerfile/#arg.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from nacre.cloud.containers.scheduling import LABELS

PREDEFINED = frozenset(
    name for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY") for name in (upper, upper.lower())
)
"""Known without ARG; they are no part of the cache's key, nor of the image's history."""
EXPRESSIONS = tuple(f"{word}:" for word in LABELS if word != "reschedule")
"""Arguments that choose the host (classic Swarm): a name that begins so, its value what follows the first `=` of the expression."""


def separate(given: Mapping[str, str | None]) -> tuple[dict[str, str | None], tuple[str, ...]]:
    """(the build's arguments, the expressions that choose its host). The client has split `constraint:a==b` at its first `=`."""
    chosen = {name: value for name, value in given.items() if name.startswith(EXPRESSIONS)}
    expressions = tuple(f"{name}={value}" if value is not None else name for name, value in chosen.items())
    return {name: value for name, value in given.items() if name not in chosen}, expressions


@dataclass
class Arguments:
    """Of one build; `enter` begins a stage."""

    given: Mapping[str, str | None]
    _meta: dict[str, str | None] = field(default_factory=dict)
    _declared: dict[str, str | None] = field(default_factory=dict)
    _used: set[str] = field(default_factory=set)

    def enter(self) -> None:
        self._declared = {}

    def declare_meta(self, name: str, default: str | None) -> None:
        """Before the first FROM."""
        self._used.add(name)
        self._meta[name] = self.given.get(name) if self.given.get(name) is not None else default

    def declare(self, name: str, default: str | None) -> None:
        self._used.add(name)
        self._declared[name] = default

    def meta(self) -> dict[str, str]:
        """What FROM sees."""
        return {name: value for name, value in self._meta.items() if value is not None}

    def declared(self, env: Mapping[str, str]) -> dict[str, str]:
        """What the stage has declared, with values; a variable of ENV hides its namesake."""
        found = {}
        for name, default in self._declared.items():
            value = self.given.get(name)
            if value is None:
                value = default if default is not None else self._meta.get(name)
            if value is not None and name not in env:
                found[name] = value
        return found

    def seen(self, env: Mapping[str, str]) -> dict[str, str]:
        """With those that need no ARG."""
        given = {
            name: value for name, value in self.given.items() if name in PREDEFINED and value is not None and name not in env
        }
        return {**given, **self.declared(env)}

    def unused(self) -> list[str]:
        return sorted(name for name in self.given if name not in self._used and name not in PREDEFINED)
