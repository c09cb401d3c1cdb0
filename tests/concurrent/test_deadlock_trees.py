"""Random trees of ``submit``, ``parallel()`` and ``TaskGroup`` over small pools: each ends, none is refused in vain.

A tree is what a call does, whatever pool its thread is of. Several run at once, so that who comes last is luck. A tree
of the orderly kind needs no circle: its calls wait only for pools further on in a row, and within the shared pool by
scopes, of which whoever waits runs the calls itself.
"""

import concurrent.futures
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_meanwhile.concurrent import TaskGroup, ThreadPoolExecutor, WouldDeadlock, parallel
from django_meanwhile.concurrent.threads import deadlock
from django_meanwhile.concurrent.threads import executor as executors
from django_meanwhile.concurrent.threads.future import Future
from tests.concurrent.test_deadlock import all_idle
from tests.concurrent.test_deadlock_scopes import leaves
from tests.playground import eventually

Tree = tuple[Any, ...]

FIRST, SHARED, LAST = 0, 1, 2
"""Pools: calls of the first one may wait for all, those of the last for none."""

PATIENCE = 60

_limits = st.sampled_from([None, None, 1, 2])
_leaf = st.just(("leaf",))


def _scopes(inner: st.SearchStrategy[Tree], *more: str) -> st.SearchStrategy[Tree]:
    calls = st.lists(inner, min_size=1, max_size=3)
    return st.tuples(st.sampled_from(["parallel", "group", *more]), calls, _limits)


def _submits(inner: st.SearchStrategy[Tree], *pools: int) -> st.SearchStrategy[Tree]:
    return st.tuples(st.just("submit"), st.lists(st.tuples(st.sampled_from(pools), inner), min_size=1, max_size=3))


_any = st.recursive(
    _leaf, lambda inner: _scopes(inner, "group that asks") | _submits(inner, FIRST, SHARED, LAST), max_leaves=10
)
_of_shared = st.recursive(_leaf | _submits(_leaf, LAST), _scopes, max_leaves=10)
_orderly = _submits(_of_shared, FIRST) | _of_shared
_sizes = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))


def play(tree: Tree, pools: list[ThreadPoolExecutor]) -> int:
    """Do what the tree says; return the number of its leaves."""
    match tree:
        case ("leaf",):
            return 1
        case "submit", calls:
            futures = [pools[place].submit(play, call, pools) for place, call in calls]
            for future in futures:  # nobody asks for the second one's error if the first one has failed
                future.add_done_callback(Future.exception)
            return sum(future.result() for future in futures)
        case "parallel", calls, limit:
            return sum(parallel(*[lambda call=call: play(call, pools) for call in calls], max_workers=limit))
        case kind, calls, limit:
            with TaskGroup(max_workers=limit) as group:
                futures = [group.create_task(play, call, pools) for call in calls]
                if kind == "group that asks" and limit is None:
                    [future.result() for future in futures[1:]]
            return sum(future.result() for future in futures)
    raise AssertionError(tree)


def size(tree: Tree) -> int:
    """Return the number of a tree's leaves."""
    match tree:
        case ("leaf",):
            return 1
        case "submit", calls:
            return sum(size(call) for _, call in calls)
        case _, calls, _:
            return sum(map(size, calls))
    raise AssertionError(tree)


def run(trees: list[Tree], sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """Play the trees at once, each for a request of its own; return the errors of those that have failed."""
    pools = [ThreadPoolExecutor(threads, "trees") for threads in sizes]
    monkeypatch.setattr(executors, "_default", pools[SHARED]._pool)
    outcomes: list[concurrent.futures.Future[int]] = [concurrent.futures.Future() for _ in trees]

    def request(tree: Tree, outcome: concurrent.futures.Future[int]) -> None:
        try:
            outcome.set_result(play(tree, pools))
        except BaseException as error:
            outcome.set_exception(error)

    for pair in zip(trees, outcomes, strict=True):
        threading.Thread(target=request, args=pair, daemon=True).start()
    _, running = concurrent.futures.wait(outcomes, PATIENCE)
    assert not running, "nobody may wait for ever"
    eventually(lambda: all_idle(pools), what="all idle")
    assert not deadlock._waiting
    for pool in pools:
        pool.shutdown()
    assert all(
        outcome.result() == size(tree) for tree, outcome in zip(trees, outcomes, strict=True) if not outcome.exception()
    )
    return [error for outcome in outcomes if (error := outcome.exception()) is not None]


def test_every_tree_ends(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """With what it counts, or with ``WouldDeadlock`` and no other error."""
    refused = []

    @settings(max_examples=100)
    @given(trees=st.lists(_any, min_size=1, max_size=4), sizes=_sizes)
    def check(trees: list[Tree], sizes: tuple[int, ...]) -> None:
        errors = run(trees, sizes, monkeypatch)
        assert {type(leaf) for error in errors for leaf in leaves(error)} <= {WouldDeadlock}
        refused.append(len(errors))
        errors.clear()

    check()
    assert any(refused), "there were circles"
    assert not caplog.records, "none was given up"


def test_no_orderly_tree_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the pools are."""

    @settings(max_examples=100)
    @given(trees=st.lists(_orderly, min_size=1, max_size=4), sizes=_sizes)
    def check(trees: list[Tree], sizes: tuple[int, ...]) -> None:
        assert run(trees, sizes, monkeypatch) == []

    check()
