"""The data plane: native Linux, by netlink and nftables."""

from nacre.node.network.driver import LinuxNetworkDriver
from nacre.node.network.survey import purge

__all__ = ["LinuxNetworkDriver", "purge"]
