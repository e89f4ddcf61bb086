"""Functions, methods and classes that nothing in src/ names: there for tests alone, or nobody.

A name counts as used where a module names it: as a variable, an attribute, or a word of a short
string, as `python -m` and `getattr` take them.
"""

from __future__ import annotations

import ast
import pathlib
import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[1]
CALLED_BY_OTHERS = {
    "do_GET": "http.server",
    "do_HEAD": "http.server",
    "handle_error": "socketserver",
    "log_message": "http.server",
    "get_prefix": "the load of the tests, which is a client like any other",
}
"""Name to who calls it from outside of src/."""
_LONGEST = 200  # characters of a string that may be a name


def _names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant):
            text = node.value if isinstance(node.value, str) else ""
            yield from re.findall(r"\w+", text if len(text) < _LONGEST else "")


def unused(sources: pathlib.Path) -> dict[str, str]:
    """Name to where it is defined, `file:line`, of what nothing names."""
    defined: dict[str, str] = {}
    named: set[str] = set()
    for path in sorted(sources.rglob("*.py")):
        tree = ast.parse(path.read_text())
        named |= set(_names(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                defined[node.name] = f"{path.relative_to(sources.parent)}:{node.lineno}"
    return {
        name: where
        for name, where in defined.items()
        if name not in named | CALLED_BY_OTHERS.keys() and not name.startswith("__")
    }


def main() -> int:
    """Print what is unused; 1 when there is anything."""
    found = unused(ROOT / "src")
    for name, where in found.items():
        print(f"{where}: nothing in src/ names {name}; delete it, or name its caller in unused.py")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
