"""The registry: a project's images under PROJECT/NAME, in and out by the OCI distribution specification."""
