"""Pack a charm with charmcraft in a copy of the machine image, once for each state of its inputs.

charmcraft packs a virtual environment that fits the Python it runs with, so it runs where the
charm will: in a writable copy of the image that minijuju's machines share. The result stands in
the charm's own directory; what was packed before is found again by the hash of its inputs.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

from minijuju.machines import image, system

CHARMCRAFT = "charmcraft==4.5.0"
PLATFORM = "ubuntu@24.04"
INPUTS = (
    "LICENSE",
    "actions.yaml",
    "charmcraft.yaml",
    "config.yaml",
    "dispatch",
    "lib",
    "lxd-profile.yaml",
    "metadata.yaml",
    "pyproject.toml",
    "requirements/charm.txt",
    "src",
)
KEPT = 8
"""How many packed charms the cache holds."""

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "pack"
TOOL = """\
set -e
[ -x /opt/charmcraft/bin/charmcraft ] || {
    rm -rf /opt/charmcraft/*
    python3 -m venv --system-site-packages /opt/charmcraft
    /opt/charmcraft/bin/pip install --quiet "$0"
}
ln -sf /opt/charmcraft/bin/craftctl /usr/local/bin/
# The image has no pip of its own, and charmcraft's python plugin runs the system's.
for python in /opt/charmcraft/lib/python3.*; do
    mkdir -p "/usr/local/lib/${python##*/}/dist-packages"
    ln -sfn "$python/site-packages/pip" "/usr/local/lib/${python##*/}/dist-packages/pip"
done
cd /root/project
exec /opt/charmcraft/bin/charmcraft --verbose pack --destructive-mode --platform "$1"
"""


def inputs(charm: pathlib.Path) -> Iterator[pathlib.Path]:
    """The files that a charm is packed from, sorted."""
    for name in INPUTS:
        path = charm / name
        if path.is_file():
            yield path
        elif path.is_dir():
            yield from sorted(
                file
                for file in path.rglob("*")
                if file.is_file() and "__pycache__" not in file.parts
            )


def digest(charm: pathlib.Path, recipe: image.Recipe) -> str:
    """Sixteen hexadecimal digits of everything that decides what the packed charm holds."""
    total = hashlib.sha256(f"{recipe.digest} {CHARMCRAFT}".encode())
    for path in (pathlib.Path(__file__), *inputs(charm)):
        mode = "x" if os.access(path, os.X_OK) else "-"
        name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{name} {mode} {content}\n".encode())
    return total.hexdigest()[:16]


def pack(charm: pathlib.Path) -> pathlib.Path:
    """Pack the charm in a directory, or find it packed, and return the file beside its sources.

    Raises:
        system.Error: it could not be packed; the message names the log.
    """
    recipe = image.recipe(ROOT)
    name = _charm_name(charm)
    result = charm / f"{name}_{PLATFORM.replace('@', '-')}-{recipe.architecture}.charm"
    cached = BUILD / "charms" / f"{name}-{digest(charm, recipe)}.charm"
    if not cached.exists():
        _build(charm, name, recipe, cached)
    os.utime(cached)
    if not (result.exists() and result.samefile(cached)):
        part = result.with_suffix(".part")
        part.unlink(missing_ok=True)
        _link(cached, part)
        part.replace(result)
    return result


def _build(charm: pathlib.Path, name: str, recipe: image.Recipe, target: pathlib.Path) -> None:
    root = image.ensure(recipe, progress=_say)
    _say(f"Packing {name} with charmcraft, a minute the first time")
    begun = time.monotonic()
    project = BUILD / "projects" / name
    for pattern in ("root-*", "tools-*"):
        for old in BUILD.glob(pattern):
            if not old.name.endswith(recipe.digest):
                shutil.rmtree(old, ignore_errors=True)
    for folder in (project, target.parent, BUILD / "cache", BUILD / f"tools-{recipe.digest}"):
        folder.mkdir(parents=True, exist_ok=True)
    _copy(charm, project)
    log = BUILD / f"{name}.log"
    binds = {
        "/root/project": project,
        "/root/.cache": BUILD / "cache",
        "/opt/charmcraft": BUILD / f"tools-{recipe.digest}",
    }
    command = ["bash", "-c", TOOL, CHARMCRAFT, f"{PLATFORM}:{recipe.architecture}"]
    with (
        log.open("wb") as output,
        image.build_root(root, directory=BUILD / f"root-{recipe.digest}") as build,
    ):
        env = {"PIP_FIND_LINKS": "", "XDG_RUNTIME_DIR": "/run"}
        done = build.run(command, binds=binds, env=env, stdout=output, stderr=subprocess.STDOUT)
    made = sorted(project.glob("*.charm"))
    if done.returncode or not made:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise system.Error(f"charmcraft could not pack {name} (log: {log}):\n{tail}")
    made[0].replace(target)
    old = sorted(target.parent.glob(f"{name}-*.charm"), key=lambda file: file.stat().st_mtime)
    for file in old[:-KEPT]:
        file.unlink()
    size = target.stat().st_size / 2**20
    _say(f"Packed {name}: {size:.1f} MiB in {time.monotonic() - begun:.0f} s")


def _copy(charm: pathlib.Path, project: pathlib.Path) -> None:
    for old in project.glob("*.charm"):
        old.unlink()
    for name in INPUTS:
        path = project / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for path in inputs(charm):
        copy = project / path.relative_to(charm)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)


def _link(source: pathlib.Path, target: pathlib.Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _charm_name(charm: pathlib.Path) -> str:
    for name in ("metadata.yaml", "charmcraft.yaml"):
        path = charm / name
        lines = path.read_text().splitlines() if path.is_file() else []
        for line in lines:
            if line.startswith("name:"):
                return line.removeprefix("name:").strip()
    raise system.Error(f"{charm} is not a charm: it has no metadata.yaml with a name.")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Pack the charms named on the command line, by default this repository's."""
    parser = argparse.ArgumentParser(description="Pack charms with charmcraft, cached.")
    parser.add_argument("charm", nargs="*", type=pathlib.Path, default=[ROOT])
    options = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    try:
        with (BUILD / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for charm in options.charm:
                print(pack(charm.resolve()))
    except system.Error as error:
        _say(f"ERROR {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
