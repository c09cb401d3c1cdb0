"""The contract of Django, second part: what ``enqueue()`` returns, refuses and tells."""

# ruff: noqa: PT009, PT027 - a mixin for unittest's classes

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync
from django.db import transaction

from ...compat import InvalidTask, TaskResultStatus, task_enqueued
from . import tasks
from .base import Conformance
from .dialect import DIALECT


class EnqueueingConformance(Conformance):
    """See the module."""

    def _check_new(self, result: Any, task: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
        self.assertIsInstance(result.id, str)
        self.assertEqual(result.task, task)
        self.assertEqual((result.args, result.kwargs), (args, kwargs))
        self.assertEqual(result.backend, self.backend)
        self.assertIsNotNone(result.enqueued_at)
        if self.runs_at_enqueue:
            self.assertTrue(result.is_finished)
            return
        self.assertEqual(result.status, TaskResultStatus.READY)
        self.assertIs(result.is_finished, False)
        times = (result.started_at, result.last_attempted_at, result.finished_at)
        self.assertEqual(times, (None, None, None))
        self.assertEqual((result.errors, result.attempts), ([], 0))
        with self.assertRaises(ValueError):
            _ = result.return_value

    def test_an_enqueue_returns_a_result(self) -> None:
        """It knows task, arguments and backend; unless tasks run at once, it has not begun and has no value."""
        for on_it in self.sync_and_async():
            with self.subTest(on_it):
                self._check_new(on_it.enqueue(1, two=3), on_it, [1], {"two": 3})

    async def test_an_enqueue_returns_a_result_async(self) -> None:
        """``aenqueue()`` returns the same."""
        for on_it in self.sync_and_async():
            with self.subTest(on_it):
                self._check_new(await on_it.aenqueue(), on_it, [], {})

    def test_a_task_that_takes_its_context_can_be_enqueued(self) -> None:
        """The context is not among the arguments."""
        result = self.on(tasks.return_id).enqueue()
        self.assertEqual((result.args, result.kwargs), ([], {}))

    def test_arguments_that_cannot_be_carried_are_refused(self) -> None:
        """At the enqueue, where the mistake is: not in a worker."""
        for refused in (object(), {"deep": [object()]}, {1, 2}):
            with self.subTest(refused):
                self.assert_refused((TypeError, ValueError), self.on(tasks.noop).enqueue, refused)
                self.assert_refused((TypeError, ValueError), self.on(tasks.noop).enqueue, named=refused)

    async def test_arguments_that_cannot_be_carried_are_refused_async(self) -> None:
        """``aenqueue()`` refuses the same."""
        with self.assertRaises((TypeError, ValueError)):
            await self.on(tasks.noop).aenqueue(object())

    def test_the_task_is_validated_again_at_the_enqueue(self) -> None:
        """A task made under other settings is refused by those in force now; by ``aenqueue()``, too."""
        with self.configured(QUEUES=[]):
            made = self.on(tasks.noop, queue_name="unknown_queue")
        with self.configured(QUEUES=["queue_1"]):
            self.assertIn("unknown_queue", self.assert_refused(InvalidTask, made.enqueue))
            self.assertIn("unknown_queue", self.assert_refused(InvalidTask, async_to_sync(made.aenqueue)))

    def test_an_enqueue_is_told_and_logged(self) -> None:
        """``task_enqueued`` is sent once, with the result; Django's logger notes the id."""
        told: list[Any] = []

        def receive(*, sender: Any, task_result: Any, **_: Any) -> None:
            told.append((sender, task_result.id))

        task_enqueued.connect(receive)
        try:
            with self.assertLogs(DIALECT, level="DEBUG") as logged:
                result = self.on(tasks.noop).enqueue()
        finally:
            task_enqueued.disconnect(receive)
        self.assertEqual(told, [(type(self.its), result.id)])
        self.assertIn("enqueued", logged.output[0])
        self.assertIn(result.id, logged.output[0])

    def test_an_enqueue_does_not_wait_for_the_commit(self) -> None:
        """Inside a transaction it returns a complete result at once, with its time."""
        self.needs_transactions()
        with transaction.atomic(using=self.database):
            on_it = self.on(tasks.noop)
            result = on_it.enqueue()
            self._check_new(result, on_it, [], {})
            if self.reads:
                self.assertEqual(self.its.get_result(result.id).id, result.id)
