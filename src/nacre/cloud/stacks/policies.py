"""The stacks' rows of the policy table."""

from nacre.cloud.policy import MEMBER, READER, Rule

POLICIES: dict[str, Rule] = {
    "stacks:read": READER,
    "stacks:write": MEMBER,
}
