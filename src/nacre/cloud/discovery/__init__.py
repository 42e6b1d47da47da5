"""Discovery: a project's keys, locks, services and checks, and the names under which they are found. One agent and one datacenter per project."""
