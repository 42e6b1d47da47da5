"""Fernet keys: staged before they sign, kept while tokens may need them, and useless without the key file."""

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet

from nacre.cloud.identity.keys import SECONDARIES_MAX, Keys, load, rotate, wrapping_key
from nacre.cloud.identity.passwords import hash_now, verify_now
from nacre.cloud.identity.tables import fernet_keys
from nacre.store import Store, StoreError
from tests.postgres import store_url


def states(conn: sa.Connection) -> list[str]:
    return list(conn.execute(sa.select(fernet_keys.c.state).order_by(fernet_keys.c.id)).scalars())


def test_a_key_is_staged_before_it_signs(tmp_path: Path) -> None:
    async def story() -> None:
        store = Store(store_url(tmp_path / "store.sqlite"))
        await store.write(lambda conn: fernet_keys.create(conn))
        wrapping = wrapping_key(tmp_path)
        assert wrapping_key(tmp_path) == wrapping
        assert (tmp_path / "identity.key").stat().st_mode & 0o077 == 0
        with pytest.raises(StoreError):
            Keys(store, wrapping)
        await store.write(rotate, wrapping)
        assert store.read_now(states) == ["primary", "staged"]
        signer, late = Keys(store, wrapping), Keys(store, wrapping)
        first = signer.sign(b"first")
        before = store.read_now(load, wrapping)
        await signer.rotate()
        after = store.read_now(load, wrapping)
        assert after[0] == before[-1], "the staged key signs now"
        assert late.open(signer.sign(b"second")) == b"second"
        assert signer.open(first) == b"first"
        for _ in range(SECONDARIES_MAX + 1):
            await signer.rotate()
        assert signer.open(first) is None, "its key has been dropped"
        assert store.read_now(states) == ["secondary"] * SECONDARIES_MAX + ["primary", "staged"]
        with pytest.raises(StoreError):
            Keys(store, Fernet.generate_key())
        store.close()

    asyncio.run(story())


def test_what_is_no_token_of_ours(tmp_path: Path) -> None:
    async def story() -> None:
        store = Store(store_url(tmp_path / "store.sqlite"))
        await store.write(lambda conn: fernet_keys.create(conn))
        await store.write(rotate, wrapping_key(tmp_path))
        keys = Keys(store, wrapping_key(tmp_path))
        token = keys.sign(b"payload")
        assert "=" not in token
        for forged in ("", "x", "žluť", token[:-2], token + "A", token.swapcase()):
            assert keys.open(forged) is None
        store.close()

    asyncio.run(story())


def test_passwords_are_salted_and_bear_their_cost() -> None:
    one, two = hash_now("pässwort\x00", 4), hash_now("pässwort\x00", 5)
    assert one != two
    assert hash_now("pässwort\x00", 4) != one
    for hashed in (one, two):
        assert verify_now("pässwort\x00", hashed)
        assert not verify_now("pässwort", hashed)
