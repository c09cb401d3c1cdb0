"""The pages on testing: each example is a test that passes in the README's project, each table is true."""

import inspect
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from django_meanwhile import JobState, testing
from django_meanwhile.core.errors import MeanwhileError
from django_meanwhile.testing import conformance
from django_meanwhile.testing.conformance.base import Conformance
from django_meanwhile.testing.jobs_of_a_test import JobsOfATest
from tests.docs.pages import code, page
from tests.docs.site import make_site

HOW_TO, REFERENCE = page("how-to/testing"), page("reference/testing")


@pytest.fixture
def site(bare_project):
    """The README's project with the files of the page, its test database in a file."""
    if bare_project.vendor == "sqlite":
        bare_project.database["TEST"] = {"NAME": str(bare_project.path / "test.sqlite3")}
    site = make_site(bare_project)
    (site.path / "reports/tests.py").unlink()
    site.use(HOW_TO)
    return site


@pytest.mark.slow
def test_the_examples_are_tests_that_pass(site):
    """Django's runner and pytest run every test of the page, in the project that the README makes."""
    shown = sum(text.count("    def test_") + text.count("    async def test_") for text in HOW_TO.files().values())
    done = site.manage("test", "--noinput", check=False, within=240)
    assert done.returncode == 0, done.stdout + done.stderr
    ours = [name for suite in (conformance.BackendConformance, conformance.QueueConformance) for name in dir(suite)]
    run = shown + len({name for name in ours if name.startswith("test_")})
    assert f"Ran {run} tests" in done.stderr, done.stderr
    again = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "pytest_django.plugin", "-p", "django_meanwhile.testing.plugin",
         "--create-db", "reports"],
        cwd=site.path,
        env=site.env | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stdout + again.stderr
    passed, skipped = map(int, re.search(r"(\d+) passed, (\d+) skipped", again.stdout).groups())
    assert passed + skipped == run + 1, "all of them, and the one that is written for pytest"


def test_the_table_of_names_is_complete_and_exact():
    """Every public name stands in the reference with the signature that it has."""
    told = [code(cell)[0] for cell in REFERENCE.table("Names").column("name")]
    twins = {"arun_jobs", "aassert_enqueued", "aassert_not_enqueued"}
    classes = {name for name in testing.__all__ if inspect.isclass(getattr(testing, name))}
    assert {text.partition("(")[0] for text in told} == set(testing.__all__) - twins - classes
    for text in told:
        name = text.partition("(")[0]
        signature = inspect.signature(getattr(testing, name), eval_str=False)
        bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
        assert text == f"{name}{inspect.Signature(bare)}"
    assert all(f"`{twin}`" in REFERENCE.text for twin in twins)


def test_the_other_tables_are_complete():
    """Errors, parameters, members, fixtures' methods, suites and attributes are those of the code."""
    errors = {n for n in testing.__all__ if inspect.isclass(c := getattr(testing, n)) and issubclass(c, MeanwhileError)}
    assert {code(cell)[0] for cell in REFERENCE.table("Errors").column("error")} == errors
    parameters = set(inspect.signature(testing.run_jobs).parameters) - {"backend"}
    assert {
        code(cell)[0] for cell in REFERENCE.table("What run_jobs does", "parameter").column("parameter")
    } == parameters
    members = {name for name in vars(testing.RunningWorker) if not name.startswith("_")} - {
        "check",
        "close",
        "wait_until_ready",
    }
    told = {code(cell)[0].partition("(")[0] for cell in REFERENCE.table("A real worker").column("member")}
    assert told == members
    methods = {name for name in vars(JobsOfATest) if not name.startswith("_")}
    gives = REFERENCE.table("The pytest plugin").column("gives")[0]
    assert methods - {"aassert_enqueued", "aassert_not_enqueued"} | {"captured"} == set(code(gives))
    suites = {code(cell)[0] for cell in REFERENCE.table("Conformance", "suite").column("suite")}
    assert suites == set(conformance.__all__)
    table = REFERENCE.table("Conformance", "attribute")
    told = {code(a)[0]: code(d)[0] for a, d in zip(table.column("attribute"), table.column("default"), strict=True)}
    real = {name: repr(value) for name, value in vars(Conformance).items() if isinstance(value, bool | str | None)}
    assert told == {name: value for name, value in real.items() if not name.startswith("_")}


def test_the_failure_that_is_shown_is_the_real_one():
    """The example of a failed assertion is what the assertion prints."""
    from django_meanwhile.testing.wanted import Seen, Wanted, complaint

    seen = Seen(
        id="x",
        task="reports.tasks.generate_report",
        args=[{"name": "John", "age": 30}],
        kwargs={},
        queue="default",
        priority=0,
        state="READY",
    )
    wanted = Wanted(frozenset({seen.task}), [{"name": "Jane", "age": 30}])
    shown, _ = (block.text for block in HOW_TO.blocks() if block.language == "text")
    assert shown == f"AssertionError: {complaint(wanted, [seen], [], None, 'queued')}"


def test_the_failed_job_that_is_shown_is_the_real_one():
    """The example of a failed job is the message of the error."""
    result = SimpleNamespace(
        id="0190d2a4-7c1e-7b3a-9d55-0242ac120002",
        task=SimpleNamespace(registered_name="reports.tasks.generate_report", max_attempts=1),
        state=JobState.FAILED,
        args=[{"name": "John"}],
        kwargs={},
        attempts=1,
        errors=[],
    )
    _, shown = (block.text for block in HOW_TO.blocks() if block.language == "text")
    assert shown == f"JobFailed: {testing.JobFailed.of(result, [result], KeyError('age'))}"
