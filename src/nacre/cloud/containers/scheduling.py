"""Where a container may be placed: what Docker's clients say of it in Env, in labels and by naming other containers.

As classic Swarm has it: `-e constraint:EXPR`, `affinity:EXPR`, `whitelist:EXPR` and `reschedule:POLICY` are taken out of Env and kept as JSON
lists in labels, where they may also be given; every container has an id in a label that stays the same when it is made anew elsewhere.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from nacre.cloud.errors import CloudError
from nacre.cloud.scheduler import Conditions, Dependency, ExpressionError, NoValidHost, parse_all

NAMESPACE = "com.docker.swarm"
ID_LABEL = f"{NAMESPACE}.id"
LABELS = {
    "constraint": f"{NAMESPACE}.constraints",
    "affinity": f"{NAMESPACE}.affinities",
    "whitelist": f"{NAMESPACE}.whitelists",
    "reschedule": f"{NAMESPACE}.reschedule-policies",
}
"""The word in Env and the label that holds the list."""
Reschedule = Literal["off", "on-node-failure"]

_TEXTS = msgspec.json.Decoder(list[str])


class NotSchedulable(CloudError):
    """An expression cannot be read, or no host satisfies all: 500 with Swarm's text, as Swarm answers."""


@dataclass(frozen=True, slots=True)
class Placement:
    """What `prepare` makes of a container's configuration."""

    config: dict[str, Any]
    """The Engine API's Config: Env without the expressions, Labels with them."""
    swarm_id: str
    """Also in the labels."""
    conditions: Conditions
    """For `ServerSpec.conditions`."""
    reschedule: Reschedule
    warnings: tuple[str, ...]
    """For the answer's `Warnings`."""


def prepare(config: Mapping[str, Any], host_config: Mapping[str, Any], *, swarm_id: str = "") -> Placement:
    """Of a container that is to be made; `swarm_id` is that of one that is made anew. Raises NotSchedulable.

    The labels are those of the client and of the image together. An id that they hold is another container's, and replaced.
    """
    labels = dict(config.get("Labels") or {})
    env: list[str] = []
    lists = {word: _listed(labels, label) for word, label in LABELS.items()}
    for entry in config.get("Env") or ():
        word, colon, text = entry.partition(":")
        if colon and word in lists:
            lists[word].append(text)
        else:
            env.append(entry)
    for word, texts in lists.items():
        if texts:
            labels[LABELS[word]] = msgspec.json.encode(texts).decode()
    swarm_id = swarm_id or secrets.token_hex(32)
    labels[ID_LABEL] = swarm_id
    conditions = _conditions(lists, config, host_config)
    expressions = (*conditions.constraints, *conditions.affinities, *conditions.whitelists)
    return Placement(
        config={**config, "Env": env, "Labels": labels},
        swarm_id=swarm_id,
        conditions=conditions,
        reschedule=_reschedule(lists["reschedule"]),
        warnings=tuple(expression.warning for expression in expressions if expression.warning),
    )


def conditions_of(config: Mapping[str, Any], host_config: Mapping[str, Any]) -> Conditions:
    """Of a container that was made: its labels hold everything."""
    labels = config.get("Labels") or {}
    return _conditions({word: _listed(labels, label) for word, label in LABELS.items()}, config, host_config)


def reschedule_of(labels: Mapping[str, str]) -> Reschedule:
    """The policy of a container that was made."""
    return _reschedule(_listed(labels, LABELS["reschedule"]))


def failure(error: NoValidHost | ExpressionError) -> NotSchedulable:
    """What the scheduler says, as Docker's clients hear it."""
    return NotSchedulable(error.docker if isinstance(error, NoValidHost) else str(error))


def _listed(labels: Mapping[str, str], label: str) -> list[str]:
    try:
        return _TEXTS.decode(labels[label]) if label in labels else []
    except msgspec.DecodeError:
        raise NotSchedulable(f"The label {label} is not a JSON list of texts") from None


def _conditions(lists: Mapping[str, list[str]], config: Mapping[str, Any], host_config: Mapping[str, Any]) -> Conditions:
    try:
        parsed = {word: parse_all(lists[word]) for word in ("constraint", "affinity", "whitelist")}
    except ExpressionError as error:
        raise NotSchedulable(str(error)) from None
    in_host_mode = host_config.get("NetworkMode") == "host"
    return Conditions(
        constraints=parsed["constraint"],
        affinities=parsed["affinity"],
        whitelists=parsed["whitelist"],
        dependencies=tuple(_dependencies(host_config)),
        exposed=tuple(config.get("ExposedPorts") or ()) if in_host_mode else (),
    )


def _dependencies(host_config: Mapping[str, Any]) -> list[Dependency]:
    found = [Dependency(f"--volumes-from={text}", text.partition(":")[0]) for text in host_config.get("VolumesFrom") or ()]
    found += [Dependency(f"--link={text}", text.partition(":")[0]) for text in host_config.get("Links") or ()]
    network = host_config.get("NetworkMode") or ""
    if network.startswith("container:"):
        found.append(Dependency(f"--net={network}", network.removeprefix("container:")))
    return found


def _reschedule(policies: list[str]) -> Reschedule:
    if len(policies) > 1:
        raise NotSchedulable("too many reschedule policies")
    match policies:
        case [] | ["off"]:
            return "off"
        case ["on-node-failure"]:
            return "on-node-failure"
        case [other]:
            raise NotSchedulable(f"invalid reschedule policy: {other}")
    raise AssertionError(policies)
