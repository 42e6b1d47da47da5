"""Runtimes: what can run a guest. Each implements `GuestDriver`."""
