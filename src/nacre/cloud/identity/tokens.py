"""Tokens: a Fernet envelope around who, where, how and until when. Nothing of a token is stored; what it means is looked up and cached.

`Tokens.authenticate` is what the edge calls for each request (`Cloud.authenticate`):

    identity = await open_identity(store, settings)      # service.py
    cloud = Cloud(settings, store, identity.tokens.authenticate, hosts, identity=identity)
"""

import base64
import os
import time
from dataclasses import dataclass, field

import msgspec
import sqlalchemy as sa

from nacre.cloud.context import AccessRule, Context
from nacre.cloud.identity import changes
from nacre.cloud.identity.keys import Keys
from nacre.cloud.identity.scopes import UNSCOPED, Delegation, Facts, NotAuthenticated, Scope, ScopeKind, resolve
from nacre.cloud.identity.tables import revocations
from nacre.store import Store, announce
from nacre.store.prepared import Prepared
from nacre.store.schema import now

METHODS = ("password", "token", "application_credential", "totp", "oauth1")
"""Their positions are bits in the payload: only add at the end."""
SCOPES: tuple[ScopeKind, ...] = ("unscoped", "project", "domain", "system")
PAYLOAD_VERSION = 1
TOKEN_CHARS_MAX = 1024
TOKENS_CACHED_MAX = 4096
FACTS_CACHED_MAX = 4096
EXPIRATION_S = 12 * 3600
REVOKED_TOPIC = "identity:revoked"


class Payload(msgspec.Struct, array_like=True, frozen=True):
    """What is signed. Moments are microseconds since the epoch; ids are packed."""

    version: int
    user_id: bytes
    methods: int
    scope: int
    scope_id: bytes
    audit_ids: tuple[str, ...]
    issued_at_us: int
    expires_at_us: int
    delegation: Delegation | None = None
    """ the trust or application credential that the token rests on."""


_decoder = msgspec.msgpack.Decoder(Payload)
_encoder = msgspec.msgpack.Encoder()


@dataclass(slots=True)
class Token:
    """A valid token with what it says now. `Context.token` is one."""

    methods: tuple[str, ...]
    audit_ids: tuple[str, ...]
    issued_at: float
    expires_at: float
    facts: Facts
    rendered: dict[bool, bytes] = field(default_factory=dict)
    """The bytes of the validation's answer, with and without the catalog; filled by the pane and gone with the cache's entry."""

    @property
    def project_domain_id(self) -> str | None:
        return self.facts.target_domain.id if self.facts.target_domain else None

    def context(self, request_id: str) -> Context:
        facts = self.facts
        kind, ident, _ = facts.scope
        return Context(
            user_id=facts.user.id,
            user_domain_id=facts.user_domain.id,
            project_id=ident if kind == "project" else None,
            domain_id=ident if kind == "domain" else None,
            system=kind == "system",
            roles=facts.role_names,
            request_id=request_id,
            user_name=facts.user.name,
            project_name=facts.target.name if facts.target and kind == "project" else "",
            access_rules=self.access_rules,
            token=self,
        )

    @property
    def access_rules(self) -> tuple[AccessRule, ...] | None:
        """What alone the token is good for, if it rests on an application credential with such rules."""
        rules = (self.facts.delegation or {}).get("access_rules")
        return tuple(AccessRule(rule["service"], rule["method"], rule["path"]) for rule in rules) if rules else None


class Tokens:
    """Issues, validates and revokes. One per process; lives in the event loop."""

    def __init__(self, store: Store, keys: Keys, expiration_s: int = EXPIRATION_S) -> None:
        self._store = store
        self._keys = keys
        self._expiration_s = expiration_s
        self._tokens: dict[str, Token] = {}
        self._facts: dict[tuple[str, Scope], Facts] = {}
        self._generation = 0
        store.watch(changes.TOPIC, lambda topic, user_id: self._forget_user(user_id))
        store.watch(REVOKED_TOPIC, lambda topic, audit_id: self._forget_token(audit_id))

    def authenticate(self, token: str, request_id: str) -> Context:
        """Who bears this token. Raises Unauthorized."""
        return self.validate(token).context(request_id)

    def validate(self, token: str) -> Token:
        """Raises NotAuthenticated for what is forged, expired, revoked, or rests on what is gone or disabled."""
        self._catch_up()
        known = self._tokens.get(token)
        if known is not None:
            if time.time() < known.expires_at:
                return known
            del self._tokens[token]
            raise NotAuthenticated("expired")
        payload = self._open(token)
        valid = self._store.read_now(self._check, payload)
        self._remember(token, valid)
        return valid

    def _catch_up(self) -> None:
        """Where another process may have changed something: what is remembered is good as long as the generation is the same."""
        if not self._store.shared:
            return
        generation = self._store.read_now(changes.generation)
        if generation != self._generation:
            self._forget_user(None)
            self._generation = generation

    def issue(self, user_id: str, methods: tuple[str, ...], scope: Scope, parent: Token | None = None) -> tuple[str, Token]:
        """A new token. One made from another expires with it and names it in its audit chain. Raises NotAuthenticated."""
        self._catch_up()
        facts = self._store.read_now(self._resolve, user_id, scope)
        issued_at = now()
        audit_id = base64.urlsafe_b64encode(os.urandom(16)).rstrip(b"=").decode()
        expires_at = parent.expires_at if parent else issued_at + self._expiration_s
        if facts.delegation is not None:
            expires_at = min(expires_at, facts.delegation["expires_at"] or expires_at)
        token = Token(
            methods=tuple(dict.fromkeys((*methods, *parent.methods))) if parent else methods,
            audit_ids=(audit_id, parent.audit_ids[-1]) if parent else (audit_id,),
            issued_at=issued_at,
            expires_at=expires_at,
            facts=facts,
        )
        text = self._keys.sign(_encode(token))
        self._remember(text, token)
        return text, token

    async def revoke(self, token: Token) -> None:
        """This token is worth nothing from now on, in every process."""
        await self._store.write(_revoke, token.audit_ids[0], token.expires_at)

    def _open(self, token: str) -> Payload:
        data = self._keys.open(token) if len(token) <= TOKEN_CHARS_MAX else None
        if data is None:
            raise NotAuthenticated("not one of our tokens")
        try:
            payload = _decoder.decode(data)
        except msgspec.MsgspecError:
            raise NotAuthenticated("a payload of another version") from None
        if payload.version != PAYLOAD_VERSION or time.time() * 1e6 >= payload.expires_at_us:
            raise NotAuthenticated("expired")
        return payload

    def _check(self, conn: sa.Connection, payload: Payload) -> Token:
        if _is_revoked.first(conn, audit_id=payload.audit_ids[0]) is not None:
            raise NotAuthenticated("revoked")
        scope = Scope(SCOPES[payload.scope], _text(payload.scope_id), payload.delegation) if payload.scope else UNSCOPED
        facts = self._resolve(conn, _text(payload.user_id), scope)
        if payload.issued_at_us / 1e6 < facts.tokens_valid_from:
            raise NotAuthenticated("all of the user's tokens were revoked")
        methods = tuple(name for bit, name in enumerate(METHODS) if payload.methods >> bit & 1)
        return Token(methods, payload.audit_ids, payload.issued_at_us / 1e6, payload.expires_at_us / 1e6, facts)

    def _resolve(self, conn: sa.Connection, user_id: str, scope: Scope) -> Facts:
        facts = self._facts.get((user_id, scope))
        if facts is None:
            facts = resolve(conn, user_id, scope)
            if len(self._facts) >= FACTS_CACHED_MAX:
                del self._facts[next(iter(self._facts))]
            self._facts[user_id, scope] = facts
        return facts

    def _remember(self, text: str, token: Token) -> None:
        if len(self._tokens) >= TOKENS_CACHED_MAX:
            del self._tokens[next(iter(self._tokens))]
        self._tokens[text] = token

    def _forget_user(self, user_id: str | None) -> None:
        if user_id is None:
            self._tokens.clear()
            self._facts.clear()
            return
        self._facts = {key: facts for key, facts in self._facts.items() if key[0] != user_id}
        self._tokens = {text: token for text, token in self._tokens.items() if token.facts.user.id != user_id}

    def _forget_token(self, audit_id: str | None) -> None:
        if audit_id is None:
            self._tokens.clear()
            return
        self._tokens = {text: token for text, token in self._tokens.items() if token.audit_ids[0] != audit_id}


_is_revoked = Prepared(sa.select(revocations.c.audit_id).where(revocations.c.audit_id == sa.bindparam("audit_id")))


def _revoke(conn: sa.Connection, audit_id: str, expires_at: float) -> None:
    conn.execute(revocations.delete().where(revocations.c.expires_at < now()))
    if _is_revoked.first(conn, audit_id=audit_id) is None:
        conn.execute(revocations.insert().values(audit_id=audit_id, expires_at=expires_at))
    announce(conn, REVOKED_TOPIC, audit_id)
    changes.passed(conn)


def _encode(token: Token) -> bytes:
    kind, ident, delegation = token.facts.scope
    bits = sum(1 << METHODS.index(name) for name in token.methods)
    return _encoder.encode(
        Payload(
            PAYLOAD_VERSION,
            _pack(token.facts.user.id),
            bits,
            SCOPES.index(kind),
            _pack(ident),
            token.audit_ids,
            round(token.issued_at * 1e6),
            round(token.expires_at * 1e6),
            delegation,
        )
    )


_HEX = frozenset("0123456789abcdef")


def _pack(ident: str) -> bytes:
    """`x` and 16 bytes for 32 hex digits, else `t` and the text."""
    return b"x" + bytes.fromhex(ident) if len(ident) == 32 and _HEX.issuperset(ident) else b"t" + ident.encode()


def _text(packed: bytes) -> str:
    return packed[1:].hex() if packed[:1] == b"x" else packed[1:].decode()
