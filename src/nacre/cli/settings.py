"""What an operator sets with `up --set NAME=VALUE`: a name is a group and one of its fields, a value of several parts has commas.

The groups are the API process's own records; what they do not know, or a value that makes no sense, ends the command.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import click
import msgspec

from nacre.cloud.hosts.rules import HostRules
from nacre.cloud.identity.compliance import SecurityCompliance
from nacre.cloud.image.sources import ImportRules

GROUPS: Mapping[str, type[Any]] = {"security_compliance": SecurityCompliance, "image_import": ImportRules, "hosts": HostRules}


def names() -> list[str]:
    return [f"{group}.{field.name}" for group, kind in GROUPS.items() for field in fields(kind)]


def merged(kept: Mapping[str, str], given: Sequence[str]) -> dict[str, str]:
    """What was set before, changed by `NAME=VALUE`s; an empty value takes a setting back. Raises ClickException."""
    result = dict(kept)
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name not in names():
            raise click.ClickException(f"--set {text}: there are {', '.join(names())}; give one as NAME=VALUE")
        if value:
            result[name] = value
        else:
            result.pop(name, None)
    groups(result)
    return result


def groups(settings: Mapping[str, str]) -> dict[str, Any]:
    """The records, by the name of their group. Raises ClickException for a value that makes no sense."""
    found = {}
    for group, kind in GROUPS.items():
        several = {field.name for field in fields(kind) if str(field.type).startswith("tuple")}
        values: dict[str, Any] = {}
        for name, value in settings.items():
            if name.startswith(f"{group}."):
                field = name.removeprefix(f"{group}.")
                values[field] = value.split(",") if field in several else value
        try:
            found[group] = msgspec.convert(values, kind, strict=False)
        except (msgspec.ValidationError, ValueError) as error:
            raise click.ClickException(f"{group}: {error}") from error
    return found
