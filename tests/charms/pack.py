"""Zip a charm that needs no build: `python tests/charms/pack.py tests/charms/easyrsa OUT`.

OUT is a directory, or the `.charm` file to write. The archive is the same for the same sources.
"""

from __future__ import annotations

import pathlib
import re
import stat
import sys
import zipfile

_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(source: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    """Write the archive and answer where it is.

    Raises:
        ValueError: `source` is not a charm.
    """
    metadata = source / "metadata.yaml"
    if not metadata.exists():
        raise ValueError(f"{source} has no metadata.yaml: it is not a charm")
    name = re.search(r"^name:\s*([a-z0-9-]+)", metadata.read_text(), re.MULTILINE)
    if not name:
        raise ValueError(f"{metadata} names no charm")
    target = out / f"{name.group(1)}.charm" if out.is_dir() or not out.suffix else out
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.new")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(source.rglob("*")):
            relative = path.relative_to(source)
            if not path.is_file() or "__pycache__" in relative.parts:
                continue
            entry = zipfile.ZipInfo(str(relative), _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            executable = path.stat().st_mode & stat.S_IXUSR
            entry.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
            archive.writestr(entry, path.read_bytes())
    temporary.replace(target)
    return target


def main() -> int:
    """Run from the command line."""
    if len(sys.argv) != 3:
        sys.stderr.write("usage: pack.py CHARM-DIRECTORY OUT\n")
        return 2
    try:
        sys.stdout.write(f"{pack(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))}\n")
    except (ValueError, OSError) as error:
        sys.stderr.write(f"pack.py: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
