"""Every example of the README and of `docs/` runs, every command is one, every link leads somewhere."""

import ast
import configparser
import json
import re
import shlex
import sys
import tomllib
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from tests.playground import eventually
from tests.ports import free_port

from .pages import ARCHITECTURE, DOCS, PAGES, README, ROOT, Block, Page, page
from .site import Site

LANGUAGES = {"python", "console", "ini", "sql", "text", "yaml", "dockerfile"}  # the last two: test_howto_services
BLOCKS = [block for each in PAGES for block in each.blocks() if not block.not_run]
TUTORIAL = page("tutorial")  # has a test of its own
PYTHON_PAGES = [
    each
    for each in PAGES
    if each.path != TUTORIAL.path
    and any(
        block.language == "python" and not (block.file or "").startswith("proofs/")  # test_threads
        for block in each.blocks()
    )
]
MANAGE = "python manage.py "


def _named(values: list[Any]) -> list[Any]:
    return [pytest.param(value, id=str(getattr(value, "name", value))) for value in values]


def _commands() -> list[tuple[Block, str]]:
    return [(block, command) for block in BLOCKS if block.language == "console" for command in block.commands]


# --- the README ---------------------------------------------------------------------------------


def test_the_first_screen_has_two_commands() -> None:
    """The README begins with `make demo` and `make test`, nothing else to type, and the Makefile has both targets."""
    assert README.blocks()[0].commands == ["make demo", "make test"]
    assert README.text.index("make test") < 1000
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test"} <= targets


def test_the_readme_works_to_the_letter(site: Site) -> None:
    """Who follows the README and starts runserver has a view that answers 202, and the report: no worker to start."""
    site.use(README)
    port = free_port()
    server = site.start("runserver", f"127.0.0.1:{port}")
    server.wait_for("Quit the server")

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/start/") as answer:
        assert answer.status == 202
        text = answer.read().decode()
    assert text.startswith("Report generation started: ")
    job = text.rpartition(" ")[2]

    def report() -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/report/{job}/") as answer:
            found = json.load(answer)
        return found if found["state"] in {"SUCCESSFUL", "FAILED"} else None

    found = eventually(report, within=60, what="the report is there")
    assert found["state"] == "SUCCESSFUL", server.log
    assert found["percent"] == 100
    assert found["report"]["name"] == "John"
    assert site.manage("meanwhile", "status").returncode == 0, "nothing is wrong while a worker lives"
    site.kill_everything()  # the process that runserver reloads, too: it would do the jobs of the next tests


def test_the_readmes_parallel_view_answers(site: Site) -> None:
    """The view of the README with three queries at once answers with what the database holds."""
    site.use(README)
    code = (
        "from django.contrib.auth.models import Group, User; from django.test import RequestFactory\n"
        "from reports.overview import overview\n"
        "User.objects.create_user('john'); Group.objects.create(name='staff')\n"
        "print(overview(RequestFactory().get('/')).content.decode())"
    )
    found = json.loads(site.python(code).stdout)
    assert (found["users"], len(found["newest"]), found["groups"]) == (1, 1, 1)


# --- blocks -------------------------------------------------------------------------------------


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    """A block is Python, console, ini, SQL, or text that nobody types; one that is left out says why."""
    unknown = [
        f"{block} ({block.language or 'no language'})"
        for each in PAGES
        for block in each.blocks()
        if block.language not in LANGUAGES
    ]
    assert not unknown, f"give the block a language, one of {sorted(LANGUAGES)}: {unknown}"
    unexplained = [str(block) for each in PAGES for block in each.blocks() if block.not_run and len(block.not_run) < 10]
    assert not unexplained


@pytest.mark.parametrize("each", _named(PYTHON_PAGES))
def test_python_examples_run(site: Site, each: Any) -> None:
    """A page's files fit into the README's project, its snippets run there, and so do the jobs that they enqueue."""
    site.sql("DELETE FROM meanwhile_job")  # an earlier page's retry that comes due now is none of this page's
    site.use(each)
    modules = [name.removesuffix(".py").replace("/", ".") for name in each.files() if name.startswith("reports/")]
    snippets = [
        block.text for block in each.blocks() if block.language == "python" and not block.file and not block.not_run
    ]
    imports = [f"import {module}" for module in modules]
    check = "from django.core.management import call_command; call_command('check', fail_level='ERROR')"
    site.python("\n".join([*imports, check, *(f"exec({snippet!r}, {{}})" for snippet in snippets)]))
    if snippets:
        site.manage("meanwhile", "worker", "--drain")
        assert "FAILED" not in site.states(), site.failures()
        assert not {"READY", "RUNNING"} & set(site.states())
    for name in each.files():
        if name.startswith("mysite/") and name.endswith("_settings.py"):
            site.manage("check", "--settings", name.removesuffix(".py").replace("/", "."))


@pytest.mark.slow
def test_settings_examples_are_accepted(site: Site) -> None:
    """Each example for the settings, alone, passes Django's checks and ours; with all of them a worker starts."""
    site.manage("migrate", "meanwhile", "--database", "reports", "--verbosity", "0")  # of a page on several databases
    for each in PAGES:
        for block in each.blocks() if each.path != TUTORIAL.path else ():
            if block.file == "mysite/settings.py" and not block.not_run:
                site.use(README)
                for name, text in each.files().items():  # what the settings name
                    if name.startswith("mysite/") and not name.endswith(("settings.py", "urls.py")):
                        site.write(name, text)
                site.write(block.file, block.text)
                for status, output in site.manage_all([["check"], ["meanwhile", "check"]]):
                    assert status == 0, f"{block}\n{output}"
    site.use(page("reference/settings"))
    assert site.manage("meanwhile", "worker", "--drain").returncode == 0


def test_every_python_file_of_an_example_is_named_in_it() -> None:
    """A block that defines something says which file it is, so that the reader knows where it belongs."""
    homeless = [
        str(block)
        for block in BLOCKS
        if block.language == "python"
        and not block.file
        and any(
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            for node in ast.parse(block.text).body
        )
    ]
    assert not homeless, f"begin with a comment such as # reports/tasks.py: {homeless}"


MANAGE_PAGES = [
    each
    for each in PAGES
    if each.path != TUTORIAL.path
    and any(command.startswith(MANAGE) for block in each.blocks() for command in block.commands)
]


@pytest.mark.slow
@pytest.mark.parametrize("each", _named(MANAGE_PAGES))
def test_manage_commands_run(site: Site, each: Any) -> None:
    """Each `manage.py` line of a page does what it is there for. (A worker is started by the README's test.)"""
    site.use(README if each is README else page("reference/settings"))  # with the queues that are used in the examples
    jobs = site.jobs()
    commands = []
    for block, command in _commands():
        if block.page == each.name and command.startswith(MANAGE):
            words = shlex.split(command.removeprefix(MANAGE))
            words = [jobs[words[1]] if word == "JOB" else word for word in words]
            if words[:2] == ["meanwhile", "worker"]:
                _plan(words)
            elif words[0] not in {"runserver", "serve"}:  # the README's test and the tutorial's; test_howto_serve
                commands.append(words)
    for words, (status, output) in zip(commands, site.manage_all(commands), strict=True):
        expected = {0, 1} if "status" in words else {0}  # status 1: something is wrong, which is its answer
        assert status in expected, f"{words}: {status}\n{output}"


def _plan(words: list[str]) -> None:
    """Go as far as a worker goes before it starts processes."""
    from django_meanwhile.management.backends import choose_backend
    from django_meanwhile.management.commands.meanwhile import Command
    from django_meanwhile.management.subcommands.worker import plan_of

    options = vars(Command().create_parser("manage.py", "meanwhile").parse_args(words[1:]))
    backend = options["backend"] if options["backend"] in settings.TASKS else None  # one of the page's own
    assert plan_of(choose_backend(backend), options).executors


def test_other_commands_are_real() -> None:
    """What else a reader is told to type: targets of the Makefile, the package under its own name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for block, command in _commands():
        if block.page == TUTORIAL.name:
            continue
        match shlex.split(command):
            case ["make", *words]:
                assert {word for word in words if "=" not in word} <= targets, f"{block}: {command}"
            case ["pip", "install", name]:
                base, _, extra = name.partition("[")
                assert base == project["name"], f"{block}: {command}"
                assert not extra or extra.rstrip("]") in project["optional-dependencies"], f"{block}: {command}"
            case ["python", "manage.py", *_]:
                pass  # test_manage_commands_run
            case ["python", script]:
                assert script in Page(ROOT / block.page).files(), f"{block}: {command}"  # test_threads
            case ["honcho" | "docker", *_]:
                pass  # test_howto_services
            case ["gunicorn" | "uvicorn" | "granian", *_]:
                pass  # test_howto_servers
            case _:
                pytest.fail(f"{block}: nobody checks {command!r}")


def test_the_unit_file_is_right() -> None:
    """The systemd unit starts the worker with flags that exist, and waits longer than a worker takes to end."""
    from django_meanwhile.conf import Settings
    from django_meanwhile.management.commands.meanwhile import Command
    from django_meanwhile.worker.supervisor import SETTLE_WITHIN

    units = [
        block for block in BLOCKS if block.language == "ini" and re.search(r"\nExecStart=.*\bmeanwhile ", block.text)
    ]
    assert units
    for block in units:
        unit = configparser.ConfigParser(strict=True)
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read_string(block.text)
        words = shlex.split(unit["Service"]["ExecStart"])
        assert words[:3][-1] == "meanwhile" or words[1:3] == ["manage.py", "meanwhile"]
        options = Command().create_parser("manage.py", "meanwhile").parse_args(words[3:])
        assert options.subcommand == "worker"
        settings = Settings()
        parts = 4  # beat, upkeep, listener, herald: each is waited for that long, and so is the settling before
        longest = settings.grace + settings.stop_grace + SETTLE_WITHIN * (1 + parts)
        assert float(unit["Service"]["TimeoutStopSec"]) > longest


def test_sql_is_accepted(site: Site) -> None:
    """Statements that an operator is told to run are accepted by PostgreSQL, for which they are."""
    statements = [block.text for block in BLOCKS if block.language == "sql"]
    assert statements
    for statement in statements if site.vendor == "postgresql" else ():
        site.sql(statement)


# --- links and names ----------------------------------------------------------------------------


@pytest.mark.parametrize("each", _named(PAGES))
def test_links_lead_somewhere(each: Any) -> None:
    """Each link inside the repository names a file that is there and, after #, a heading in it."""
    broken = []
    for line, target in each.links():
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (each.path.parent / name).resolve() if name else each.path
        anchors = next((other.anchors() for other in PAGES if other.path == path), set())
        if not path.exists() or (anchor and anchor not in anchors):
            broken.append(f"{each.name}:{line}: {target}")
    assert not broken


def test_pictures_are_there_and_described() -> None:
    """Each picture of a page is a file of `docs/images`, with a text for those who cannot see it."""
    shown = [
        (each, text, target)
        for each in PAGES
        for _, line in each.prose()
        for text, target in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", line)
    ]
    assert shown
    for each, text, target in shown:
        assert (each.path.parent / target).resolve().parent == DOCS / "images", f"{each.name}: {target}"
        assert (each.path.parent / target).is_file(), f"{each.name}: {target}"
        assert len(text) > 20, f"{each.name}: {target}: say what it shows"


def test_every_page_is_in_the_index() -> None:
    """Who opens `docs/index.md` finds every page, at most over the index of its kind, and the README leads there."""

    def linked(index: Page) -> set[Path]:
        return {(index.path.parent / target.partition("#")[0]).resolve() for _, target in index.links()}

    found = linked(page("index"))
    for path in [path for path in found if path.name == "index.md" and DOCS in path.parents]:
        found |= linked(Page(path))
    missing = [each.name for each in PAGES if DOCS in each.path.parents and each.path not in found]
    assert not [name for name in missing if name != "docs/index.md" and not name.startswith("docs/project/")]
    assert "docs/index.md" in {target for _, target in README.links()}


def test_the_architecture_is_short_and_true() -> None:
    """ARCHITECTURE.md has at most 150 lines, names every module of core and worker, and none that is not there."""
    assert len(ARCHITECTURE.text.splitlines()) <= 150
    tree = next(block.text for block in ARCHITECTURE.blocks() if "core/   " in block.text and "states.py" in block.text)
    package = ROOT / "src/django_meanwhile"
    known = {path.name for path in package.rglob("*.py")}
    named = set(re.findall(r"\b(\w+\.py)\b", tree))
    assert not named - known - {"manage.py"}
    missing = {
        f"{folder}/{path.name}"
        for folder in ("core", "worker")
        for path in (package / folder).glob("*.py")
        if path.name not in named | {"__init__.py"}
    }
    assert not missing
    top = {path.name for path in package.iterdir() if path.name != "__pycache__"}
    unnamed = {name for name in top if name.removesuffix(".py") not in tree + ARCHITECTURE.text}
    assert not unnamed - {"py.typed", "static", "templates", "migrations"}


def test_the_readme_names_what_is_tested() -> None:
    """The versions that the README calls tested are those that CI runs; 3.14 and other systems are called untested."""
    ci = (ROOT / ".ci/run").read_text()
    tested = README.table("Requirements", "", "tested", "untested")
    cells = dict(
        zip(tested.column(""), zip(tested.column("tested"), tested.column("untested"), strict=True), strict=True)
    )
    combinations = re.findall(r"^combination (\S+) (\S+) (\S+)$", ci, re.MULTILINE)
    pythons, djangos, servers = (set(values) for values in zip(*combinations, strict=True))
    assert pythons | {"3.13"} == set(re.findall(r"3\.\d+", cells["Python"][0]))
    assert djangos | {"6.1"} == set(re.findall(r"\d\.\d", cells["Django"][0]))
    assert servers == set(re.findall(r"\b1\d\b", cells["database"][0].partition("PostgreSQL")[2]))
    assert "3.14" in cells["Python"][1]
    assert "Windows" in cells["system"][1]
    assert "macOS" in cells["system"][1]


def test_pages_use_our_words() -> None:
    """The pages say job, task, worker and child; words that mean the same elsewhere do not occur."""
    foreign = re.compile(
        r"\b(master process|worker node|reaper|heartbeat|dead letter|visibility timeout)\b",
        re.IGNORECASE,
    )
    found = [
        f"{each.name}:{line}: {match.group()}"
        for each in PAGES
        for line, text in each.prose()
        if (match := foreign.search(text))
    ]
    assert not found


def test_the_scratch_project_is_outside_the_repository(site: Site) -> None:
    """Running the examples leaves nothing in the repository."""
    assert ROOT not in Path(site.path).parents
    assert sys.dont_write_bytecode or not (ROOT / "reports").exists()
