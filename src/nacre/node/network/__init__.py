"""The data plane: native Linux, by netlink and nftables; and Docker's network plugins where a network is one's of theirs."""

from nacre.node.network.driver import LinuxNetworkDriver
from nacre.node.network.survey import purge

__all__ = ["LinuxNetworkDriver", "purge"]
