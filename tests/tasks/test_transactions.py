"""An enqueue is a part of the caller's transaction: no ghost, none missing, none elsewhere."""

import random
import threading
from contextlib import ExitStack

import pytest
from asgiref.sync import async_to_sync
from django.db import connections, transaction

from django_meanwhile.core.errors import TransactionMismatch
from django_meanwhile.models import Job
from django_meanwhile.tasks.transactions import is_inside

from .lifecycle import Undo, rolled_back
from .sample.tasks import add

ENQUEUES = 1000


class Story:
    """Random blocks, savepoints, rollbacks and enqueues on one database; it notes what must be left."""

    def __init__(self, seed, database):
        self.random = random.Random(seed)
        self.database = database
        self.task = add.using(backend=database)
        self.left = ENQUEUES
        self.key = 0
        self.committed = set()

    def tell(self):
        """Tell the whole story."""
        while self.left > 0:
            self.committed |= self.block(depth=0)

    def block(self, depth):
        """Enqueue and open inner blocks; return the keys that survive this block."""
        survivors = set()
        durable = self.random.random() < 0.7
        try:
            with ExitStack() as stack:
                if depth or self.random.random() < 0.8:  # else: autocommit
                    stack.enter_context(transaction.atomic(using=self.database))
                else:
                    durable = True
                for _ in range(self.random.randrange(1, 6)):
                    if depth < 4 and self.random.random() < 0.35 and connections[self.database].in_atomic_block:
                        survivors |= self.block(depth + 1)
                    else:
                        survivors |= self.enqueue()
                if not durable:
                    raise Undo
        except Undo:
            return set()
        return survivors

    def enqueue(self):
        """Enqueue one call or several, by one of the four ways; return their keys."""
        keys = [self.key + n for n in range(self.random.choice([1, 1, 1, 3, 7]))]
        self.key += len(keys)
        self.left -= len(keys)
        way = self.random.randrange(4)
        if way == 0:
            self.task.enqueue_many([(key,) for key in keys])
        elif way == 1:
            async_to_sync(self.task.aenqueue_many)([(key,) for key in keys])
        else:
            for key in keys:
                if way == 2:
                    self.task.enqueue(key)
                else:
                    async_to_sync(self.task.aenqueue)(key)
        return set(keys)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_thousand_enqueues(database, seed):
    """Over transactions, savepoints, rollbacks, sync and async, exactly the committed calls are rows."""
    story = Story(seed, database)
    story.tell()
    jobs = Job.objects.using(database).order_by("pk")
    assert {int(job.arguments[len('{"args":[') :].split("]")[0]) for job in jobs} == story.committed
    assert len(jobs) == len(story.committed)
    assert 0 < len(story.committed) < story.key
    assert story.key >= ENQUEUES


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_a_thousand_enqueues_on_another_alias(database):
    """A backend on another database commits there, while blocks on this one come and go."""
    other = "other" if database == "default" else "default"
    story = Story(3, other)
    for _ in range(20):
        try:
            with transaction.atomic(using=database), transaction.atomic(using=other):
                survivors = story.block(depth=1)
                if story.random.random() < 0.5:
                    raise Undo
        except Undo:
            continue
        story.committed |= survivors
    story.tell()
    assert Job.objects.using(other).count() == len(story.committed)
    assert not Job.objects.using(database).exists()


@pytest.mark.django_db(transaction=True)
def test_nobody_sees_a_job_before_its_commit(database):
    """Another connection sees the job after the commit, and not before."""
    seen = []

    def look():
        try:
            seen.append(Job.objects.using(database).count())
        finally:
            connections[database].close()

    def look_elsewhere():
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        return seen[-1]

    with transaction.atomic(using=database):
        add.using(backend=database).enqueue(1)
        assert look_elsewhere() == 0
    assert look_elsewhere() == 1


# --- which database -------------------------------------------------------------------------

both = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@both
def test_another_database_inside_atomic_is_a_mismatch():
    """An enqueue that would commit apart from the caller's data is refused, naming both aliases and every way out."""
    with transaction.atomic(using="other"), pytest.raises(TransactionMismatch) as caught:
        add.enqueue(1)
    text = str(caught.value)
    for part in (
        "tests.tasks.sample.tasks.add",
        "atomic() on database 'other'",
        "kept in 'default' (backend 'default')",
        'TASKS["other"] = {',
        '"OPTIONS": {"DATABASE": "other"}',
        '.using(backend="other")',
        ".using(outside_transaction=True)",
    ):
        assert part in text
    assert not Job.objects.exists()


@both
def test_every_way_out_works():
    """After the block, on the same database, inside both, or declared to go its own way: all enqueue."""
    with transaction.atomic(using="other"):
        add.using(outside_transaction=True).enqueue(1)
        add.using(backend="other").enqueue(1)
        with transaction.atomic(using="default"):
            add.enqueue(1)
    add.enqueue(1)
    assert Job.objects.using("default").count() == 3
    assert Job.objects.using("other").count() == 1


@both
def test_outside_transaction_commits_at_once():
    """A job that goes its own way stays when the other database's block is rolled back."""
    with rolled_back("other"):
        add.using(outside_transaction=True).enqueue(1)
    assert Job.objects.count() == 1


@both
def test_a_mismatch_in_async_code():
    """The rule holds for ``aenqueue`` under a sync caller's block as well."""
    with transaction.atomic(using="other"), pytest.raises(TransactionMismatch):
        async_to_sync(add.aenqueue)(1)


@pytest.mark.django_db(databases=["default", "other"])
def test_the_blocks_of_testcase_do_not_count():
    """Under ``TestCase`` every alias is inside a block of the test's own; that refuses nothing."""
    assert connections["default"].in_atomic_block
    assert not is_inside(connections["default"])
    add.enqueue(1)
    with transaction.atomic(using="other"), pytest.raises(TransactionMismatch):
        add.enqueue(1)
    with transaction.atomic(using="default"):
        assert is_inside(connections["default"])
        add.enqueue(1)


@both
def test_the_router_chooses_the_database(settings):
    """Without OPTIONS["DATABASE"] the job goes where the router writes ``Job``."""
    settings.DATABASE_ROUTERS = ["tests.tasks.test_transactions.ToOther"]
    add.enqueue(1)
    assert Job.objects.using("other").count() == 1
    with transaction.atomic(using="default"), pytest.raises(TransactionMismatch, match="kept in 'other'"):
        add.enqueue(1)


class ToOther:
    """Sends our tables to the other database."""

    def db_for_write(self, model, **hints):
        """Answer for our models only."""
        return "other" if model._meta.app_label == "meanwhile" else None
