"""The Consul pane: Consul's HTTP API (https://developer.hashicorp.com/consul/api-docs) of one project."""
