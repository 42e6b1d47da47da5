"""The registry's rows of the policy table. Whose repository it is, the operations decide."""

from nacre.cloud.policy import AUTHENTICATED, MEMBER, READER, Rule

POLICIES: dict[str, Rule] = {
    "registry:base": AUTHENTICATED,
    "registry:pull": READER,
    "registry:catalog": READER,
    "registry:push": MEMBER,
    "registry:delete": MEMBER,
}
