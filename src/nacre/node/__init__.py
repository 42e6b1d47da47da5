"""The node: one process per host, the only code with root. It makes the desired state of its own host so and reports what it observes."""
