"""What a node asks of the control plane about names that only the control plane knows (`GET /hosts/{host}/names`)."""

from msgspec import Struct


class Record(Struct, frozen=True):
    """One resource record; `data` is in presentation form (RFC 1035, 5.1): `10.0.0.5`, `1 1 8080 web.node.dc1.consul.`"""

    name: str
    rtype: str
    ttl: int
    data: str


class NameAnswer(Struct, frozen=True, omit_defaults=True):
    """`found` False is NXDOMAIN; found without records is NODATA."""

    found: bool
    records: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
