"""What a process keeps in mind of one store's affairs while it leads, and begins anew when it leads again: others have done things meanwhile."""

from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar
from weakref import WeakKeyDictionary

from nacre.store import Store

T = TypeVar("T")


class PerStore(Generic[T]):
    """One T for each store, made when it is first asked for."""

    _all: ClassVar[list["PerStore[Any]"]] = []

    def __init__(self, make: Callable[[Store], T]) -> None:
        self._make = make
        self._known: WeakKeyDictionary[Store, T] = WeakKeyDictionary()
        self._all.append(self)

    def of(self, store: Store) -> T:
        known = self._known.get(store)
        if known is None:
            known = self._known[store] = self._make(store)
        return known

    @classmethod
    def forget(cls, store: Store) -> None:
        """All that is kept of that store."""
        for each in cls._all:
            each._known.pop(store, None)
