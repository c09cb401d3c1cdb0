"""Where jobs, leases and outcomes are kept: one contract, one file per vendor.

Everything above talks to a :class:`~django_meanwhile.store.contract.Store`, which it
gets from :func:`get_store`. This module imports no driver: the vendor's file is
loaded when the first store of that vendor is asked for.

=============  =====================================================================
contract       what every store promises, a sentence per verb
shared         what the ORM or vendor-neutral SQL can do
statements     the vendor-neutral SQL, with gaps that a vendor fills once
rows           database values to Python values, and back
postgresql     differences, each with its reason
sqlite         likewise
wake           wake-ups: announcing new work, and waiting for it
=============  =====================================================================
"""

from __future__ import annotations

from functools import cache

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.module_loading import import_string

from .contract import Store

__all__ = ["Store", "get_store"]

_STORES = {
    "postgresql": "django_meanwhile.store.postgresql.PostgreSQLStore",
    "sqlite": "django_meanwhile.store.sqlite.SQLiteStore",
}


@cache
def get_store(alias: str) -> Store:
    """Return the store on the database ``alias``; the same object every time, for every thread.

    It holds no connection: each call uses the calling thread's. Raises
    ``ImproperlyConfigured`` for a vendor without a store, ``ConnectionDoesNotExist`` for
    an unknown alias.
    """
    vendor = connections[alias].vendor
    if vendor not in _STORES:
        supported = ", ".join(sorted(_STORES))
        raise ImproperlyConfigured(
            f"django_meanwhile keeps its jobs in the database {alias!r}, which is of the vendor {vendor!r}: "
            f"supported are {supported}. Point OPTIONS['DATABASE'] of the backend in TASKS at an alias of one of these."
        )
    store: Store = import_string(_STORES[vendor])(alias)
    return store
