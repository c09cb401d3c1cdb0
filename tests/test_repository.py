"""Guards of the repository: sizes, names, floors, the public surface, and that every test says what it proves."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import django_meanwhile

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "django_meanwhile"
TESTS = ROOT / "tests"

# What `from django_meanwhile import ...` offers. A name added here is a promise; one removed breaks users.
PUBLIC = {
    "Cancelled",
    "ContextError",
    "Crashed",
    "DecodingError",
    "EncodingError",
    "ExponentialBackoff",
    "Interrupted",
    "InvalidOption",
    "JobState",
    "LeaseLost",
    "MeanwhileError",
    "NotCancellable",
    "Quarantined",
    "ResultTimeout",
    "Retry",
    "Task",
    "TaskContext",
    "TaskResult",
    "TaskTimeout",
    "TransactionMismatch",
    "UnknownTask",
    "task",
}

LINES_OF_A_FILE = 400
LINES_OF_A_FUNCTION = 60
WITHOUT_A_ROLE = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}


def _sources() -> Iterator[Path]:
    return (path for path in sorted(PACKAGE.rglob("*.py")) if "migrations" not in path.parts)


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def test_files_are_small() -> None:
    """No source file has more lines than a reader keeps in mind."""
    large = {
        path.relative_to(ROOT): count
        for path in _sources()
        if (count := len(path.read_text().splitlines())) > LINES_OF_A_FILE
    }
    assert not large, (
        f"more than {LINES_OF_A_FILE} lines; find the second role in it and give that a file of its own: {large}"
    )


def test_functions_are_small() -> None:
    """No function has more lines, docstring included, than fit on a screen."""
    large = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name} ({length} lines)"
        for path in _sources()
        for node in ast.walk(_parse(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > LINES_OF_A_FUNCTION
    ]
    assert not large, f"more than {LINES_OF_A_FUNCTION} lines; name a step in it and let that be a function: {large}"


def test_modules_are_named_after_their_role() -> None:
    """No module has a name under which anything could be put."""
    nameless = [str(path.relative_to(ROOT)) for path in _sources() if {path.stem, path.parent.name} & WITHOUT_A_ROLE]
    assert not nameless, f"say in the name what the module is for: {nameless}"


def test_modules_say_what_they_are() -> None:
    """Every module of the package begins with a docstring."""
    silent = [
        str(path.relative_to(ROOT))
        for path in _sources()
        if path.read_text().strip() and not ast.get_docstring(_parse(path))
    ]
    assert not silent, f"begin with a docstring: what it is, who calls it, what it never does: {silent}"


def test_the_public_surface_is_the_promised_one() -> None:
    """`django_meanwhile` offers the names of the list above, every one can be had, and no other is announced."""
    assert set(django_meanwhile.__all__) == PUBLIC
    missing = [name for name in sorted(PUBLIC) if not hasattr(django_meanwhile, name)]
    assert not missing, f"announced in __all__, but not there: {missing}"


def test_importing_the_package_imports_nothing_else() -> None:
    """`import django_meanwhile` is possible before Django has settings, and does not import Django."""
    code = "import sys, django_meanwhile; print([name for name in sys.modules if name.split('.')[0] == 'django'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(PACKAGE.parent)},
    )
    assert done.stdout.strip() == "[]"


def test_types_are_shipped() -> None:
    """The package says that it is typed."""
    assert (PACKAGE / "py.typed").is_file(), "type checkers ignore annotations of a package without py.typed"


def test_imports_point_down() -> None:
    """The contracts in pyproject.toml (floors, pure ground, one door to each optional library) are kept."""
    pytest.importorskip("importlinter", reason="import-linter is not installed (it is in the dependency group test)")
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command; lint_imports_command()",
        "--no-cache",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (
        f"an import breaks a contract; move the code to the floor it belongs to:\n{done.stdout}{done.stderr}"
    )


def test_every_test_states_what_it_proves() -> None:
    """A test's docstring is the theorem; without one nobody knows which failure is a bug of the test."""
    silent = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in sorted(TESTS.rglob("test_*.py"))
        for node in ast.walk(_parse(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert not silent, f"say in a docstring what holds, always: {silent}"
