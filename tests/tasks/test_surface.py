"""The public names: lazy, complete, and the ones that were promised."""

import subprocess
import sys

import pytest

import django_meanwhile
from django_meanwhile import concurrent


def python(code):
    """Run a script in a fresh interpreter; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": "src"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_name_can_be_had():
    """Each announced name exists, is found by ``dir()``, and is what its home says."""
    for name in django_meanwhile.__all__:
        assert getattr(django_meanwhile, name) is not None
    assert set(django_meanwhile.__all__) <= set(dir(django_meanwhile))
    assert sorted(django_meanwhile.__all__) == django_meanwhile.__all__


def test_other_names_do_not_exist():
    """An unknown name is Python's AttributeError, so that ``from … import`` fails as usual."""
    with pytest.raises(AttributeError, match="module 'django_meanwhile' has no attribute 'tusk'"):
        _ = django_meanwhile.tusk
    with pytest.raises(ImportError):
        from django_meanwhile import tusk  # noqa: F401


def test_the_natural_guess_for_the_backend_is_answered():
    """``django_meanwhile.DatabaseBackend`` does not exist: the error, which Django shows, says what does."""
    with pytest.raises(
        AttributeError, match=r'Write in TASKS: "BACKEND": "django_meanwhile.backends.DatabaseBackend"$'
    ):
        _ = django_meanwhile.DatabaseBackend
    assert "DatabaseBackend" not in django_meanwhile.__all__


@pytest.mark.parametrize("name", concurrent.__all__)
def test_names_of_concurrency_are_answered(name):
    """``from django_meanwhile import parallel`` is refused with the line to write: Python shows the text."""
    line = f"from django_meanwhile import {name}"
    with pytest.raises(ImportError, match=rf"Write: from django_meanwhile\.concurrent import {name}$"):
        exec(line, {})
    exec(line.replace("django_meanwhile", "django_meanwhile.concurrent"), {})


def test_names_need_no_models():
    """All of the surface can be imported before the apps are ready, and imports no model of ours."""
    code = (
        "from django.conf import settings; settings.configure();"
        "import sys; from django_meanwhile import *; from django_meanwhile.backends import DatabaseBackend;"
        "print('django_meanwhile.models' in sys.modules)"
    )
    assert python(code) == "False"


def test_errors_need_no_django():
    """Catching our errors does not import Django."""
    code = (
        "import sys; from django_meanwhile import Retry, JobState, ExponentialBackoff; print('django' in sys.modules)"
    )
    assert python(code) == "False"
