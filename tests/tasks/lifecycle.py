"""The life of a job as a worker would write it, by the store's verbs; and blocks that are rolled back."""

from contextlib import contextmanager, suppress
from uuid import uuid4

from django.db import transaction

from django_meanwhile.core.job import WorkerRow
from django_meanwhile.core.outcome import Charged, Outcome, decide
from django_meanwhile.core.states import Executor
from django_meanwhile.store import get_store


class FakeWorker:
    """A registered worker that claims and finishes without running anything."""

    def __init__(self, database, queues=("default", "reports")):
        self.store = get_store(database)
        self.queues = queues
        self.id = uuid4()
        self.store.register(
            WorkerRow(
                id=self.id,
                parent_id=uuid4(),
                kind="shared",
                host="test",
                pid=1,
                queues=tuple(queues),
                executors=tuple(Executor),
                slots=9,
            ),
            60,
        )

    def claim(self, executor=Executor.THREAD, *, suspects=False):
        """Claim one job."""
        [job] = self.store.claim(self.id, executor, self.queues, 1, suspects=suspects)
        return job

    def finish(self, job, end, **outcome):
        """End a run; return the state that was written, or None if it was lost."""
        decision = decide(Charged.of(job), Outcome(end=end, **outcome))
        return self.store.finish([decision]).get(job.run)

    def run(self, end, **outcome):
        """Claim one job and end it."""
        job = self.claim()
        return self.finish(job, end, **outcome)


class Undo(Exception):
    """Raised to roll a block back."""


@contextmanager
def rolled_back(alias):
    """Run the block in a transaction, and roll it back."""
    with suppress(Undo), transaction.atomic(using=alias):
        yield
        raise Undo
