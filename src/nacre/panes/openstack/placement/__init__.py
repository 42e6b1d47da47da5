"""Placement v1, its reads: https://docs.openstack.org/api-ref/placement/."""
