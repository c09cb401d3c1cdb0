"""What a dictionary of settings is read with: rules for values, and a reader that collects what is wrong. Pure.

Called by ``conf``, which declares the settings, and by commands whose flags obey the same rules.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake in the settings, with the line to write instead."""

    message: str
    hint: str
    id: str = "meanwhile.E001"


Parse = Callable[[Any], Any]  # returns the parsed value, or raises ValueError(rule)
Hint = Callable[[Mapping[Any, Any]], str]  # takes the dictionary with an unknown key; says what to write instead


def seconds(low: float, high: float) -> Parse:
    """Accept a number of seconds from ``low`` to ``high``."""

    def parse(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            rule = f"must be a number of seconds from {low:g} to {high:g}"
            raise ValueError(rule)
        return float(value)

    return parse


def whole(low: int, high: int) -> Parse:
    """Accept a whole number from ``low`` to ``high``."""

    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            rule = f"must be a whole number from {low} to {high}"
            raise ValueError(rule)
        return value

    return parse


def optional(inner: Parse) -> Parse:
    """Accept None too."""
    return lambda value: None if value is None else inner(value)


def flag(value: Any) -> bool:
    """Accept True or False."""
    if not isinstance(value, bool):
        rule = "must be True or False"
        raise ValueError(rule)  # noqa: TRY004 - one error type for all rules
    return value


def one_of(*words: str) -> Parse:
    """Accept one of a few words."""

    def parse(value: Any) -> str:
        if not isinstance(value, str) or value not in words:
            rule = f"must be {' or '.join(repr(word) for word in words)}"
            raise ValueError(rule)
        return value

    return parse


def names(value: Any) -> tuple[str, ...]:
    """Accept a list of non-empty strings."""
    if isinstance(value, str) or not isinstance(value, list | tuple | set):
        rule = 'must be a list of strings, as in ["default", "mail"]'
        raise ValueError(rule)  # noqa: TRY004 - as above
    if not all(isinstance(name, str) and name for name in value):
        rule = "must hold non-empty strings only"
        raise ValueError(rule)
    return tuple(value)


def section(value: Any) -> Any:
    """Leave a nested dictionary to its own schema."""
    return value


def _mend(key: str, value: Any, parse: Parse) -> str:
    """Say what to write; what comes from the environment is text, which is the usual mistake."""
    if isinstance(value, str):
        if parse is flag:
            return f'It is text. From the environment: "{key}": os.environ.get("{key}") == "1".'
        if parse is names:
            return f'It is text. Write "{key}": ["{value}"], or from the environment: os.environ["{key}"].split(",").'
        if value.strip().replace(".", "", 1).isdigit():
            kind = "float" if "." in value else "int"
            return f'It is text. Write "{key}": {value.strip()}, or {kind}(...) around what comes from the environment.'
    return "Change the value, or delete the line to use the default."


class Reader:
    """Collects parsed values and problems."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def read(
        self, name: str, raw: Any, schema: Mapping[str, Parse], hints: Mapping[str, Hint] | None = None
    ) -> dict[str, Any]:
        """Return what is right of the dictionary ``raw``, by the names of its settings; note what is wrong.

        ``hints`` are for keys that others have, and that are not spelt like what they are called here.
        """
        if not isinstance(raw, Mapping):
            self.problem(f"{name} is {raw!r}: it must be a dictionary.", f"{name} = {{...}}")
            return {}
        values = {}
        for key, value in raw.items():
            if key not in schema:
                self._unknown(name, key, schema, hints[key](raw) if hints and key in hints else "")
                continue
            try:
                parsed = schema[key](value)
            except ValueError as error:
                self.problem(
                    f'{name}["{key}"] is {value!r}: it {error}.',
                    _mend(key, value, schema[key]),
                )
                continue
            if schema[key] is not section:
                values[key.lower()] = parsed
        return values

    def _unknown(self, name: str, key: object, schema: Mapping[str, Parse], hint: str) -> None:
        near = next(
            (found for text in (str(key), str(key).upper(), str(key).lower())
             if (found := difflib.get_close_matches(text, schema, n=1))),
            [],
        )  # fmt: skip
        known = ", ".join(schema)
        mend = f'Did you mean "{near[0]}"?' if near else f"Known keys: {known}."
        self.problem(f"{name} has an unknown key {key!r}.", hint or mend)

    def problem(self, message: str, hint: str) -> None:
        """Note one mistake."""
        self.problems.append(Problem(message=message, hint=hint))
