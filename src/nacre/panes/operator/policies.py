"""The operator API's rows of the policy table."""

from nacre.cloud.policy import ADMIN, READER, Rule

POLICIES: dict[str, Rule] = {
    "nacre:api_processes": ADMIN,
    "nacre:audit": ADMIN,
    "nacre:explain": READER,
    "nacre:facts": ADMIN,
    "nacre:hosts": ADMIN,
    "nacre:cordon_hosts": ADMIN,
    "nacre:join_hosts": ADMIN,
    "nacre:label_hosts": ADMIN,
    "nacre:docker_certificates": Rule(None, project="project"),
    "nacre:docker_grants": ADMIN,
    "nacre:docker_publishing": ADMIN,
    "nacre:rotate_keys": ADMIN,
    "nacre:status": ADMIN,
}
