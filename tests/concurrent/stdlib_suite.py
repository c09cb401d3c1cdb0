"""Runs the standard library's own tests of its thread pool on ours, in place, and prints how each ended, as JSON.

A process of its own (``test_stdlib`` starts it), because it puts our classes where the tests find the standard
library's. The tests are those of the running Python: a package since 3.12, one module before.
"""

import concurrent.futures
import contextlib
import importlib
import io
import json
import pkgutil
import sys
import unittest

import django

django.setup()

from concurrent.futures import _base  # noqa: E402

from django_meanwhile.concurrent import ThreadPoolExecutor  # noqa: E402
from django_meanwhile.concurrent.threads.future import Future  # noqa: E402

SUITE = "test.test_concurrent_futures"
OURS = ("ThreadPool", "Future")
IN_A_CHILD = f"""
import sys
sys.path[:0] = {sys.path!r}
import django
django.setup()
import concurrent.futures, django_meanwhile.concurrent
concurrent.futures.ThreadPoolExecutor = django_meanwhile.concurrent.ThreadPoolExecutor
"""
"""Goes before the programs that the tests start."""


Bare = type("Future", (Future,), {"__init__": lambda self: Future.__init__(self, None, lambda: None, (), {}, None)})
"""Ours, made without arguments, as the tests make it; they compare its repr, too."""


def load():
    """Return the test cases that are about threads and futures; the others are about processes and interpreters."""
    concurrent.futures.ThreadPoolExecutor = concurrent.futures.thread.ThreadPoolExecutor = ThreadPoolExecutor
    concurrent.futures.Future = _base.Future = Bare
    suite = importlib.import_module(SUITE)
    names = [f"{SUITE}.{found.name}" for found in pkgutil.iter_modules(getattr(suite, "__path__", ()))]
    modules = [suite, *(importlib.import_module(name) for name in names if name.split(".")[-1].startswith("test_"))]
    for module in modules:
        adapt(module)
    cases = {case for module in modules for case in vars(module).values() if isinstance(case, type)}
    ours = [case for case in cases if issubclass(case, unittest.TestCase) and case.__name__.startswith(OURS)]
    return sorted(ours, key=lambda case: case.__name__)


def adapt(module):
    """Have its programs use our executor, and its look at the log find our logger."""
    if hasattr(module, "assert_python_ok"):
        theirs = module.assert_python_ok
        module.assert_python_ok = lambda flag, code, **env: theirs(
            flag,
            f"{IN_A_CHILD}\nexec({code!r}.replace('if 1:', 'if True:', 1))",
            DJANGO_SETTINGS_MODULE=SETTINGS,
            **env,
        )
    failing = getattr(module, "ThreadPoolFailingInitializerTest", None)
    if failing is not None:

        @contextlib.contextmanager
        def assert_logged(self, message):
            with self.assertLogs("django_meanwhile.concurrent", "CRITICAL") as seen:
                yield
            assert any(message in line for line in seen.output), seen.output

        failing._assert_logged = assert_logged


class Result(unittest.TextTestResult):
    """Keeps which tests there were."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen = []

    def startTest(self, test):  # noqa: N802 - unittest's name
        self.seen.append(test)
        super().startTest(test)

    def ends(self):
        """Return how each test ended, and why."""
        ends = {name_of(test): ["passed", ""] for test in self.seen}
        ends |= {name_of(test): ["skipped", reason] for test, reason in self.skipped}
        return ends | {name_of(test): ["failed", text] for test, text in [*self.errors, *self.failures]}


def name_of(test):
    """Return class and method; a part of a test counts for the whole."""
    return ".".join(getattr(test, "test_case", test).id().split(".")[-2:])


def run(tests):
    """Run them once."""
    return unittest.TextTestRunner(io.StringIO(), resultclass=Result, verbosity=0).run(unittest.TestSuite(tests))


if __name__ == "__main__":
    SETTINGS = sys.argv[1]
    result = run(unittest.defaultTestLoader.loadTestsFromTestCase(case) for case in load())
    print("\n" + json.dumps(result.ends()))
