"""What a container's configuration becomes with its image's defaults. Source: the Engine API's `ContainerConfig` and image-spec, `config.md`."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from nacre.cloud.errors import Invalid

Row = dict[str, Any]

SHELL = ("/bin/sh", "-c")


def merged(config: Mapping[str, Any], image: Mapping[str, Any]) -> Row:
    """`config` with the image's entrypoint, command, environment and the rest where it says nothing. Raises Invalid without any command."""
    result: Row = dict(config)
    result["Entrypoint"], result["Cmd"] = _command(config, image)
    result["Env"] = _environment(config.get("Env") or [], image.get("Env") or [])
    for name in ("User", "WorkingDir", "StopSignal"):
        result[name] = config.get(name) or image.get(name) or ""
    for name in ("ExposedPorts", "Volumes", "Labels"):
        united = {**(image.get(name) or {}), **(config.get(name) or {})}
        result[name] = united or (None if name != "Labels" else {})
    result["Healthcheck"] = _health(config.get("Healthcheck"), image.get("Healthcheck"))
    result["OnBuild"] = config.get("OnBuild") or image.get("OnBuild") or None
    result["Shell"] = config.get("Shell") or image.get("Shell") or None
    if not result["Entrypoint"] and not result["Cmd"]:
        raise Invalid("no command specified", field="Cmd")
    return result


def words(value: Any) -> list[str] | None:
    """One string is a list of one."""
    return [value] if isinstance(value, str) else value


def _command(config: Mapping[str, Any], image: Mapping[str, Any]) -> tuple[list[str] | None, list[str] | None]:
    """An entrypoint of one's own sets the image's command aside; an empty one ([""]) sets the image's entrypoint aside too."""
    entrypoint, command = words(config.get("Entrypoint")), words(config.get("Cmd"))
    if not entrypoint:
        command = command or words(image.get("Cmd"))
        if entrypoint is None:
            entrypoint = words(image.get("Entrypoint"))
    if entrypoint == [""]:
        entrypoint = None
    return entrypoint, command


def _environment(own: list[str], image: list[str]) -> list[str]:
    for entry in own:
        if not entry.partition("=")[0]:
            raise Invalid(f"invalid environment variable: {entry}", field="Env")
    named = {entry.partition("=")[0] for entry in own}
    return [*own, *(entry for entry in image if entry.partition("=")[0] not in named)]


def _health(own: Row | None, image: Row | None) -> Row | None:
    """Each member that is not given is the image's."""
    if not own or not image:
        return own or image
    return {**image, **{name: value for name, value in own.items() if value}}


class ImageDefaults(Struct, rename="pascal"):
    """The `config` object of an OCI image configuration, as far as it matters here."""

    user: str | None = None
    exposed_ports: dict[str, Any] | None = None
    env: list[str] | None = None
    entrypoint: list[str] | str | None = None
    cmd: list[str] | str | None = None
    volumes: dict[str, Any] | None = None
    working_dir: str | None = None
    labels: dict[str, str] | None = None
    stop_signal: str | None = None
    healthcheck: dict[str, Any] | None = None
    on_build: list[str] | None = None
    shell: list[str] | None = None


def image_defaults(image: Mapping[str, Any]) -> Row:
    """What an image's row says of the containers that are made of it. Raises Invalid for a configuration that is none."""
    document = image.get("config") or {}
    try:
        found = msgspec.convert(document.get("config") or {}, ImageDefaults)
    except msgspec.ValidationError as error:
        raise Invalid(f"the configuration of the image is broken: {error}", field="Image") from None
    defaults: Row = msgspec.to_builtins(found)
    return defaults
