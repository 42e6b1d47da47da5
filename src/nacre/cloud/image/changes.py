"""Dockerfile instructions that change an image's config alone, as `docker commit --change` and `docker import --change` take them.

Source: https://docs.docker.com/reference/dockerfile/ and moby's dispatchers.
"""

import json
import re
import shlex
from typing import Any

from nacre.cloud.errors import Invalid

Settings = dict[str, Any]
CHANGES_MAX = 256
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)")
_NANOSECONDS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
SHELL = ["/bin/sh", "-c"]


def apply(settings: Settings, changes: list[str]) -> Settings:
    """The config's `config` after these lines. Raises Invalid."""
    if len(changes) > CHANGES_MAX:
        raise Invalid(f"more than {CHANGES_MAX} changes")
    made = json.loads(json.dumps(settings))
    for text in changes:
        for line in text.splitlines():
            if line.strip():
                one(made, line.strip())
    return made  # type: ignore[no-any-return]


def one(settings: Settings, line: str) -> None:
    """Obey one instruction. Raises Invalid."""
    name, _, rest = line.partition(" ")
    known = INSTRUCTIONS.get(name.upper())
    if known is None:
        raise Invalid(f"{name.upper()} is not a valid change command")
    rest = rest.strip()
    if not rest:
        raise Invalid(f"{name.upper()} requires at least one argument")
    known(settings, rest)


def argv(text: str) -> list[str] | None:
    """A JSON list of texts (the exec form), or None (the shell form)."""
    if text.lstrip().startswith("["):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if isinstance(found, list) and all(isinstance(item, str) for item in found):
            return found
    return None


def command(settings: Settings, text: str) -> list[str]:
    """Exec form, or shell form under the image's shell."""
    exact = argv(text)
    return exact if exact is not None else [*(settings.get("Shell") or SHELL), text]


def words(text: str) -> list[str]:
    """Raises Invalid for a quote that is not closed."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise Invalid(f"{error}: {text}") from None


def pairs(text: str, name: str) -> list[tuple[str, str]]:
    """`A=b C="d e"`, or the old form `A the rest`. Raises Invalid."""
    first = text.split(None, 1)
    if "=" not in first[0]:
        if len(first) < 2:
            raise Invalid(f"{name} must have two arguments")
        return [(first[0], first[1])]
    found = []
    for word in words(text):
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise Invalid(f"Syntax error - can't find = in {word!r}. Must be of the form: name=value")
        found.append((key, value))
    return found


def _cmd(settings: Settings, text: str) -> None:
    settings["Cmd"] = command(settings, text)


def _entrypoint(settings: Settings, text: str) -> None:
    settings["Entrypoint"] = command(settings, text)


def _env(settings: Settings, text: str) -> None:
    env = dict(entry.partition("=")[::2] for entry in settings.get("Env") or [])
    env.update(pairs(text, "ENV"))
    settings["Env"] = [f"{key}={value}" for key, value in env.items()]


def _label(settings: Settings, text: str) -> None:
    settings["Labels"] = {**(settings.get("Labels") or {}), **dict(pairs(text, "LABEL"))}


def _expose(settings: Settings, text: str) -> None:
    ports = dict(settings.get("ExposedPorts") or {})
    for word in words(text):
        match = _PORT.fullmatch(word)
        if match is None or not 0 < int(match[1]) <= int(match[2] or match[1]) < 65536:
            raise Invalid(f"invalid containerPort: {word}")
        for port in range(int(match[1]), int(match[2] or match[1]) + 1):
            ports[f"{port}/{(match[3] or 'tcp').lower()}"] = {}
    settings["ExposedPorts"] = ports


def _volume(settings: Settings, text: str) -> None:
    names = argv(text)
    settings["Volumes"] = {**(settings.get("Volumes") or {}), **{name: {} for name in (words(text) if names is None else names)}}


def _workdir(settings: Settings, text: str) -> None:
    path = words(text)[0] if words(text) else text
    base = settings.get("WorkingDir") or "/"
    settings["WorkingDir"] = path if path.startswith("/") else f"{base.rstrip('/')}/{path}"


def _user(settings: Settings, text: str) -> None:
    settings["User"] = text


def _stop_signal(settings: Settings, text: str) -> None:
    settings["StopSignal"] = text


def _on_build(settings: Settings, text: str) -> None:
    trigger = text.split(None, 1)[0].upper()
    if trigger == "ONBUILD":
        raise Invalid("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("MAINTAINER", "FROM"):
        raise Invalid(f"{trigger} isn't allowed as an ONBUILD trigger")
    settings["OnBuild"] = [*(settings.get("OnBuild") or []), text]


def _shell(settings: Settings, text: str) -> None:
    shell = argv(text)
    if not shell:
        raise Invalid("SHELL requires the arguments to be in JSON form")
    settings["Shell"] = shell


def duration_ns(text: str) -> int:
    """`1m30s` in nanoseconds. Raises Invalid."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise Invalid(f'time: invalid duration "{text}"')
    return round(sum(float(number) * _NANOSECONDS[unit] for number, unit in parts))


_HEALTH_FLAGS = {
    "--interval": "Interval",
    "--timeout": "Timeout",
    "--start-period": "StartPeriod",
    "--start-interval": "StartInterval",
    "--retries": "Retries",
}


def _healthcheck(settings: Settings, text: str) -> None:
    health: Settings = {}
    while text.startswith("--"):
        flag, _, text = text.partition(" ")
        name, _, value = flag.partition("=")
        if name not in _HEALTH_FLAGS:
            raise Invalid(f"Unknown flag: {name.removeprefix('--')}")
        if name == "--retries" and not value.isdecimal():
            raise Invalid(f"--retries must be a number, not {value!r}")
        health[_HEALTH_FLAGS[name]] = int(value) if name == "--retries" else duration_ns(value)
        text = text.strip()
    kind, _, rest = text.partition(" ")
    if kind.upper() == "NONE":
        settings["Healthcheck"] = {"Test": ["NONE"]}
        return
    if kind.upper() != "CMD" or not rest.strip():
        raise Invalid(f"Unknown type {kind!r} in HEALTHCHECK (try CMD)")
    exact = argv(rest)
    settings["Healthcheck"] = {"Test": ["CMD", *exact] if exact is not None else ["CMD-SHELL", rest.strip()], **health}


INSTRUCTIONS = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _on_build,
    "SHELL": _shell,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
