"""System checks: each problem with its id, and a hint that names the line to write."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.core import checks as django_checks
from django.core.management import CommandError, call_command
from django.db import connections

from django_meanwhile import checks
from django_meanwhile.checks import databases

from .conftest import BACKEND

DUMMY = "tests.surfaces.test_checks.NotOurs"


class NotOurs:
    """A backend of somebody else's."""

    def __init__(self, alias, params):
        self.options = {}

    def check(self, **_):
        """Find nothing."""
        return []


def _found(*, deploy=False):
    messages = django_checks.run_checks(tags=[checks.TAG], include_deployment_checks=deploy)
    assert all(message.hint for message in messages)
    return {message.id: message for message in messages}


@pytest.fixture
def sqlite(settings):
    """Change the settings of the connection "default", and put them back."""
    settings.TASKS = {"default": {"BACKEND": BACKEND}}
    database = connections["default"].settings_dict
    before = {"NAME": database["NAME"], "OPTIONS": database["OPTIONS"]}
    yield database
    database.update(before)


def test_a_sound_project_has_no_problem():
    """The settings of these tests are sound."""
    assert _found() == {}


def test_every_id_stands_in_the_table():
    """The module's docstring lists each id that it uses, once, and no other."""
    source = "".join(path.read_text(encoding="utf-8") for path in Path(checks.__file__).parent.glob("*.py"))
    listed = re.findall(r"^``(meanwhile\.[EW]\d{3})``", checks.__doc__, re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == set(re.findall(r'id="(meanwhile\.[EW]\d{3})"', source)) | {"meanwhile.E001"}


def test_e001_each_mistake_in_the_settings(settings):
    """With the mend of conf as the hint."""
    settings.MEANWHILE = {"LAESE": 3}
    assert _found()["meanwhile.E001"].hint == 'Did you mean "LEASE"?'


def test_w001_installed_but_not_used(settings):
    """No backend of ours: the two lines of the installation are half done."""
    settings.TASKS = {"default": {"BACKEND": DUMMY}}
    assert (
        'TASKS = {"default": {"BACKEND": "django_meanwhile.backends.DatabaseBackend"}}'
        in _found()["meanwhile.W001"].hint
    )


def test_a_backend_that_cannot_be_imported_is_left_to_django(settings):
    """Our checks do not break on somebody else's mistake."""
    settings.TASKS = {"default": {"BACKEND": BACKEND}, "broken": {"BACKEND": "no.such.Backend"}}
    assert _found() == {}


def test_a_backend_with_broken_options_is_left_to_its_own_check(settings):
    """Options that are no dictionary, or an alias that is none, break no check of ours; the backend names both."""
    settings.TASKS = {
        "default": {"BACKEND": BACKEND, "OPTIONS": "default"},
        "away": {"BACKEND": BACKEND, "QUEUES": ["x"], "OPTIONS": {"DATABASE": "awya"}},
    }
    assert set(_found()) == set()
    with pytest.raises(CommandError, match=r"(?s)must be a dictionary.*'awya'"):
        call_command("check")


@pytest.mark.parametrize("options", [{}, {"transaction_mode": "DEFERRED"}, {"timeout": 5}])
def test_w002_sqlite_begins_deferred(sqlite, options):
    """The line to write stands in the hint."""
    sqlite["OPTIONS"] = options
    assert 'DATABASES["default"]["OPTIONS"] = {"transaction_mode": "IMMEDIATE"}' in _found()["meanwhile.W002"].hint


def test_w002_names_a_mode_that_is_none(sqlite):
    """A misspelt mode is no deferred one: the value is named, and what was meant."""
    sqlite["OPTIONS"] = {"transaction_mode": "immediat"}
    found = _found()["meanwhile.W002"]
    assert "\"transaction_mode\": 'immediat'" in found.msg
    assert "deferred" not in found.msg
    assert 'Did you mean "IMMEDIATE"? Write: DATABASES["default"]["OPTIONS"] = ' in found.hint


@pytest.mark.parametrize("mode", ["IMMEDIATE", "EXCLUSIVE", "immediate"])
def test_a_mode_that_locks_at_once_is_sound(sqlite, mode):
    """Django takes any case."""
    sqlite["OPTIONS"] = {"transaction_mode": mode}
    assert _found() == {}


@pytest.mark.parametrize("name", [":memory:", "file:x?mode=memory&cache=shared"])
def test_w003_sqlite_in_memory(sqlite, name):
    """A worker is another process."""
    sqlite["NAME"] = name
    assert "db.sqlite3" in _found()["meanwhile.W003"].hint


def test_the_memory_database_of_the_test_runner_is_no_problem(sqlite):
    """Whoever runs the tests of a project is not warned about that."""
    sqlite["NAME"] = "file:memorydb_default?mode=memory&cache=shared"
    assert _found() == {}


@pytest.mark.parametrize(
    ("kind", "warned"), [("nfs4", True), ("9p", True), ("fuse.sshfs", True), ("ext4", False), ("overlay", False)]
)
def test_w006_sqlite_on_a_network_share(sqlite, tmp_path, monkeypatch, kind, warned):
    """The type of the innermost mount counts; blanks in its path, and a path that begins alike, do not mislead."""
    share = tmp_path / "a share"
    place = str(share).replace(" ", r"\040")
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "21 1 0:19 / / rw - ext4 /dev/sda rw\n"
        f"22 21 0:20 / {place} rw,relatime shared:1 - {kind} server:/x rw\n"
        f"23 21 0:21 / {place}/db rw - nfs server:/y rw\n"
    )
    monkeypatch.setattr(databases, "MOUNTS", mounts)
    sqlite["NAME"] = share / "db.sqlite3"
    found = _found()
    assert ("meanwhile.W006" in found) == warned
    assert not warned or kind in found["meanwhile.W006"].msg


def test_the_file_system_is_that_of_the_kernels_own_list():
    """What Linux says about this very machine can be read."""
    if not databases.MOUNTS.exists():
        pytest.skip("no /proc/self/mountinfo on this system")
    assert databases.filesystem(Path("/proc")) == "proc"


def test_e003_sqlite_is_too_old(sqlite, monkeypatch):
    """Both versions are named."""
    old = SimpleNamespace(sqlite_version_info=(3, 34, 1))
    monkeypatch.setattr(type(connections["default"]), "Database", old)
    message = _found()["meanwhile.E003"]
    assert "3.34.1" in message.msg
    assert "3.35" in message.msg


def test_e002_a_vendor_without_a_store(sqlite, monkeypatch):
    """The supported ones are named."""
    from django_meanwhile.store import get_store

    get_store.cache_clear()
    monkeypatch.setattr(type(connections["default"]), "vendor", "oracle")
    try:
        message = _found()["meanwhile.E002"]
    finally:
        get_store.cache_clear()
    assert "'oracle'" in message.msg
    assert "sqlite" in message.msg


def test_w004_nobody_works_a_queue(rows):
    """With --deploy: due jobs that no living worker takes, and the command that would."""
    assert "meanwhile.W004" not in _found()
    assert "No worker lives" in _found(deploy=True)["meanwhile.W004"].msg
    rows.job(queue="mail", executor="process")
    message = _found(deploy=True)["meanwhile.W004"]
    assert 'Nobody works queue "mail", executor process' in message.msg
    assert "manage.py meanwhile worker --queues mail --processes 2" in message.hint
    rows.worker(executors="thread,process")
    assert "meanwhile.W004" not in _found(deploy=True)


def test_w004_is_silent_where_the_database_is_not_there(sqlite, tmp_path):
    """In the build of an image there is no database: nothing is said, and no file is made."""
    sqlite["NAME"] = tmp_path / "not-there.sqlite3"
    assert "meanwhile.W004" not in _found(deploy=True)
    assert not sqlite["NAME"].exists()


def test_w004_is_silent_without_a_server_or_tables(bare_project):
    """No server, no tables: check --deploy has nothing to say about workers, and ends well."""
    for broken in (False, True):
        if broken and bare_project.vendor == "postgresql":
            bare_project.database["PORT"] = 9
        ran = bare_project.manage("check", "--deploy", "--tag", "meanwhile")
        assert "W004" not in ran.stderr + ran.stdout


def test_django_runs_them(settings):
    """They are among the checks of every manage.py command, and can be silenced as all others."""
    settings.MEANWHILE = {"LAESE": 3}
    with pytest.raises(CommandError, match=r"meanwhile\.E001"):
        call_command("check")
    settings.SILENCED_SYSTEM_CHECKS = ["meanwhile.E001"]
    call_command("check")
