"""The floors of src/ and of minijuju as data: imports run down or along them, in no circle.

What is imported for annotations alone counts as well: a reader follows both.
"""

from __future__ import annotations

import ast
import pathlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = pathlib.Path(__file__).resolve().parents[1]
FLOORS = (
    ("what Juju runs", ("charm", "startup", "launch")),
    ("what a person asks for", ("commands",)),
    ("what a hook does", ("hook",)),
    ("the resident service", ("keeper",)),
    ("databags and secrets", ("relations",)),
    ("backups", ("backup",)),
    ("etcd", ("etcd",)),
    ("certificates", ("tls",)),
    ("policy", ("cluster",)),
    ("the operating system", ("machine",)),
    ("errors", ("errors",)),
)
"""Name and rooms of each floor, from the top: a room is a package, or a module of its own."""
WALLS = {
    "cluster": ("ops", "subprocess", "socket", "pathlib", "os", "machine", "errors"),
    "keeper": ("ops",),
    "backup": ("ops",),
    "etcd": ("ops",),
    "tls": ("ops",),
    "machine": ("ops",),
}
"""Room to what it never imports: policy is pure, and only a hook knows Juju."""
MINIJUJU = (
    ("for the tests of charms", ("testing",)),
    ("the command line", ("cli",)),
    ("what the verbs change", ("controller",)),
    ("machines", ("machines",)),
    ("what a unit's agent does", ("agent",)),
    ("records and rules", ("model",)),
)
MINIJUJU_WALLS = {"model": ("socket", "signal", "jubilant", "pytest")}


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def read(sources: pathlib.Path, package: str = "") -> dict[str, set[str]]:
    """Module to all that it imports, by dotted name; of ours the module, not what is in it.

    Args:
        sources: the folder with the rooms.
        package: what stands before the names of the rooms, with its dot.
    """
    paths = {
        ".".join(path.relative_to(sources).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sources.rglob("*.py")
        if path.parent != sources or path.stem != "__init__"
    }
    found: dict[str, set[str]] = {}
    for name, path in paths.items():
        asked = {x.removeprefix(package) for x in _imports(ast.parse(path.read_text()))}
        found[name] = {x if x in paths else x.rpartition(".")[0] or x for x in asked} - {name}
    return found


def faults(
    graph: Mapping[str, set[str]],
    floors: tuple[tuple[str, tuple[str, ...]], ...] = FLOORS,
    walls: Mapping[str, tuple[str, ...]] = WALLS,
) -> list[str]:
    """One sentence for each import that goes up, through a wall, or in a circle."""
    floor = {room: at for at, (_, rooms) in enumerate(floors) for room in rooms}
    found: list[str] = []
    for name, asked in sorted(graph.items()):
        room = name.partition(".")[0]
        if room not in floor:
            found.append(f"{name} is on no floor: say in scripts/floors.py on which")
            continue
        found += [
            f"{name} imports {other}, which is on a floor above"
            for other in sorted(asked & graph.keys())
            if floor.get(other.partition(".")[0], 99) < floor[room]
        ]
        found += [
            f"{name} imports {other}: there is a wall"
            for other in sorted(asked)
            if other.partition(".")[0] in walls.get(room, ())
        ]
    circle = _circle(graph)
    if circle:
        found.append(f"a circle: {' -> '.join(circle)}")
    return found


def _circle(graph: Mapping[str, set[str]]) -> list[str]:
    """The modules of one circle, the first of them again at the end; [] without one."""
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        for other in sorted(graph[name] & graph.keys()):
            if circle := walk(other, [*way, name]):
                return circle
        done.add(name)
        return []

    return next(filter(None, (walk(name, []) for name in sorted(graph))), [])


def main() -> int:
    """Print what breaks the plan; 1 when anything does."""
    found = faults(read(ROOT / "src"))
    rooms = read(ROOT / "minijuju" / "src" / "minijuju", "minijuju.")
    found += faults(rooms, MINIJUJU, MINIJUJU_WALLS)
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
