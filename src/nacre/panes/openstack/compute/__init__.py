"""Compute v2.1: https://docs.openstack.org/api-ref/compute/."""
