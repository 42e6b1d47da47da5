"""The registry's pane: the OCI distribution specification (https://github.com/opencontainers/distribution-spec) at /v2/."""
