"""The tree of errors: what it says is what there is."""

import copy
import inspect
import pickle
from datetime import timedelta

import pytest

from django_meanwhile.core import errors
from django_meanwhile.core.errors import InvalidOption, JobStopped, MeanwhileError, Retry

CLASSES = {
    name: value for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)
}


def drawn() -> dict[str, tuple[str, ...]]:
    """Read the tree in the module's docstring: name -> all of its bases, ours first."""
    tree: dict[str, tuple[str, ...]] = {}
    stack: list[str] = []
    for line in (errors.__doc__ or "").partition("::")[2].partition("Names of outcomes")[0].splitlines():
        words = line.strip(" │├└─")
        if not words:
            continue
        depth = (len(line) - len(line.lstrip(" │├└─"))) // 4
        name, _, rest = words.partition(" ")
        others = (rest[1 : rest.index(")")],) if rest.startswith("(") else ()
        del stack[depth - 1 :]
        tree[name] = (*stack[-1:], *others)
        stack.append(name)
    return tree


def test_the_drawn_tree_is_the_real_one():
    """Every class stands in the docstring's tree below its real bases, but for two that only name an outcome."""
    real = {name: tuple(base.__name__ for base in cls.__bases__) for name, cls in CLASSES.items()}
    assert real.pop("Crashed") == real.pop("Quarantined") == ("MeanwhileError",)
    real["MeanwhileError"] = ()
    assert drawn() == real


def test_one_except_catches_all_of_ours():
    """``except MeanwhileError`` is enough."""
    assert all(issubclass(cls, MeanwhileError) for cls in CLASSES.values())


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_error_says_what_it_means(name):
    """The first line of each docstring is shown to users in tracebacks: it is there and is a sentence."""
    first = (CLASSES[name].__doc__ or "").partition("\n")[0]
    assert first.endswith((".", "…)``"))


@pytest.mark.parametrize(
    ("after", "seconds"), [(None, None), (0, 0), (1.5, 1.5), (timedelta(minutes=2), 120.0), (timedelta(0), 0.0)]
)
def test_retry_takes_seconds_or_a_timedelta(after, seconds):
    """``after`` becomes seconds; left out, it leaves the decision to the backoff."""
    assert Retry("later", after=after).after == seconds


@pytest.mark.parametrize("after", [-1, float("inf"), float("nan"), timedelta(seconds=-1), "5", True, [1]])
def test_retry_refuses_what_is_no_delay(after):
    """A negative or endless delay is refused where it is written, with the value shown."""
    with pytest.raises(InvalidOption, match=r"Retry\(after=.*zero or more seconds"):
        Retry(after=after)


def test_retry_without_words_says_something():
    """The attempt that a reader sees has a message even if the body gave none."""
    assert str(Retry()) == "the task asked to be run again"
    assert str(Retry("the mail server is busy")) == "the mail server is busy"


def test_retry_survives_a_process_boundary():
    """Pickled or copied, it keeps message and delay: bodies may raise it in a pool of their own."""
    for again in (pickle.loads(pickle.dumps(Retry("later", after=5))), copy.copy(Retry("later", after=5))):
        assert (str(again), again.after) == ("later", 5)


@pytest.mark.parametrize("reason", JobStopped.__subclasses__())
def test_reasons_to_stop_take_a_message(reason):
    """Each reason is raised with a sentence about its job, and is a JobStopped."""
    assert str(reason("demo 1: stop")) == "demo 1: stop"
    assert issubclass(reason, JobStopped)
