"""Fork, the end of the interpreter, SIGTERM and reload: nothing hangs, nothing is lost in silence, no traceback."""

import signal

import pytest

from tests.concurrent.test_executor_connections import SETUP

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork")  # what these tests are about

FORK = """
import os, sys, time, traceback, warnings
warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork")
from django_meanwhile.concurrent.threads.executor import BrokenThreadPool

def forked(function):
    pid = os.fork()
    if pid == 0:
        try:
            function()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    deadline = time.monotonic() + 30
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        assert time.monotonic() < deadline, "the child hangs"
        time.sleep(0.005)
    assert os.waitstatus_to_exitcode(ended[1]) == 0
"""


def run(project, code, **options):
    """Run the script in the project; return how it ended."""
    return project.python(SETUP + FORK + code, **options)


def test_a_child_has_empty_pools_that_work_and_lets_go_of_its_parent_s_calls(bare_project):
    """Calls that the parent runs or queues fail in the child with a clear error; new ones run, in threads of its own.

    The parent notices nothing: its calls end, on their own connections.
    """
    done = run(
        bare_project,
        """
go, began = threading.Event(), threading.Barrier(3)

def wait():
    ask()
    began.wait(20)
    assert go.wait(20)
    return ask()

executor = ThreadPoolExecutor(2)
running = [executor.submit(wait) for _ in range(2)]
queued = [executor.submit(ask) for _ in range(3)]
began.wait(20)

def child():
    for future in running + queued:
        assert future.done()
        for ask_it in (future.result, future.exception):
            try:
                error = ask_it(timeout=10)
            except BrokenThreadPool as raised:
                error = raised
            assert "before this process was forked" in str(error), error
            assert "Submit it again here" in str(error)
    connection.close() if not IS_POSTGRESQL else None
    assert threads() == []
    assert [executor.submit(abs, -n).result(timeout=10) for n in range(5)] == list(range(5))
    assert executor.submit(ask).result(timeout=10) == 1
    assert default_executor().submit(ask).result(timeout=10) == 1
    executor.shutdown()

forked(child)
go.set()
assert [future.result(timeout=20) for future in running + queued] == [1] * 5
""",
    )
    assert "Traceback" not in done.stderr


def test_forks_at_any_moment_leave_no_lock_held(bare_project):
    """Forty forks while three threads submit, wait and end: in every child the pools work at once."""
    run(
        bare_project,
        """
stop = threading.Event()
executor = ThreadPoolExecutor(4, max_queued=5, idle=0.001)

def busy():
    while not stop.is_set():
        list(executor.map(abs, range(20)))
        ThreadPoolExecutor(2).submit(int)

callers = [threading.Thread(target=busy) for _ in range(3)]
for caller in callers:
    caller.start()
try:
    for _ in range(40):
        forked(lambda: [executor.submit(abs, -1).result(timeout=10), default_executor().submit(int).result(timeout=10)])
finally:
    stop.set()
    for caller in callers:
        caller.join()
""",
    )


def test_a_call_that_forks_ends_in_both_processes(bare_project):
    """The forking thread is all that the child has: it goes on with its call, not with the parent's session."""
    run(
        bare_project,
        """
executor = ThreadPoolExecutor(2)

def fork():
    before = session()
    def child():
        assert executor.submit(abs, -3).result(timeout=10) == 3
        assert connection.connection is None
        assert session() != before or not IS_POSTGRESQL
    forked(child)
    return before == session()

assert executor.submit(fork).result(timeout=30)
""",
    )


def test_the_end_of_the_program_waits_for_what_was_submitted_and_prints_nothing(bare_project):
    """As with the standard library's executor: calls that run and calls that wait are run to their end."""
    done = run(
        bare_project,
        """
executor = ThreadPoolExecutor(1)
def say(word):
    time.sleep(0.05)
    os.write(1, f"{word} {ask()}\\n".encode())
for word in ("one", "two", "three"):
    executor.submit(say, word)
default_executor().submit(say, "four")
""",
    )
    assert sorted(done.stdout.split("\n")) == ["", "four 1", "one 1", "three 1", "two 1"]
    assert done.stderr == ""


def test_idle_threads_never_delay_the_end(bare_project):
    """An hour of ``idle`` is no hour of waiting."""
    done = run(
        bare_project,
        """
executor = ThreadPoolExecutor(4, idle=3600)
list(executor.map(lambda _: ask(), range(20)))
default_executor().submit(ask).result()
""",
        within=30,
    )
    assert done.stderr == ""


def test_a_submit_after_the_end_has_begun_is_refused(bare_project):
    """In an atexit handler nobody would run it: RuntimeError, with the standard library's words."""
    done = run(
        bare_project,
        """
import atexit
executor = ThreadPoolExecutor(1)

@atexit.register
def too_late():
    for make in (lambda: executor, lambda: ThreadPoolExecutor(1)):
        try:
            make().submit(ask)
        except RuntimeError as error:
            print(error)
""",
    )
    assert done.stdout.splitlines() == ["cannot schedule new futures after interpreter shutdown"] * 2


def test_a_child_of_multiprocessing_runs_what_was_submitted_in_it_before_it_ends(bare_project):
    """Such a child leaves without atexit handlers; calls are run all the same."""
    done = run(
        bare_project,
        """
import multiprocessing
executor = ThreadPoolExecutor(1)
executor.submit(ask).result()

def work():
    executor.submit(lambda: [time.sleep(0.1), print("done", flush=True)])

child = multiprocessing.get_context("fork").Process(target=work)
child.start()
child.join(20)
assert child.exitcode == 0
""",
    )
    assert done.stdout == "done\n"


def test_ctrl_c_at_the_end_ends_the_program_at_once(bare_project):
    """A call that never ends holds up the end, as it must; the second signal ends that, and says what was left."""
    running = bare_project.start_python(
        SETUP
        + """
executor = ThreadPoolExecutor(1)
executor.submit(threading.Event().wait)
import signal, os
signal.signal(signal.SIGINT, signal.default_int_handler)
(thread,) = executor._threads
join = thread.join
thread.join = lambda: (print("ending", flush=True), join())  # not before: a signal would end the program otherwise
"""
    )
    running.wait_for("ending")
    running.send(signal.SIGINT)
    assert running.wait(20) == 0
    assert "not waiting for ThreadPoolExecutor-0_0" in running.log
    assert "Traceback" not in running.log
