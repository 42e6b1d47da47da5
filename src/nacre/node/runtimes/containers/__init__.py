"""Real containers: crun, conmon, overlayfs, user namespaces. See `driver` for the walk, docs/decisions for the reasons."""

from nacre.node.runtimes.containers.driver import ContainerDriver
from nacre.node.runtimes.containers.survey import cut_power, purge

__all__ = ["ContainerDriver", "cut_power", "purge"]
