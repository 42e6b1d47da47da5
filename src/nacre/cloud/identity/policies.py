"""Identity's rows of the policy table: Keystone's defaults of today, with its personas of reader, manager and admin.

An admin of any scope is an admin, as Keystone's `rule:admin_required` has it. A reader of the system reads everything; a reader of a
domain what is in it; a manager of a domain also changes its users, groups, projects and their roles (up to manager). Users read and
change what is their own.
"""

from nacre.cloud.policy import ADMIN, AUTHENTICATED, Rule

SYSTEM_READER = Rule("admin", system="reader")
DOMAIN_READER = Rule("admin", system="reader", domain="reader")
DOMAIN_MANAGER = Rule("admin", domain="manager")
SELF = Rule("admin", owner="user_id")
OWNER_ALONE = Rule("nobody", owner="user_id")
"""Not even an admin: a secret made for another would be that other's in name only."""
SELF_OR_SYSTEM_READER = Rule("admin", owner="user_id", system="reader")
SELF_OR_DOMAIN_READER = Rule("admin", owner="user_id", system="reader", domain="reader")
OWN_PROJECT = Rule(None, project="project_id", system="reader", domain="reader")


def _crud(singular: str, plural: str, read: Rule = SYSTEM_READER, change: Rule = ADMIN) -> dict[str, Rule]:
    """Rows of a regular resource."""
    changes = {f"identity:{verb}_{singular}": change for verb in ("create", "update", "delete")}
    return {f"identity:list_{plural}": read, f"identity:get_{singular}": read, **changes}


_IN_DOMAIN = (DOMAIN_READER, DOMAIN_MANAGER)

POLICIES: dict[str, Rule] = {
    **_crud("region", "regions", AUTHENTICATED),
    **_crud("service", "services"),
    **_crud("endpoint", "endpoints"),
    **_crud("domain", "domains", DOMAIN_READER),
    **_crud("project", "projects", *_IN_DOMAIN),
    **_crud("user", "users", *_IN_DOMAIN),
    **_crud("group", "groups", *_IN_DOMAIN),
    **_crud("role", "roles", Rule("admin", system="reader", domain="manager")),
    **_crud("policy", "policies"),
    **_crud("registered_limit", "registered_limits", AUTHENTICATED),
    # Which limits exist for a caller is the operations' matter.
    **_crud("limit", "limits", AUTHENTICATED),
    "identity:get_limit_model": AUTHENTICATED,
    # Which credentials exist for a caller, and whose it may make, is the operations' matter.
    **{f"identity:{verb}_credential": AUTHENTICATED for verb in ("get", "create", "update", "delete")},
    "identity:list_credentials": AUTHENTICATED,
    **{f"identity:ec2_{verb}_credential": SELF for verb in ("create", "delete")},
    **{f"identity:ec2_{name}": SELF_OR_SYSTEM_READER for name in ("get_credential", "list_credentials")},
    # A caller sees its own domains; what it does not see is not found.
    "identity:get_domain": AUTHENTICATED,
    "identity:get_security_compliance_domain_config": AUTHENTICATED,
    "identity:get_project": OWN_PROJECT,
    "identity:get_user": SELF_OR_DOMAIN_READER,
    "identity:list_user_projects": SELF_OR_DOMAIN_READER,
    "identity:list_groups_for_user": SELF_OR_DOMAIN_READER,
    "identity:list_users_in_group": DOMAIN_READER,
    "identity:add_user_to_group": DOMAIN_MANAGER,
    "identity:check_user_in_group": SELF_OR_DOMAIN_READER,
    "identity:remove_user_from_group": DOMAIN_MANAGER,
    # Whose token it is, the handler asks.
    "identity:validate_token": AUTHENTICATED,
    "identity:check_token": AUTHENTICATED,
    "identity:revoke_token": AUTHENTICATED,
    "identity:get_auth_catalog": AUTHENTICATED,
    "identity:get_auth_projects": AUTHENTICATED,
    "identity:get_auth_domains": AUTHENTICATED,
    "identity:get_auth_system": AUTHENTICATED,
    # What a manager of a domain may give, and to whom, is the operations' matter.
    **{f"identity:{verb}": DOMAIN_READER for verb in ("list_grants", "check_grant")},
    **{f"identity:{verb}": DOMAIN_MANAGER for verb in ("create_grant", "revoke_grant")},
    **{f"identity:{verb}": SYSTEM_READER for verb in ("list_system_grants", "check_system_grant")},
    **{f"identity:{verb}": ADMIN for verb in ("create_system_grant", "revoke_system_grant")},
    "identity:list_role_assignments": DOMAIN_READER,
    "identity:list_role_inference_rules": SYSTEM_READER,
    "identity:list_implied_roles": SYSTEM_READER,
    **{f"identity:{verb}_implied_role": SYSTEM_READER for verb in ("get", "check")},
    **{f"identity:{verb}_implied_role": ADMIN for verb in ("create", "delete")},
    # Which trusts exist for a caller, and which it may make, is the operations' matter.
    **{f"identity:{verb}_trust": AUTHENTICATED for verb in ("create", "get", "delete")},
    **{f"identity:{name}": AUTHENTICATED for name in ("list_trusts", "list_roles_for_trust", "get_role_for_trust")},
    "identity:create_application_credential": OWNER_ALONE,
    "identity:get_application_credential": SELF_OR_SYSTEM_READER,
    "identity:list_application_credentials": SELF_OR_SYSTEM_READER,
    "identity:delete_application_credential": SELF,
    "identity:get_access_rule": SELF_OR_SYSTEM_READER,
    "identity:list_access_rules": SELF_OR_SYSTEM_READER,
    "identity:delete_access_rule": SELF,
    "identity:list_project_tags": OWN_PROJECT,
    "identity:get_project_tag": OWN_PROJECT,
    **{
        f"identity:{name}": DOMAIN_MANAGER
        for name in ("update_project_tags", "delete_project_tags", "create_project_tag", "delete_project_tag")
    },
    **_crud("consumer", "consumers"),
    # The roles that a user authorizes are its own, which the operation asks.
    "identity:authorize_request_token": AUTHENTICATED,
    **{
        f"identity:{name}": SELF_OR_SYSTEM_READER
        for name in ("list_access_tokens", "get_access_token", "list_access_token_roles", "get_access_token_role")
    },
    "identity:delete_access_token": SELF,
    **_crud("endpoint_group", "endpoint_groups"),
    **{
        f"identity:{name}": SYSTEM_READER
        for name in (
            *("list_projects_associated_with_endpoint_group", "list_endpoints_associated_with_endpoint_group"),
            *("get_endpoint_group_in_project", "list_endpoint_groups_for_project", "list_projects_for_endpoint"),
            *("check_endpoint_in_project", "list_endpoints_for_project"),
        )
    },
    **{
        f"identity:{name}": ADMIN
        for name in (
            *("add_endpoint_group_to_project", "remove_endpoint_group_from_project"),
            *("add_endpoint_to_project", "remove_endpoint_from_project"),
        )
    },
}
