"""The volumes of one host: subvolumes of a btrfs in a file where the kernel has it, directories otherwise, and volume plugins."""

from nacre.node.volumes.driver import HostVolumes, cut_power, locate, purge

__all__ = ["HostVolumes", "cut_power", "locate", "purge"]
