"""The lock: one owner, free when the last holder is gone, trusted only where nobody else can write."""

import os
import subprocess
import sys
import tempfile
from uuid import uuid4

import pytest

from django_meanwhile.embedded import lock as locks
from django_meanwhile.embedded.lock import Note, NoWorker, lock_path, read_note, try_lock, write_note


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.django_db(databases=["default", "other"])
def test_each_project_has_its_own(place) -> None:
    """One lock for each backend and database; the same one each time."""
    assert lock_path("default", "default") == lock_path("default", "default")
    assert len({lock_path("default", "default"), lock_path("other", "default"), lock_path("default", "other")}) == 3


def test_it_is_free_when_the_last_holder_is_gone(place) -> None:
    """Two processes hold a lock that was handed down: it is taken until both have ended."""
    path = place / "a.lock"
    held = try_lock(path)
    assert held is not None
    holders = [
        subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, pass_fds=(held,)
        )
        for _ in range(2)
    ]
    os.close(held)
    for holder in holders:
        assert try_lock(path) is None
        assert holder.stdin
        holder.stdin.close()
        holder.wait()
    taken = try_lock(path)
    assert taken is not None
    os.close(taken)


def test_a_file_that_was_replaced_is_not_the_lock(place, monkeypatch) -> None:
    """Whoever locks a file that is not at the path any more has nothing: others would lock the new one."""
    path = place / "a.lock"
    real = locks.fcntl.flock

    def removed_meanwhile(descriptor: int, how: int) -> None:
        real(descriptor, how)
        path.unlink()

    monkeypatch.setattr(locks.fcntl, "flock", removed_meanwhile)
    assert try_lock(path) is None
    monkeypatch.undo()
    taken = try_lock(path)
    assert taken is not None
    os.close(taken)


def test_it_names_the_last_supervisors(place) -> None:
    """The newest eight are remembered; a shorter note leaves nothing of a longer one."""
    held = try_lock(place / "a.lock")
    assert held is not None
    assert read_note(held) == Note()
    many = tuple(uuid4() for _ in range(12))
    write_note(held, Note(supervisors=many, stopped_at=7.5))
    assert read_note(held) == Note(supervisors=many[-8:], stopped_at=7.5)
    write_note(held, Note(supervisors=many[:1]))
    assert read_note(held) == Note(supervisors=many[:1])
    os.close(held)


DAMAGED = [
    b"",
    b"[",
    b'["x"]',
    b"{}",
    b"\xff",
    b"null",
    b'{"supervisors": ["x"], "stopped_at": null}',
    b'{"supervisors": []}',
]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_file_names_nobody(place, text) -> None:
    """A file that cannot be read is no error: the leases of whoever it named run out."""
    (place / "a.lock").write_bytes(text)
    held = try_lock(place / "a.lock")
    assert held is not None
    assert read_note(held) == Note()
    os.close(held)


def test_a_database_that_is_not_there_is_named(place) -> None:
    """A backend on an alias that DATABASES lacks: the message says which setting to mend."""
    with pytest.raises(NoWorker, match="DATABASES has no 'nowhere'"):
        lock_path("default", "nowhere")


@pytest.mark.django_db
def test_another_schema_is_another_project(place, monkeypatch) -> None:
    """What chooses the tables chooses the lock: PostgreSQL's user, service and search_path too."""
    paths = {lock_path("default", "default")}
    from django.db import connections

    for change in ({"USER": "x"}, {"OPTIONS": {"service": "x"}}, {"OPTIONS": {"options": "-c search_path=x"}}):
        monkeypatch.setitem(connections.settings, "default", connections.settings["default"] | change)
        paths.add(lock_path("default", "default"))
    assert len(paths) == 4


@pytest.mark.django_db
@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_a_place_that_others_can_write_to_is_refused(place, mode) -> None:
    """Anybody could hold our lock there, or name rows to be killed: the error says what to do."""
    directory = place / f"django-meanwhile-{os.getuid()}"
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(NoWorker, match="TMPDIR"):
        lock_path("default", "default")


@pytest.mark.django_db
def test_a_link_in_its_place_is_refused(place) -> None:
    """A symbolic link that somebody left there is not followed."""
    (place / "elsewhere").mkdir(mode=0o700)
    (place / f"django-meanwhile-{os.getuid()}").symlink_to(place / "elsewhere")
    with pytest.raises(NoWorker):
        lock_path("default", "default")
