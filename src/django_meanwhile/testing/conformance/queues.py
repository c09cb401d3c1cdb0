"""What Django's documentation promises of queues: priorities, deferred tasks, transactions."""

# ruff: noqa: PT009 - a mixin for unittest's classes

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from ...compat import TaskResultDoesNotExist, TaskResultStatus, task_started
from . import tasks
from .base import Conformance


class QueueConformance(Conformance):
    """See the module. For backends with ``supports_get_result``."""

    def test_a_higher_priority_runs_first(self) -> None:
        """Of what waits, the highest priority begins first, and equals in the order of their enqueues."""
        self.needs_reads()
        self.needs("supports_priority")
        if self.runs_at_enqueue or not self.runs_in_process:
            self.skipTest("the order of the begins cannot be seen")
        results = [self.on(tasks.noop, priority=priority).enqueue() for priority in (0, 50, -50, 50, 0)]
        begun: list[Any] = []

        def started(*, task_result: Any, **_: Any) -> None:
            begun.append(task_result.id)

        task_started.connect(started)
        try:
            self.ended(results[0])
        finally:
            task_started.disconnect(started)
        self.assertEqual(begun, [results[place].id for place in (1, 3, 0, 4, 2)])

    def test_a_deferred_task_waits(self) -> None:
        """Before its time it does not run; a time that is past is no obstacle."""
        self.needs_reads()
        self.needs("supports_defer")
        later = self.on(tasks.noop, run_after=timezone.now() + timedelta(hours=1)).enqueue()
        past = self.on(tasks.noop, run_after=timezone.now() - timedelta(hours=1)).enqueue()
        self.assertEqual(self.ended(past).status, TaskResultStatus.SUCCESSFUL)
        later.refresh()
        self.assertEqual((later.status, later.started_at), (TaskResultStatus.READY, None))

    def test_every_queue_is_served(self) -> None:
        """Tasks of several queues run, each of them once."""
        self.needs_reads()
        with self.configured(QUEUES=[]):
            results = [self.on(tasks.answer, queue_name=name).enqueue() for name in ("default", "a", "b", "a")]
            self.ended(results[0])
            for result in results:
                result.refresh()
            self.assertEqual([(result.return_value, result.attempts) for result in results], [(42, 1)] * 4)

    def test_an_enqueue_is_a_part_of_the_transaction(self) -> None:
        """What is rolled back was never enqueued; what is committed runs."""
        self.needs_reads()
        self.needs_transactions()
        if not self.is_transactional:
            self.skipTest("enqueues do not belong to a transaction (is_transactional is False)")
        with transaction.atomic(using=self.database):
            kept = self.on(tasks.answer).enqueue()
            with transaction.atomic(using=self.database):
                undone = self.on(tasks.answer).enqueue()
                transaction.set_rollback(True, using=self.database)
        self.assertEqual(self.ended(kept).return_value, 42)
        with self.assertRaises(TaskResultDoesNotExist):  # noqa: PT027 - as above
            self.its.get_result(undone.id)
