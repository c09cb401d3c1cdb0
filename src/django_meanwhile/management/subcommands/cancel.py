"""``meanwhile cancel``: waiting jobs at once, running ones by request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from uuid import UUID

from ...core.states import LIVE, JobState
from ...models import Job
from ...store import Store
from .. import verbs
from .changes import Changes


class Cancel(Changes):
    """See the module."""

    name = "cancel"
    summary = "cancel jobs that have not ended"
    description = """\
Cancels jobs. One that waits is cancelled at once. One that runs is asked to stop: its worker learns
of it within about a second, a coroutine is cancelled, a process is ended, and a thread stops where
its code asks (context.raise_if_stopped()).
"""
    epilog = """\
examples:
  manage.py meanwhile cancel 0190d2a4-7c1e                      one job
  manage.py meanwhile cancel --queue reports                    all that wait or run in one queue; asks first
  manage.py meanwhile cancel --task shop.tasks.sync --state ready --yes
  manage.py meanwhile cancel --state scheduled --since 10m      what was put in by mistake ten minutes ago

exit status: 0 done, 1 a job named here had ended already, 2 the database cannot be asked
"""
    states = LIVE
    default_states = tuple(sorted(LIVE))
    default_words = "all three"
    age = "enqueued_at"
    age_words = "enqueued"
    verb = "cancel"

    def change(self, store: Store, ids: Collection[UUID]) -> Counter[str]:
        """See the base class."""
        done = verbs.cancel(store, ids)
        return Counter("cancelled" if state.is_terminal else "asked to stop" for state in done.values())

    def refusal(self, job: Job) -> str:
        """See the base class."""
        return f"not cancelled: it is {JobState(job.state).name} already"
