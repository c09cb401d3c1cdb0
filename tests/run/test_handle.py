"""A run as its body and its watchers share it: who may stop it, and how often it is broken into."""

import itertools
import json
import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_meanwhile.core.errors import Cancelled, EncodingError, Interrupted, JobStopped, LeaseLost, TaskTimeout
from django_meanwhile.run.handle import MAX_PROGRESS_MESSAGE, RunHandle, encode_progress
from tests.run import sample
from tests.run.jobs import claimed

REASONS = (Cancelled, Interrupted, LeaseLost, TaskTimeout)
OTHERS = (Cancelled, Interrupted, TaskTimeout)


@pytest.fixture
def handle():
    """A run of a task with a timeout of 5 s."""
    return RunHandle(claimed(sample.do_in_time, "x"), sample.do_in_time, 1005.0)


@pytest.mark.parametrize("reason", REASONS)
def test_a_stop_is_seen_by_the_body(handle, reason):
    """Told to stop, the body finds the reason, and asking raises it with a sentence that names the job."""
    handle.raise_if_stopped()
    assert handle.stop(reason)
    assert handle.stop_reason is reason
    with pytest.raises(reason, match=str(handle.job.id)):
        handle.raise_if_stopped()


@pytest.mark.parametrize(("first", "second"), list(itertools.product(REASONS, OTHERS)))
def test_the_first_reason_stands(handle, first, second):
    """A timeout does not become a cancel, nor the other way round: the second reason changes nothing."""
    assert handle.stop(first)
    assert not handle.stop(second)
    assert handle.stop_reason is first


@pytest.mark.parametrize("first", OTHERS)
def test_a_lost_lease_outranks_every_other_reason(handle, first):
    """Whatever the body was told before, that its outcome no longer counts is told too, once."""
    handle.stop(first)
    assert handle.stop(LeaseLost)
    assert not handle.stop(LeaseLost)
    assert handle.stop_reason is LeaseLost


@pytest.mark.parametrize("reason", REASONS)
def test_a_body_that_has_ended_is_left_alone(handle, reason):
    """After its end nothing breaks into a run, and nothing changes what it was told."""
    calls = []
    handle.interrupt_with(lambda: calls.append(1))
    handle.end()
    assert not handle.stop(reason)
    assert handle.stop_reason is None
    assert not calls


def test_the_interrupter_is_called_once_for_each_accepted_reason(handle):
    """A body is broken into when it is told to stop, not again for reasons that change nothing."""
    calls = []
    handle.interrupt_with(lambda: calls.append(handle.stop_reason))
    for reason in (Cancelled, Cancelled, TaskTimeout, LeaseLost, LeaseLost, Interrupted):
        handle.stop(reason)
    assert calls == [Cancelled, LeaseLost]


def test_an_interrupter_that_comes_late_is_called_at_once(handle):
    """A stop that came before the executor could break in is not lost."""
    handle.stop(Cancelled)
    calls = []
    handle.interrupt_with(lambda: calls.append(1))
    assert calls == [1]
    handle.interrupt_with(None)


def test_a_stop_and_a_late_interrupter_meet_exactly_once():
    """However stop and interrupt_with interleave, the body is broken into once."""
    for _ in range(300):
        handle = RunHandle(claimed(sample.add, 1, 2), sample.add, None)
        calls: list[int] = []
        barrier = threading.Barrier(2)

        def stop(handle=handle, barrier=barrier):
            barrier.wait()
            handle.stop(Cancelled)

        thread = threading.Thread(target=stop)
        thread.start()
        barrier.wait()
        handle.interrupt_with(lambda calls=calls: calls.append(1))
        thread.join()
        assert calls == [1]


def test_of_many_reasons_at_once_one_is_accepted(handle):
    """Eight watchers with different reasons: one is told that it was the one."""
    accepted, barrier = [], threading.Barrier(8)

    def stop(reason):
        barrier.wait()
        if handle.stop(reason):
            accepted.append(reason)

    threads = [threading.Thread(target=stop, args=(OTHERS[n % 3],)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert accepted == [handle.stop_reason]


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_has_words_for_the_user(handle, reason):
    """The text in a traceback names task, job and what happened; a timeout names its seconds."""
    text = handle.describe(reason)
    assert handle.job.task in text
    assert str(handle.job.id) in text
    assert ("timeout of 5 s" in text) == (reason is TaskTimeout)
    assert len(text) > len(f"{handle.job.task} {handle.job.id}") + 10


def test_progress_is_taken_once_and_kept_for_the_finish(handle):
    """What was reported is handed out for writing once; the newest stays for the outcome."""
    assert handle.take_progress() is None
    handle.set_progress(1, 10, "a")
    handle.set_progress(2, 10, "b")
    assert json.loads(handle.take_progress()) == {"n": 2, "total": 10, "message": "b"}
    assert handle.take_progress() is None
    assert json.loads(handle.progress)["n"] == 2
    handle.set_progress(3, 10, "c")
    handle.end()
    assert handle.take_progress() is None, "the finish writes it"
    assert json.loads(handle.progress)["n"] == 3


numbers = st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)


@given(numbers, st.none() | numbers, st.text(max_size=20))
def test_progress_comes_back_as_it_was(n, total, message):
    """Any finite numbers and any message are stored, and read as what was reported."""
    stored = encode_progress(n, total, message)
    found = json.loads(stored)
    assert (found["n"], found["total"]) == (n, total)
    assert found["message"] == message.replace("\x00", "\\x00")


@pytest.mark.parametrize(
    ("name", "value"),
    [("n", None), *itertools.product(("n", "total"), (math.nan, math.inf, -math.inf, True, "5", [5], 1j, 10**400))],
)
def test_progress_is_a_finite_number(handle, name, value):
    """Anything else is refused with its name and value, and what was reported before stays."""
    handle.set_progress(1, 2, "")
    values = {"n": 1, "total": 2} | {name: value}
    with pytest.raises(EncodingError, match=rf"progress\({name}="):
        handle.set_progress(**values, message="")
    assert json.loads(handle.progress) == {"n": 1, "total": 2, "message": ""}


@pytest.mark.parametrize("message", ["a\x00b", "a\ud800b", "x" * 10_000, ValueError("text")])
def test_a_progress_message_is_short_and_storable(handle, message):
    """A message of any kind is stored, cut where it is too long; it never fails a body."""
    handle.set_progress(1, None, message)
    stored = json.loads(handle.progress)["message"]
    assert len(stored) <= MAX_PROGRESS_MESSAGE
    assert stored.encode()
    assert "\x00" not in stored


def test_every_reason_of_the_tree_is_covered():
    """A reason that is added to the tree must be added to these tests."""
    assert set(REASONS) == set(JobStopped.__subclasses__())
