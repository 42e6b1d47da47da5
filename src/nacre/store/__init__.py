"""The store: tables, transactions, listing, notification and blobs. It knows no domain."""

from nacre.store.engine import Fenced, NotStorable, Store, StoreError, announce
from nacre.store.listing import Criterion, Listing, Page, Query
from nacre.store.portable import elements, greatest, insert, texts
from nacre.store.prepared import Prepared, among
from nacre.store.schema import metadata

__all__ = [
    "Criterion",
    "Fenced",
    "Listing",
    "NotStorable",
    "Page",
    "Prepared",
    "Query",
    "Store",
    "StoreError",
    "among",
    "announce",
    "elements",
    "greatest",
    "insert",
    "metadata",
    "texts",
]
