"""The command line: everything that an operator types."""
