"""Nacre: an open, container-native cloud that OpenStack's own clients drive."""

__version__ = "0.1.0"
