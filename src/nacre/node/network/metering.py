"""Meters: what crosses a router's gateway, counted by labels. The counters have names of their own, so that changed rules count on."""

import uuid

from nacre.node.network.nft import Nft
from nacre.node.network.tables import Chain, Collection
from nacre.protocol.networks import MeterRule, Router

COUNTER = "packets 0 bytes 0"
PREFIX = "meter_"


def _name(meter_id: str) -> str:
    return f"{PREFIX}{uuid.UUID(meter_id).hex}"


def add(chains: dict[str, Chain], counters: dict[str, Collection], link: str, router: Router) -> None:
    """The chains and counters of the router's meters. `link` is the gateway's; without one nothing is counted.

    Addresses are those inside: what goes out is seen before, what comes in after its translation.
    """
    if not router.meters or not link:
        return
    for meter in router.meters:
        name = _name(meter.id)
        counters[name] = Collection("counter", COUNTER)
        first, last = [rule for rule in meter.rules if rule.excluded], [rule for rule in meter.rules if not rule.excluded]
        chains[name] = Chain(tuple(_rule(rule, link, name) for rule in (*first, *last)))
    jumps = tuple(f"jump {_name(meter.id)}" for meter in router.meters)
    chains["metering"] = Chain(jumps, "type filter hook forward priority 0; policy accept;")


def _rule(rule: MeterRule, link: str, name: str) -> str:
    """A packet counts once for a label, by the first rule that it meets."""
    inward = rule.direction == "ingress"
    words = [f'{"iifname" if inward else "oifname"} "{link}"']
    for side, prefix in (("saddr" if inward else "daddr", rule.remote), ("saddr", rule.source), ("daddr", rule.destination)):
        if prefix:
            words.append(f"{'ip6' if ':' in prefix else 'ip'} {side} {prefix}")
    return " ".join((*words, "return" if rule.excluded else f'counter name "{name}" return'))


def read(nft: Nft, table: str) -> dict[str, tuple[int, int]]:
    """By label's id the packets and bytes that its counter has counted. Raises NftError."""
    found = (item["counter"] for item in nft.read(f"list counters table inet {table}") if "counter" in item)
    return {
        str(uuid.UUID(each["name"].removeprefix(PREFIX))): (each["packets"], each["bytes"])
        for each in found
        if each["name"].startswith(PREFIX)
    }
