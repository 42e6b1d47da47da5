"""`nacre conformance`: Tempest, the suite by which OpenStack judges clouds, against a cloud of its own."""

from nacre.cli.conformance.command import conformance

__all__ = ["conformance"]
