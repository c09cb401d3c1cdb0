"""Who may be declared dead: the sweeper's doubts about itself."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from django_meanwhile.core.job import Lease
from django_meanwhile.worker.judge import RENEWALS, Judge

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
ONE, TWO = uuid4(), uuid4()


class FakeBeat:
    """A beat of so many renewals in a row, steady for so long."""

    def __init__(self, renewals=0, steady=1e9):
        self.renewals = renewals
        self.steady = steady

    def steady_for(self, seconds):
        return self.steady >= seconds


def lease(worker=ONE, *, expired=True, until=NOON):
    """A worker row."""
    return Lease(worker_id=worker, lease_until=until, expired=expired)


# --- many writers: our own connection -------------------------------------------------------


def test_an_expired_lease_condemns_and_a_running_one_does_not():
    """With many writers, whoever is expired may be killed at once; the statement looks again."""
    judge = Judge(FakeBeat(), lease=30, one_writer=False)
    assert judge.condemned([lease(ONE), lease(TWO, expired=False)]) == {ONE}


@pytest.mark.parametrize(("steady", "condemned"), [(0, set()), (29.9, set()), (30, {ONE}), (1e9, {ONE})])
def test_who_has_lost_the_database_waits_one_lease(steady, condemned):
    """After an outage the living get a whole lease to renew before anybody is declared dead."""
    assert Judge(FakeBeat(steady=steady), lease=30, one_writer=False).condemned([lease()]) == condemned


def test_nobody_is_condemned_when_nobody_is_there():
    """No rows, no deaths."""
    for one_writer in (True, False):
        assert Judge(FakeBeat(renewals=9), lease=30, one_writer=one_writer).condemned([]) == set()


# --- one writer: was the lock free? ---------------------------------------------------------


@pytest.fixture
def beat():
    """A supervisor that has just begun to beat."""
    return FakeBeat()


@pytest.fixture
def judge(beat):
    """A sweeper on SQLite."""
    return Judge(beat, lease=30, one_writer=True)


def test_a_row_is_judged_after_two_renewals_of_our_own(beat, judge):
    """We could write twice, a beat apart, and its owner did not: it is dead."""
    assert RENEWALS == 2
    verdicts = []
    for renewals in (0, 1, 2, 3):
        beat.renewals = renewals
        verdicts.append(judge.condemned([lease()]))
    assert verdicts == [set(), set(), {ONE}, {ONE}]


def test_many_looks_between_two_renewals_prove_nothing(beat, judge):
    """Sweeping often is not waiting: only our renewals count."""
    beat.renewals = 5
    assert [judge.condemned([lease()]) for _ in range(50)] == [set()] * 50


def test_a_row_that_changes_begins_anew(beat, judge):
    """Its owner renewed in between: it lives, however late it was."""
    judge.condemned([lease()])
    beat.renewals = 1
    later = NOON + timedelta(seconds=1)
    assert judge.condemned([lease(until=later)]) == set()
    beat.renewals = 2
    assert judge.condemned([lease(until=later)]) == set()
    beat.renewals = 3
    assert judge.condemned([lease(until=later)]) == {ONE}


def test_a_broken_streak_begins_anew(beat, judge):
    """The file was locked in between: two renewals after that are needed, in a row."""
    beat.renewals = 7
    judge.condemned([lease()])
    beat.renewals = 8
    judge.condemned([lease()])
    for renewals, condemned in ((0, set()), (1, set()), (2, {ONE})):
        beat.renewals = renewals
        assert judge.condemned([lease()]) == condemned


def test_a_streak_that_breaks_between_two_looks_condemns_nobody_too_early(beat, judge):
    """Broken and grown again unseen, the streak still holds two renewals in a row since the row was first seen."""
    for first in range(4):
        beat.renewals = first
        judge = Judge(beat, lease=30, one_writer=True)
        judge.condemned([lease()])
        beat.renewals = 1  # broken, and one since
        assert judge.condemned([lease()]) == set()


def test_an_unexpired_row_is_watched_but_never_condemned(beat, judge):
    """Unchanged for ever, but with time left: it may live. The moment it expires, the watch has long been kept."""
    for renewals in range(10):
        beat.renewals = renewals
        assert judge.condemned([lease(expired=False)]) == set()
    assert judge.condemned([lease()]) == {ONE}


def test_rows_are_judged_one_by_one(beat, judge):
    """A newcomer's grace does not extend that of the old."""
    judge.condemned([lease(ONE)])
    beat.renewals = 1
    judge.condemned([lease(ONE), lease(TWO)])
    beat.renewals = 2
    assert judge.condemned([lease(ONE), lease(TWO)]) == {ONE}
    beat.renewals = 3
    assert judge.condemned([lease(ONE), lease(TWO)]) == {ONE, TWO}


def test_rows_that_are_gone_are_forgotten(beat, judge):
    """A thousand workers that came and went leave nothing behind."""
    for _ in range(1000):
        judge.condemned([lease(uuid4())])
    judge.condemned([])
    assert not judge._seen
