"""Identity's rows of the policy table: Keystone's defaults, reduced to admin > manager > member > reader.

An admin of any project is an admin, as Keystone's `rule:admin_required` has it. Users read and change what is their own.
"""

from nacre.cloud.policy import ADMIN, AUTHENTICATED, Rule

SELF = Rule("admin", owner="user_id")
OWN_PROJECT = Rule(None, project="project_id")


def _crud(singular: str, plural: str, read: Rule = ADMIN) -> dict[str, Rule]:
    """Rows of a regular resource that admins alone change."""
    changes = {f"identity:{verb}_{singular}": ADMIN for verb in ("create", "update", "delete")}
    return {f"identity:list_{plural}": read, f"identity:get_{singular}": read, **changes}


POLICIES: dict[str, Rule] = {
    **_crud("region", "regions", AUTHENTICATED),
    **_crud("service", "services"),
    **_crud("endpoint", "endpoints"),
    **_crud("domain", "domains"),
    **_crud("project", "projects"),
    **_crud("user", "users"),
    **_crud("group", "groups"),
    **_crud("role", "roles"),
    **_crud("policy", "policies"),
    # Which credentials exist for a caller, and whose it may make, is the operations' matter.
    **{f"identity:{verb}_credential": AUTHENTICATED for verb in ("get", "create", "update", "delete")},
    "identity:list_credentials": AUTHENTICATED,
    # A caller sees its own domains; what it does not see is not found.
    "identity:get_domain": AUTHENTICATED,
    "identity:get_project": OWN_PROJECT,
    "identity:get_user": SELF,
    "identity:list_user_projects": SELF,
    "identity:list_groups_for_user": SELF,
    "identity:list_users_in_group": ADMIN,
    "identity:add_user_to_group": ADMIN,
    "identity:check_user_in_group": SELF,
    "identity:remove_user_from_group": ADMIN,
    # Whose token it is, the handler asks.
    "identity:validate_token": AUTHENTICATED,
    "identity:check_token": AUTHENTICATED,
    "identity:revoke_token": AUTHENTICATED,
    "identity:get_auth_catalog": AUTHENTICATED,
    "identity:get_auth_projects": AUTHENTICATED,
    "identity:get_auth_domains": AUTHENTICATED,
    "identity:get_auth_system": AUTHENTICATED,
    **{f"identity:{verb}": ADMIN for verb in ("list_grants", "create_grant", "check_grant", "revoke_grant")},
    **{
        f"identity:{verb}": ADMIN
        for verb in ("list_system_grants", "create_system_grant", "check_system_grant", "revoke_system_grant")
    },
    "identity:list_role_assignments": ADMIN,
    "identity:list_role_inference_rules": ADMIN,
    "identity:list_implied_roles": ADMIN,
    **{f"identity:{verb}_implied_role": ADMIN for verb in ("create", "get", "check", "delete")},
    # Which trusts exist for a caller, and which it may make, is the operations' matter.
    **{f"identity:{verb}_trust": AUTHENTICATED for verb in ("create", "get", "delete")},
    **{f"identity:{name}": AUTHENTICATED for name in ("list_trusts", "list_roles_for_trust", "get_role_for_trust")},
    **{f"identity:{verb}_application_credential": SELF for verb in ("create", "get", "delete")},
    "identity:list_application_credentials": SELF,
    "identity:list_project_tags": OWN_PROJECT,
    "identity:get_project_tag": OWN_PROJECT,
    **{
        f"identity:{name}": ADMIN
        for name in ("update_project_tags", "delete_project_tags", "create_project_tag", "delete_project_tag")
    },
}
