"""The machine image: a root directory that all machines share, built once and cached.

It is a debootstrap of the host's own distribution with systemd in it, and with a local apt
repository, so that machines without any outside network can install packages. A project names
what it wants in both under ``[tool.minijuju]`` in its ``pyproject.toml``::

    [tool.minijuju]
    image-packages = ["jq"]            # installed in every machine
    repository-packages = ["nginx"]    # to be had by apt-get install, with all they depend on

On a Debian host the image says in ``/etc/os-release`` that it is Ubuntu 24.04, because Juju's
charms look there; ``/usr/lib/os-release`` and ``/etc/debian_version`` stay Debian's.

From the shell: ``python -m minijuju.machines.image ensure | path | run [--bind HOST:INSIDE] --
COMMAND``.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from minijuju.machines import system

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

SCHEMA = 2
"""Part of every recipe's digest: raise it when what the builder does changes."""

DEBIAN_SUITE = "trixie"
REPOSITORY = "/usr/share/minijuju/repository"
"""Where the local apt repository is inside a machine."""

Progress = Callable[[str], None]

_BASE_PACKAGES = (
    "ca-certificates",
    "curl",
    "dbus",
    "iproute2",
    "iputils-ping",
    "less",
    "lsb-release",
    "netbase",
    "openssl",
    "procps",
    "python3",
    "python3-apt",
    "python3-venv",
    "rsync",
    "sudo",
    "systemd",
    "systemd-sysv",
    "tzdata",
    "xz-utils",
)
_MASKED_UNITS = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "container-getty@.service",
    "dev-hugepages.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "ldconfig.service",
    "systemd-firstboot.service",
    "systemd-logind.service",
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-timesyncd.service",
    "tmp.mount",
)
_UBUNTU_OS_RELEASE = """\
PRETTY_NAME="Ubuntu 24.04 LTS"
NAME="Ubuntu"
VERSION_ID="24.04"
VERSION="24.04 LTS (Noble Numbat)"
VERSION_CODENAME=noble
ID=ubuntu
ID_LIKE=debian
UBUNTU_CODENAME=noble
"""
_UBUNTU_LSB_RELEASE = """\
DISTRIB_ID=Ubuntu
DISTRIB_RELEASE=24.04
DISTRIB_CODENAME=noble
DISTRIB_DESCRIPTION="Ubuntu 24.04 LTS"
"""
_APT_CONFIGURATION = """\
APT::Install-Recommends "false";
APT::Get::Assume-Yes "true";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::PDiffs "false";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
"""
_DPKG_CONFIGURATION = """\
force-unsafe-io
path-exclude=/usr/share/man/*
path-exclude=/usr/share/locale/*
path-include=/usr/share/locale/locale.alias
"""
_FORGET_MACHINES = """\
while read -r source point type _; do
    [ "$source $type" = "minijuju overlay" ] || continue
    umount --lazy "$point" && umount --lazy "${point%/root}/disk" || true
done < /proc/self/mounts"""
"""Drops a mount namespace's copies of machines' disks, which would keep them busy."""

_PHASES = (
    ("I: Configuring the base system", "configuring the system"),
    ("I: Unpacking the base system", "unpacking the system"),
    ("I: Configuring required packages", "configuring the core packages"),
    ("I: Extracting ", "unpacking the core packages"),
    ("I: Retrieving ", "downloading packages"),
)
"""What debootstrap says as a phase begins, the last phase first, and what it means."""

_NETWORK_UNIT = """\
[Unit]
Description=Addresses of this machine
DefaultDependencies=no
After=systemd-tmpfiles-setup.service
Before=network-pre.target network.target network-online.target
Wants=network.target network-online.target
ConditionPathExists=/etc/minijuju/network

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/ip -force -batch /etc/minijuju/network

[Install]
WantedBy=sysinit.target
"""
_READY_UNIT = """\
[Unit]
Description=Tell the host that this machine is up
DefaultDependencies=no
After=sysinit.target basic.target minijuju-network.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/touch /run/minijuju-ready

[Install]
WantedBy=basic.target
"""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All that decides what is in an image.

    Attributes:
        distribution: ``debian`` or ``ubuntu``.
        suite: its code name, such as ``trixie``.
        architecture: dpkg's name for the machine's architecture.
        packages: installed besides the basic ones.
        repository: in the local apt repository, with all they depend on.
        schema: see SCHEMA.
    """

    distribution: str
    suite: str
    architecture: str
    packages: tuple[str, ...] = ()
    repository: tuple[str, ...] = ()
    schema: int = SCHEMA

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that change when the recipe does."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def recipe(project: pathlib.Path | None = None) -> Recipe:
    """The recipe for this host and a project.

    Args:
        project: a directory with a ``pyproject.toml``; by default the nearest one at or above
            the working directory that has a ``[tool.minijuju]`` table, else minijuju's own.

    The environment variable MINIJUJU_SUITE names another suite of the host's distribution.
    """
    release = system.os_release()
    distribution = "ubuntu" if release.get("ID") == "ubuntu" else "debian"
    suite = release.get("VERSION_CODENAME", "") if distribution == "ubuntu" else DEBIAN_SUITE
    table = _project_table(project)
    return Recipe(
        distribution=distribution,
        suite=os.environ.get("MINIJUJU_SUITE") or suite,
        architecture=system.run("dpkg", "--print-architecture").strip(),
        packages=tuple(sorted(table.get("image-packages", []))),
        repository=tuple(sorted(table.get("repository-packages", []))),
    )


def _project_table(project: pathlib.Path | None) -> dict[str, Any]:
    here = pathlib.Path.cwd()
    folders = [project] if project else [here, *here.parents, *pathlib.Path(__file__).parents]
    for folder in folders:
        path = folder / "pyproject.toml"
        if path.is_file():
            with path.open("rb") as handle:
                table = tomllib.load(handle).get("tool", {}).get("minijuju")
            if table is not None:
                return table
    return {}


def cache() -> pathlib.Path:
    """The directory of built images: $MINIJUJU_CACHE or ``/var/cache/minijuju``."""
    return pathlib.Path(os.environ.get("MINIJUJU_CACHE") or "/var/cache/minijuju")


def path(of: Recipe) -> pathlib.Path:
    """The root directory that this recipe's image has or will have."""
    return cache() / "images" / of.digest / "root"


def ensure(of: Recipe | None = None, *, progress: Progress | None = None) -> pathlib.Path:
    """Check that this host can run machines, build the image if need be, return its root.

    Args:
        of: what to build; by default recipe().
        progress: called with a short sentence as each step begins.

    Raises:
        system.Unsupported: this host cannot run machines.
        system.CommandError: a step failed; the message names the log.
    """
    of = of or recipe()
    root = path(of)
    system.require()
    if root.is_dir():
        return root
    say = progress or _quiet
    lock = root.parent.with_suffix(".lock")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(system.locked(lock, blocking=False))
        except BlockingIOError:
            say("Waiting for another process that builds the same machine image")
            stack.enter_context(system.locked(lock))
        if not root.is_dir():
            _build(of, root.parent, say)
    return root


def _quiet(_: str) -> None:
    """Progress that nobody reads."""


def _build(of: Recipe, target: pathlib.Path, say: Progress) -> None:
    part = target.with_suffix(".part")
    log = target.with_suffix(".log")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    log.unlink(missing_ok=True)
    builder = _Builder(of, part / "root", log, say)
    begun = time.monotonic()
    try:
        say(f"Building the machine image ({of.distribution} {of.suite}), one to two minutes, once")
        builder.bootstrap()
        if of.packages:
            say(f"Installing {' '.join(of.packages)} in the image")
        builder.install()
        if of.repository:
            say(f"Filling the image's package repository: {' '.join(of.repository)}")
        builder.fill_repository()
        builder.configure()
    except system.CommandError as error:
        raise system.Error(
            f"The machine image could not be built (log: {log}): {error}"
        ) from error
    (part / "recipe.json").write_text(json.dumps(dataclasses.asdict(of), indent=2) + "\n")
    part.rename(target)
    say(f"The machine image is ready after {time.monotonic() - begun:.0f} s")


@contextlib.contextmanager
def _narrated(log: pathlib.Path, say: Progress) -> Generator[None]:
    """Say what debootstrap is at while it fills a log."""
    ended = threading.Event()

    def watch() -> None:
        told = ""
        while not ended.wait(1):
            text = log.read_text(errors="replace") if log.exists() else ""
            phase = next((words for mark, words in _PHASES if mark in text), told)
            if phase != told:
                say(f"  ... {phase}")
                told = phase

    watcher = threading.Thread(target=watch, name="narrate", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


@dataclasses.dataclass(frozen=True)
class _Source:
    """One line of the host's apt sources."""

    uri: str
    suite: str
    component: str


def _host_sources() -> list[_Source]:
    """The host's own binary package sources, as apt understands them."""
    found = _known_sources()
    if not found:
        # Of an index that was never downloaded apt says nothing.
        system.run("apt-get", "update", timeout=300)
        found = _known_sources()
    return found


def _known_sources() -> list[_Source]:
    form = "$(CREATED_BY) $(REPO_URI) $(CODENAME) $(RELEASE) $(COMPONENT)"
    found: list[_Source] = []
    for line in system.run("apt-get", "indextargets", "--format", form).splitlines():
        kind, uri, codename, release, component = (*line.split(), "", "", "", "", "")[:5]
        if kind == "Packages" and component:
            # A source may say "stable"; what has no code name keeps the variable's.
            suite = release if codename.startswith("$") else codename
            source = _Source(_plain(uri), suite, component)
            if source not in found:
                found.append(source)
    return found


def _plain(uri: str) -> str:
    """A mirror's address; of a ``mirror+file:`` list, the first one in it."""
    if uri.startswith("mirror+file:"):
        listed = pathlib.Path(uri.removeprefix("mirror+file:").rstrip("/")).read_text().split()
        return listed[0]
    return uri


def _apt_transport() -> tuple[str, list[pathlib.Path]]:
    """How the host's apt reaches its mirrors: configuration text, and the files it names."""
    lines: list[str] = []
    files: list[pathlib.Path] = []
    for line in system.run("apt-config", "dump").splitlines():
        key, _, value = line.partition(" ")
        kind = key.lower().rsplit("::", 1)[-1]
        value = value.strip('";')
        wanted = key.lower().startswith(("acquire::http", "acquire::retries"))
        if not wanted or not value or kind == "proxy-auto-detect":
            continue
        lines.append(line)
        if value.startswith("/") and pathlib.Path(value).is_file():
            files.append(pathlib.Path(value))
    return "\n".join(lines) + "\n", files


class _Builder:
    """The steps that turn an empty directory into an image."""

    def __init__(self, of: Recipe, root: pathlib.Path, log: pathlib.Path, say: Progress):
        self._recipe = of
        self._say = say
        self._root = root
        self._log = log
        self._sources = _image_sources(of)

    def bootstrap(self) -> None:
        """Unpack the distribution with the basic packages."""
        _write(self._root, "etc/dpkg/dpkg.cfg.d/minijuju", _DPKG_CONFIGURATION)
        release = self._recipe
        options = ["--variant=minbase", f"--arch={release.architecture}"]
        options.append(f"--components={','.join(_components(release))}")
        options.append(f"--include={','.join(_BASE_PACKAGES)}")
        env = _proxy_environment()
        command = ["debootstrap", *options, release.suite, str(self._root), self._sources[0].uri]
        private = ["unshare", "--mount", "--fork", "--kill-child", "--propagation", "private"]
        shell = ["sh", "-c", f'{_FORGET_MACHINES}\nexec "$@"', "sh"]
        with _narrated(self._log, self._say):
            system.run(*private, "--", *shell, *command, timeout=1800, env=env, log=self._log)

    def install(self) -> None:
        """Install the project's packages from the host's mirror."""
        connect(self._root, self._recipe)
        self._in_image("apt-get", "update", "-q")
        if self._recipe.packages:
            self._in_image("apt-get", "install", "-yq", *self._recipe.packages)

    def fill_repository(self) -> None:
        """Download the repository's packages and all they need that the image lacks."""
        folder = self._root / REPOSITORY.lstrip("/")
        (folder / "partial").mkdir(parents=True)
        option = f"Dir::Cache::archives={REPOSITORY}"
        for package in self._recipe.repository:
            # One by one: packages that conflict with each other each get what they need.
            self._in_image("apt-get", "install", "-yq", "--download-only", "-o", option, package)
        shutil.rmtree(folder / "partial")
        (folder / "lock").unlink(missing_ok=True)
        scan = ("dpkg-scanpackages", "--multiversion", ".", "/dev/null")
        index = system.run(*scan, timeout=300, cwd=folder)
        (folder / "Packages").write_text(index)
        _write_release(folder, index.encode())

    def configure(self) -> None:
        """Cut the image off from the outside and make it boot fast, as Juju's Ubuntu."""
        disconnect(self._root)
        _write(self._root, "etc/apt/sources.list", f"deb [trusted=yes] file:{REPOSITORY} ./\n")
        self._in_image("apt-get", "update", "-q")
        self._in_image("useradd", "-m", "-u", "1000", "-U", "-s", "/bin/bash", "-G", "adm,sudo",
                       "ubuntu")  # fmt: skip
        _write(self._root, "etc/sudoers.d/90-ubuntu", "ubuntu ALL=(ALL) NOPASSWD:ALL\n", 0o440)
        _write(self._root, "etc/default/locale", "LANG=C.UTF-8\n")
        _write(self._root, "etc/hostname", "minijuju\n")
        (self._root / "etc/machine-id").write_text("")
        (self._root / "etc/resolv.conf").unlink(missing_ok=True)
        _write(self._root, "etc/resolv.conf", "# No name server: machines have no outside.\n")
        if self._recipe.distribution == "debian":
            for name in ("os-release", "lsb-release"):
                (self._root / "etc" / name).unlink(missing_ok=True)
            _write(self._root, "etc/os-release", _UBUNTU_OS_RELEASE)
            _write(self._root, "etc/lsb-release", _UBUNTU_LSB_RELEASE)
        self._configure_systemd()

    def _configure_systemd(self) -> None:
        units = "etc/systemd/system"
        for unit in _MASKED_UNITS:
            link = self._root / units / unit
            link.unlink(missing_ok=True)
            link.symlink_to("/dev/null")
        _write(self._root, f"{units}/minijuju-network.service", _NETWORK_UNIT)
        _write(self._root, f"{units}/minijuju-ready.service", _READY_UNIT)
        for unit, target in (("network", "sysinit"), ("ready", "basic")):
            wants = self._root / units / f"{target}.target.wants"
            wants.mkdir(exist_ok=True)
            link = wants / f"minijuju-{unit}.service"
            link.symlink_to(f"/etc/systemd/system/minijuju-{unit}.service")
        default = self._root / units / "default.target"
        default.unlink(missing_ok=True)
        default.symlink_to("/usr/lib/systemd/system/multi-user.target")
        _write(
            self._root,
            "etc/systemd/journald.conf.d/minijuju.conf",
            "[Journal]\nStorage=persistent\nSystemMaxUse=64M\nSplitMode=none\nAudit=no\n",
        )
        for folder in ("etc", "var"):
            # Newer than /usr: no unit that waits for an update of the system runs at boot.
            (self._root / folder / ".updated").touch()

    def _in_image(self, *argv: str) -> None:
        env = {"DEBIAN_FRONTEND": "noninteractive"}
        system.run(*chroot(self._root), *argv, timeout=1200, env=env, log=self._log)


def _components(of: Recipe) -> list[str]:
    return ["main", "universe"] if of.distribution == "ubuntu" else ["main"]


def _image_sources(of: Recipe) -> list[_Source]:
    """The host's sources turned to the image's suite, the suite itself first.

    Raises:
        system.Unsupported: the host's apt has no source of its own distribution.
    """
    host = system.os_release().get("VERSION_CODENAME", "")
    found: list[_Source] = []
    for source in _host_sources():
        base, dash, pocket = source.suite.partition("-")
        if base == host and pocket != "backports" and source.component in _components(of):
            found.append(dataclasses.replace(source, suite=f"{of.suite}{dash}{pocket}"))
    found.sort(key=lambda source: source.suite != of.suite)
    if not found or found[0].suite != of.suite:
        raise system.Unsupported(
            f"No package mirror is known: apt on this host has no source for {host or 'itself'}."
        )
    return found


def _proxy_environment() -> dict[str, str]:
    """The proxies of the host's apt, as debootstrap's downloader wants them."""
    env: dict[str, str] = {}
    for scheme in ("http", "https"):
        shell = system.run("apt-config", "shell", "PROXY", f"Acquire::{scheme}::Proxy")
        value = shlex.split(shell.strip().removeprefix("PROXY=") or "''")[0]
        if value and value != "DIRECT":
            env[f"{scheme}_proxy"] = value
    return env


_CONNECTION = ("etc/apt/sources.list.d/build.list", "etc/apt/apt.conf.d/99build",
               "usr/sbin/policy-rc.d")  # fmt: skip


def connect(root: pathlib.Path, of: Recipe) -> None:
    """Give a root directory the host's mirrors, name servers and a rule to start no service."""
    lines = [
        f"deb {source.uri} {source.suite} {source.component}" for source in _image_sources(of)
    ]
    configuration, files = _apt_transport()
    _write(root, _CONNECTION[0], "\n".join(lines) + "\n")
    _write(root, _CONNECTION[1], configuration)
    _write(root, "etc/apt/apt.conf.d/90minijuju", _APT_CONFIGURATION)
    _write(root, _CONNECTION[2], "#!/bin/sh\nexit 101\n", 0o755)
    for file in (*files, *pathlib.Path("/etc/apt/auth.conf.d").glob("*.conf")):
        inside = root / str(file).lstrip("/")
        if not inside.exists():
            inside.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, inside)
    (root / "etc/apt/sources.list").write_text("")
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    shutil.copyfile("/etc/resolv.conf", root / "etc/resolv.conf")


def disconnect(root: pathlib.Path) -> None:
    """Take away what connect() gave, and what was downloaded through it."""
    _, files = _apt_transport()
    for name in _CONNECTION:
        (root / name).unlink(missing_ok=True)
    for file in (*files, *(root / "etc/apt/auth.conf.d").glob("*.conf")):
        inside = root / str(file).lstrip("/") if file in files else file
        inside.unlink(missing_ok=True)
    for folder in ("var/lib/apt/lists", "var/cache/apt/archives"):
        shutil.rmtree(root / folder, ignore_errors=True)
        (root / folder / "partial").mkdir(parents=True)
    for pattern in ("var/cache/apt/*.bin", "var/log/*.log", "var/log/apt/*"):
        for file in root.glob(pattern):
            file.unlink()


def _write(root: pathlib.Path, name: str, text: str, mode: int = 0o644) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)


def _write_release(folder: pathlib.Path, index: bytes) -> None:
    stamp = time.strftime("%a, %d %b %Y %H:%M:%S UTC", time.gmtime())
    digest = hashlib.sha256(index).hexdigest()
    (folder / "Release").write_text(
        f"Origin: minijuju\nLabel: minijuju\nSuite: local\nDate: {stamp}\n"
        f"SHA256:\n {digest} {len(index)} Packages\n"
    )


def chroot(
    root: pathlib.Path,
    *,
    lower: pathlib.Path | None = None,
    work: pathlib.Path | None = None,
    binds: Mapping[str, str] | None = None,
    cwd: str = "/",
) -> list[str]:
    """The words to put before a command so that it runs inside a root directory.

    All mounts live in a namespace of the command's own and its processes die with it.

    Args:
        root: the directory; with ``lower``, what is written over it.
        lower: a directory to see through ``root`` and never to be written.
        work: an empty directory beside ``root``, for overlayfs; only with ``lower``.
        binds: directories or files of the host by the path they get inside.
        cwd: working directory inside.
    """
    lines = ["set -e", _FORGET_MACHINES]
    top = str(root)
    if lower:
        top = f"{root}.view"
        layers = f"lowerdir={lower},upperdir={root},workdir={work}"
        lines += [f"mkdir -p {shlex.quote(top)}"]
        lines += [f"mount -t overlay minijuju -o {shlex.quote(layers)} {shlex.quote(top)}"]
    quoted = shlex.quote(top)
    lines += [
        f"mount -t proc proc {quoted}/proc",
        f"mount -t tmpfs -o mode=1777 tmpfs {quoted}/run",
        f"mount --rbind /dev {quoted}/dev",
    ]
    for inside, outside in (binds or {}).items():
        target = shlex.quote(f"{top}/{inside.lstrip('/')}")
        source = shlex.quote(outside)
        lines.append(
            f'if [ -d {source} ]; then mkdir -p {target}; else mkdir -p "$(dirname {target})"; '
            f"[ -e {target} ] || : > {target}; fi; mount --rbind {source} {target}"
        )
    lines.append(f'exec chroot {quoted} sh -c \'cd "$0" && exec "$@"\' {shlex.quote(cwd)} "$@"')
    return [
        "unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private",
        "--", "sh", "-c", "\n".join(lines), "sh",
    ]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class BuildRoot:
    """A writable copy of an image that reaches the network as the host does."""

    image: pathlib.Path
    directory: pathlib.Path

    @property
    def upper(self) -> pathlib.Path:
        """What was written in it, as a directory of the host."""
        return self.directory / "upper"

    def run(
        self,
        argv: Sequence[str],
        *,
        binds: Mapping[str, str | os.PathLike[str]] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str = "/root",
        timeout: float = 1800,
        **options: Any,
    ) -> subprocess.CompletedProcess[Any]:
        """Run a command in it, as root, and wait.

        Args:
            argv: the command and its arguments.
            binds: directories or files of the host by the path they get inside.
            env: additions to environment().
            cwd: working directory inside.
            timeout: seconds.
            options: for subprocess.run, such as ``check`` or ``capture_output``.
        """
        prefix = chroot(
            self.upper,
            lower=self.image,
            work=self.directory / "work",
            binds={inside: os.fspath(outside) for inside, outside in (binds or {}).items()},
            cwd=cwd,
        )
        options.setdefault("check", False)
        inside = {**self.environment(), **(env or {})}
        return subprocess.run([*prefix, *argv], env=inside, timeout=timeout, **options)

    def environment(self) -> dict[str, str]:
        """The environment of commands in it: a plain root's, and how the host gets at PyPI."""
        kept = ("PIP_", "UV_", "SSL_", "REQUESTS_", "CURL_", "NO_PROXY", "no_proxy")
        env = {name: value for name, value in os.environ.items() if name.startswith(kept)}
        proxies = ("http_proxy", "https_proxy", "all_proxy")
        env.update((name, v) for name, v in os.environ.items() if name.lower() in proxies)
        for name in [name for name in env if name.startswith(("UV_PYTHON", "UV_PROJECT"))]:
            del env[name]
        env.update(
            HOME="/root",
            LANG="C.UTF-8",
            LC_ALL="C.UTF-8",
            USER="root",
            LOGNAME="root",
            DEBIAN_FRONTEND="noninteractive",
            PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        return env


@contextlib.contextmanager
def build_root(
    image: pathlib.Path, *, directory: pathlib.Path | None = None
) -> Generator[BuildRoot]:
    """A writable root on top of an image with the host's network, certificates and mirrors.

    Args:
        image: a root directory from ensure().
        directory: keeps what is written, for another time; by default it is thrown away.
    """
    system.require()
    with contextlib.ExitStack() as stack:
        if directory is None:
            parent = cache() / "builds"
            parent.mkdir(parents=True, exist_ok=True)
            scratch = tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True)
            directory = pathlib.Path(stack.enter_context(scratch))
        fresh = not (directory / "upper").is_dir()
        for name in ("upper", "work"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        upper = directory / "upper"
        if fresh:
            upper.chmod(0o755)
            made = json.loads((image.parent / "recipe.json").read_text())
            made = {name: tuple(v) if isinstance(v, list) else v for name, v in made.items()}
            connect(upper, Recipe(**made))
            _write(upper, "etc/hosts", "127.0.0.1 localhost\n")
            bundle = pathlib.Path("/etc/ssl/certs/ca-certificates.crt")
            if bundle.exists():
                inside = upper / "etc/ssl/certs"
                inside.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(bundle, inside / bundle.name)
        yield BuildRoot(image, directory)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m minijuju.machines.image", description="machine images"
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("ensure", help="build the image if need be and print its directory")
    verbs.add_parser("path", help="print the directory the image has or will have")
    runner = verbs.add_parser("run", help="run a command in a throw-away copy of the image")
    runner.add_argument("--bind", action="append", default=[], metavar="HOST:INSIDE")
    runner.add_argument("--cwd", default="/root", help="working directory inside")
    runner.add_argument("--keep", type=pathlib.Path, help="directory that keeps what is written")
    runner.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    try:
        if options.verb == "path":
            print(path(recipe()))
            return 0
        root = ensure(progress=lambda text: print(text, file=sys.stderr, flush=True))
        if options.verb == "ensure":
            print(root)
            return 0
        binds: dict[str, str | os.PathLike[str]] = {}
        for bind in options.bind:
            outside, _, inside = bind.rpartition(":")
            binds[inside] = pathlib.Path(outside).resolve()
        with build_root(root, directory=options.keep) as build:
            return build.run(options.command, binds=binds, cwd=options.cwd).returncode
    except system.Error as error:
        print(f"ERROR {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
