"""The contract of Django, third part: results, read again."""

# ruff: noqa: PT009, PT027 - a mixin for unittest's classes

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

from asgiref.sync import sync_to_async

from ...compat import TaskResultDoesNotExist, TaskResultMismatch, TaskResultStatus
from . import tasks
from .base import Conformance
from .dialect import can_be_pickled


class ResultConformance(Conformance):
    """See the module."""

    def test_a_result_can_be_read_again(self) -> None:
        """By its id, from the backend and from the task, it equals what ``enqueue()`` returned."""
        self.needs_reads()
        on_it = self.on(tasks.noop)
        result = on_it.enqueue(1, two=3)
        for again in (self.its.get_result(result.id), on_it.get_result(result.id)):
            self.assertEqual((again.id, again.status), (result.id, result.status))
            self.assertEqual((again.args, again.kwargs), (result.args, result.kwargs))
            self.assertEqual(again.enqueued_at, result.enqueued_at)
            self.assertEqual(again, result)

    async def test_a_result_can_be_read_again_async(self) -> None:
        """``aget_result()`` of backend and task give the same."""
        self.needs_reads()
        on_it = self.on(tasks.noop)
        result = await on_it.aenqueue()
        self.assertEqual(await self.its.aget_result(result.id), result)
        self.assertEqual(await on_it.aget_result(result.id), result)

    async def test_a_result_that_is_not_there_is_an_error(self) -> None:
        """``TaskResultDoesNotExist`` for an id that was never given, whatever it looks like."""
        self.needs_reads()
        for unknown in ("123", "00000000-0000-0000-0000-000000000000"):
            for ask in (self.its.aget_result, self.on(tasks.noop).aget_result):
                with self.subTest(unknown), self.assertRaises(TaskResultDoesNotExist):
                    await ask(unknown)

    def test_a_missing_result_is_an_error(self) -> None:
        """``get_result()`` raises the same; the error names the id."""
        self.needs_reads()
        for ask in (self.its.get_result, self.on(tasks.noop).get_result):
            self.assertIn("123", self.assert_refused(TaskResultDoesNotExist, ask, "123"))

    def test_a_result_of_another_task_is_an_error(self) -> None:
        """A task gives out results of its own only: ``TaskResultMismatch``."""
        self.needs_reads()
        result = self.on(tasks.answer).enqueue()
        self.assert_refused(TaskResultMismatch, self.on(tasks.noop).get_result, result.id)

    async def test_a_result_of_another_task_is_an_error_async(self) -> None:
        """``aget_result()`` raises the same."""
        self.needs_reads()
        result = await self.on(tasks.answer).aenqueue()
        with self.assertRaises(TaskResultMismatch):
            await self.on(tasks.noop).aget_result(result.id)

    async def test_refreshing_what_has_not_changed_changes_nothing(self) -> None:
        """``arefresh()`` leaves every field of a job that still waits as it was."""
        self.needs_reads()
        result = await self.on(tasks.noop).aenqueue()
        before = _fields(result)
        await result.arefresh()
        self.assertEqual(_fields(result), before)

    def test_refreshing_sees_what_has_changed(self) -> None:
        """A result that was READY is SUCCESSFUL after ``refresh()``, once the task has run; not before."""
        self.needs_reads()
        result = self.on(tasks.noop).enqueue()
        copy = self.its.get_result(result.id)
        before = _fields(result)
        result.refresh()
        self.assertEqual(_fields(result), before)
        self.ended(copy)
        if not self.runs_at_enqueue:
            self.assertEqual(result.status, TaskResultStatus.READY)
        result.refresh()
        self.assertEqual(result.status, TaskResultStatus.SUCCESSFUL)
        self.assertEqual(result, copy)

    async def test_refreshing_sees_what_has_changed_async(self) -> None:
        """``arefresh()`` sees the same."""
        self.needs_reads()
        result = await self.on(tasks.noop).aenqueue()
        await sync_to_async(self.ended, thread_sensitive=True)(await self.its.aget_result(result.id))
        await result.arefresh()
        self.assertEqual(result.status, TaskResultStatus.SUCCESSFUL)

    async def test_without_support_reading_is_refused(self) -> None:
        """A backend without ``supports_get_result`` says ``NotImplementedError`` to each way of reading."""
        if self.reads:
            self.skipTest("results can be read")
        result = await self.on(tasks.noop).aenqueue()
        for ask in (lambda: self.its.get_result("123"), result.refresh):
            self.assertRaises(NotImplementedError, ask)
        with self.assertRaises(NotImplementedError):
            await self.its.aget_result("123")
        with self.assertRaises(NotImplementedError):
            await result.arefresh()

    def test_a_result_can_be_pickled(self) -> None:
        """It comes back equal."""
        on_it = self.on(tasks.noop)
        if not can_be_pickled(on_it):
            self.skipTest("tasks of this dialect cannot be pickled")
        result = on_it.enqueue(1)
        self.assertEqual(pickle.loads(pickle.dumps(result)), result)  # noqa: S301 - our own


def _fields(result: Any) -> dict[str, Any]:
    return {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
