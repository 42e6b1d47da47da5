"""From what a client sends to a token: https://docs.openstack.org/api-ref/identity/v3/#authentication-and-token-management."""

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa

from nacre.cloud.collection import Row
from nacre.cloud.context import Context
from nacre.cloud.errors import Forbidden, Invalid, NotFound, Unauthorized
from nacre.cloud.identity import compliance, oauth, totp
from nacre.cloud.identity.delegations import acting_user
from nacre.cloud.identity.scopes import SYSTEM_SCOPE, UNSCOPED, Delegation, NotAuthenticated, Scope
from nacre.cloud.identity.service import Identity
from nacre.cloud.identity.tables import application_credentials, projects, trusts, users
from nacre.cloud.identity.tokens import Token
from nacre.cloud.identity.trusts import consume
from nacre.store import Store


@dataclass(frozen=True)
class Reference:
    """A user, project or domain by id, or by name within a domain (which is by id or name itself)."""

    id: str | None = None
    name: str | None = None
    domain: "Reference | None" = None


@dataclass(frozen=True)
class ScopeWanted:
    """Nothing at all: the user's default project, or unscoped."""

    project: Reference | None = None
    domain: Reference | None = None
    system: bool = False
    unscoped: bool = False
    trust_id: str | None = None


ANY_SCOPE = ScopeWanted()
SECRETS_REMEMBERED_MAX = 1024


@dataclass(frozen=True)
class Password:
    user: Reference
    password: str


@dataclass(frozen=True)
class TokenProof:
    token: str


@dataclass(frozen=True)
class Secret:
    """An application credential's, which is named by its id, or by its name and its user."""

    credential: Reference
    user: Reference | None
    secret: str


@dataclass(frozen=True)
class Passcode:
    """A one-time password (RFC 6238) of one of the user's credentials of type totp."""

    user: Reference
    passcode: str


@dataclass(frozen=True)
class SignedLogin:
    """A login that a consumer signed with an access token of the user's (OAuth 1.0a)."""

    request: oauth.Signed


Proof = Password | TokenProof | Secret | Passcode | SignedLogin


class Proven(NamedTuple):
    user_id: str
    scope: Scope | None = None
    """The only scope that this proof allows."""
    parent: Token | None = None


METHOD_OF: dict[type[Proof], str] = {
    Password: "password",
    TokenProof: "token",
    Secret: "application_credential",
    Passcode: "totp",
    SignedLogin: "oauth1",
}


async def log_in(store: Store, identity: Identity, proofs: tuple[Proof, ...], wanted: ScopeWanted) -> tuple[str, Token]:
    """A new token for who proves to be one user by all of the proofs. Raises Invalid, Forbidden, NotAuthenticated, Unavailable."""
    methods = tuple(METHOD_OF[type(proof)] for proof in proofs)
    proven = [await _prove(store, identity, proof) for proof in proofs]
    if len({each.user_id for each in proven}) != 1:
        raise NotAuthenticated("the proofs are of several users")
    user_id = proven[0].user_id
    parent = next((each.parent for each in proven if each.parent is not None), None)
    allowed = next((each.scope for each in proven if each.scope is not None), None)
    store.read_now(_check_factors, user_id, {*methods, *(parent.methods if parent else ())})
    if allowed is not None:
        if wanted != ANY_SCOPE and (wanted.project is None or wanted.project.id != allowed.id):
            raise Forbidden("What rests on a trust or an application credential has that scope and no other.", field="auth.scope")
        return identity.tokens.issue(user_id, methods, allowed, parent)
    if wanted.trust_id is not None:
        acting, scope = await store.write(_use_trust, user_id, wanted.trust_id)
        return identity.tokens.issue(acting, methods, scope, parent)
    scopes = store.read_now(_scopes, user_id, wanted)
    for scope in scopes[:-1]:
        try:
            return identity.tokens.issue(user_id, methods, scope, parent)
        except NotAuthenticated:
            continue
    return identity.tokens.issue(user_id, methods, scopes[-1], parent)


async def _prove(store: Store, identity: Identity, proof: Proof) -> Proven:
    if isinstance(proof, TokenProof):
        try:
            parent = identity.tokens.validate(proof.token)
        except NotAuthenticated as error:
            # As Keystone answers: the token is what is asked for, not who asks.
            raise NotFound("Could not find token.", code="TokenNotFound") from error
        scope = parent.facts.scope
        return Proven(parent.facts.user.id, scope if scope.delegation else None, parent)
    if isinstance(proof, Password):
        return Proven(await check_login(store, identity, proof))
    if isinstance(proof, Passcode):
        return Proven(await check_passcode(store, identity, proof))
    if isinstance(proof, SignedLogin):
        access = store.read_now(oauth.bearer, proof.request)
        if not await store.write(oauth.first_use, proof.request):
            raise NotAuthenticated("a signed request of another time, or that came before")
        return Proven(access["user_id"], Scope("project", access["project_id"], Delegation("access_token", access["id"])))
    row = store.read_now(_find_credential, proof)
    if not await identity.passwords.verify(proof.secret, row["secret_hash"] if row else None) or row is None:
        raise NotAuthenticated("wrong application credential or secret")
    delegation = Delegation("application_credential", row["id"])
    return Proven(row["user_id"], Scope("project", row["project_id"], delegation))


async def by_secret(store: Store, identity: Identity, ident: str, secret: str, request_id: str) -> Context:
    """Who sends an application credential with every request. Its secret is checked once, and then stands for a token that is looked at
    each time: what the credential loses is lost at once. Raises NotAuthenticated."""
    digest = hashlib.sha256(f"{ident}:{secret}".encode("utf-8", "surrogateescape")).digest()
    token = identity.by_secret.get(digest)
    if token is not None:
        try:
            return identity.tokens.authenticate(token, request_id)
        except NotAuthenticated:
            identity.by_secret.pop(digest, None)
    token, issued = await log_in(store, identity, (Secret(Reference(id=ident), None, secret),), ANY_SCOPE)
    if len(identity.by_secret) >= SECRETS_REMEMBERED_MAX:
        del identity.by_secret[next(iter(identity.by_secret))]
    identity.by_secret[digest] = token
    return issued.context(request_id)


async def check_password(store: Store, identity: Identity, reference: Reference, password: str) -> Row:
    """The user. An unknown user costs as much as a wrong password and is worded the same. Raises NotAuthenticated."""
    user, rules = store.read_now(_find_user, reference), identity.security
    hashed = user["password_hash"] if user else None
    if not await identity.passwords.verify(password, hashed):
        if user is not None and rules.lockout_failure_attempts and not compliance.locked(rules, user):
            await store.write(compliance.note_failure, rules, user["id"])
        raise NotAuthenticated("wrong user or password")
    again = store.read_now(_find_user, reference)
    if user is None or again is None or (again["id"], again["password_hash"]) != (user["id"], hashed):
        raise NotAuthenticated("the password was changed while it was checked")
    if compliance.locked(rules, again) or compliance.idle(rules, again):
        raise NotAuthenticated("the user is locked out, or was away for too long")
    if compliance.wants_note(rules, again):
        await store.write(compliance.note_success, again["id"])
    return again


async def check_login(store: Store, identity: Identity, proof: Password) -> str:
    """The user's id. Raises NotAuthenticated, Unauthorized for a password that is right and has expired."""
    user = await check_password(store, identity, proof.user, proof.password)
    if compliance.expired(user):
        raise Unauthorized(f"The password is expired and needs to be changed for user: {user['id']}.", code="PasswordExpired")
    return str(user["id"])


async def check_passcode(store: Store, identity: Identity, proof: Passcode) -> str:
    """The user's id. Wrong passcodes count as wrong passwords do: six digits are soon guessed. Raises NotAuthenticated."""
    user, rules = store.read_now(_find_user, proof.user), identity.security
    if user is None or compliance.locked(rules, user):
        raise NotAuthenticated("no such user, or it is locked out")
    counter = store.read_now(totp.matching, user["id"], proof.passcode)
    if counter is None or not await store.write(totp.first_use, user["id"], counter):
        if rules.lockout_failure_attempts:
            await store.write(compliance.note_failure, rules, user["id"])
        raise NotAuthenticated("wrong passcode")
    return str(user["id"])


def _find_credential(conn: sa.Connection, proof: Secret) -> Row | None:
    table = application_credentials
    where = [table.c.id == proof.credential.id]
    if proof.credential.id is None:
        user = _find_user(conn, proof.user or Reference())
        where = [table.c.name == proof.credential.name, table.c.user_id == (user["id"] if user else "")]
    row = conn.execute(sa.select(table).where(*where)).mappings().first()
    return None if row is None else dict(row)


_options = sa.select(users.c.options).where(users.c.id == sa.bindparam("ident"))


def _check_factors(conn: sa.Connection, user_id: str, methods: set[str]) -> None:
    """A user's options may ask for several methods at once. Raises NotAuthenticated when none of its rules is met."""
    options = conn.execute(_options, {"ident": user_id}).scalar() or {}
    rules = options.get("multi_factor_auth_rules")
    if options.get("multi_factor_auth_enabled", True) and rules and not any(methods >= set(rule) for rule in rules):
        raise NotAuthenticated("the user's rules ask for more methods than these")


def _use_trust(conn: sa.Connection, user_id: str, ident: str) -> tuple[str, Scope]:
    """(who the token is of, its scope). Counts a use. Raises Forbidden when the user is not the trustee or no use is left."""
    row = conn.execute(sa.select(trusts).where(trusts.c.id == ident)).mappings().first()
    if row is None or row["trustee_user_id"] != user_id or not consume(conn, ident):
        raise Forbidden("There is no such trust for this user, or it is used up.", field="auth.scope.OS-TRUST:trust")
    if row["project_id"] is None:
        raise Forbidden("The trust gives no project.", field="auth.scope.OS-TRUST:trust")
    return acting_user(dict(row)), Scope("project", row["project_id"], Delegation("trust", ident))


def _find_user(conn: sa.Connection, reference: Reference) -> Row | None:
    where = [users.c.id == reference.id]
    if reference.id is None:
        where = [users.c.name == reference.name, users.c.domain_id == _find_domain(conn, reference.domain, "user.domain")]
    row = conn.execute(sa.select(users).where(*where)).mappings().first()
    return None if row is None else dict(row)


def _find_domain(conn: sa.Connection, reference: Reference | None, field: str) -> str | None:
    if reference is None or (reference.id is None and reference.name is None):
        raise Invalid(f"Invalid input for {field}: a name needs a domain, by id or name.", field=field)
    column, value = (projects.c.name, reference.name) if reference.id is None else (projects.c.id, reference.id)
    return conn.execute(sa.select(projects.c.id).where(column == value, projects.c.is_domain)).scalar()


def _scopes(conn: sa.Connection, user_id: str, wanted: ScopeWanted) -> list[Scope]:
    """The scopes to try, best first. Raises NotAuthenticated for one that is not there."""
    if wanted.system:
        return [SYSTEM_SCOPE]
    if wanted.unscoped:
        return [UNSCOPED]
    if wanted.domain is not None:
        return [Scope("domain", _found(_find_domain(conn, wanted.domain, "scope.domain")))]
    if wanted.project is not None:
        return [Scope("project", _found(_find_project(conn, wanted.project)))]
    default = conn.execute(sa.select(users.c.default_project_id).where(users.c.id == user_id)).scalar()
    return [Scope("project", default), UNSCOPED] if default else [UNSCOPED]


def _find_project(conn: sa.Connection, reference: Reference) -> str | None:
    if reference.id is not None:
        return reference.id
    domain_id = _find_domain(conn, reference.domain, "scope.project.domain")
    select = sa.select(projects.c.id).where(projects.c.name == reference.name, projects.c.domain_id == domain_id)
    return conn.execute(select).scalar()


def _found(ident: str | None) -> str:
    if ident is None:
        raise NotAuthenticated("no such scope")
    return ident
