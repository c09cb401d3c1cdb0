"""From a stored name to code, and never further than the project allows."""

import importlib
import sys
import threading
from types import ModuleType

import pytest

from django_meanwhile.core.errors import InvalidOption, UnknownTask
from django_meanwhile.tasks import registry as module
from django_meanwhile.tasks.registry import Registry, is_discovered, known_names, may_import
from django_meanwhile.tasks.task import Task

from .sample import plain, tasks


def one():
    """A function."""


def two():
    """Another."""


@pytest.fixture
def registry():
    """A registry that knows nothing yet."""
    return Registry()


@pytest.fixture
def app(tmp_path, monkeypatch):
    """Return a function that writes a module of a package ``freshapp``, which is importable."""
    package = tmp_path / "freshapp"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()

    def write(name, text):
        path = package / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        importlib.invalidate_caches()

    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] == "freshapp"]:
        del sys.modules[name]


@pytest.fixture
def installed(app, settings):
    """The same, as an installed app."""
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "freshapp"]
    return app


ONE_TASK = "from django_meanwhile import task\n@task\ndef f(): pass\n"


# --- filling --------------------------------------------------------------------------------


def test_registered_tasks_are_found(registry):
    """A task is found by its name and by each alias."""
    task = Task(func=one, name="one", aliases=("uno", "eins"))
    registry.register(task)
    assert {registry.resolve(name) for name in ("one", "uno", "eins")} == {task}


def test_a_reload_replaces(registry):
    """The same function again replaces itself, aliases that are gone included."""
    registry.register(Task(func=one, aliases=("old",)))
    newer = Task(func=one, aliases=("older",), priority=3)
    registry.register(newer)
    assert registry.resolve("older") is newer
    assert registry.resolve(newer.registered_name) is newer
    with pytest.raises(UnknownTask):
        registry.resolve("old")


def test_another_function_does_not_replace(registry):
    """A name that is taken stays with its function, and the refused one leaves no trace."""
    first = Task(func=one, name="shared")
    registry.register(first)
    with pytest.raises(InvalidOption, match=r"test_registry.two: name='shared': tests.tasks.test_registry.one has"):
        registry.register(Task(func=two, name="shared", aliases=("new",)))
    assert registry.resolve("shared") is first
    with pytest.raises(UnknownTask):
        registry.resolve("new")


def test_a_function_can_be_renamed(registry):
    """A renamed task is no longer known by its former name, unless as an alias."""
    registry.register(Task(func=one, name="before"))
    registry.register(Task(func=one, name="after", aliases=("before",)))
    assert registry.resolve("before").registered_name == "after"


# --- asking ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["os.system", "subprocess.run", "tests.elsewhere.f", "builtins.eval", "", ".", "..", "a b", "x" * 300, "é.f"],
)
def test_data_never_names_code(registry, name):
    """A name that leads outside installed apps imports nothing, and is unknown."""
    before = set(sys.modules)
    with pytest.raises(UnknownTask, match="no installed app registers it"):
        registry.resolve(name)
    assert {m for m in set(sys.modules) - before if not m.startswith(("tests.", "django_meanwhile"))} == set()


def test_what_is_no_task_is_unknown(registry):
    """A function, a class or a module inside an installed app is not run because a row names it."""
    for name in (
        "django_meanwhile.core.errors.Retry",
        "django_meanwhile.tasks.registry.may_import",
        "django.contrib.auth.authenticate",
        "tests.tasks.sample.tasks.add.func",
        "tests.tasks.sample.tasks._hidden.func",
        "tests.tasks.sample.tasks.nothing",
        "tests.tasks.sample.tasks",
    ):
        with pytest.raises(UnknownTask):
            registry.resolve(name)


def test_modules_of_installed_apps_are_imported_on_demand(registry, installed):
    """A task in any module of an installed app is found by its path, though nobody imported it."""
    installed("views", ONE_TASK)
    assert registry.resolve("freshapp.views.f").module_path == "freshapp.views.f"


def test_modules_of_other_packages_are_not(registry, app):
    """The same module outside installed apps is not imported."""
    app("views", ONE_TASK)
    with pytest.raises(UnknownTask):
        registry.resolve("freshapp.views.f")
    assert "freshapp.views" not in sys.modules


def test_listed_modules_are_imported(registry, app, settings):
    """``TASK_MODULES`` opens a module, and what lies below it, without an app."""
    settings.MEANWHILE = {"TASK_MODULES": ["freshapp.jobs"]}
    app("jobs", ONE_TASK)
    app("other", ONE_TASK)
    assert registry.resolve("freshapp.jobs.f").name == "f"
    with pytest.raises(UnknownTask):
        registry.resolve("freshapp.other.f")


def test_autodiscovery(installed, settings):
    """Every app's ``tasks`` and every listed module is imported, so that names of their own are known."""
    installed("tasks", "from django_meanwhile import task\n@task(name='fresh')\ndef f(): pass\n")
    settings.MEANWHILE = {"TASK_MODULES": ["tests.tasks.sample.tasks"]}
    module.autodiscover()
    assert module.resolve("fresh").module_path == "freshapp.tasks.f"
    assert {"fresh", "sample.report", "sample.old_report", "tests.project.tasks.add"} <= known_names()


def test_an_unknown_name_is_looked_for_once(installed, monkeypatch):
    """A name without a module is answered by one autodiscovery; later unknown names cost no import."""
    installed("tasks", "from django_meanwhile import task\n@task(name='fresh2')\ndef f(): pass\n")
    fresh = Registry()
    monkeypatch.setattr("django_meanwhile.tasks.decorator.register", fresh.register)
    assert fresh.resolve("fresh2").module_path == "freshapp.tasks.f"
    monkeypatch.setattr(module, "import_module", None)
    with pytest.raises(UnknownTask):
        fresh.resolve("fresh3")


def test_a_module_that_does_not_import_is_unknown(registry, installed):
    """A module with a mistake makes its tasks unknown for now, with the mistake as the cause."""
    installed("tasks", "1/0")
    with pytest.raises(UnknownTask, match="importing its module failed: ZeroDivisionError") as caught:
        registry.resolve("freshapp.tasks.f")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        registry.autodiscover()


def test_a_tasks_module_of_another_queue_that_is_not_installed_is_left_out(registry, installed, settings):
    """An app's tasks for Celery keep no worker from starting; once the module imports us, or is listed, it counts."""
    celery = "from celery_of_nobody import shared_task\n"
    installed("tasks", celery)
    registry.autodiscover()
    assert "tests.project.tasks.add" in registry.known_names()
    settings.MEANWHILE = {"TASK_MODULES": ["freshapp.tasks"]}
    with pytest.raises(ModuleNotFoundError):
        registry.autodiscover()
    settings.MEANWHILE = {}
    installed("tasks", celery + "from django_meanwhile import task\n")
    with pytest.raises(ModuleNotFoundError):
        registry.autodiscover()


def test_known_names_survives_a_broken_module(registry, installed, caplog):
    """Whoever only asks for names gets those that can be had, and a line in the log."""
    installed("tasks", "1/0")
    registry.register(Task(func=one, name="one"))
    assert "one" in registry.known_names()
    assert "a module of tasks cannot be imported: ZeroDivisionError" in caplog.text


def test_a_missing_import_inside_a_module_is_not_a_missing_module(registry, installed):
    """A module that lacks a dependency is reported as such."""
    installed("tasks", "import no_such_package_anywhere")
    with pytest.raises(UnknownTask, match="no_such_package_anywhere"):
        registry.resolve("freshapp.tasks.f")


def test_tasks_of_djangos_decorator_are_found(registry):
    """A plain task is found by its path and is ours, with default options."""
    task = registry.resolve("tests.tasks.sample.plain.plain")
    assert isinstance(task, Task)
    assert task.func is plain.plain.func
    assert (task.max_attempts, task.executor) == (1, "thread")


def test_looking_for_tasks_evaluates_nothing(registry, installed):
    """A lazy object of the module stays lazy: it may stand for a query."""
    installed(
        "views",
        ONE_TASK + "from django.utils.functional import SimpleLazyObject\nlazy = SimpleLazyObject(lambda: 1 / 0)",
    )
    assert registry.resolve("freshapp.views.f").name == "f"


def test_tasks_in_classes_are_found(registry):
    """A static method is found by its qualified name."""
    assert registry.resolve("tests.tasks.sample.tasks.Holder.inner").func is tasks.Holder.inner.func


def test_a_task_under_another_name_of_its_module_is_found(registry):
    """``shown = task(_hidden)`` is found by the path of its function."""
    assert registry.resolve("tests.tasks.sample.tasks._hidden") is tasks.shown


def test_many_threads_resolve_and_register(registry):
    """Asking and registering from many threads at once neither fails nor loses a task."""
    made = [Task(func=one, name="many", aliases=tuple(f"a{n}" for n in range(k))) for k in range(20)]
    failures = []

    def work():
        try:
            for task in made * 20:
                registry.register(task)
                assert registry._tasks["many"].func is one
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# --- what workers can find ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "importable", "discovered"),
    [
        ("tests.project.tasks", True, True),
        ("tests.project.tasks.mail", True, True),
        ("tests.project.views", True, False),
        ("tests.project", True, False),
        ("tests.projects", False, False),
        ("tests.tasks.sample.tasks", True, True),
        ("tests.tasks.sample", True, True),
        ("tests.tasks.sampler", False, False),
        ("__main__", False, False),
        ("os", False, False),
    ],
)
def test_reach(name, importable, discovered):
    """Installed apps and listed modules may be imported; their tasks modules are, by every worker."""
    assert may_import(name) is importable
    assert is_discovered(name) is discovered


def test_names_are_not_modules(registry, monkeypatch):
    """A namespace that imports something else under a dotted name is not followed."""
    fake = ModuleType("tests.project.fake")
    fake.f = Task(func=one)
    monkeypatch.setitem(sys.modules, "tests.project.fake", fake)
    with pytest.raises(UnknownTask):
        registry.resolve("tests.project.fake.g")
