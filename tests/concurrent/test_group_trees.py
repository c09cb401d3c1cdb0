"""Random trees of ``TaskGroup``s behave as the same trees of ``asyncio.TaskGroup``s, on pools of one to three threads.

A tree is what a task does. It is played in both worlds by two small interpreters that differ in ``await`` only. Where
two things happen at once the worlds may differ in their order, and so in what is stopped before it begins; so the
theorem is about what does not depend on that: the errors are those of the tree's tasks and none of our making, a tree
that cannot fail returns the same in both, nothing outlives its block, and nobody waits for ever.
"""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_meanwhile.concurrent import TaskGroup
from django_meanwhile.concurrent.threads import executor
from django_meanwhile.concurrent.threads.executor import ThreadPoolExecutor

Tree = tuple[Any, ...]

_leaves = st.one_of(
    st.tuples(st.just("return"), st.integers(0, 9)),
    st.tuples(st.just("raise"), st.integers(0, 9)),
)
_trees = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.tuples(st.just("group"), st.lists(inner, max_size=4), st.sampled_from(["ends", "raises", "cancels first"])),
        st.tuples(st.just("spawn"), inner, inner),  # a task of the group that it is in, then something else
    ),
    max_leaves=12,
)


class Failed(Exception):
    """Raised by the leaves and blocks of a tree, with their number."""


def play(tree: Tree, group: TaskGroup | None, alive: "Alive") -> Any:
    """Do what the tree says, in a thread."""
    with alive:
        match tree:
            case "return", value:
                return value
            case "raise", number:
                raise Failed(number)
            case "spawn", first, second:
                if group is None:
                    return [play(first, None, alive), play(second, None, alive)]
                group.create_task(play, first, group, alive)
                return play(second, group, alive)
            case "group", trees, end:
                inner = Alive()
                try:
                    with TaskGroup(max_workers=2 if len(trees) == 3 else None) as own:
                        futures = [own.create_task(play, each, own, inner) for each in trees]
                        if end == "raises":
                            raise Failed("block")
                        if end == "cancels first" and futures:
                            futures[0].cancel()
                finally:
                    assert inner.count == 0, "something outlived its block"
                return [_result(future) for future in futures]
    raise AssertionError(tree)


def _result(future: "Future[Any]") -> Any:
    return "cancelled" if future.cancelled() else future.result()


async def aplay(tree: Tree, group: asyncio.TaskGroup | None) -> Any:
    """Do what the tree says, on a loop."""
    match tree:
        case "return", value:
            return value
        case "raise", number:
            raise Failed(number)
        case "spawn", first, second:
            if group is None:
                return [await aplay(first, None), await aplay(second, None)]
            group.create_task(aplay(first, group))
            return await aplay(second, group)
        case "group", trees, end:
            async with asyncio.TaskGroup() as own:
                tasks = [own.create_task(aplay(each, own)) for each in trees]
                if end == "raises":
                    raise Failed("block")
                if end == "cancels first" and tasks:
                    tasks[0].cancel()
            return ["cancelled" if task.cancelled() else task.result() for task in tasks]
    raise AssertionError(tree)


class Alive:
    """Counts what has begun and not ended."""

    def __init__(self) -> None:
        self.count, self._lock = 0, threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.count += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.count -= 1


def numbers(error: BaseException) -> Iterator[Any]:
    """Yield what the leaves of a group of errors say."""
    if isinstance(error, BaseExceptionGroup):
        assert error.message == "unhandled errors in a TaskGroup"
        assert error.exceptions
        for each in error.exceptions:
            yield from numbers(each)
    else:
        assert isinstance(error, Failed), f"no error of the tree's: {error!r}"
        yield error.args[0]


def failures_of(tree: Tree) -> set[Any]:
    """Return every number that the tree could raise."""
    match tree:
        case "raise", number:
            return {number}
        case "spawn", first, second:
            return failures_of(first) | failures_of(second)
        case "group", trees, end:
            own = {"block"} if end == "raises" else set()
            return own.union(*map(failures_of, trees))
    return set()


def cancels(tree: Tree) -> bool:
    """Whether a task is cancelled by hand somewhere: in threads it may have ended by then."""
    match tree:
        case "spawn", first, second:
            return cancels(first) or cancels(second)
        case "group", trees, end:
            return (end == "cancels first" and bool(trees)) or any(map(cancels, trees))
    return False


def shape(error: BaseException | None) -> Any:
    """Return how deeply errors are nested, without which of several came first."""
    return type(error).__name__


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_trees(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """See above: errors are the tree's own, results and the kind of the end are asyncio's."""
    pool = ThreadPoolExecutor(threads, "trees")
    monkeypatch.setattr(executor, "_default", pool._pool)

    @settings(max_examples=150)
    @given(tree=_trees)
    def check(tree: Tree) -> None:
        alive, found = Alive(), Future[Any]()

        def run() -> None:
            try:
                found.set_result(play(tree, None, alive))
            except BaseException as error:
                found.set_exception(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(30)
        assert not thread.is_alive(), "nobody may wait for ever"
        assert alive.count == 0, "something outlived the whole tree"
        error = found.exception()
        try:
            result, aerror = asyncio.run(aplay(tree, None)), None
        except BaseException as caught:
            result, aerror = None, caught
        if error is None:
            assert aerror is None or cancels(tree)
            if not cancels(tree):
                assert found.result() == result
        else:
            assert not isinstance(error, CancelledError)
            assert set(numbers(error)) <= failures_of(tree)
            if not cancels(tree):
                assert shape(error) == shape(aerror)

    check()
    pool.shutdown()
    assert not pool._threads


def test_a_tree_that_fails_fails_in_both_worlds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreters agree on one tree of each kind, so that the property above is about something."""
    pool = ThreadPoolExecutor(1, "tree")
    monkeypatch.setattr(executor, "_default", pool._pool)
    tree = ("group", [("return", 1), ("group", [("spawn", ("raise", 2), ("return", 3))], "ends")], "ends")
    with pytest.raises(ExceptionGroup) as ours:
        play(tree, None, Alive())
    with pytest.raises(ExceptionGroup) as theirs:
        asyncio.run(aplay(tree, None))
    assert list(numbers(ours.value)) == list(numbers(theirs.value)) == [2]
    good = ("group", [("return", 1), ("group", [("spawn", ("return", 2), ("return", 3))], "ends")], "ends")
    assert play(good, None, Alive()) == asyncio.run(aplay(good, None)) == [1, [3]]
    pool.shutdown()
