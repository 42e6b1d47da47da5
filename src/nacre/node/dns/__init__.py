"""Names for guests: a resolver in every network, on 169.254.169.254 and fe80::a9fe:a9fe, beside the metadata service."""

from nacre.node.dns.service import NameService

__all__ = ["NameService"]
