"""docs/migrating/: names in the mapping tables exist here, code of the other packages compiles, moves can be undone.

The names of the other packages were checked by hand against the versions that the pages name; these packages are not
installed here. What stands under "after" is run by `test_docs`, like every example.
"""

import argparse
import ast
import inspect
import re
from dataclasses import fields

import pytest

import django_meanwhile
from django_meanwhile import TaskContext, TaskResult, compat, conf
from django_meanwhile.management.commands.meanwhile import Command
from django_meanwhile.management.subcommands import SUBCOMMANDS
from django_meanwhile.tasks import backend_checks, decorator
from django_meanwhile.tasks.task import Task

from .pages import DOCS, Page, code, page
from .site import Site

INDEX = page("migrating/index")
PAGES = [Page(path) for path in sorted((DOCS / "migrating").glob("*.md")) if path.name != "index.md"]
PACKAGES = {
    "django-tasks-db": {"django_tasks_db"},
    "celery": {"celery"},
    "django-q2": {"django_q"},
    "rq": {"rq", "django_rq"},
    "huey": {"huey"},
    "django-background-tasks": {"background_task"},
}
EXCEPTIONS = {"Retry", "TaskTimeout"}
SIGNALS = {"task_enqueued", "task_started", "task_finished"}
OTHERS = {'executor="process"', "runserver", "attempt", "AppConfig.ready()", "the same"}
each_page = pytest.mark.parametrize("each", PAGES, ids=lambda each: each.path.stem)


@pytest.fixture(params=["sqlite"], scope="module")
def _vendor_of_project(request: pytest.FixtureRequest) -> str:
    return request.param


def _worker_flags() -> set[str]:
    parser = Command().create_parser("manage.py", "meanwhile")
    subparsers = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return {flag for action in subparsers.choices["worker"]._actions for flag in action.option_strings}


def _attributes(owner: type) -> set[str]:
    return {each.name for each in fields(owner)} | set(dir(owner))  # type: ignore[arg-type]


def _exists(shown: str) -> bool:  # noqa: PLR0911 - one line for each kind of name
    """Say whether what stands in backticks on our side of a table is there, whatever kind of name it is."""
    if match := re.fullmatch(r"@task(?:\((\w+)=\S*\))?", shown):
        return match[1] is None or match[1] in decorator.KNOWN
    if match := re.fullmatch(r"\.using\((\w+)=\S*\)", shown):
        return match[1] in inspect.signature(Task.using).parameters
    if match := re.fullmatch(r"(task)?\.(\w+)\(.*\)", shown):
        return match[2] in _attributes(Task)
    if match := re.fullmatch(r"(result|context)\.(\w+)(\(.*\))?", shown):
        return match[2] in _attributes({"result": TaskResult, "context": TaskContext}[match[1]])
    if match := re.fullmatch(r"(--[\w-]+)( \S+)?", shown):
        return match[1] in _worker_flags()
    if match := re.fullmatch(r"meanwhile (\w+)", shown):
        return match[1] in {each.name for each in SUBCOMMANDS}
    if match := re.fullmatch(r"(MEANWHILE|OPTIONS)\[\"(\w+)\"\]", shown):
        return match[2] in (conf._SCHEMA if match[1] == "MEANWHILE" else backend_checks.KNOWN_OPTIONS)
    if match := re.fullmatch(r"raise (\w+)\(after=5\)", shown):
        return match[1] in EXCEPTIONS
    if shown in SIGNALS:
        return hasattr(compat, shown)
    bare = shown.partition("=")[0]
    return (
        shown in OTHERS
        or bare in decorator.KNOWN
        or shown in {"context", "run_after"}
        or hasattr(django_meanwhile, shown)
    )


@each_page
def test_names_on_our_side_exist(each: Page) -> None:
    """Whatever a mapping table says that a thing is called here is called that."""
    table = each.table("What is called how")
    assert table.head[1:] == ("here", "note")
    assert len(table.rows) > 10
    wrong = [shown for row in table.rows for shown in code(row[1]) if not _exists(shown)]
    assert not wrong


def test_a_name_that_is_not_ours_is_noticed() -> None:
    """The check of names refuses an option, a method, a flag, a setting and a command that do not exist."""
    made_up = (
        "@task(retries=3)",
        ".delay()",
        "result.get()",
        "--concurrency 8",
        'MEANWHILE["BEATS"]',
        "meanwhile purge",
    )
    assert not [shown for shown in made_up if _exists(shown)]


@each_page
def test_their_code_compiles_and_says_whose_it_is(each: Page) -> None:
    """Code for another package is Python, imports that package and no other, and says that it is not run."""
    blocks = [block for block in each.blocks() if block.language == "python" and block.not_run]
    assert blocks
    for block in blocks:
        tree = ast.parse(block.text)
        package = re.fullmatch(r"needs (\w+)", block.not_run)
        assert package, f"{block}: {block.not_run}"
        assert package[1] in PACKAGES[each.path.stem]
        names = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        foreign = {name.partition(".")[0] for name in names} - {"django", "datetime", "reports"}
        assert foreign <= PACKAGES[each.path.stem], f"{block}: {foreign}"


@each_page
def test_every_step_has_a_way_back(each: Page) -> None:
    """The steps are numbered without a gap, and each says how it is undone."""
    for table in (
        each.table("Step by step", "step", "do", "back"),
        INDEX.table("How every move goes", "step", "do", "back"),
    ):
        assert table.column("step") == [str(number) for number in range(1, len(table.rows) + 1)]
        assert len(table.rows) >= 7
        assert all(table.column("do"))
        assert all(table.column("back"))


@each_page
def test_a_page_is_dated_and_honest(each: Page) -> None:
    """It names the version and the month that it was written in, says what has no equivalent, and is short."""
    assert re.search(r"As of November 2026, [\w-]+ \d", each.text, re.IGNORECASE)
    assert "\n## No equivalent\n" in each.text
    assert len(each.text.splitlines()) <= 150


def test_the_index_leads_to_all() -> None:
    """Each page is linked from the index, and its code for the switch compiles."""
    linked = {target for _, target in INDEX.links()}
    assert {each.path.name for each in PAGES} <= linked
    for block in INDEX.blocks():
        if block.language == "python":
            compile(block.text, str(block), "exec")


def test_the_switch_and_the_command_work(site: Site) -> None:
    """MOVED decides where a call goes, and what cron calls enqueues one job."""
    site.use(INDEX)
    starters = next(block.text for block in INDEX.blocks() if block.not_run)
    site.write("reports/starters.py", starters)
    site.write("reports/old_tasks.py", "class send_invoice:\n    delay = staticmethod(lambda order: f'old {order}')\n")
    tasks = (site.path / "reports/tasks.py").read_text()
    site.write("reports/tasks.py", f"{tasks}\n\n@task\ndef send_invoice(order_id):\n    return order_id\n")
    say = "from reports import starters; print(starters.send_invoice(7))"
    assert site.python(say).stdout.strip() == "old 7"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOVED", "send_invoice another")
        assert "SENT" in site.python(say.replace("(7)", "(7).state.name.replace('READY', 'SENT')")).stdout
    site.manage("enqueue_nightly")
    site.manage("meanwhile", "worker", "--drain", "--processes", "1")
    rows = site.sql("SELECT task, result FROM meanwhile_job ORDER BY id")
    assert rows == [("reports.tasks.send_invoice", "7"), ("reports.tasks.nightly", '"cleaned up"')]


def test_jobs_stay_where_they_were_enqueued(site: Site) -> None:
    """From django-tasks-db: what a process with the new settings enqueued is done here; the others are not touched."""
    site.sql("DELETE FROM meanwhile_job")
    site.use(page("migrating/django-tasks-db"))
    site.write("mysite/settings.py", 'TASKS = {"default": {"BACKEND": "django.tasks.backends.dummy.DummyBackend"}}')
    new = ("--settings", "mysite.new_settings")
    code = "from reports.tasks import send_invoice; print(send_invoice.enqueue(7).id)"
    there = site.python(code).stdout.strip()
    here = site.manage("shell", "--verbosity", "0", *new, "-c", code).stdout.split()[-1]
    assert site.sql("SELECT count(*) FROM meanwhile_job") == [(1,)]
    assert there != here
    site.manage("meanwhile", "worker", "--drain", *new)
    assert "SUCCESSFUL" in site.manage("meanwhile", "show", here, *new).stdout


def test_a_call_does_not_enqueue(site: Site) -> None:
    """Whoever forgets `enqueue` when a call site is moved gets an error, not silence."""
    site.use(page("migrating/django-tasks-db"))
    done = site.python("from reports.tasks import send_invoice; send_invoice(7)", check=False)
    assert done.returncode == 1
    assert "TypeError" in done.stderr
