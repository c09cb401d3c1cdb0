"""The standard library's own tests of its thread pool, run on ours."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.concurrent import stdlib_suite

ROOT = Path(__file__).resolve().parent.parent.parent

DOES_NOT_APPLY: dict[str, str] = {}
"""Test: why ours is to behave in another way."""

LUCK = {
    "ThreadPoolExecutorTest.test_idle_thread_reuse": "demands that a thread is idle again at the very moment that its "
    "result is known, which the scheduler decides, there as here; test_executor has what can be demanded",
}
"""Test: why it may end either way."""

SETTINGS = """
SECRET_KEY = "tests"
INSTALLED_APPS = ["django_meanwhile"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
"""

AT_LEAST = {
    "FutureTests.test_cancel",
    "ThreadPoolAsCompletedTest.test_no_timeout",
    "ThreadPoolExecutorTest.test_map_exception",
    "ThreadPoolFailingInitializerTest.test_initializer",
    "ThreadPoolInitializerTest.test_initializer",
    "ThreadPoolShutdownTest.test_interpreter_shutdown",
    "ThreadPoolWaitTests.test_first_exception",
}
"""One of each kind, so that none goes missing."""


@pytest.mark.slow
def test_the_executor_passes_the_tests_of_the_standard_library_s_own(tmp_path):
    """What holds of concurrent.futures.ThreadPoolExecutor and its futures holds of ours, bar what is listed above."""
    if find_spec("test") is None or find_spec("test.test_concurrent_futures") is None:
        pytest.skip("this Python was installed without the standard library's tests")
    (tmp_path / "suite_settings.py").write_text(SETTINGS)
    done = subprocess.run(
        [sys.executable, stdlib_suite.__file__, "suite_settings"],
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "suite_settings",
            "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT), str(ROOT / "src")]),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ends = json.loads(done.stdout.splitlines()[-1])
    assert not LUCK.keys() - ends.keys(), "listed, but not there any more"
    failed = {name: text for name, (end, text) in ends.items() if end == "failed" and name not in LUCK}
    print(*(f"{name}: skipped by itself: {text}" for name, (end, text) in ends.items() if end == "skipped"), sep="\n")
    assert not AT_LEAST - ends.keys(), "not found"
    assert not DOES_NOT_APPLY.keys() - ends.keys(), "listed, but not there any more"
    assert not DOES_NOT_APPLY.keys() - failed.keys(), "listed, but it passes now"
    unexpected = {name: text for name, text in failed.items() if name not in DOES_NOT_APPLY}
    assert not unexpected, "\n".join(f"{name}\n{text}" for name, text in unexpected.items())
