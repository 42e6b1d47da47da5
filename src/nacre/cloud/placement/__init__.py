"""Placement: what the hosts have and who uses it, read from the scheduler's own book. There is no second book to differ from it."""
