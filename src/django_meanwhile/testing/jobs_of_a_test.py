"""What the fixture ``meanwhile_jobs`` gives to a test: everything of this package on one object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .clock import travel
from .enqueued import aassert_enqueued, aassert_not_enqueued, assert_enqueued, assert_not_enqueued
from .failures import crash_task, fail_task, interrupt_task, lose_lease, time_out_task
from .jobs import arun_jobs, run_jobs

if TYPE_CHECKING:
    from .enqueued import Captured


class JobsOfATest:
    """``captured`` is what the test has enqueued so far; the rest are the functions of the package."""

    run = staticmethod(run_jobs)
    arun = staticmethod(arun_jobs)
    travel = staticmethod(travel)
    assert_enqueued = staticmethod(assert_enqueued)
    assert_not_enqueued = staticmethod(assert_not_enqueued)
    aassert_enqueued = staticmethod(aassert_enqueued)
    aassert_not_enqueued = staticmethod(aassert_not_enqueued)
    fail = staticmethod(fail_task)
    crash = staticmethod(crash_task)
    interrupt = staticmethod(interrupt_task)
    time_out = staticmethod(time_out_task)
    lose_lease = staticmethod(lose_lease)

    def __init__(self, captured: Captured) -> None:
        self.captured = captured

    @property
    def enqueued(self) -> list[Any]:
        """The results of what the test has enqueued so far, in order."""
        return self.captured.results
