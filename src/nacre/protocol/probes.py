"""Checks of a service: what the node asks from inside a network, and what came of it (`check` in nacre.protocol.streams)."""

from typing import Literal

from msgspec import Struct

OUTPUT_BYTES_MAX = 4096
"""What of an answer is kept."""

OUTPUT = " Output: "
"""In an output: behind it stands what the service itself has said, before it what was found."""


class Probe(Struct, frozen=True, kw_only=True):
    """One question to an address in a network. `url`, `method`, `headers`, `body` and `tls_skip_verify` are http's."""

    kind: Literal["http", "tcp"]
    address: str
    port: int
    timeout_s: float
    url: str = ""
    method: str = "GET"
    headers: dict[str, list[str]] = {}
    body: str = ""
    tls_skip_verify: bool = False


class Probed(Struct, frozen=True):
    """`status` is passing, warning or critical."""

    status: str
    output: str
