"""Schema migrations (Alembic). They only ever expand what the version before needs, so that N and N+1 can run side by side.

A new one: change a domain's `tables`, then `python -m nacre.cloud.schema "what changes"` writes the draft into `versions/`.
"""
