"""Make a ``.charm`` out of a directory of a charm that needs no packages."""

from __future__ import annotations

import importlib.metadata
import pathlib
import platform
import shutil
import subprocess
import zipfile
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

EXECUTABLE = 0o100755
PLAIN = 0o100644


OPS = (
    *("ops", "pyyaml", "websocket-client", "opentelemetry-api", "importlib-metadata", "zipp"),
    "typing-extensions",
)
"""The ops library and all it imports; none of it needs compiling."""


def vendored(names: Iterable[str] = OPS) -> dict[str, str]:
    """The Python files of installed distributions, as a charm carries them in ``venv/``."""
    found: dict[str, str] = {}
    for name in names:
        try:
            files = importlib.metadata.files(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # not needed by this version of Python
        for file in files:
            if file.suffix == ".py" or file.name in ("METADATA", "entry_points.txt"):
                found[f"venv/{file}"] = file.read_text()
    return found


def libraries(wanted: pathlib.Path, target: pathlib.Path, python: str) -> dict[str, bytes]:
    """Packages from the package index, as a charm carries them.

    Args:
        wanted: a requirements file with hashes.
        target: an empty directory to install them in.
        python: the version of Python that the machines have.
    """
    uv = [shutil.which("uv") or str(pathlib.Path("build/tools/bin/uv").absolute()), "--quiet"]
    fits = [
        "--python-version",
        python,
        "--python-platform",
        f"{platform.machine()}-manylinux_2_28",
    ]
    install = ["pip", "install", "--target", target, "--require-hashes", *fits, "-r", wanted]
    subprocess.run([*uv, *install], check=True, timeout=300)
    return {
        f"venv/{path.relative_to(target)}": path.read_bytes()
        for path in sorted(target.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def pack(
    source: pathlib.Path,
    target: pathlib.Path,
    *,
    name: str = "",
    files: Mapping[str, str | bytes] | None = None,
    without: Iterable[str] = (),
    metadata: Mapping[str, Any] | None = None,
) -> pathlib.Path:
    """Zip a charm directory and return the archive.

    Args:
        source: the directory; it holds the YAML files that charmcraft would write.
        target: where to put the archive.
        name: another name for the charm.
        files: more or other files, by path in the charm; ``dispatch`` and hooks are executable.
        without: files to leave out.
        metadata: changes at the top level of metadata.yaml; None takes a key away.
    """
    contents = {
        str(path.relative_to(source)): path.read_bytes()
        for path in sorted(source.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    for path, content in (files or {}).items():
        contents[path] = content.encode() if isinstance(content, str) else content
    described = yaml.safe_load(contents["metadata.yaml"])
    for key, value in {**(metadata or {}), **({"name": name} if name else {})}.items():
        described[key] = value
        if value is None:
            del described[key]
    contents["metadata.yaml"] = yaml.safe_dump(described, sort_keys=False).encode()
    archive = target / f"{described['name']}.charm"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        for path, content in contents.items():
            if path in without:
                continue
            entry = zipfile.ZipInfo(path, date_time=(2024, 1, 1, 0, 0, 0))
            runs = path == "dispatch" or path.startswith(("hooks/", "actions/"))
            entry.external_attr = (EXECUTABLE if runs else PLAIN) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            zipped.writestr(entry, content)
    return archive
