"""Which workers may be declared dead. The rule for the sweeper's own doubts.

The statement decides on the database's clock (``lease_until < now``); this decides
whether *we* are in a position to ask. Two ways to be wrong:

* We lost the database ourselves: everybody's lease may have run out meanwhile.
  Wait one lease after the last failure, so that the living can renew first.
* SQLite has one writer. While nobody can write, nobody can renew. A row is judged
  only after two renewals of our own in a row have succeeded since we first saw
  it as it is: the lock was free, its owner could have written, and did not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from uuid import UUID

    from ..core.job import Lease
    from .beat import Beat

RENEWALS = 2


class Judge:
    """See the module. Used by one thread."""

    def __init__(self, beat: Beat, *, lease: float, one_writer: bool) -> None:
        self._beat = beat
        self._lease = lease
        self._one_writer = one_writer
        self._seen: dict[UUID, tuple[datetime, int]] = {}

    def condemned(self, leases: Iterable[Lease]) -> set[UUID]:
        """Return the workers that may be killed, of all rows that are not dead."""
        if not self._one_writer:
            if not self._beat.steady_for(self._lease):
                return set()
            return {lease.worker_id for lease in leases if lease.expired}
        renewals = self._beat.renewals
        seen, condemned = {}, set()
        for lease in leases:
            until, since = self._seen.get(lease.worker_id, (None, 0))
            if until != lease.lease_until or renewals < since:
                since = renewals  # changed, or our own streak was broken: start again
            seen[lease.worker_id] = (lease.lease_until, since)
            if lease.expired and renewals - since >= RENEWALS:
                condemned.add(lease.worker_id)
        self._seen = seen
        return condemned
