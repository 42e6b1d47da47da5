"""Identity as the API process holds it: keys, tokens and the threads that check passwords."""

from dataclasses import dataclass, field

from nacre.cloud.core import Settings
from nacre.cloud.identity.authority import Authority
from nacre.cloud.identity.compliance import SecurityCompliance
from nacre.cloud.identity.keys import Keys, wrapping_key
from nacre.cloud.identity.passwords import Passwords
from nacre.cloud.identity.tokens import Tokens
from nacre.store import Store


@dataclass(frozen=True)
class Identity:
    """What the API process keeps open for Identity."""

    keys: Keys
    tokens: Tokens
    passwords: Passwords
    authority: Authority
    security: SecurityCompliance
    by_secret: dict[bytes, str] = field(default_factory=dict)
    """Tokens issued for application credentials that are sent with every request, by the digest of id and secret."""

    async def close(self) -> None:
        self.passwords.close()


def open_identity(store: Store, settings: Settings) -> Identity:
    """After `bootstrap.prepare`. Raises StoreError when the keys are not there or the key file is another's."""
    keys = Keys(store, wrapping_key(settings.state))
    passwords = Passwords(settings.password_cost)
    return Identity(keys, Tokens(store, keys), passwords, Authority(settings.state), settings.security)
