"""The contract of Django, fourth part: what becomes of a task that runs."""

# ruff: noqa: PT009, PT027 - a mixin for unittest's classes

from __future__ import annotations

import dataclasses
from contextlib import suppress
from typing import Any

from asgiref.sync import sync_to_async

from ...compat import TaskContext, TaskResultStatus, task_finished, task_started
from . import tasks
from .base import Conformance
from .dialect import DIALECT


class RunningConformance(Conformance):
    """See the module."""

    def _check_times(self, result: Any) -> None:
        self.assertIs(result.is_finished, True)
        for time in (result.started_at, result.last_attempted_at, result.finished_at):
            self.assertIsNotNone(time)
        self.assertGreaterEqual(result.started_at, result.enqueued_at)
        self.assertGreaterEqual(result.finished_at, result.started_at)

    def _check_failed(self, result: Any, exception: Any) -> Any:
        self.assertEqual(result.status, TaskResultStatus.FAILED)
        self._check_times(result)
        with self.assertRaisesMessage(ValueError, "Task failed"):
            _ = result.return_value
        self.assertEqual(len(result.errors), 1)
        self.assertTrue(issubclass(result.errors[0].exception_class, exception))
        return result.errors[0]

    def test_a_task_that_returns_is_successful(self) -> None:
        """Its times are in order, it has had one attempt, and no error; functions and coroutine functions alike."""
        self.needs_runs()
        for on_it in self.sync_and_async():
            with self.subTest(on_it):
                result = self.ended(on_it.enqueue(1, two=3))
                self.assertEqual(result.status, TaskResultStatus.SUCCESSFUL)
                self._check_times(result)
                self.assertIsNone(result.return_value)
                self.assertEqual((result.args, result.kwargs), ([1], {"two": 3}))
                self.assertEqual((result.attempts, result.errors), (1, []))

    async def test_a_task_that_returns_is_successful_async(self) -> None:
        """The same for what ``aenqueue()`` has enqueued."""
        self.needs_runs()
        for on_it in self.sync_and_async():
            with self.subTest(on_it):
                result = await sync_to_async(self.ended, thread_sensitive=True)(await on_it.aenqueue())
                self.assertEqual((result.status, result.attempts), (TaskResultStatus.SUCCESSFUL, 1))
                self._check_times(result)

    def test_the_value_comes_back(self) -> None:
        """``return_value`` is what the function returned, of the arguments that were given."""
        self.assertEqual(self.ended(self.on(tasks.answer).enqueue()).return_value, 42)
        result = self.ended(self.on(tasks.echo).enqueue(1, "zwei", three=[3, None, {"x": 0.5}]))
        self.assertEqual(result.return_value, [[1, "zwei"], {"three": [3, None, {"x": 0.5}]}])

    async def test_the_value_comes_back_async(self) -> None:
        """The same for what ``aenqueue()`` has enqueued."""
        result = await sync_to_async(self.ended, thread_sensitive=True)(await self.on(tasks.answer).aenqueue())
        self.assertEqual(result.return_value, 42)

    def test_an_exception_fails_the_task(self) -> None:
        """``ValueError`` and ``SystemExit`` are recorded with class and traceback; whoever runs tasks lives on."""
        self.needs_runs()
        for given, exception, text in (
            (tasks.raise_value_error, ValueError, "ValueError: this task fails"),
            (tasks.exit_process, SystemExit, "SystemExit: this task exits"),
        ):
            with self.subTest(exception):
                error = self._check_failed(self.ended(self.on(given).enqueue()), exception)
                self.assertTrue(error.traceback.rstrip().endswith(text), error.traceback)
                self.assertIn("Traceback", error.traceback)
        self.assertEqual(self.ended(self.on(tasks.answer).enqueue()).return_value, 42)

    def test_an_exception_may_hold_anything(self) -> None:
        """One whose argument no pickle or JSON carries is recorded like any other."""
        error = self._check_failed(self.ended(self.on(tasks.raise_nested).enqueue()), ValueError)
        self.assertIn("raise_nested", error.traceback)

    def test_a_value_that_cannot_be_carried_fails_the_task(self) -> None:
        """The body has run, but its value cannot be stored: FAILED, with an error that says so; no value."""
        error = self._check_failed(self.ended(self.on(tasks.return_a_function).enqueue()), (TypeError, ValueError))
        self.assertTrue(error.traceback)

    def test_an_interrupt_is_passed_on_or_recorded(self) -> None:
        """``KeyboardInterrupt`` is for who runs the tasks: it gets through, or the task is FAILED. It is no success."""
        result = None
        with suppress(KeyboardInterrupt):
            result = self.on(tasks.interrupt_process).enqueue()
            self.ended(result)
        if result is not None and self.reads:
            result.refresh()
            self.assertEqual(result.status, TaskResultStatus.FAILED)

    def test_the_class_of_an_error_is_looked_up_with_care(self) -> None:
        """A path that leads to no exception is a ``ValueError``, one that leads nowhere an ``ImportError``."""
        [error] = self.ended(self.on(tasks.raise_value_error).enqueue()).errors
        self.assertIs(error.exception_class, ValueError)
        odd = dataclasses.replace(error, exception_class_path="subprocess.run")
        self.assertIn("subprocess.run", self.assert_refused(ValueError, getattr, odd, "exception_class"))
        lost = dataclasses.replace(error, exception_class_path="does.not.exist")
        self.assertRaises(ImportError, getattr, lost, "exception_class")

    def test_a_task_gets_its_context(self) -> None:
        """Its first argument is a ``TaskContext`` with the result and the number of the attempt; others follow."""
        result = self.ended(self.on(tasks.return_id).enqueue())
        self.assertEqual(result.return_value, result.id)
        attempt, classes = self.ended(self.on(tasks.return_attempt).enqueue(add=0)).return_value
        self.assertEqual(attempt, 1)
        self.assertIn(TaskContext.__name__, classes)
        self.assertEqual(self.ended(self.on(tasks.return_attempt).enqueue(10)).return_value[0], 11)

    def test_a_run_is_told(self) -> None:
        """``task_started`` and ``task_finished`` are sent once each, in that order, with what was true then."""
        self.needs_runs(in_process=True)
        told: list[Any] = []

        def started(*, sender: Any, task_result: Any, **_: Any) -> None:
            told.append(("started", sender, task_result.id, task_result.status))

        def finished(*, sender: Any, task_result: Any, **_: Any) -> None:
            told.append(("finished", sender, task_result.id, task_result.status))

        for given, status in (
            (tasks.noop, TaskResultStatus.SUCCESSFUL),
            (tasks.raise_value_error, TaskResultStatus.FAILED),
        ):
            told.clear()
            task_started.connect(started)
            task_finished.connect(finished)
            try:
                result = self.ended(self.on(given).enqueue())
            finally:
                task_started.disconnect(started)
                task_finished.disconnect(finished)
            sender = type(self.its)
            self.assertEqual(
                told,
                [("started", sender, result.id, TaskResultStatus.RUNNING), ("finished", sender, result.id, status)],
            )

    def test_a_run_is_logged(self) -> None:
        """Django's logger has a line for its begin and one for its end, with the id, and no ``None`` in it."""
        self.needs_runs(in_process=True)
        for given, state in ((tasks.noop, "SUCCESSFUL"), (tasks.raise_value_error, "FAILED")):
            with self.subTest(state), self.assertLogs(DIALECT, level="DEBUG") as logged:
                result = self.ended(self.on(given).enqueue())
            _, begin, end, *more = [line for line in logged.output if result.id in line]
            self.assertIn("state=RUNNING", begin)
            self.assertIn(f"state={state}", end)
            self.assertEqual(more, [])
            if state == "SUCCESSFUL":
                self.assertNotIn("None", " ".join(logged.output))
