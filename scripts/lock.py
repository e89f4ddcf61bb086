"""Pin the Python packages of the charm and of each dependency group: requirements/*.txt.

A file names every package with its version and the hashes of its files, and no place to download
them from. Its first line is a digest of what pyproject.toml asks for, so that a file that is
older than pyproject.toml is seen without a network. What is pinned stays until `--upgrade`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "requirements"
GROUPS = ("dev", "charm-reactive", "charm-data", "charm-tls")
"""Dependency groups with a file of their own; `charm.txt` holds what the charm itself needs."""


def digest() -> str:
    """The first line of each file: what pyproject.toml asks for, digested."""
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = asked["project"]
    wanted = [project["requires-python"], project["dependencies"], asked["dependency-groups"]]
    return f"# pyproject.toml {hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:16]}\n"


def old() -> list[str]:
    """The files that were made for another pyproject.toml, or were never made."""
    files = [FOLDER / f"{name}.txt" for name in ("charm", *GROUPS)]
    line = digest()
    return [
        str(file.relative_to(ROOT))
        for file in files
        if not file.exists() or not file.read_text().startswith(line)
    ]


def pin(name: str, *arguments: str | pathlib.Path, upgrade: bool) -> None:
    """Resolve one file; raises subprocess.CalledProcessError with uv's words on stderr."""
    file = FOLDER / f"{name}.txt"
    uv = shutil.which("uv") or str(ROOT / "build/tools/bin/uv")
    command = [uv, "pip", "compile", "--quiet", "--universal", "--python-version", "3.10"]
    command += ["--generate-hashes", "--no-annotate", "--no-header", "--output-file", str(file)]
    command += ["--upgrade"] if upgrade else []
    subprocess.run([*command, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    lines = file.read_text().splitlines(keepends=True)
    file.write_text(digest() + "".join(line for line in lines if not line.startswith("#")))


def main() -> int:
    """Pin, or with `--check` say which files do not fit pyproject.toml."""
    parser = argparse.ArgumentParser(description="Pin the Python packages by hash.")
    parser.add_argument("--check", action="store_true", help="change nothing")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    options = parser.parse_args()
    if options.check:
        found = old()
        if found:
            print(f"{', '.join(found)}: older than pyproject.toml; run make lock")
        return 1 if found else 0
    FOLDER.mkdir(exist_ok=True)
    pin("charm", "pyproject.toml", upgrade=options.upgrade)
    pinned = ("--constraint", FOLDER / "charm.txt")
    for group in GROUPS:
        own = ("pyproject.toml", *pinned) if group == "dev" else ()
        pin(group, *own, "--group", f"pyproject.toml:{group}", upgrade=options.upgrade)
    return 0


if __name__ == "__main__":
    sys.exit(main())
