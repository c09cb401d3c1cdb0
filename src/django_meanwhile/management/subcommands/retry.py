"""``meanwhile retry``: bring jobs that have ended back to the queue, with fresh counters. An operator's decision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from uuid import UUID

from ...core.states import TERMINAL, JobState
from ...models import Job
from ...store import Store
from .. import verbs
from .changes import Changes


class Retry(Changes):
    """See the module."""

    name = "retry"
    summary = "run jobs again that have ended"
    description = """\
Brings jobs that have ended back to READY: their counters start again, their result goes, their attempts stay on record.
A job that is still waiting or running is left alone.
"""
    epilog = """\
examples:
  manage.py meanwhile retry 0190d2a4-7c1e                       one job
  manage.py meanwhile retry --state failed --since 2h           all that failed in the last two hours; asks first
  manage.py meanwhile retry --task shop.tasks.charge --yes      all failed jobs of one task, without asking
  manage.py meanwhile retry --state quarantined --limit 10      the ten oldest

Code that a job needs must be deployed before: a retry runs today's code.

exit status: 0 done, 1 a job named here was not retried, 2 the database cannot be asked
"""
    states = TERMINAL
    default_states = (JobState.FAILED,)
    default_words = "failed"
    age = "finished_at"
    age_words = "that ended"
    verb = "retry"

    def change(self, store: Store, ids: Collection[UUID]) -> Counter[str]:
        """See the base class."""
        done = verbs.retry(store, ids)
        return Counter({"ready to run again": len(done)} if done else {})

    def refusal(self, job: Job) -> str:
        """See the base class."""
        return f"not retried: it is {JobState(job.state).name}, and only a job that has ended can be run again"
