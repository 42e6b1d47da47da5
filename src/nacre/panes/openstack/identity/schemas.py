"""The bodies of authentication, typed. What the field is called in an error is where it stands in the body."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec

from nacre.cloud.errors import Invalid
from nacre.cloud.identity.authentication import Passcode, Password, Proof, Reference, ScopeWanted, Secret, SignedLogin, TokenProof
from nacre.cloud.identity.oauth import Signed
from nacre.cloud.identity.scopes import NotAuthenticated


class DomainRef(msgspec.Struct):
    """A domain by id or name."""

    id: str | None = None
    name: str | None = None

    def reference(self) -> Reference:
        return Reference(self.id, self.name)


class UserProof(msgspec.Struct):
    password: str
    id: str | None = None
    name: str | None = None
    domain: DomainRef | None = None


class PasswordMethod(msgspec.Struct):
    user: UserProof


class TokenMethod(msgspec.Struct):
    id: str


class UserRef(msgspec.Struct):
    id: str | None = None
    name: str | None = None
    domain: DomainRef | None = None


class SecretMethod(msgspec.Struct):
    secret: str
    id: str | None = None
    name: str | None = None
    user: UserRef | None = None


class PasscodeProof(msgspec.Struct):
    passcode: str
    id: str | None = None
    name: str | None = None
    domain: DomainRef | None = None


class PasscodeMethod(msgspec.Struct):
    user: PasscodeProof


class IdentityPart(msgspec.Struct):
    methods: Annotated[list[str], msgspec.Meta(min_length=1, max_length=8)]
    password: PasswordMethod | None = None
    token: TokenMethod | None = None
    application_credential: SecretMethod | None = None
    totp: PasscodeMethod | None = None
    oauth1: dict[str, Any] | None = None
    """Empty: the request's own signature is the proof."""


class ProjectRef(msgspec.Struct):
    id: str | None = None
    name: str | None = None
    domain: DomainRef | None = None


class SystemRef(msgspec.Struct):
    all: bool


class TrustRef(msgspec.Struct):
    id: str


class ScopePart(msgspec.Struct, forbid_unknown_fields=True):
    project: ProjectRef | None = None
    domain: DomainRef | None = None
    system: SystemRef | None = None
    unscoped: dict[str, Any] | None = None
    trust: TrustRef | None = msgspec.field(default=None, name="OS-TRUST:trust")


class Auth(msgspec.Struct):
    identity: IdentityPart
    scope: ScopePart | Literal["unscoped"] | None = None


class AuthBody(msgspec.Struct):
    auth: Auth


def proofs(part: IdentityPart, signed: Callable[[], Signed]) -> tuple[Proof, ...]:
    """`signed` gives the request as OAuth signs it. Raises Invalid for a method without its object, NotAuthenticated for a method that
    is not there."""
    return tuple(_proof(part, method, signed) for method in dict.fromkeys(part.methods))


def _proof(part: IdentityPart, method: str, signed: Callable[[], Signed]) -> Proof:
    if method == "oauth1":
        return SignedLogin(signed())
    if method == "password" and part.password is not None:
        user = part.password.user
        return Password(_user(user, "auth.identity.password.user"), user.password)
    if method == "token" and part.token is not None:
        return TokenProof(part.token.id)
    if method == "totp" and part.totp is not None:
        return Passcode(_user(part.totp.user, "auth.identity.totp.user"), part.totp.user.passcode)
    if method == "application_credential" and part.application_credential is not None:
        credential, place = part.application_credential, "auth.identity.application_credential"
        if credential.id is None and (credential.name is None or credential.user is None):
            raise Invalid("An application credential needs an id, or a name and a user.", field=place)
        owner = _user(credential.user, f"{place}.user") if credential.id is None and credential.user is not None else None
        return Secret(Reference(credential.id, credential.name), owner, credential.secret)
    if method in IdentityPart.__struct_fields__[1:]:
        raise _missing(method)
    raise NotAuthenticated(f"the method {method} is not there")


def _user(user: UserProof | UserRef | PasscodeProof, place: str) -> Reference:
    if user.id is None and user.name is None:
        raise Invalid(f"Invalid input for {place}: a user needs an id or a name.", field=place)
    if user.id is None and user.domain is None:
        raise Invalid(f"Invalid input for {place}.domain: a user's name needs a domain.", field=f"{place}.domain")
    return Reference(user.id, user.name, user.domain.reference() if user.domain else None)


def _missing(method: str) -> Invalid:
    return Invalid(f"Expecting to find {method} in auth.identity.", field=f"auth.identity.{method}")


def scope(part: ScopePart | Literal["unscoped"] | None) -> ScopeWanted:
    """Raises Invalid for more than one scope, or one that is not complete."""
    if part is None:
        return ScopeWanted()
    if isinstance(part, str):
        return ScopeWanted(unscoped=True)
    named = [name for name in ("project", "domain", "system", "unscoped", "trust") if getattr(part, name) is not None]
    if len(named) != 1:
        raise Invalid("A scope is exactly one of project, domain, system, trust and unscoped.", field="auth.scope")
    for wanted in (part.project, part.domain):
        if wanted is not None and wanted.id is None and wanted.name is None:
            raise Invalid(f"The {named[0]} of a scope needs an id or a name.", field=f"auth.scope.{named[0]}")
    if part.system is not None and not part.system.all:
        raise Invalid("The system can only be taken as a whole: all must be true.", field="auth.scope.system.all")
    project = part.project
    domain = project.domain.reference() if project and project.domain else None
    return ScopeWanted(
        project=Reference(project.id, project.name, domain) if project else None,
        domain=part.domain.reference() if part.domain else None,
        system=part.system is not None,
        unscoped=part.unscoped is not None,
        trust_id=part.trust.id if part.trust else None,
    )
