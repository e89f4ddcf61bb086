"""Charm archives: reading, checking, unpacking, and laying a new revision over an old one."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import re
import shutil
import stat
import subprocess
import zipfile
from typing import Any

import yaml

from minijuju.model import errors

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]*[a-z][a-z0-9]*)*")
ACTION = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
ROLES = {"provides": "provider", "requires": "requirer", "peers": "peer"}
TYPES = {"string": str, "int": int, "integer": int, "float": float, "boolean": bool, "secret": str}
TRUE, FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")
SYSTEM_PATHS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclasses.dataclass(frozen=True)
class EndpointMeta:
    """A declared endpoint."""

    name: str
    role: str
    interface: str
    scope: str = "global"
    limit: int = 0


@dataclasses.dataclass(frozen=True)
class StorageMeta:
    """A declared storage; `most` None means without bound."""

    name: str
    kind: str
    location: str = ""
    multiple: bool = False
    least: int = 1
    most: int | None = 1
    size: int = 1024


@dataclasses.dataclass(frozen=True)
class Option:
    """A configuration option."""

    name: str
    type: str
    default: Any = None
    description: str = ""

    def parse(self, text: str) -> Any:
        """A value as typed on the command line, in the option's type."""
        try:
            return self._parse(text)
        except ValueError:
            raise errors.JujuError(
                f'option "{self.name}" expected {self.type}, got "{text}"'
            ) from None

    def _parse(self, text: str) -> Any:
        if self.type == "int":
            if not re.fullmatch(r"[+-]?[0-9]+", text):
                raise ValueError(text)
            return int(text)
        if self.type == "float":
            return float(text)
        if self.type == "boolean":
            if text not in TRUE + FALSE:
                raise ValueError(text)
            return text in TRUE
        if self.type == "secret" and text and not text.startswith("secret:"):
            raise ValueError(text)
        return text


@dataclasses.dataclass(frozen=True)
class ActionMeta:
    """A declared action; `schema` is the JSON schema of its parameters."""

    name: str
    description: str
    schema: dict[str, Any]
    parallel: bool = False
    execution_group: str = ""


@dataclasses.dataclass(frozen=True)
class Meta:
    """What an unpacked charm says about itself."""

    directory: pathlib.Path
    name: str
    summary: str
    subordinate: bool
    endpoints: dict[str, EndpointMeta]
    extra_bindings: list[str]
    storage: dict[str, StorageMeta]
    resources: dict[str, dict[str, str]]
    options: dict[str, Option]
    actions: dict[str, ActionMeta]
    bases: list[str]
    version: str
    raw: dict[str, Any]

    @property
    def has_dispatch(self) -> bool:
        """Whether everything runs through `dispatch`."""
        return (self.directory / "dispatch").exists()

    def endpoint(self, name: str) -> EndpointMeta | None:
        """An endpoint by name, the implicit `juju-info` too."""
        implicit = EndpointMeta("juju-info", "provider", "juju-info")
        return self.endpoints.get(name) or (implicit if name == "juju-info" else None)

    def settings(self, chosen: dict[str, Any], *, everything: bool = False) -> dict[str, Any]:
        """Effective configuration: user values over defaults; options without value left out."""
        values = {n: chosen.get(n, o.default) for n, o in sorted(self.options.items())}
        return {n: v for n, v in values.items() if everything or v is not None}


def upload(source: pathlib.Path, target: pathlib.Path) -> Meta:
    """Unpack a `.charm` file, or copy a charm directory, into `target` and check it."""
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    elif zipfile.is_zipfile(source):
        _unpack(source, target)
    else:
        raise errors.JujuError(f"cannot read {source}: not a charm directory or archive")
    for hook in (target / "hooks").glob("*") if (target / "hooks").is_dir() else ():
        if hook.is_file() and not hook.is_symlink():
            hook.chmod(hook.stat().st_mode | 0o755)
    load.cache_clear()
    return load(target)


def _unpack(archive: pathlib.Path, target: pathlib.Path) -> None:
    with zipfile.ZipFile(archive) as bundle:
        for entry in bundle.infolist():
            path = target / entry.filename
            if not path.resolve().is_relative_to(target.resolve()):
                raise errors.JujuError(f"archive entry {entry.filename!r} lies outside the charm")
            mode = entry.external_attr >> 16
            if entry.is_dir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if stat.S_ISLNK(mode):
                path.symlink_to(bundle.read(entry).decode())
                continue
            with bundle.open(entry) as reader, path.open("wb") as writer:
                shutil.copyfileobj(reader, writer)
            path.chmod(stat.S_IMODE(mode) or 0o644)


def _yaml(path: pathlib.Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return yaml.load(path.read_text(), Loader=yaml.CSafeLoader) or {}
    except yaml.YAMLError as error:
        raise errors.JujuError(f"cannot parse {path.name}: {error}") from None


@functools.lru_cache(maxsize=64)
def load(directory: pathlib.Path) -> Meta:
    """Read and check an unpacked charm; raises `errors.JujuError`."""
    raw = _yaml(directory / "metadata.yaml")
    for key in ("name", "summary", "description"):
        if key not in raw:
            raise errors.JujuError(f"charm metadata without {key}")
    if not NAME.fullmatch(str(raw["name"])):
        raise errors.JujuError(f'invalid charm name "{raw["name"]}"')
    endpoints = _endpoints(raw)
    subordinate = bool(raw.get("subordinate", False))
    if subordinate and not any(
        e.role == "requirer" and e.scope == "container" for e in endpoints.values()
    ):
        raise errors.JujuError(
            f'subordinate charm "{raw["name"]}" lacks "requires" relation with container scope'
        )
    manifest = _yaml(directory / "manifest.yaml")
    version = directory / "version"
    return Meta(
        directory=directory,
        name=raw["name"],
        summary=str(raw["summary"]),
        subordinate=subordinate,
        endpoints=endpoints,
        extra_bindings=list(raw.get("extra-bindings") or {}),
        storage={n: _storage(n, s or {}) for n, s in (raw.get("storage") or {}).items()},
        resources=_resources(raw),
        options=_options(directory),
        actions=_actions(directory),
        bases=[f"{b['name']}@{b['channel'].split('/')[0]}" for b in manifest.get("bases") or []],
        version=version.read_text().strip() if version.exists() else "",
        raw=raw,
    )


def check_assumes(raw: dict[str, Any], version: tuple[int, ...]) -> None:
    """Refuse a charm whose `assumes` a machine model of this Juju version does not meet."""
    for wanted in raw.get("assumes") or []:
        if not _holds(wanted, version):
            raise errors.JujuError(
                f'charm "{raw["name"]}" cannot be deployed because of unmet requirements: {wanted}'
            )


def _holds(wanted: Any, version: tuple[int, ...]) -> bool:
    if isinstance(wanted, dict):
        (kind, inner), *_ = wanted.items()
        return (any if kind == "any-of" else all)(_holds(one, version) for one in inner)
    match = re.fullmatch(r"juju\s*(>=|<)\s*([0-9]+(?:\.[0-9]+)*)", str(wanted).strip())
    if not match:
        return str(wanted).strip() == "juju"
    bound = tuple(int(part) for part in match[2].split("."))
    return version >= bound if match[1] == ">=" else version < bound


def _endpoints(raw: dict[str, Any]) -> dict[str, EndpointMeta]:
    found: dict[str, EndpointMeta] = {}
    for section, role in ROLES.items():
        for name, spec in (raw.get(section) or {}).items():
            spec = {"interface": spec} if isinstance(spec, str) else spec or {}
            if "interface" not in spec:
                raise errors.JujuError(f'endpoint "{name}" has no interface')
            if name in found:
                raise errors.JujuError(f'endpoint "{name}" is declared twice')
            if role != "requirer" and (name == "juju" or name.startswith("juju-")):
                raise errors.JujuError(f'endpoint name "{name}" is reserved')
            found[name] = EndpointMeta(
                name,
                role,
                spec["interface"],
                spec.get("scope") or "global",
                int(spec.get("limit") or 0),
            )
    return found


def _resources(raw: dict[str, Any]) -> dict[str, dict[str, str]]:
    found = raw.get("resources") or {}
    for name, spec in found.items():
        if spec.get("type") not in ("file", "oci-image"):
            raise errors.JujuError(f'resource "{name}" has no valid type')
        if spec["type"] == "file" and not spec.get("filename"):
            raise errors.JujuError(f'resource "{name}" has no filename')
    return found


def mebibytes(text: str) -> int:
    """A size such as `1G`, `512M` or `2048` in MiB."""
    match = re.fullmatch(r"([0-9.]+)([MGTP]?)(?:i?B)?", str(text))
    if not match:
        raise errors.JujuError(f'cannot parse size "{text}"')
    return int(float(match[1]) * 1024 ** "MGTP".index(match[2] or "M"))


def _storage(name: str, spec: dict[str, Any]) -> StorageMeta:
    if spec.get("type") not in ("filesystem", "block"):
        raise errors.JujuError(f'charm storage "{name}" type is required')
    least, most, text = 1, 1, str((spec.get("multiple") or {}).get("range") or "")
    if text:
        match = re.fullmatch(r"([0-9]+)(?:-([0-9]+)|([+-]))?", text)
        if not match:
            raise errors.JujuError(f'storage "{name}" has an invalid range "{text}"')
        low, high, open_end = match.groups()
        least = int(low)
        most = None if open_end else int(high or low)
    size = mebibytes(spec["minimum-size"]) if spec.get("minimum-size") else 1024
    location = str(spec.get("location") or "")
    return StorageMeta(name, spec["type"], location, bool(text), least, most, size)


def _options(directory: pathlib.Path) -> dict[str, Option]:
    if not (directory / "config.yaml").exists():
        return {}
    raw = _yaml(directory / "config.yaml")
    if "options" not in raw:
        raise errors.JujuError("invalid config: no options key")
    found: dict[str, Option] = {}
    for name, spec in (raw["options"] or {}).items():
        kind = spec.get("type", "string")
        if kind not in TYPES:
            raise errors.JujuError(f'invalid config: option "{name}" has unknown type "{kind}"')
        default = spec.get("default")
        if kind == "float" and type(default) is int:
            default = float(default)
        if default is not None and type(default) is not TYPES[kind]:
            raise errors.JujuError(
                f'invalid config default: option "{name}" expected {kind}, got {default!r}'
            )
        kind = "int" if kind == "integer" else kind
        found[name] = Option(name, kind, default, str(spec.get("description") or ""))
    return found


def _actions(directory: pathlib.Path) -> dict[str, ActionMeta]:
    found: dict[str, ActionMeta] = {}
    for name, spec in _yaml(directory / "actions.yaml").items():
        spec = spec or {}
        if not ACTION.fullmatch(name) or name == "juju" or name.startswith("juju-"):
            raise errors.JujuError(f"bad action name {name}")
        for word in ("$schema", "$ref"):
            if _mentions(spec, word):
                raise errors.JujuError(
                    f'schema key "{word}" not compatible with this version of juju'
                )
        schema: dict[str, Any] = {
            "type": "object",
            "title": name,
            "description": spec.get("description", ""),
            "properties": spec.get("params") or {},
        }
        if "additionalProperties" in spec:
            schema["additionalProperties"] = spec["additionalProperties"]
        if spec.get("required"):
            schema["required"] = list(spec["required"])
        found[name] = ActionMeta(
            name,
            str(spec.get("description") or ""),
            schema,
            bool(spec.get("parallel")),
            str(spec.get("execution-group") or ""),
        )
    return found


def _mentions(value: Any, key: str) -> bool:
    """Whether a mapping anywhere in a value has a key."""
    if isinstance(value, dict):
        return key in value or any(_mentions(item, key) for item in value.values())
    return isinstance(value, list) and any(_mentions(item, key) for item in value)


def files(directory: pathlib.Path) -> list[str]:
    """The manifest: every path of an unpacked charm, relative, directories last."""
    plain: list[str] = []
    folders: list[str] = []
    for root, names, leaves in os.walk(directory):
        here = pathlib.Path(root).relative_to(directory)
        for name in names:
            link = (pathlib.Path(root) / name).is_symlink()
            (plain if link else folders).append(str(here / name))
        plain += [str(here / leaf) for leaf in leaves]
    return sorted(plain) + sorted(folders, reverse=True)


def deploy(source: pathlib.Path, target: pathlib.Path, url: str, previous: list[str]) -> list[str]:
    """Lay a charm's files over `target`; returns the new manifest.

    Files of the `previous` manifest that the new one lacks are deleted; all else that lies there
    (made at run time) stays.
    """
    manifest = files(source)
    target.mkdir(parents=True, exist_ok=True)
    for name in manifest:  # a file may take the place of a directory, or the other way round
        there = target / name
        kind = (source / name).is_dir() and not (source / name).is_symlink()
        if there.is_symlink() or (there.exists() and there.is_dir() != kind):
            shutil.rmtree(there) if there.is_dir() and not there.is_symlink() else there.unlink()
    subprocess.run(
        [
            "cp",
            "-a",
            "--no-preserve=ownership",
            "--remove-destination",
            f"{source}/.",
            f"{target}/",
        ],
        check=True,
        timeout=300,
    )
    kept = set(manifest)
    for name in previous:
        if name in kept:
            continue
        there = target / name
        if there.is_dir() and not there.is_symlink():
            if not any(there.iterdir()):
                there.rmdir()
        else:
            there.unlink(missing_ok=True)
    (target / ".juju-charm").write_text(url + "\n")
    return manifest
