"""Discovery's rows of the policy table."""

from nacre.cloud.policy import MEMBER, READER, Rule

POLICIES: dict[str, Rule] = {
    "discovery:read": READER,
    "discovery:write": MEMBER,
}
