"""One claimed job becomes one outcome, whatever its row, its body or its receivers do."""

import asyncio
import contextvars
import json
import signal
from dataclasses import replace
from datetime import timedelta

import pytest
from django.utils import timezone, translation

from django_meanwhile.compat import TaskResultStatus, task_started
from django_meanwhile.core.errors import (
    Cancelled,
    EncodingError,
    Interrupted,
    InvalidOption,
    LeaseLost,
    Retry,
    TaskTimeout,
    UnknownTask,
)
from django_meanwhile.core.outcome import End, Outcome
from django_meanwhile.core.states import Executor
from django_meanwhile.core.text import class_path, storable
from django_meanwhile.run import pipeline
from django_meanwhile.run.pipeline import Call, Gate, acall, call, conclude, prepare
from tests.run import sample
from tests.run.jobs import ManualClock, claimed

CLOCK = ManualClock()
MANY = {"max_attempts": 3}


def bound(job) -> Call:
    """Prepare a job whose task is known."""
    made = prepare(job, CLOCK)
    assert isinstance(made, Call), made
    return made


def run(job) -> Outcome:
    """Run a job as an executor would, in a context of its own."""
    made = bound(job)
    if job.executor is Executor.ASYNCIO:
        return contextvars.Context().run(asyncio.run, acall(made))
    return contextvars.Context().run(call, made)


@pytest.fixture(params=["do", "ado"])
def run_body(request, bodies):
    """Run a plain body as a ``def`` task and as an ``async def`` task: both must come to the same outcome."""

    def run_it(body, **changes):
        if request.param == "do":
            bodies["x"] = body
        else:

            async def asynchronous():
                return body()

            bodies["x"] = asynchronous
        return run(claimed(getattr(sample, request.param), "x", **changes))

    return run_it


@pytest.fixture
def receive():
    """Connect receivers of ``task_started`` for one test."""
    connected = []

    def connect(receiver):
        task_started.connect(receiver, weak=False)
        connected.append(receiver)

    yield connect
    for receiver in connected:
        task_started.disconnect(receiver)


# --- resolve and bind -----------------------------------------------------------------------


def test_a_known_task_is_bound_to_its_stored_arguments():
    """The call has today's function, the decoded arguments, and a result that is RUNNING in the claiming worker."""
    job = claimed(sample.add, 1, kwargs={"b": timedelta(seconds=2)}, attempts=2)
    made = bound(job)
    assert (made.function, made.args, made.kwargs) == (sample.add.func, [1], {"b": timedelta(seconds=2)})
    assert made.handle.job is job
    assert made.result.id == str(job.id)
    assert made.result.status == TaskResultStatus.RUNNING
    assert made.result.attempts == 2


@pytest.mark.parametrize(
    ("task", "overrides", "deadline"),
    [(sample.add, {}, None), (sample.do_in_time, {}, 1005.0), (sample.do_in_time, {"timeout": 60}, 1060.0)],
)
def test_the_deadline_counts_from_now(task, overrides, deadline):
    """The timeout of today's code, or of the caller's ``using()``, is added to the monotonic now; none, no deadline."""
    assert bound(claimed(task, "x", 1, overrides=overrides)).handle.deadline == deadline


@pytest.mark.parametrize(("waited", "delay"), [(0, 2), (1.9, 2), (45, 45), (600, 600), (86_400, 600)])
def test_an_unknown_task_is_given_back_with_a_growing_delay(waited, delay):
    """Not begun, uncharged, looked at again after as long as it has waited: never under 2 s, never over 10 min."""
    outcome = prepare(claimed("gone.tasks.vanished", waited=waited), CLOCK)
    assert isinstance(outcome, Outcome)
    assert (outcome.end, outcome.begun, outcome.retry_in) == (End.NOT_BEGUN, False, delay)


@pytest.mark.parametrize("error", [UnknownTask("no"), ImportError("broken"), SyntaxError("broken"), RuntimeError("no")])
def test_a_module_that_does_not_import_makes_a_task_unknown(monkeypatch, error):
    """A half-finished deploy costs no job its attempt."""

    def resolve(name):
        raise error

    monkeypatch.setattr(pipeline, "resolve", resolve)
    outcome = prepare(claimed(sample.add, 1, 2), CLOCK)
    assert (outcome.end, outcome.begun) == (End.NOT_BEGUN, False)


@pytest.mark.parametrize(
    ("changes", "executor", "queue"),
    [
        ({"queue": "old"}, None, "default"),
        ({"executor": Executor.PROCESS}, Executor.THREAD, None),
        ({"queue": "old", "executor": Executor.PROCESS}, Executor.THREAD, "default"),
    ],
)
def test_a_job_follows_the_route_of_todays_code(changes, executor, queue):
    """Claimed where yesterday's code had sent it, a job is sent on, not begun and uncharged."""
    outcome = prepare(claimed(sample.add, 1, 2, **changes), CLOCK)
    assert outcome == Outcome(end=End.NOT_BEGUN, executor=executor, queue=queue, begun=False)


@pytest.mark.parametrize(
    ("changes", "overrides"),
    [
        ({"queue": "old"}, {"queue_name": "old"}),
        ({"executor": Executor.PROCESS}, {"executor": "process"}),
        ({"rank": -50}, {}),
    ],
)
def test_a_route_that_the_caller_chose_stands(changes, overrides):
    """``using()`` outranks the code of today; a priority alone moves nothing."""
    assert isinstance(prepare(claimed(sample.add, 1, 2, overrides=overrides, **changes), CLOCK), Call)


@pytest.mark.parametrize(
    "arguments",
    ["", "{", "[]", "null", '{"args": []}', '{"args": {}, "kwargs": {}}', '{"args": [{"$uuid": 5}], "kwargs": {}}'],
)
def test_arguments_that_cannot_be_read_are_a_failed_attempt(arguments):
    """A damaged row ends as FAILED with the reason, before any body is called, and is not retried."""
    outcome = prepare(claimed(sample.add, arguments=arguments), CLOCK)
    assert (outcome.end, outcome.begun, outcome.retry_in) == (End.FAILED, False, None)
    assert outcome.exception.endswith("DecodingError")
    assert outcome.detail


@pytest.mark.parametrize("overrides", [{"executor": "asyncio"}, {"timeout": -1}, {"max_attempts": "many"}])
def test_overrides_that_todays_code_cannot_honour_are_a_failed_attempt(overrides):
    """A ``def`` cannot run on the event loop, whatever a row says: FAILED, with the option's own message."""
    executor = Executor(overrides.get("executor", "thread"))
    outcome = prepare(claimed(sample.add, 1, 2, overrides=overrides, executor=executor), CLOCK)
    assert (outcome.end, outcome.begun, outcome.exception) == (End.FAILED, False, class_path(InvalidOption))


@pytest.mark.parametrize("overrides", ["", "{", "[]", "5"])
def test_overrides_that_cannot_be_read_are_a_failed_attempt(overrides):
    """A damaged row never raises into the slot that took it."""
    outcome = prepare(replace(claimed(sample.add, 1, 2), overrides=overrides), CLOCK)
    assert (outcome.end, outcome.begun, outcome.retry_in) == (End.FAILED, False, None)


# --- call and conclude: results -------------------------------------------------------------


def test_a_return_value_becomes_the_encoded_result(run_body):
    """SUCCEEDED, with the result as JSON and nothing else to say."""
    outcome = run_body(lambda: {"n": [1, 2], "b": b"\0"})
    assert outcome == Outcome(end=End.SUCCEEDED, result='{"n":[1,2],"b":{"$bytes":"AA=="}}')


@pytest.mark.parametrize("value", [object(), float("nan"), {1, 2}, "a\x00b", "a\ud800b", {5: 1}, "x" * 2_000_000])
@pytest.mark.parametrize("overrides", [{}, MANY])
def test_a_result_that_cannot_be_stored_fails_and_is_never_retried(run_body, value, overrides):
    """The body ran to its end, so it is not run again, however many attempts there are; the reader learns why."""
    outcome = run_body(lambda: value, overrides=overrides)
    assert (outcome.end, outcome.retry_in, outcome.result) == (End.FAILED, None, None)
    assert outcome.exception == class_path(EncodingError)
    assert "ran to its end" in outcome.detail


def test_a_result_that_breaks_the_encoder_fails_too(run_body, monkeypatch):
    """MemoryError while a huge result is encoded is a failed attempt, not a lost slot."""

    def encode(value, *, task):
        raise MemoryError

    monkeypatch.setattr(pipeline, "encode_result", encode)
    outcome = run_body(lambda: 5)
    assert (outcome.end, outcome.exception) == (End.FAILED, "builtins.MemoryError")


def test_progress_goes_with_every_ending(bodies):
    """The last reported progress is part of the outcome, of a success as of a failure."""

    def succeed(context):
        context.progress(1, 2, "half")

    def fail(context):
        context.progress(1, 2, "half")
        raise ValueError

    for body in (succeed, fail):
        bodies["x"] = body
        assert json.loads(run(claimed(sample.do_with_context, "x")).progress)["message"] == "half"


# --- call and conclude: errors --------------------------------------------------------------


class NotAnException(BaseException):
    """As some libraries have."""


class Unspeakable(Exception):
    def __str__(self):
        raise ValueError("no text")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        SystemExit(3),
        KeyboardInterrupt(),
        MemoryError(),
        GeneratorExit(),
        RecursionError("deep"),
        NotAnException(),
        Unspeakable(),
        ExceptionGroup("several", [ValueError("one"), KeyError("two")]),
        asyncio.CancelledError(),
        TimeoutError("its own"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_body_raises_is_a_failed_attempt(run_body, error):
    """sys.exit(), Ctrl-C, no memory: FAILED with the class's path and the traceback. Nothing escapes into the slot."""

    def body():
        raise error

    outcome = run_body(body)
    assert (outcome.end, outcome.exception, outcome.retry_in) == (End.FAILED, class_path(error), None)
    assert "in body" in outcome.detail


def test_stop_iteration_is_an_error_like_others(bodies):
    """Raised by a ``def`` body it fails the attempt; a coroutine turns it into RuntimeError by itself."""

    def body():
        raise StopIteration

    bodies["x"] = body
    assert run(claimed(sample.do, "x")).exception == "builtins.StopIteration"


def test_a_traceback_begins_in_the_users_code_and_shows_no_value(run_body):
    """No frame of ours, no locals; where it broke, and the message."""

    def body():
        secret = "swordfish"
        raise ValueError(f"wrong length: {len(secret)}")

    detail = run_body(body).detail
    assert "django_meanwhile" not in detail
    assert "wrong length: 9" in detail
    assert "swordfish" not in detail.replace('secret = "swordfish"', "")


@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b", "x" * 10_000_000])
def test_a_message_can_always_be_stored(run_body, text):
    """NUL, lone surrogates and megabytes in a message do not keep the attempt from being written."""

    def body():
        raise ValueError(text)

    outcome = run_body(body)
    assert storable(outcome.detail) == outcome.detail
    assert len(outcome.detail) < 100_000


def test_a_failure_is_retried_as_the_policy_says(bodies):
    """The delay is the policy's answer; it is asked with the error and a result that counts this attempt."""
    asked = []

    def policy(error, result):
        asked.append((error, result.attempts))
        return 7

    def body():
        raise ValueError("no")

    bodies |= {"x": body, "policy": policy}
    outcome = run(claimed(sample.do_again, "x", attempts=2))
    assert (outcome.end, outcome.retry_in) == (End.FAILED, 7)
    assert [(type(error), attempts) for error, attempts in asked] == [(ValueError, 2)]
    assert run(claimed(sample.do_again, "x", attempts=3)).retry_in is None, "the last attempt"
    assert len(asked) == 1


@pytest.mark.parametrize("answer", ["soon", -1, float("nan"), True, SystemExit(3), ValueError("a\x00b\ud800")])
def test_a_policy_without_an_answer_ends_the_job_and_says_so(bodies, answer):
    """Nonsense from the user's backoff fails the attempt for good, with a note below the traceback."""

    def policy(error, result):
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def body():
        raise ValueError("no")

    bodies |= {"x": body, "policy": policy}
    outcome = run(claimed(sample.do_again, "x"))
    assert (outcome.end, outcome.retry_in) == (End.FAILED, None)
    assert "ValueError: no" in outcome.detail
    assert "Not retried: the task's backoff" in outcome.detail


def test_retry_asks_for_the_delay_itself(bodies):
    """``raise Retry(after=…)`` is retried after that long, if there are attempts left."""

    def body():
        raise Retry(after=9)

    bodies["x"] = body
    assert run(claimed(sample.do_again, "x")).retry_in == 9
    without = run(claimed(sample.do, "x"))
    assert (without.end, without.retry_in) == (End.FAILED, None)
    assert "max_attempts is 1" in without.detail


# --- call and conclude: stops ---------------------------------------------------------------


def test_a_job_whose_cancel_was_requested_before_is_not_begun_in_vain(bodies):
    """Its body is never called; the outcome is CANCELLED."""
    bodies["x"] = lambda: pytest.fail("the body was called")
    outcome = run(claimed(sample.do, "x", cancel_requested=True))
    assert (outcome.end, outcome.exception) == (End.CANCELLED, class_path(Cancelled))


ENDS = [
    (Cancelled, End.CANCELLED),
    (Interrupted, End.INTERRUPTED),
    (LeaseLost, End.INTERRUPTED),
    (TaskTimeout, End.FAILED),
]


@pytest.mark.parametrize(("reason", "end"), ENDS)
def test_a_body_that_lets_the_reason_pass_ends_by_it(bodies, reason, end):
    """What the context raises, raised through the body, names the ending: cancelled, interrupted, or a timeout."""

    def body(context):
        context.handle.stop(reason)
        context.raise_if_stopped()

    bodies["x"] = body
    outcome = run(claimed(sample.do_with_context, "x", overrides={"timeout": 5}))
    assert (outcome.end, outcome.exception) == (end, class_path(reason))


@pytest.mark.parametrize(("reason", "end"), ENDS)
def test_a_cancelled_coroutine_ends_by_the_reason_it_was_cancelled_for(bodies, reason, end):
    """Asyncio knows one way to stop a coroutine; the outcome says which of our four it was."""

    async def body(context):
        context.handle.stop(reason)
        raise asyncio.CancelledError

    bodies["x"] = body
    outcome = run(claimed(sample.ado_with_context, "x"))
    assert (outcome.end, outcome.exception) == (end, class_path(reason))
    assert "in body" in outcome.detail


def test_a_timeout_is_retried_like_other_failures(bodies):
    """TaskTimeout asks the policy; a cancel never does."""
    asked = []

    def policy(error, result):
        asked.append(type(error))
        return 4

    for reason, delay in ((TaskTimeout, 4), (Cancelled, None), (Interrupted, None)):
        made = bound(claimed(sample.do_again, "x", overrides={"timeout": 5}))
        bodies |= {"x": lambda made=made, reason=reason: made.handle.stop(reason) and made.handle.raise_if_stopped()}
        bodies["policy"] = policy
        assert call(made).retry_in == delay
    assert asked == [TaskTimeout]


def test_a_body_that_returns_after_its_timeout_is_too_late(run_body, bodies):
    """The value of an overdue body does not count: it was told, and a retry may already have been promised."""
    made = bound(claimed(sample.do_in_time, "x"))

    def body():
        made.handle.stop(TaskTimeout)
        return 5

    bodies["x"] = body
    outcome = call(made)
    assert (outcome.end, outcome.exception) == (End.FAILED, class_path(TaskTimeout))
    assert "too late" in outcome.detail
    assert outcome.result is None


@pytest.mark.parametrize("reason", [Cancelled, Interrupted, LeaseLost])
def test_a_body_that_finishes_in_spite_of_a_stop_has_succeeded(bodies, reason):
    """It did its work; whether the outcome still counts is for the fence to say."""

    def body(context):
        context.handle.stop(reason)
        return 5

    bodies["x"] = body
    assert run(claimed(sample.do_with_context, "x")).end is End.SUCCEEDED


@pytest.mark.parametrize("reason", [Cancelled, Interrupted, LeaseLost])
def test_a_reason_that_nobody_gave_is_an_error_like_others(bodies, reason):
    """A body that raises Cancelled by itself was not cancelled: FAILED, and not retried."""

    def body():
        raise reason("of its own accord")

    bodies |= {"x": body, "policy": lambda error, result: 5}
    outcome = run(claimed(sample.do_again, "x"))
    assert (outcome.end, outcome.exception, outcome.retry_in) == (End.FAILED, class_path(reason), None)


@pytest.mark.parametrize("reason", [Cancelled, Interrupted, LeaseLost, TaskTimeout])
def test_an_error_of_its_own_after_a_stop_is_that_error(bodies, reason):
    """A body that cleans up and raises something else says what it says."""

    def body(context):
        context.handle.stop(reason)
        raise KeyError("while cleaning up")

    bodies["x"] = body
    outcome = run(claimed(sample.do_with_context, "x", overrides={"timeout": 5}))
    assert (outcome.end, outcome.exception) == (End.FAILED, "builtins.KeyError")


def test_nothing_stops_a_body_that_has_ended(run_body, bodies):
    """Once the outcome is decided a late stop changes nothing and interrupts nobody."""
    made = bound(claimed(sample.do, "x"))
    bodies["x"] = lambda: 5
    assert call(made).end is End.SUCCEEDED
    assert not made.handle.stop(Cancelled)
    assert made.handle.stop_reason is None


# --- the gate -------------------------------------------------------------------------------


def test_the_gate_is_open_exactly_while_the_body_runs(bodies):
    """A signal handler may raise into the body, and into nothing of ours: before, after, or while receivers run."""
    gate, seen = Gate(), []
    made = bound(claimed(sample.do, "x"))
    bodies["x"] = lambda: seen.append(gate.handle)
    assert call(made, gate).end is End.SUCCEEDED
    assert seen == [made.handle]
    assert gate.handle is None


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), Cancelled("no")])
def test_the_gate_closes_whatever_happens(bodies, error):
    """Also after an error no signal gets through any more."""
    gate = Gate()

    def body():
        raise error

    bodies["x"] = body
    call(bound(claimed(sample.do, "x")), gate)
    assert gate.handle is None


def test_a_stop_before_the_gate_opens_is_not_lost(bodies):
    """A reason that came between claim and call ends the run before its body is called."""
    gate = Gate()
    made = bound(claimed(sample.do, "x"))
    made.handle.stop(Cancelled)
    bodies["x"] = lambda: pytest.fail("the body was called")
    assert call(made, gate).end is End.CANCELLED
    assert gate.handle is None


def test_a_signal_at_the_last_moment_leaves_the_gate_closed(bodies, monkeypatch):
    """A reason that is raised while the gate is being closed ends the run; the next signal meets a closed gate."""
    made = bound(claimed(sample.do, "x"))

    class Interrupting(Gate):
        struck = False

        def close(self):
            if not self.struck:
                self.struck = True
                made.handle.stop(Cancelled)
                made.handle.raise_if_stopped()
            super().close()

    gate = Interrupting()
    bodies["x"] = lambda: 5
    assert call(made, gate).end is End.CANCELLED
    assert gate.handle is None


def test_a_real_signal_breaks_into_a_sleeping_body(bodies):
    """SIGTERM with the gate open raises the reason inside the body, in the middle of a blocking call."""
    gate = Gate()
    made = bound(claimed(sample.do, "x"))

    def body():
        made.handle.stop(Cancelled)
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("the body went on")

    bodies["x"] = body
    old = signal.signal(signal.SIGTERM, lambda *_: gate.handle and gate.handle.raise_if_stopped())
    try:
        assert call(made, gate).end is End.CANCELLED
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, old)


# --- surroundings ---------------------------------------------------------------------------


def test_the_enqueuers_language_and_time_zone_are_restored(run_body):
    """The body sees what was active where it was enqueued; afterwards all is as it was."""
    before = (translation.get_language(), timezone.get_current_timezone_name())
    outcome = run_body(
        lambda: [translation.get_language(), timezone.get_current_timezone_name()],
        context={"language": "de", "time_zone": "Asia/Tokyo"},
    )
    assert json.loads(outcome.result) == ["de", "Asia/Tokyo"]
    assert (translation.get_language(), timezone.get_current_timezone_name()) == before


def test_without_a_context_the_defaults_are_in_force(run_body):
    """A row that names neither language nor zone leaves those of the process."""
    outcome = run_body(lambda: [translation.get_language(), timezone.get_current_timezone_name()])
    assert json.loads(outcome.result) == [translation.get_language(), timezone.get_current_timezone_name()]


@pytest.mark.parametrize("context", [{"time_zone": "Mars/Olympus_Mons"}, {"time_zone": "../../etc/passwd"}])
def test_a_zone_that_this_host_does_not_know_fails_the_attempt(run_body, context):
    """Another host's time zone database may be newer than ours: FAILED with the name, and the slot lives on."""
    outcome = run_body(lambda: pytest.fail("the body was called"), context=context)
    assert outcome.end is End.FAILED
    assert "Zone" in outcome.exception or "ValueError" in outcome.exception
    assert context["time_zone"].rpartition("/")[2] in outcome.detail


@pytest.mark.parametrize("context", ["", "[]", "{"])
def test_a_damaged_context_fails_the_attempt(bodies, context):
    """What cannot be read never raises into the slot."""
    bodies["x"] = lambda: pytest.fail("the body was called")
    outcome = run(replace(claimed(sample.do, "x"), context=context))
    assert outcome.end is End.FAILED


def test_context_variables_of_a_body_end_with_it(run_body):
    """What a body sets, activates or deactivates is not there for whoever comes next."""
    variable = contextvars.ContextVar("variable", default="untouched")

    def body():
        variable.set("set by the body")
        translation.activate("de")
        timezone.activate("Asia/Tokyo")
        return variable.get()

    before = (translation.get_language(), timezone.get_current_timezone_name())
    assert json.loads(run_body(body).result) == "set by the body"
    assert variable.get() == "untouched"
    assert (translation.get_language(), timezone.get_current_timezone_name()) == before
    assert json.loads(run_body(variable.get).result) == "untouched"


# --- task_started ---------------------------------------------------------------------------


def test_receivers_hear_of_the_start_before_the_body_runs(run_body, receive):
    """``task_started`` comes once, with a RUNNING result, before the body."""
    order = []
    receive(lambda sender, task_result, **_: order.append((sender.__name__, task_result.status)))
    run_body(lambda: order.append("body"))
    assert order == [("DatabaseBackend", TaskResultStatus.RUNNING), "body"]


def test_a_receiver_that_raises_changes_no_outcome(run_body, receive):
    """The body runs all the same."""

    def receiver(sender, task_result, **_):
        raise ValueError("a receiver's bug")

    receive(receiver)
    assert run_body(lambda: 5).end is End.SUCCEEDED


def test_a_receiver_that_exits_does_not_take_the_slot_with_it(run_body, receive):
    """sys.exit() in a receiver, which Django lets through, still ends in an outcome."""

    def receiver(sender, task_result, **_):
        raise SystemExit(3)

    receive(receiver)
    assert run_body(lambda: 5).end in {End.SUCCEEDED, End.FAILED}


def test_conclude_is_total(bodies):
    """For every reason and every kind of error, and for none, there is an outcome."""
    errors = [None, ValueError("no"), asyncio.CancelledError(), SystemExit(1)]
    errors += [reason("x") for reason in (Cancelled, Interrupted, LeaseLost, TaskTimeout)]
    for reason in (None, Cancelled, Interrupted, LeaseLost, TaskTimeout):
        for error in errors:
            made = bound(claimed(sample.do_in_time, "x"))
            if reason:
                made.handle.stop(reason)
            outcome = conclude(made, error=error)
            assert outcome.begun
            assert (outcome.end is End.SUCCEEDED) == (error is None and reason is not TaskTimeout)
            assert bool(outcome.exception) == (outcome.end is not End.SUCCEEDED)
