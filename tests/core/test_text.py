"""Text that every database stores and every terminal shows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_meanwhile.core.errors import InvalidOption
from django_meanwhile.core.text import MAX_DETAIL, MAX_SUMMARY, class_path, clip, describe, storable, summary

anything = st.text(alphabet=st.characters(codec=None, exclude_categories=()), max_size=50)


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


@given(anything)
def test_storable_text_can_be_stored_and_loses_no_letter(text):
    """The result is UTF-8 without NUL, doing it twice changes nothing, and harmless text passes as it is."""
    stored = storable(text)
    assert "\x00" not in stored
    assert stored.encode().decode() == stored
    assert storable(stored) == stored
    if "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text):
        assert stored == text


def test_storable_shows_what_it_replaced():
    """A NUL and a lone surrogate stay visible, as Python would write them."""
    assert storable("a\x00b\ud83dc") == "a\\x00b\\ud83dc"


@given(st.text(max_size=200), st.integers(1, 100))
def test_clip_keeps_both_ends(text, limit):
    """What fits is untouched; of the rest the beginning and the end stay, and the gap says how long it was."""
    clipped = clip(text, limit)
    if len(text) <= limit:
        assert clipped == text
        return
    half = limit // 2
    left_out = len(text) - 2 * half
    assert clipped.startswith(text[:half])
    assert f"… {left_out} characters left out …" in clipped
    if half:
        assert clipped.endswith(text[-half:])
    assert len(clipped) <= limit + 60


@pytest.mark.parametrize("error", [ValueError, ValueError("x")])
def test_class_path_names_class_and_instance_alike(error):
    """The path is that of the class, whether a class or an instance is asked about."""
    assert class_path(error) == "builtins.ValueError"


def test_class_path_of_a_nested_class_is_its_qualified_name():
    """Classes inside functions and classes are told apart."""

    class Inner(Exception):
        pass

    assert class_path(Inner) == f"{__name__}.test_class_path_of_a_nested_class_is_its_qualified_name.<locals>.Inner"


def test_a_description_has_frames_and_no_values():
    """The traceback shows where it happened, and nothing that a local variable held."""

    def body():
        password = "swordfish"
        raise ValueError("wrong " + "x" * len(password[:0]))

    with pytest.raises(ValueError) as caught:
        body()
    text = describe(caught.value)
    assert "in body" in text
    assert 'raise ValueError("wrong' in text
    assert "ValueError: wrong" in text
    assert "swordfish" not in text.replace('password = "swordfish"', "")


def test_skipped_frames_are_those_of_the_caller():
    """``skip`` leaves out frames of ours from the top, and never the last one."""

    def body():
        raise ValueError("x")

    with pytest.raises(ValueError) as caught:
        body()
    assert "test_skipped" in describe(caught.value)
    assert "test_skipped" not in describe(caught.value, skip=1)
    assert "in body" in describe(caught.value, skip=99)


def test_causes_and_groups_are_described():
    """The whole chain is there: cause, context, and the members of a group."""
    cause = raised(KeyError("the cause"))
    try:
        raise ExceptionGroup("the group", [ValueError("first"), TypeError("second")]) from cause
    except ExceptionGroup as group:
        text = describe(group)
    for part in ("the cause", "the group", "first", "second"):
        assert part in text


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (InvalidOption("no\nmore"), "django_meanwhile.core.errors.InvalidOption: no"),
        (KeyError(), "KeyError"),
        (ExceptionGroup("two", [ValueError("a"), KeyError("b")]), "ExceptionGroup: two (2 sub-exceptions)"),
        (ValueError("y" * 2 * MAX_SUMMARY), f"ValueError: {'y' * MAX_SUMMARY}"[:MAX_SUMMARY]),
    ],
)
def test_a_summary_is_the_line_that_names_the_error(error, line):
    """Of a traceback, whatever stands before it and however many notes follow."""
    try:
        try:
            raise ValueError("earlier")
        except ValueError:
            raise error  # noqa: B904 - an error inside an except block, as users raise them
    except Exception as caught:
        detail = f"{describe(caught)}\nNot retried: policy: none."
    assert summary(class_path(error), detail) == line


@pytest.mark.parametrize(
    ("detail", "line"),
    [("", "a.B"), ("no such argument\nmore", "a.B: no such argument"), ("Traceback (most recent call last):\n", "a.B")],
)
def test_a_summary_is_had_of_any_text(detail, line):
    """Without a line that names the error it is named, with the first line of a text that is no traceback."""
    assert summary("a.B", detail) == line


class Unspeakable(Exception):
    """Its text cannot be had."""

    def __str__(self):
        raise RuntimeError("no")


class WorseThanUnspeakable(Exception):
    """Even asking for its text ends the process, or would."""

    def __str__(self):
        raise SystemExit(3)


@pytest.mark.parametrize("error", [Unspeakable(), WorseThanUnspeakable()])
def test_an_exception_without_a_text_is_still_described(error):
    """A ``__str__`` that raises, whatever it raises, costs the message and not the traceback."""
    assert type(error).__name__ in describe(raised(error))


@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b", "\x00" * 10, "x" * 10 * MAX_DETAIL])
def test_a_description_is_always_storable_and_of_bounded_size(text):
    """NUL, surrogates and megabytes in a message cannot make an attempt that no database takes."""
    described = describe(raised(ValueError(text)))
    assert storable(described) == described
    assert len(described) <= MAX_DETAIL + 60


def test_endless_recursion_is_described():
    """A thousand frames of one function are folded, as Python folds them."""

    def endless():
        endless()

    with pytest.raises(RecursionError) as caught:
        endless()
    assert "RecursionError" in describe(caught.value)
    assert len(describe(caught.value)) < MAX_DETAIL
