"""A domain's configuration: the part that tells users what passwords must be like.

https://docs.openstack.org/api-ref/identity/v3/#domain-configuration. Domains have no drivers of their own here: the other groups are not there.
"""

from nacre.cloud.errors import NotFound
from nacre.cloud.identity import domains
from nacre.panes.edge import Call, Reply, Route
from nacre.panes.openstack.identity.dialect import identity_of

GROUP = "security_compliance"


async def show_group(call: Call) -> Reply:
    await call.read(domains.operations.get, call.path["domain_id"])
    return Reply({"config": {GROUP: identity_of(call).security.shown()}})


async def show_option(call: Call) -> Reply:
    await call.read(domains.operations.get, call.path["domain_id"])
    shown, option = identity_of(call).security.shown(), call.path["option"]
    if option not in shown:
        raise NotFound(f"Could not find option {option} in group {GROUP} of the domain's configuration.", code="NotFound")
    return Reply({"config": {option: shown[option]}})


_PATH = "/v3/domains/{domain_id}/config/security_compliance"
_POLICY = "identity:get_security_compliance_domain_config"
ROUTES: tuple[Route, ...] = tuple(
    Route(method, path, handler, _POLICY, f"Show {what} that passwords must meet")
    for path, handler, what in ((_PATH, show_group, "the rules"), (_PATH + "/{option}", show_option, "a rule"))
    for method in ("GET", "HEAD")
)
