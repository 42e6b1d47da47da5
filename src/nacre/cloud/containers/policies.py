"""Docker's rows of the policy table. The rows of HOST_ACCESS hand over the host: an admin grants them project by project."""

from nacre.cloud.policy import ADMIN, MEMBER, READER, Rule

POLICIES: dict[str, Rule] = {
    "docker:system": READER,
    "docker:read": READER,
    "docker:containers": MEMBER,
    "docker:streams": MEMBER,
    "docker:images": MEMBER,
    "docker:build": MEMBER,
    "docker:networks": MEMBER,
    "docker:volumes": MEMBER,
    "docker:privileged": ADMIN,
    "docker:host_network": ADMIN,
    "docker:host_pid": ADMIN,
    "docker:host_paths": ADMIN,
    "docker:devices": ADMIN,
    "docker:seccomp_unconfined": ADMIN,
    "docker:private_urls": ADMIN,
}

HOST_ACCESS = ("privileged", "host_network", "host_pid", "host_paths", "devices", "seccomp_unconfined")
"""As in nacre.protocol.containers.Container.host_access: `docker:` and the name is the row."""
GRANTED = (*HOST_ACCESS, "private_urls")
"""All that an admin allows to a project: `private_urls` is what builds may fetch, from networks that are not the Internet."""
