"""Transactions of the caller, with a worker waiting for every row: nothing starts early, appears or vanishes."""

import json

from tests.playground import Project, eventually

from .harness import all_ended, start_worker, truth

ENQUEUE = """
import json, random, time
from asgiref.sync import async_to_sync
from django.db import transaction
from tests.project.models import Mark
from tests.project.tasks import pause, pause_async

class Undo(Exception):
    pass

dice = random.Random(2)
committing, undone = {}, []
put = [pause.enqueue, pause_async.enqueue, async_to_sync(pause.aenqueue), async_to_sync(pause_async.aenqueue)]

def plain(key):
    committing[key] = time.monotonic()
    dice.choice(put)(key)

def atomic(key, undo):
    try:
        with transaction.atomic():
            Mark.objects.create(text=key)
            dice.choice(put)(key)
            time.sleep(dice.choice([0, 0, 0, 0.003]))
            if undo:
                raise Undo
            committing[key] = time.monotonic()
    except Undo:
        undone.append(key)

def savepoint(key, undo):
    with transaction.atomic():
        try:
            with transaction.atomic():
                dice.choice(put)(f"{key}-inner")
                if undo:
                    raise Undo
        except Undo:
            undone.append(f"{key}-inner")
        dice.choice(put)(f"{key}-outer")
        committing[f"{key}-outer"] = time.monotonic()
        if not undo:
            committing[f"{key}-inner"] = committing[f"{key}-outer"]

for n in range(200):
    plain(f"plain{n}")
    atomic(f"kept{n}", undo=False)
    atomic(f"undone{n}", undo=True)
    savepoint(f"savepoint{n}", undo=n % 2)
print(json.dumps([committing, undone]))
"""


def test_a_thousand_enqueues_become_jobs_exactly_when_they_are_committed(project: Project) -> None:
    """Of 1,000 enqueues, every committed one runs once, none before its commit; a rolled back one never."""
    worker = start_worker(project, "--threads=4", "--coroutines=8", "--processes=0")
    committing, undone = json.loads(project.python(ENQUEUE).stdout.splitlines()[-1])
    assert len(committing) + len(undone) == 1000
    eventually(lambda: all_ended(project), within=30)
    begun = [line for line in truth(project) if line.word == "begin"]
    assert sorted(line.key for line in begun) == sorted(committing)
    early = [line.key for line in begun if line.at < committing[line.key]]
    assert not early
    assert worker.stop() == 0
