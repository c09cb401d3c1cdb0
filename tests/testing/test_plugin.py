"""The pytest plugin, in runs of pytest of its own: in a project that uses us, and in projects that do not."""

import os
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import django_meanwhile
from tests import watchdog

PACKAGE = Path(django_meanwhile.__path__[0]).parent
ROOT = Path(__file__).resolve().parents[2]

SETTINGS = """
SECRET_KEY = "x"
USE_TZ = True
INSTALLED_APPS = ["django_meanwhile", "shop"]
DATABASES = {"default": {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": "production.sqlite3",
    "OPTIONS": {"transaction_mode": "IMMEDIATE"},
    "TEST": {"NAME": "test.sqlite3"},
}}
TASKS = {"default": {"BACKEND": "django_meanwhile.backends.DatabaseBackend"}}
"""

TASKS = """
import os
from django_meanwhile import task

@task(max_attempts=2, backoff=lambda error, result: 60.0)
def ship(order):
    return [order, os.getpid()]
"""

TESTS = """
import os
import pytest
from django.db import connection
from django.test import TestCase
from shop.tasks import ship

def test_jobs(meanwhile_jobs):
    assert connection.in_atomic_block
    assert meanwhile_jobs.enqueued == []
    result = ship.enqueue(1)
    assert meanwhile_jobs.enqueued == [result]
    meanwhile_jobs.assert_enqueued(ship, [1], count=1)
    with meanwhile_jobs.fail(ship, KeyError):
        [done] = meanwhile_jobs.run(travel=True)
    assert (done.attempts, done.return_value) == (2, [1, os.getpid()])
    meanwhile_jobs.assert_not_enqueued(ship)
    meanwhile_jobs.captured.assert_enqueued(ship, count=1)

@pytest.mark.django_db(transaction=True)
def test_jobs_with_real_transactions(meanwhile_jobs):
    assert not connection.in_atomic_block
    ship.enqueue(2)
    assert len(meanwhile_jobs.run()) == 1

def test_a_real_worker(meanwhile_worker, meanwhile_jobs):
    result = ship.enqueue(3)
    result.wait(timeout=30)
    assert result.return_value[1] not in (os.getpid(), meanwhile_worker.pid)
    assert meanwhile_jobs.captured.assert_enqueued(ship)

@pytest.mark.meanwhile_worker(threads=0, coroutines=0, processes=1)
def test_a_worker_with_options(meanwhile_worker):
    result = ship.using(executor="process").enqueue(4)
    result.wait(timeout=30)

class TestTheClass(TestCase):
    def test_without_fixtures(self):
        from django_meanwhile.testing import assert_enqueued, run_jobs
        ship.enqueue(5)
        assert_enqueued(ship, [5])
        assert len(run_jobs()) == 1
"""


def python(path, *command, **env):
    base = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "PYTEST_"))}
    return subprocess.run(
        [sys.executable, "-W", "error", *command],
        cwd=path,
        env=base
        | watchdog.run_mark()
        | {"PYTHONPATH": os.pathsep.join([str(path), str(PACKAGE)]), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        | env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def run_pytest(path, *arguments, **env):
    return python(path, "-m", "pytest", "-q", "-p", "django_meanwhile.testing.plugin", *arguments, **env)


@pytest.fixture
def shop(tmp_path):
    """A project with an app and tests."""
    (tmp_path / "settings.py").write_text(SETTINGS)
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/__init__.py").touch()
    (tmp_path / "shop/tasks.py").write_text(TASKS)
    (tmp_path / "shop/test_shop.py").write_text(TESTS)
    return tmp_path


def test_the_fixtures_work_in_a_project(shop):
    """In one transaction, with real transactions, with a real worker and its options, and beside Django's TestCase."""
    done = run_pytest(shop, "-p", "pytest_django.plugin", "--strict-markers", "shop", DJANGO_SETTINGS_MODULE="settings")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout
    assert not (shop / "production.sqlite3").exists()


def test_djangos_own_runner_needs_no_pytest(shop):
    """``manage.py test`` runs the TestCase, on Django's in-memory or file database alike."""
    settings = SETTINGS.replace('"TEST": {"NAME": "test.sqlite3"},', "")
    (shop / "settings.py").write_text(settings)
    imports, _, tests = TESTS.replace("import pytest\n", "").partition("def test_jobs")
    (shop / "shop/test_shop.py").write_text(imports + tests[tests.index("class TestTheClass") :])
    done = python(shop, "-m", "django", "test", "shop", DJANGO_SETTINGS_MODULE="settings")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Ran 1 test" in done.stderr
    assert "OK" in done.stderr


def test_a_failed_job_is_readable_in_pytest(shop):
    """What a developer sees: the body's own line and error, the job and its arguments."""
    (shop / "shop/tasks.py").write_text(
        TASKS.replace("return [order", "raise LookupError('no such order')\n    [order")
    )
    (shop / "shop/test_shop.py").write_text(
        "from shop.tasks import ship\n"
        "def test_it(meanwhile_jobs):\n"
        "    ship.using(max_attempts=1).enqueue(7)\n"
        "    meanwhile_jobs.run()\n"
    )
    done = run_pytest(shop, "-p", "pytest_django.plugin", "shop", DJANGO_SETTINGS_MODULE="settings")
    assert done.returncode == 1
    for part in (
        "LookupError: no such order",
        "shop/tasks.py:7",
        "shop.tasks.ship(7) is FAILED: LookupError: no such order",
    ):
        assert part in done.stdout, done.stdout
    assert "jobs.py" not in done.stdout, "no frame of ours"


def test_a_memory_database_is_refused_for_a_worker(shop):
    """The usual test database of SQLite: the error says which line to write."""
    (shop / "settings.py").write_text(SETTINGS.replace('"TEST": {"NAME": "test.sqlite3"},', ""))
    done = run_pytest(
        shop, "-p", "pytest_django.plugin", "-k", "a_real_worker", "shop", DJANGO_SETTINGS_MODULE="settings"
    )
    assert done.returncode == 1
    assert 'DATABASES["default"]["TEST"] = {"NAME": BASE_DIR / "test.sqlite3"}' in done.stdout


def test_runs_without_django_are_left_alone(tmp_path):
    """A project without settings, without pytest-django: its tests run, and no Django is imported for them."""
    (tmp_path / "test_it.py").write_text(
        "import sys\n"
        "def test_it():\n"
        "    ours = [name for name in sys.modules if name.startswith('django_meanwhile.')]\n"
        "    assert set(ours) <= {'django_meanwhile.testing', 'django_meanwhile.testing.plugin'}\n"
        "    assert 'django' not in sys.modules\n"
    )
    done = run_pytest(tmp_path, "--strict-markers")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_plugin_is_announced():
    """The package's entry point leads to the plugin, so that a project has nothing to configure."""
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    assert points == {"django_meanwhile": "django_meanwhile.testing.plugin"}


def test_the_names_of_the_package_are_those_it_announces():
    """Every announced name can be had, is no module of that name, and importing the package imports no Django."""
    from django_meanwhile import testing
    from django_meanwhile.testing import jobs_of_a_test  # noqa: F401 - and with it all modules

    assert not [name for name in testing.__all__ if not hasattr(testing, name)]
    assert set(testing.__all__) == set(testing._HOMES)
    assert not set(testing.__all__) & {module.name for module in pkgutil.iter_modules(testing.__path__)}
    with pytest.raises(AttributeError, match="run_job'"):
        testing.run_job  # noqa: B018
    done = python(ROOT, "-c", "import sys, django_meanwhile.testing; assert 'django' not in sys.modules")
    assert done.returncode == 0, done.stderr
