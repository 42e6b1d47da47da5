"""Identity's tables. Domains are rows of `projects` with `is_domain`, as in Keystone, so that a project's parent may be either."""

import sqlalchemy as sa

from nacre.store.schema import boolean, id_column, integer, json, moment, table, text

ID = sa.String(64)

regions = table(
    "identity_regions",
    id_column(),
    text("description", default="", nullable=True),
    text("parent_region_id", sa.ForeignKey("identity_regions.id"), nullable=True),
    json("extra", default=dict),
)

services = table(
    "identity_services",
    id_column(),
    text("type"),
    text("name", nullable=True),
    text("description", nullable=True),
    boolean("enabled", default=True),
    json("extra", default=dict),
)

endpoints = table(
    "identity_endpoints",
    id_column(),
    text("interface"),
    text("url"),
    boolean("enabled", default=True),
    text("service_id", sa.ForeignKey("identity_services.id", ondelete="CASCADE"), index=True),
    text("region_id", sa.ForeignKey("identity_regions.id"), nullable=True, index=True),
    json("extra", default=dict),
)

projects = table(
    "identity_projects",
    id_column(),
    text("name"),
    text("description", default="", nullable=True),
    boolean("enabled", default=True),
    boolean("is_domain", default=False),
    text("domain_id", sa.ForeignKey("identity_projects.id"), nullable=True),
    text("parent_id", sa.ForeignKey("identity_projects.id"), nullable=True, index=True),
    json("options", default=dict),
    json("extra", default=dict),
    sa.UniqueConstraint("domain_id", "name"),
)
sa.Index(
    "uq_identity_domains_name",
    projects.c.name,
    unique=True,
    sqlite_where=projects.c.is_domain,
    postgresql_where=projects.c.is_domain,
)

project_tags = table(
    "identity_project_tags",
    sa.Column("project_id", ID, sa.ForeignKey("identity_projects.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("tag", sa.Text, primary_key=True),
)

users = table(
    "identity_users",
    id_column(),
    text("name"),
    text("domain_id", sa.ForeignKey("identity_projects.id")),
    boolean("enabled", default=True),
    text("description", nullable=True),
    text("default_project_id", nullable=True),
    text("password_hash", nullable=True),
    moment("password_created_at", nullable=True),
    moment("password_expires_at", nullable=True),
    integer("failed_attempts", default=0, server_default="0"),
    moment("failed_at", nullable=True),
    moment("last_active_at", nullable=True),
    moment("tokens_valid_from", default=0.0),
    json("options", default=dict),
    json("extra", default=dict),
    sa.UniqueConstraint("domain_id", "name"),
)
"""`tokens_valid_from`: tokens issued before this moment are revoked (the password changed, the user was disabled).
`failed_attempts` in a row, the last one at `failed_at`; `last_active_at` is kept while idle users are disabled (see compliance)."""

password_history = table(
    "identity_password_history",
    id_column(),
    text("user_id", sa.ForeignKey("identity_users.id", ondelete="CASCADE"), index=True),
    text("password_hash"),
    moment("created_at"),
)
"""Passwords that a user had before the present one, while the cloud forbids to come back to them."""

groups = table(
    "identity_groups",
    id_column(),
    text("name"),
    text("description", default="", nullable=True),
    text("domain_id", sa.ForeignKey("identity_projects.id")),
    json("extra", default=dict),
    sa.UniqueConstraint("domain_id", "name"),
)

memberships = table(
    "identity_memberships",
    sa.Column("group_id", ID, sa.ForeignKey("identity_groups.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("user_id", ID, sa.ForeignKey("identity_users.id", ondelete="CASCADE"), primary_key=True, index=True),
)

roles = table(
    "identity_roles",
    id_column(),
    text("name"),
    text("description", nullable=True),
    text("domain_id", sa.ForeignKey("identity_projects.id"), nullable=True),
    json("options", default=dict),
    json("extra", default=dict),
    sa.UniqueConstraint("domain_id", "name"),
)
sa.Index(
    "uq_identity_global_roles_name",
    roles.c.name,
    unique=True,
    sqlite_where=roles.c.domain_id.is_(None),
    postgresql_where=roles.c.domain_id.is_(None),
)

implied_roles = table(
    "identity_implied_roles",
    sa.Column("prior_role_id", ID, sa.ForeignKey("identity_roles.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("implied_role_id", ID, sa.ForeignKey("identity_roles.id", ondelete="CASCADE"), primary_key=True),
)

assignments = table(
    "identity_assignments",
    sa.Column("actor_kind", sa.String(8), primary_key=True),
    sa.Column("actor_id", ID, primary_key=True),
    sa.Column("target_kind", sa.String(8), primary_key=True),
    sa.Column("target_id", ID, primary_key=True),
    sa.Column("role_id", ID, sa.ForeignKey("identity_roles.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("inherited", sa.Boolean, primary_key=True),
    sa.Index(None, "target_kind", "target_id"),
)
"""actor_kind is user or group; target_kind project, domain or system (then target_id is `all`).
`inherited` ones hold for what lies below the target."""

credentials = table(
    "identity_credentials",
    id_column(),
    text("type"),
    text("blob"),
    text("user_id", sa.ForeignKey("identity_users.id", ondelete="CASCADE"), index=True),
    text("project_id", nullable=True, index=True),
    json("extra", default=dict),
)

policies = table("identity_policies", id_column(), text("type"), text("blob"), json("extra", default=dict))

trusts = table(
    "identity_trusts",
    id_column(),
    text("trustor_user_id", sa.ForeignKey("identity_users.id", ondelete="CASCADE"), index=True),
    text("trustee_user_id", sa.ForeignKey("identity_users.id", ondelete="CASCADE"), index=True),
    text("project_id", sa.ForeignKey("identity_projects.id", ondelete="CASCADE"), nullable=True, index=True),
    boolean("impersonation"),
    moment("expires_at", nullable=True),
    integer("remaining_uses", nullable=True),
    json("extra", default=dict),
)

trust_roles = table(
    "identity_trust_roles",
    sa.Column("trust_id", ID, sa.ForeignKey("identity_trusts.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("role_id", ID, sa.ForeignKey("identity_roles.id", ondelete="CASCADE"), primary_key=True),
)

application_credentials = table(
    "identity_application_credentials",
    id_column(),
    text("user_id", sa.ForeignKey("identity_users.id", ondelete="CASCADE")),
    text("project_id", sa.ForeignKey("identity_projects.id", ondelete="CASCADE"), index=True),
    text("name"),
    text("description", nullable=True),
    text("secret_hash"),
    moment("expires_at", nullable=True),
    boolean("unrestricted", default=False),
    sa.UniqueConstraint("user_id", "name"),
)

application_credential_roles = table(
    "identity_application_credential_roles",
    sa.Column(
        "application_credential_id",
        ID,
        sa.ForeignKey("identity_application_credentials.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column("role_id", ID, sa.ForeignKey("identity_roles.id", ondelete="CASCADE"), primary_key=True),
)

access_rules = table(
    "identity_access_rules",
    id_column(),
    text("user_id", sa.ForeignKey("identity_users.id", ondelete="CASCADE")),
    text("service"),
    text("method"),
    text("path"),
    sa.UniqueConstraint("user_id", "service", "method", "path"),
)

application_credential_rules = table(
    "identity_application_credential_rules",
    sa.Column(
        "application_credential_id",
        ID,
        sa.ForeignKey("identity_application_credentials.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column("access_rule_id", ID, sa.ForeignKey("identity_access_rules.id"), primary_key=True, index=True),
)
"""What an application credential may be used for. Without a row: for everything that its roles allow."""

registered_limits = table(
    "identity_registered_limits",
    id_column(),
    text("service_id", sa.ForeignKey("identity_services.id")),
    text("region_id", sa.ForeignKey("identity_regions.id"), nullable=True),
    text("resource_name"),
    integer("default_limit"),
    text("description", nullable=True),
    sa.UniqueConstraint("service_id", "region_id", "resource_name"),
)

limits = table(
    "identity_limits",
    id_column(),
    text("registered_limit_id", sa.ForeignKey("identity_registered_limits.id")),
    text("project_id", sa.ForeignKey("identity_projects.id", ondelete="CASCADE"), nullable=True, index=True),
    text("domain_id", sa.ForeignKey("identity_projects.id", ondelete="CASCADE"), nullable=True, index=True),
    integer("resource_limit"),
    text("description", nullable=True),
    sa.UniqueConstraint("registered_limit_id", "project_id", "domain_id"),
)
"""A limit that differs from the registered default, for one project or one domain."""

endpoint_groups = table(
    "identity_endpoint_groups", id_column(), text("name"), text("description", nullable=True), json("filters", default=dict)
)

endpoint_group_projects = table(
    "identity_endpoint_group_projects",
    sa.Column("endpoint_group_id", ID, sa.ForeignKey("identity_endpoint_groups.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("project_id", ID, sa.ForeignKey("identity_projects.id", ondelete="CASCADE"), primary_key=True, index=True),
)

endpoint_projects = table(
    "identity_endpoint_projects",
    sa.Column("endpoint_id", ID, sa.ForeignKey("identity_endpoints.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("project_id", ID, sa.ForeignKey("identity_projects.id", ondelete="CASCADE"), primary_key=True, index=True),
)
"""OS-EP-FILTER: a project with any of these sees only its endpoints in the catalog; one without sees all."""

oauth_consumers = table(
    "identity_oauth_consumers", id_column(), text("description", nullable=True), text("secret"), json("extra", default=dict)
)

oauth_request_tokens = table(
    "identity_oauth_request_tokens",
    id_column(),
    text("secret"),
    text("consumer_id", sa.ForeignKey("identity_oauth_consumers.id", ondelete="CASCADE"), index=True),
    text("project_id", sa.ForeignKey("identity_projects.id", ondelete="CASCADE"), index=True),
    text("verifier", nullable=True),
    text("user_id", sa.ForeignKey("identity_users.id", ondelete="CASCADE"), nullable=True, index=True),
    json("role_ids", default=list),
    moment("expires_at", index=True),
)
"""What a consumer shows to a user, who authorizes it: then it has a verifier, the user's id and the roles that it gives."""

oauth_access_tokens = table(
    "identity_oauth_access_tokens",
    id_column(),
    text("secret"),
    text("consumer_id", sa.ForeignKey("identity_oauth_consumers.id", ondelete="CASCADE"), index=True),
    text("project_id", sa.ForeignKey("identity_projects.id", ondelete="CASCADE"), index=True),
    text("user_id", sa.ForeignKey("identity_users.id", ondelete="CASCADE"), index=True),
    moment("expires_at", nullable=True),
)

oauth_access_token_roles = table(
    "identity_oauth_access_token_roles",
    sa.Column("access_token_id", ID, sa.ForeignKey("identity_oauth_access_tokens.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("role_id", ID, sa.ForeignKey("identity_roles.id", ondelete="CASCADE"), primary_key=True),
)

revocations = table(
    "identity_revocations", sa.Column("audit_id", sa.String(32), primary_key=True), moment("expires_at", index=True)
)
"""Tokens that were revoked one by one, by their audit id, until they would have expired anyway."""

used_once = table(
    "identity_used_once",
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("value", sa.String(64), primary_key=True),
    integer("number", default=0),
    moment("expires_at", index=True),
)
"""What is good once, at whatever process: a nonce of OAuth by its digest, and of each user the last step that a passcode was of (`number`: an
earlier one is not good any more either). Kept for as long as it would be taken otherwise."""

fernet_keys = table("identity_fernet_keys", integer("id", primary_key=True), text("state"), text("wrapped"), moment("created_at"))
"""`state` is staged (verifies only, signs next), primary (signs) or secondary (still verifies). `wrapped` is encrypted by the key file."""

certificates = table(
    "identity_certificates",
    id_column("serial"),
    text("user_id", sa.ForeignKey("identity_users.id", ondelete="CASCADE"), index=True),
    text("project_id", sa.ForeignKey("identity_projects.id", ondelete="CASCADE"), index=True),
    moment("issued_at"),
    moment("expires_at", index=True),
    moment("revoked_at", nullable=True),
)
"""Certificates that stand for a user on a project, until they expire. `serial` is in hex digits. A row that is gone is as good as revoked."""

identity_state = table("identity_state", id_column(), integer("generation", default=0))
"""One row: `generation` rises with every change of what tokens say, or are worth."""
