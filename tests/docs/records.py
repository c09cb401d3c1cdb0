"""Reads the source for what it logs: logger, levels and message of each record, for the test of `reference/logs`."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
PLACE = "…"


@dataclass(frozen=True)
class Record:
    """A call that logs. What is filled in is written as an ellipsis, as on the page."""

    logger: str
    levels: frozenset[str]
    message: str
    place: str


def records(source: dict[Path, str]) -> Iterator[Record]:
    """Yield every record that the modules can emit."""
    for path, text in source.items():
        named = re.findall(r"get_logger\(\"(\w+)\"\)", text)
        tree = ast.parse(text)
        for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]:
            names = {
                target.id: node.value
                for node in ast.walk(function)
                if isinstance(node, ast.Assign)
                for target in node.targets
                if isinstance(target, ast.Name)
            }
            for call in [node for node in ast.walk(function) if isinstance(node, ast.Call)]:
                levels = _levels(call, names)
                message = _message(call, names) if levels else None
                if message and message != PLACE:
                    assert len(set(named)) == 1, f"{path}: which logger? {named}"
                    yield Record(f"django_meanwhile.{named[0]}", levels, message, f"{path.name}:{call.lineno}")


def _levels(call: ast.Call, names: dict[str, ast.expr]) -> frozenset[str]:
    """Return the levels at which a call logs; none if it does not."""
    match call.func:
        case ast.Name(id="log"):
            return _both(names.get("log"))
        case ast.Attribute(attr="_say"):
            return frozenset({"INFO"})
        case ast.Attribute(attr="log", value=value) if "log" in ast.unparse(value):
            return _both(names.get(ast.unparse(call.args[0])))
        case ast.Attribute(attr=attribute, value=value) if attribute in LEVELS and "log" in ast.unparse(value):
            return frozenset({_level(attribute)})
    return frozenset()


def _both(chosen: ast.expr | None) -> frozenset[str]:
    if not isinstance(chosen, ast.IfExp):
        return frozenset()
    return frozenset(_level(ast.unparse(side).rpartition(".")[2]) for side in (chosen.body, chosen.orelse))


def _level(name: str) -> str:
    return {"exception": "ERROR"}.get(name, name.upper())


def _message(call: ast.Call, names: dict[str, ast.expr]) -> str | None:
    """Return the first text among the arguments, with an ellipsis for each value."""
    for argument in call.args:
        value = names.get(argument.id) if isinstance(argument, ast.Name) else argument
        match value:
            case ast.Constant(value=str(text)):
                return re.sub(r"%[-.\d]*[a-z]", PLACE, text)
            case ast.JoinedStr(values=parts):
                return "".join(part.value if isinstance(part, ast.Constant) else PLACE for part in parts)
    return None
