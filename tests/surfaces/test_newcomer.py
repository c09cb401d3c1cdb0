"""The mistakes that a new user is most likely to make, made for real: each is named, with the line to write."""

from __future__ import annotations

import shlex

import pytest

from django_meanwhile.compat import DIALECT

from .newcomer import Newcomer

TASK = "from django_meanwhile import task\n\n\n@task{}\ndef {}(n):\n    return n\n"
OURS = "django_meanwhile.backends.DatabaseBackend"


@pytest.fixture
def newcomer(tmp_path):
    """A project without a mistake."""
    return Newcomer(tmp_path)


@pytest.mark.parametrize("args", [["check"], ["check", "--deploy", "--tag", "meanwhile"]], ids=["check", "deploy"])
def test_a_project_without_a_mistake_is_told_nothing(newcomer, args):
    """What the README says is all that is needed: no check of ours has anything to say."""
    ran = newcomer.manage(*args)
    assert ran.returncode == 0, ran.stderr
    assert "meanwhile" not in ran.stdout + ran.stderr


SETTINGS_MISTAKES = {
    "TASKS is missing": ("del TASKS", "W001", f'Write: TASKS = {{"default": {{"BACKEND": "{OURS}"}}}}'),
    "a backend that forgets": (
        f'TASKS = {{"default": {{"BACKEND": "{DIALECT}.backends.dummy.DummyBackend"}}}}',
        "W001",
        "enqueue() throws each job away",
    ),
    "SQLite begins deferred": (
        'del DATABASES["default"]["OPTIONS"]',
        "W002",
        'Write: DATABASES["default"]["OPTIONS"] = {"transaction_mode": "IMMEDIATE"}',
    ),
    "SQLite in memory": (
        'DATABASES["default"]["NAME"] = ":memory:"',
        "W003",
        'Write: DATABASES["default"]["NAME"] = BASE_DIR / "db.sqlite3"',
    ),
    "SQLite by a relative path": (
        'DATABASES["default"]["NAME"] = "db.sqlite3"',
        "W005",
        'Write: DATABASES["default"]["NAME"] = BASE_DIR / "db.sqlite3"',
    ),
    "a misspelt key": ('MEANWHILE = {"WORKERS": {}}', "E001", 'Did you mean "WORKER"?'),
    "another name for the setting": (
        'MEANWHILE_WORKER = {"threads": 2}',
        "W010",
        'Write: MEANWHILE = {"WORKER": ...}',
    ),
    "a misspelt setting": ('MEANWILE = {"POLL": 2}', "W010", "Write: MEANWHILE = {...}"),
    "a hook that is not there": (
        'MEANWHILE = {"CONTEXT": ["reports.context.Tenant"]}',
        "E006",
        "names 'reports.context.Tenant', which cannot be imported",
    ),
    "a worker's queue that no backend has": (
        'MEANWHILE = {"WORKER": {"queues": ["defualt"]}}',
        "E007",
        'Did you mean "default"?',
    ),
    "no slot for a task": (
        'MEANWHILE = {"WORKER": {"threads": 0}}',
        "W008",
        'Write: MEANWHILE = {"WORKER": {"threads": 8}}',
    ),
    "a queue that the worker leaves out": (
        'TASKS["default"]["QUEUES"] = ["default", "mail"]\nMEANWHILE = {"WORKER": {"queues": ["mail"]}}',
        "W008",
        'Write: MEANWHILE = {"WORKER": {"queues": ["mail", "default"]}}',
    ),
    "requests in a transaction of another database": (
        (
            'DATABASES["jobs"] = {**DATABASES["default"], "NAME": BASE_DIR / "jobs.sqlite3"}\n'
            'DATABASES["default"]["ATOMIC_REQUESTS"] = True\nTASKS["default"]["OPTIONS"] = {"DATABASE": "jobs"}'
        ),
        "W009",
        'TASKS["default"]["OPTIONS"] = {"DATABASE": "default"}',
    ),
    "logging that drops our warnings": (
        'LOGGING = {"version": 1, "loggers": {"django_meanwhile": {"level": "CRITICAL"}}}',
        "W011",
        'Write: LOGGING["loggers"]["django_meanwhile"] = {"handlers": [...], "level": "INFO"}',
    ),
    "a worker's setting in OPTIONS": (
        'TASKS["default"]["OPTIONS"] = {"threads": 4}',
        "E021",
        'Write: MEANWHILE = {"WORKER": {"threads": 4}}',
    ),
    "the database beside OPTIONS": (
        'TASKS["default"]["DATABASE"] = "default"',
        "W020",
        'Write: TASKS["default"]["OPTIONS"] = {"DATABASE": "default"}',
    ),
}


@pytest.mark.parametrize("name", SETTINGS_MISTAKES)
def test_a_mistake_in_the_settings_is_answered_with_the_line_to_write(newcomer, name):
    """``manage.py check`` says its id and the line, and nothing else of ours."""
    lines, check, words = SETTINGS_MISTAKES[name]
    newcomer.settings(lines)
    ran = newcomer.manage("check")
    said = ran.stdout + ran.stderr
    assert f"(meanwhile.{check})" in said
    assert words in said
    assert said.count("(meanwhile.") == 1, said
    assert (ran.returncode == 0) == check.startswith("W")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            'TASKS = {"default": {"BACKEND": "django_meanwhile.backend.DatabaseBackend"}}',
            f'Write: TASKS["default"]["BACKEND"] = "{OURS}"',
        ),
        (
            'TASKS = {"default": {"BACKEND": "django_meanwhile.backends.DatabaseBackends"}}',
            f'Write: TASKS["default"]["BACKEND"] = "{OURS}"',
        ),
        (f'TASKS = {{"BACKEND": "{OURS}"}}', f'Write: TASKS = {{"default": {{"BACKEND": "{OURS}"}}}}'),
        ('TASKS = {"default": {"QUEUES": []}}', "has BACKEND None"),
    ],
    ids=["module", "class", "no alias", "no backend"],
)
def test_tasks_of_which_no_backend_can_be_made(newcomer, lines, words):
    """Django ends with a traceback; ``meanwhile check`` ends with E004, and the line to write."""
    newcomer.settings(lines)
    ran = newcomer.manage("meanwhile", "check")
    assert ran.returncode == 1
    assert "(meanwhile.E004)" in ran.stdout
    assert words in ran.stdout
    assert "Traceback" not in ran.stderr


def test_the_app_is_not_installed(newcomer):
    """Without the app no check of ours is registered by it: the check of the backend says it, and enqueue() does."""
    newcomer.settings('INSTALLED_APPS.remove("django_meanwhile")')
    newcomer.write("reports/models.py", "from .tasks import generate  # noqa\n")
    line = 'Add "django_meanwhile" to INSTALLED_APPS and run: manage.py migrate'
    assert line in newcomer.manage("check").stderr
    ran = newcomer.run("-c", "import django; django.setup(); from reports.tasks import generate; generate.enqueue(1)")
    assert ran.stderr.strip().splitlines()[-1].endswith(line + ".")


def test_the_app_is_not_installed_and_a_view_imports_the_task(newcomer):
    """By then ``check`` has collected its checks without Django's own of backends: the import says the line."""
    newcomer.settings('INSTALLED_APPS.remove("django_meanwhile")')
    newcomer.write("reports/views.py", "from .tasks import generate\n\n\ndef go(request):\n    generate.enqueue(1)\n")
    ran = newcomer.manage("check")
    assert ran.returncode == 1
    assert (
        ran.stderr.strip()
        .splitlines()[-1]
        .endswith('Add "django_meanwhile" to INSTALLED_APPS and run: manage.py migrate.')
    )


def test_the_tables_are_not_made(newcomer):
    """``meanwhile check`` and ``enqueue()`` both say to migrate."""
    ran = newcomer.manage("meanwhile", "check")
    assert "(meanwhile.E032)" in ran.stdout
    assert "Run: manage.py migrate meanwhile" in ran.stdout
    ran = newcomer.run("-c", "import django; django.setup(); from reports.tasks import generate; generate.enqueue(1)")
    assert "no such table: meanwhile_job" in ran.stderr
    assert "Run: manage.py migrate meanwhile" in ran.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        (
            "from django_meanwhile import task\nimport reportlab_of_nobody\n",
            "(line 2)",
            "No module named 'reportlab_of_nobody'",
        ),
        (TASK.format('(queue_name="mail")', "generate"), "(line 4)", """"QUEUES": ["default", "mail"]"""),
        (TASK.format("(max_attemps=3)", "generate"), "(line 4)", "Did you mean max_attempts?"),
        (TASK.format('(backend="defualt")', "generate"), "(line 4)", 'Did you mean "default"?'),
        ("def half(:\n", "", "SyntaxError"),
    ],
    ids=["import", "queue", "option", "backend", "syntax"],
)
def test_a_module_of_tasks_that_cannot_be_imported(newcomer, text, where, words):
    """E005 names the module, the line and the reason; a worker says the same instead of a traceback."""
    newcomer.write("reports/tasks.py", text)
    for command in (["check"], ["meanwhile", "worker", "--drain"]):
        ran = newcomer.manage(*command)
        assert ran.returncode == 1
        assert "(meanwhile.E005) reports.tasks cannot be imported" in ran.stderr
        assert where in ran.stderr
        assert words in ran.stderr
        assert "Traceback" not in ran.stderr


def test_the_command_that_shows_the_whole_traceback_works(newcomer):
    """What E005 proposes runs as it stands, and its last line is the module's error."""
    newcomer.write("reports/tasks.py", "1 / 0\n")
    proposed = 'manage.py shell -c "import reports.tasks"'
    assert f"for the whole traceback run: {proposed}" in newcomer.manage("check").stderr
    ran = newcomer.manage(*shlex.split(proposed)[1:])
    assert "Traceback" in ran.stderr
    assert ran.stderr.strip().splitlines()[-1] == "ZeroDivisionError: division by zero"


def test_the_other_dialect_is_named(newcomer):
    """``django.tasks`` on Django 5.2: the import that works everywhere is the line to write."""
    import django

    if django.VERSION >= (6, 0):
        mistake = "from django.tasks import task\nraise ModuleNotFoundError('No module', name='django.tasks')\n"
        newcomer.write("reports/tasks.py", mistake)
    else:
        newcomer.write("reports/tasks.py", "from django.tasks import task\n")
    assert "Write: from django_meanwhile import task." in newcomer.manage("check").stderr


def test_a_module_of_tasks_outside_the_installed_apps(newcomer):
    """An app that was forgotten, and tasks beside the settings: W007 says where each is to be listed."""
    newcomer.settings('INSTALLED_APPS.remove("reports")')
    newcomer.write("mysite/tasks.py", TASK.format("", "nightly"))
    newcomer.write("other/tasks.py", "# nothing of ours\n")
    said = newcomer.manage("check").stderr
    assert 'Write: INSTALLED_APPS += ["reports"]' in said
    assert 'Write: MEANWHILE = {"TASK_MODULES": ["mysite.tasks"]}' in said
    assert said.count("(meanwhile.") == 2


def test_a_router_that_keeps_the_tables_away(newcomer):
    """E008: no migrate would ever make them."""
    newcomer.write(
        "mysite/routers.py",
        "class Router:\n    def allow_migrate(self, db, app_label, **_):\n        return app_label != 'meanwhile'\n",
    )
    newcomer.settings('DATABASE_ROUTERS = ["mysite.routers.Router"]')
    said = newcomer.manage("check").stderr
    assert "(meanwhile.E008)" in said
    assert "'default'" in said


def test_no_worker_lives(newcomer):
    """``check --deploy`` names both ways to have one."""
    newcomer.manage("migrate")
    said = newcomer.manage("check", "--deploy", "--tag", "meanwhile").stderr
    assert "(meanwhile.W004)" in said
    assert "manage.py meanwhile worker" in said
    assert 'MEANWHILE = {"EMBEDDED": True}' in said
