"""What backends of django-meanwhile promise besides: cancel, retry, progress, batches."""

# ruff: noqa: PT009 - a mixin for unittest's classes

from __future__ import annotations

from datetime import timedelta
from typing import Any

from ...compat import TaskResultStatus, task_finished, task_started
from ...core.errors import Cancelled, EncodingError, NotCancellable, Retry
from ...core.states import JobState
from . import job_tasks
from .base import Conformance


class JobConformance(Conformance):
    """See the module."""

    def test_a_waiting_job_can_be_cancelled(self) -> None:
        """It never runs, is FAILED for Django, and its last error says why; its end is told."""
        told: list[Any] = []

        def finished(*, task_result: Any, **_: Any) -> None:
            told.append(task_result.id)

        for result in (
            self.on(job_tasks.double).enqueue(1),
            self.on(job_tasks.double, run_after=timedelta(hours=1)).enqueue(2),
        ):
            task_finished.connect(finished)
            try:
                with self.committed():
                    self.assertIs(result.cancel(), JobState.CANCELLED)
            finally:
                task_finished.disconnect(finished)
            self.assertEqual(told.pop(), result.id)
            self.ended(result)
            self.assertEqual((result.state, result.status), (JobState.CANCELLED, TaskResultStatus.FAILED))
            self.assertIs(result.errors[-1].exception_class, Cancelled)
            self.assertEqual(result.attempts, 0)

    def test_what_has_ended_cannot_be_cancelled(self) -> None:
        """The error says how it ended, and nothing changes."""
        result = self.ended(self.on(job_tasks.double).enqueue(2))
        self.assertIn("SUCCESSFUL", self.assert_refused(NotCancellable, result.cancel))
        result.refresh()
        self.assertEqual(result.return_value, 4)

    def test_a_failure_is_retried_as_often_as_allowed(self) -> None:
        """Each attempt is counted and leaves its error; the job is successful at the first that succeeds."""
        result = self.ended(self.on(job_tasks.succeed_at).enqueue(3))
        self.assertEqual((result.state, result.return_value, result.attempts), (JobState.SUCCESSFUL, 3, 3))
        self.assertEqual([error.traceback.split()[-1] for error in result.errors], ["1", "2"])
        self.assertEqual(len(result.worker_ids), 3)
        exhausted = self.ended(self.on(job_tasks.succeed_at).enqueue(4))
        self.assertEqual((exhausted.state, exhausted.attempts), (JobState.FAILED, 3))

    def test_the_enqueuer_may_change_the_number_of_attempts(self) -> None:
        """``using(max_attempts=...)`` travels with the job."""
        result = self.ended(self.on(job_tasks.succeed_at, max_attempts=2).enqueue(3))
        self.assertEqual((result.state, result.attempts), (JobState.FAILED, 2))

    def test_some_failures_are_not_retried(self) -> None:
        """``dont_retry`` ends the job at once."""
        result = self.ended(self.on(job_tasks.fail_for_good).enqueue())
        self.assertEqual((result.state, result.attempts), (JobState.FAILED, 1))

    def test_a_body_may_ask_to_be_run_again(self) -> None:
        """``raise Retry`` is honoured within ``max_attempts``, and its last one says that it was the last."""
        result = self.ended(self.on(job_tasks.ask_again).enqueue())
        self.assertEqual((result.state, result.attempts), (JobState.FAILED, 2))
        self.assertIs(result.errors[-1].exception_class, Retry)
        self.assertIn("was the last", result.errors[-1].traceback)

    def test_an_operator_may_run_it_again(self) -> None:
        """``retry()`` brings an ended job back with fresh counters; one that has not ended is refused."""
        result = self.on(job_tasks.double).enqueue(2)
        self.assert_refused(NotCancellable, result.retry)
        self.ended(result)
        result.retry()
        result.refresh()
        self.assertEqual((result.state, result.attempts), (JobState.READY, 0))
        self.assertEqual(self.ended(result).return_value, 4)

    def test_progress_is_kept(self) -> None:
        """The newest is there at the end, with its message."""
        result = self.ended(self.on(job_tasks.report_progress).enqueue())
        self.assertEqual((result.progress.current, result.progress.total), (3, 4))
        self.assertEqual(result.progress.message, "nearly there")

    def test_metadata_travels_with_the_job(self) -> None:
        """The body sees what ``using(metadata=...)`` gave."""
        result = self.ended(self.on(job_tasks.report_progress, metadata={"colour": "green"}).enqueue())
        self.assertEqual(result.return_value, "green")

    def test_a_batch_is_enqueued_whole_or_not_at_all(self) -> None:
        """``enqueue_many()`` returns a result for each call, in order; one bad call and nothing is queued."""
        results = self.on(job_tasks.double).enqueue_many([(1,), {"number": 2}, (3,)])
        self.ended(results[0])
        for result in results:
            result.refresh()
        self.assertEqual([result.return_value for result in results], [2, 4, 6])
        begun: list[Any] = []

        def started(*, task_result: Any, **_: Any) -> None:
            begun.append(task_result.id)

        self.assert_refused(EncodingError, self.on(job_tasks.double).enqueue_many, [(1,), (object(),)])
        task_started.connect(started)
        try:
            self.run_queued()
        finally:
            task_started.disconnect(started)
        self.assertEqual(begun, [])

    def test_a_receiver_that_raises_changes_no_outcome(self) -> None:
        """Whatever the project's receivers do, the job ends as it ended."""

        def raises(**_: Any) -> None:
            raise RuntimeError("a receiver of the project's")

        task_started.connect(raises)
        task_finished.connect(raises)
        try:
            result = self.ended(self.on(job_tasks.double).enqueue(2))
        finally:
            task_started.disconnect(raises)
            task_finished.disconnect(raises)
        self.assertEqual(result.return_value, 4)
