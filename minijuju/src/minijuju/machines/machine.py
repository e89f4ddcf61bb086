"""Real machines: systemd-nspawn containers with a systemd, an address and a disk of their own.

Nothing about a machine lives in the process that started it. Its directory says what it is
(``machine.json``), its control group says whether it runs, so another process finds it as it is::

    Machine.load(directory).state()

A machine's root directory is an overlay of the shared image; what the machine writes goes to a
sparse ext4 file of limited size.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import errno
import functools
import hashlib
import ipaddress
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

from minijuju.machines import network as networks
from minijuju.machines import system

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

DISK_SIZE = 20 * 1024**3
"""Bytes of a machine's disk unless told; the file on the host is sparse."""

RUN_DIRECTORY = "/var/lib/minijuju"
"""Where Machine.run_dir is seen inside the machine."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin"

_HELPER = pathlib.Path(__file__).with_name("inside.py")
_READY = "run/minijuju-ready"
_BLKIO = pathlib.Path("/sys/fs/cgroup/blkio/blkio.throttle.write_iops_device")
"""Limits of disks where cgroup v1 has them: of all processes in the root group, by device."""
_PAUSE = 0.01  # seconds between two looks at a machine that changes its state
_SIGNAL_POWEROFF = signal.SIGRTMIN + 4  # systemd(1), "Signals"
_SIGNAL_REBOOT = signal.SIGRTMIN + 5
_REBOOTED = 133  # exit code of systemd-nspawn --keep-unit after a reboot inside

_KEEPER = """\
while :; do
    unshare --mount --propagation slave -- "$1" -I -S "$2" launch "$3"
    [ $? = {rebooted} ] || exit 0
done
"""
"""The one process that stays on the host for each machine, to start it again when it reboots."""


class State(enum.Enum):
    """What a machine does."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


@dataclasses.dataclass(frozen=True)
class Attachment:
    """A directory of the host that is seen inside a machine.

    Attributes:
        source: path on the host.
        target: path inside.
        read_only: whether the machine may not write to it.
    """

    source: str
    target: str
    read_only: bool = False


class Disk:
    """A sparse file with an ext4 file system of limited size, mounted on the host.

    Args:
        file: the file on the host.
        mountpoint: the directory where it is mounted.
        size: bytes; used by create().
    """

    def __init__(self, file: pathlib.Path, mountpoint: pathlib.Path, size: int = DISK_SIZE):
        self.file = file
        self.mountpoint = mountpoint
        self.size = size

    @property
    def mounted(self) -> bool:
        """Whether it is mounted now."""
        return os.path.ismount(self.mountpoint)

    def create(self) -> None:
        """Make the file and its file system; what was there is lost."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("wb") as handle:
            handle.truncate(self.size)
        system.run(
            "mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,nodiscard",
            "-O", "^has_journal,^resize_inode", str(self.file),
        )  # fmt: skip

    def mount(self) -> None:
        """Mount it if it is not, after repairing what a crash of the host left."""
        if self.mounted:
            return
        self.mountpoint.mkdir(parents=True, exist_ok=True)
        for how in ("-p", "-y"):
            # Exit code 1: something was wrong and is right now (e2fsck(8)).
            with contextlib.suppress(system.CommandError):
                system.run("e2fsck", how, str(self.file), timeout=300, accept=(0, 1))
                break
        _ensure_loop_devices()
        options = "loop,noatime,discard"
        system.run("mount", "-t", "ext4", "-o", options, str(self.file), str(self.mountpoint))

    def unmount(self) -> None:
        """Unmount it wherever it is mounted, and free its loop device."""
        _unmount(self.mountpoint)

    @property
    def device(self) -> str:
        """Number of its block device, "7:0"; while it is mounted."""
        number = self.mountpoint.stat().st_dev
        return f"{os.major(number)}:{os.minor(number)}"

    def fill(self, leave: int = 0) -> None:
        """Take all free space but ``leave`` bytes; free() gives it back."""
        with (self.mountpoint / ".filler").open("ab") as handle:
            offset = os.fstat(handle.fileno()).st_size
            usage = os.statvfs(self.mountpoint)
            wanted = usage.f_bavail * usage.f_frsize - leave
            step = max(wanted, 0)
            while step >= 4096 and wanted >= 4096:
                try:
                    os.posix_fallocate(handle.fileno(), offset, step)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    step //= 2
                    continue
                offset += step
                usage = os.statvfs(self.mountpoint)
                wanted = usage.f_bavail * usage.f_frsize - leave
                step = min(step, wanted)

    def free(self) -> None:
        """Give back what fill() took."""
        (self.mountpoint / ".filler").unlink(missing_ok=True)


class Machine:
    """One machine, running or not.

    Making the object does nothing; create() makes the machine. All methods may be called from
    any process and any thread.

    Args:
        directory: where all of it is kept; its path decides the names on the host.
        image: root directory of an image (see image.ensure()).
        name: for people, in messages.
        hostname: the name inside.
        network: its bridge; must be up when the machine starts.
        address: its IPv4 address in that network; the IPv6 address follows from it.
        disk_size: bytes.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        image: pathlib.Path,
        name: str,
        hostname: str,
        network: networks.Network,
        address: ipaddress.IPv4Address | str,
        disk_size: int = DISK_SIZE,
    ):
        self.directory = directory.resolve()
        self.image = image
        self.name = name
        self.hostname = hostname
        self.network = network
        self.address = ipaddress.IPv4Address(address)
        digest = hashlib.sha256(str(self.directory).encode()).hexdigest()
        self.id = f"mj{digest[:8]}"
        self._machine_id = uuid.UUID(digest[:32]).hex
        self.disk = Disk(self.directory / "disk.img", self.directory / "disk", disk_size)

    @classmethod
    def load(cls, directory: pathlib.Path) -> Machine:
        """The machine that was created in a directory.

        Raises:
            system.Error: there is none.
        """
        try:
            spec = json.loads((directory / "machine.json").read_text())
        except FileNotFoundError:
            raise system.Error(f"There is no machine in {directory}.") from None
        return cls(
            directory,
            image=pathlib.Path(spec["image"]),
            name=spec["name"],
            hostname=spec["hostname"],
            network=networks.Network(pathlib.Path(spec["network"])),
            address=spec["address"],
            disk_size=spec["disk_size"],
        )

    # ------------------------------------------------------------ what it is

    @property
    def interface(self) -> str:
        """The host's end of the machine's network cable."""
        return f"vb-{self.id}"

    @property
    def address6(self) -> ipaddress.IPv6Address | None:
        """Its IPv6 address, if its network has any."""
        return self.network.address6(self.address)

    @property
    def root(self) -> pathlib.Path:
        """Its root directory on the host, to read and to write, while it runs and while not.

        Shows the machine's disk only: not /run, and not what is attached (see live_root).
        """
        if not os.path.ismount(self._root):
            self._mount()
        return self._root

    @property
    def live_root(self) -> pathlib.Path:
        """Its root directory as its own processes see it, while it runs.

        Raises:
            system.Error: it does not run.
        """
        return pathlib.Path(f"/proc/{self._require_leader()}/root")

    @property
    def run_dir(self) -> pathlib.Path:
        """A directory of the host that the machine sees at RUN_DIRECTORY; sockets work in it."""
        return self.directory / "run"

    @property
    def console(self) -> pathlib.Path:
        """What the machine wrote on its console since it was last started."""
        return self.directory / "console.log"

    @property
    def boot_id(self) -> str | None:
        """A name of this boot, another after each reboot; None while the machine does not run."""
        leader = self.leader()
        if leader is None:
            return None
        try:
            path = pathlib.Path(f"/proc/{leader}/root/proc/sys/kernel/random/boot_id")
            return path.read_text().strip()
        except OSError:
            return None

    def state(self) -> State:
        """Whether it runs, is paused or is stopped."""
        events = _keys(self._cgroup / "cgroup.events")
        if events.get("populated") != "1":
            return State.STOPPED
        return State.PAUSED if events.get("frozen") == "1" else State.RUNNING

    def ready(self) -> bool:
        """Whether it has booted far enough to run commands."""
        leader = self.leader()
        return leader is not None and os.path.exists(f"/proc/{leader}/root/{_READY}")

    def leader(self) -> int | None:
        """The host's process number of its first process; None before boot and after the end."""
        payload = self._cgroup / "machine" / "payload"
        for group in (payload / "init.scope", payload):
            with contextlib.suppress(OSError):
                for line in (group / "cgroup.procs").read_text().split():
                    if _number_inside(line) == 1:
                        return int(line)
        return None

    # ---------------------------------------------------------- its life

    def create(self) -> None:
        """Make the machine, stopped. What an earlier one left in the directory is removed."""
        with self._locked():
            self._wipe()
            self.run_dir.mkdir(parents=True, exist_ok=True)
            self._save([])
            self.disk.create()
            self._mount()
            self._configure()

    def start(self, timeout: float = 60) -> None:
        """Boot it and return when commands can run in it; at once if it runs already.

        A paused machine goes on.

        Args:
            timeout: seconds.

        Raises:
            system.Error: it did not come up; the message has the end of its console.
        """
        with self._locked():
            if self.state() is State.STOPPED:
                self._power_off()
                self._mount()
                self._save(self.attachments())
                self._spawn()
        if self.state() is State.PAUSED:
            self.resume()
        self._wait_ready(time.monotonic() + timeout)

    def stop(self, timeout: float = 30) -> None:
        """Shut it down in order, and by force after ``timeout`` seconds."""
        if self.state() is State.PAUSED:
            self.resume()
        leader = self.leader()
        if leader is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(leader, _SIGNAL_POWEROFF)
            with contextlib.suppress(TimeoutError):
                _wait(lambda: self.state() is State.STOPPED, timeout)
        self.kill()

    def kill(self) -> None:
        """Take its power away, whatever it does.

        Its processes get no say. What they wrote is on the disk, also what they did not sync.
        """
        with contextlib.suppress(FileNotFoundError):
            (self._cgroup / "cgroup.kill").write_text("1")
        with self._locked():
            self._power_off()

    def pause(self) -> None:
        """Freeze all its processes; connections stay, nobody answers.

        Raises:
            system.Error: it does not run.
        """
        self._freeze(frozen=True)

    def resume(self) -> None:
        """Let a paused machine go on."""
        self._freeze(frozen=False)

    def reboot(self, timeout: float = 60) -> None:
        """Restart it in order, as ``systemctl reboot`` inside does, and return when it is up."""
        before = self.boot_id
        os.kill(self._require_leader(), _SIGNAL_REBOOT)
        end = time.monotonic() + timeout
        try:
            _wait(lambda: self.boot_id not in (None, before), timeout)
        except TimeoutError:
            raise system.Error(f"Machine {self.name} did not reboot in {timeout:g} s.") from None
        self._wait_ready(end)

    def destroy(self) -> None:
        """Remove it with all that it left on the host; fine when it is not there."""
        with contextlib.suppress(FileNotFoundError):
            (self._cgroup / "cgroup.kill").write_text("1")
        with self._locked():
            self._wipe()
            self._lock.unlink(missing_ok=True)

    # ------------------------------------------------------ things done to it

    def popen(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "",
        user: str = "root",
        stdin: Any = subprocess.DEVNULL,
        stdout: Any = None,
        stderr: Any = None,
        **options: Any,
    ) -> subprocess.Popen[Any]:
        """Start a command inside: in all the machine's namespaces, and gone when it is.

        Signals sent to the process reach the command. Its exit code is the command's; 127 if the
        command is not there, 125 or 126 if it could not be started.

        Args:
            argv: the command; found by the PATH of ``env``.
            env: the exact environment; by default that of a fresh login of the user.
            cwd: working directory inside; by default the user's home.
            user: a name or number known inside.
            stdin: as for subprocess.Popen, as are stdout and stderr.
            stdout: see stdin.
            stderr: see stdin.
            options: more for subprocess.Popen, such as ``text``.

        Raises:
            system.Error: the machine does not run.
        """
        leader = self._require_leader()
        group = self._cgroup / "machine" / "payload" / "minijuju"
        command = [*_helper("exec"), str(leader), str(group), user, cwd, "--", *argv]
        return subprocess.Popen(
            command,
            env=dict(_login(user) if env is None else env),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            **options,
        )

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "",
        user: str = "root",
        input: str | None = None,  # noqa: A002
        timeout: float = 60,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside and wait; see popen() for the arguments they share.

        Args:
            argv: the command.
            env: the exact environment.
            cwd: working directory inside.
            user: a name or number known inside.
            input: text for its standard input.
            timeout: seconds until it is killed.
            check: whether to raise an error when it fails.

        Raises:
            system.CommandError: it failed, and ``check``; or it took too long.
        """
        process = self.popen(
            argv,
            env=env,
            cwd=cwd,
            user=user,
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                out, err = process.communicate(input, timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise system.CommandError(argv, f"took over {timeout:g} s", "") from None
        if check and process.returncode:
            raise system.CommandError(argv, f"failed with {process.returncode}", err or out)
        return subprocess.CompletedProcess(list(argv), process.returncode, out, err)

    def attachments(self) -> list[Attachment]:
        """The directories of the host that it sees, in the order they were attached."""
        spec = json.loads((self.directory / "machine.json").read_text())
        return [Attachment(**one) for one in spec["attachments"]]

    def attach(self, host_dir: pathlib.Path, inside_path: str, *, read_only: bool = False) -> None:
        """Let it see a directory of the host from now on, also after reboots.

        Args:
            host_dir: the directory; mounts below it are seen too.
            inside_path: where, made if it is not there.
            read_only: whether it may not write there.
        """
        one = Attachment(str(host_dir.resolve()), inside_path, read_only)
        with self._locked():
            rest = [other for other in self.attachments() if other.target != inside_path]
            self._save([*rest, one])
            leader = self.leader()
            if leader is not None:
                mode = "ro" if read_only else "rw"
                system.run(*_helper("attach"), str(leader), one.source, one.target, mode)

    def detach(self, inside_path: str, *, force: bool = False) -> None:
        """Take back what attach() gave.

        A machine that booted with a Disk attached keeps its loop device until it stops
        (systemd-nspawn before 253 never lets go of the host's mounts); another machine can
        have the disk all the same.

        Args:
            inside_path: as given to attach().
            force: also while processes inside use it; they keep what they have open.

        Raises:
            system.CommandError: it is in use.
        """
        with self._locked():
            leader = self.leader()
            if leader is not None:
                mode = "lazy" if force else "now"
                system.run(*_helper("detach"), str(leader), inside_path, mode)
            self._save([one for one in self.attachments() if one.target != inside_path])

    def readdress(self, address: ipaddress.IPv4Address | str) -> None:
        """Give it another address at once, and at each later boot; the old one is gone.

        Raises:
            system.CommandError: it runs and did not take the address.
        """
        with self._locked():
            old = [f"address del {one}\n" for one in self._on_cable()]
            self.address = ipaddress.IPv4Address(address)
            self._mount()
            self._save(self.attachments())
            self._configure()
            if self.leader() is not None:
                new = [f"address add {one}\n" for one in self._on_cable()]
                self.run(["ip", "-batch", "-"], input="".join(old + new))

    def fill_disk(self, leave: int = 0) -> None:
        """Take all free space on its disk but ``leave`` bytes."""
        self._mount()
        self.disk.fill(leave)

    def free_disk(self) -> None:
        """Give back what fill_disk() took."""
        self._mount()
        self.disk.free()

    def slow_disk(self, iops: int) -> None:
        """Let its disk do only so many writes and so many reads a second; 0 takes the limit away.

        Where limits are those of cgroup v2, killing the machine ends them.

        Raises:
            system.Error: it does not run; or the host's kernel cannot limit a disk.
        """
        self._require_leader()
        self._mount()
        if _BLKIO.exists():
            _limit(self.disk.device, iops)
            return
        try:
            (_cgroups() / "cgroup.subtree_control").write_text("+io")
            limit = iops or "max"
            text = f"{self.disk.device} riops={limit} wiops={limit}"
            (self._cgroup / "io.max").write_text(text)
        except OSError as error:
            raise system.Error(
                f"The disk of machine {self.name} cannot be slowed: {error}."
            ) from error

    # --------------------------------------------------------------- parts

    @property
    def _root(self) -> pathlib.Path:
        return self.directory / "root"

    @property
    def _cgroup(self) -> pathlib.Path:
        return _cgroups() / self.id

    @contextlib.contextmanager
    def _locked(self) -> Generator[None]:
        with system.locked(self._lock):
            yield

    @property
    def _lock(self) -> pathlib.Path:
        # Beside the directory, which may be removed by who holds the lock.
        return self.directory.with_name(f".{self.directory.name}.lock")

    def _save(self, attachments: Sequence[Attachment]) -> None:
        spec = {
            "id": self.id,
            "machine_id": self._machine_id,
            "image": str(self.image),
            "name": self.name,
            "hostname": self.hostname,
            "network": str(self.network.directory),
            "bridge": self.network.bridge,
            "address": str(self.address),
            "disk_size": self.disk.size,
            "cgroup": str(self._cgroup),
            "attachments": [dataclasses.asdict(one) for one in attachments],
        }
        part = self.directory / "machine.part"
        part.write_text(json.dumps(spec, indent=2) + "\n")
        part.rename(self.directory / "machine.json")

    def _mount(self) -> None:
        if os.path.ismount(self._root):
            return
        self.disk.mount()
        for folder in (self.disk.mountpoint / "upper", self.disk.mountpoint / "work", self._root):
            folder.mkdir(exist_ok=True)
        (self.disk.mountpoint / "upper").chmod(0o755)
        layers = ",".join(
            f"{layer}={folder}"
            for layer, folder in (
                ("lowerdir", self.image),
                ("upperdir", self.disk.mountpoint / "upper"),
                ("workdir", self.disk.mountpoint / "work"),
            )
        )
        system.run("mount", "-t", "overlay", "minijuju", "-o", layers, str(self._root))

    def _configure(self) -> None:
        """Write what tells this machine from the others."""
        files = {
            "etc/hostname": f"{self.hostname}\n",
            "etc/machine-id": f"{self._machine_id}\n",
            "etc/hosts": (
                f"127.0.0.1 localhost\n127.0.1.1 {self.hostname}\n"
                "::1 localhost ip6-localhost ip6-loopback\n"
            ),
            "etc/minijuju/network": self._ip_commands(),
        }
        for name, text in files.items():
            file = self._root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    def _ip_commands(self) -> str:
        adding = [f"address add {one}" for one in self._on_cable()]
        lines = ["link set lo up", f"link set host0 name {networks.INTERFACE}", *adding]
        return "\n".join([*lines, f"link set {networks.INTERFACE} up"]) + "\n"

    def _on_cable(self) -> list[str]:
        """Its addresses, each as ip(8) takes it after `address add`."""
        found = [f"{self.address}/{self.network.ipv4.prefixlen} dev {networks.INTERFACE}"]
        if self.address6:
            found.append(f"{self.address6}/64 dev {networks.INTERFACE} nodad")
        return found

    def _spawn(self) -> None:
        # Another name each time: what a starter that was killed left behind cannot join it.
        keeper = self._cgroup / f"keeper-{uuid.uuid4().hex[:8]}"
        keeper.mkdir(parents=True, exist_ok=True)
        script = f'echo $$ > "$4/cgroup.procs" || exit 1\n{_KEEPER.format(rebooted=_REBOOTED)}'
        with self.console.open("wb") as console:
            process = subprocess.Popen(
                ["sh", "-c", script, "sh", sys.executable, str(_HELPER), str(self.directory),
                 str(keeper)],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd="/",
                env=system.environment(),
            )  # fmt: skip
        # Nobody waits for it here: it outlives this process, and a thread reaps it until then.
        _reap(process)
        with contextlib.suppress(TimeoutError):
            _wait(lambda: self.state() is not State.STOPPED or process.poll() is not None, 5)

    def _wait_ready(self, end: float) -> None:
        def settled() -> bool:
            return self.ready() or self.state() is State.STOPPED

        with contextlib.suppress(TimeoutError):
            _wait(settled, end - time.monotonic())
        if not self.ready():
            text = self.console.read_text(errors="replace") if self.console.exists() else ""
            tail = "\n".join(text.splitlines()[-15:])
            raise system.Error(f"Machine {self.name} did not come up:\n{tail}")

    def _require_leader(self) -> int:
        leader = self.leader()
        if leader is None:
            raise system.Error(f"Machine {self.name} is not running.")
        return leader

    def _freeze(self, *, frozen: bool) -> None:
        if self.state() is State.STOPPED:
            raise system.Error(f"Machine {self.name} is not running.")
        (self._cgroup / "cgroup.freeze").write_text("1" if frozen else "0")
        wanted = State.PAUSED if frozen else State.RUNNING
        try:
            _wait(lambda: self.state() in (wanted, State.STOPPED), 10)
        except TimeoutError:
            verb = "pause" if frozen else "resume"
            raise system.Error(f"Machine {self.name} did not {verb} in 10 s.") from None

    def _power_off(self) -> None:
        """Kill all its processes and remove its control groups and its cable."""

        def gone() -> bool:
            with contextlib.suppress(FileNotFoundError):
                (self._cgroup / "cgroup.kill").write_text("1")
            return self.state() is State.STOPPED and self._remove_groups()

        try:
            _wait(gone, 30)
        except TimeoutError:
            raise system.Error(f"Processes of machine {self.name} cannot be killed.") from None
        if pathlib.Path("/sys/class/net", self.interface).exists():
            with contextlib.suppress(system.CommandError):
                system.run("ip", "link", "delete", self.interface)
        with contextlib.suppress(OSError):
            os.rmdir(f"/run/systemd/nspawn/propagate/{self.id}")

    def _remove_groups(self) -> bool:
        """Whether all are gone; a process that joins one at this moment prevents it."""
        try:
            for parent, _, _ in os.walk(self._cgroup, topdown=False):
                os.rmdir(parent)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            return False
        return True

    def _wipe(self) -> None:
        self._power_off()
        self._unlimit()
        self.network.heal(self)
        _unmount(self._root)
        self.disk.unmount()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _unlimit(self) -> None:
        """Leave no limit to who gets the disk's loop device next."""
        if self.disk.mounted and _BLKIO.exists():
            _limit(self.disk.device, 0)


def sweep(directory: pathlib.Path) -> None:
    """Remove every machine and network kept below a directory, whoever made them and however."""
    found: list[networks.Network] = []
    for folder, below, files in os.walk(directory):
        if "network.json" in files:
            found.append(networks.Network(pathlib.Path(folder)))
        if "machine.json" in files:
            below.clear()
            Machine.load(pathlib.Path(folder)).destroy()
    for one in found:
        one.down()


def _limit(device: str, iops: int) -> None:
    for way in ("read", "write"):
        file = _BLKIO.with_name(f"blkio.throttle.{way}_iops_device")
        file.write_text(f"{device} {iops}")


def _helper(verb: str) -> list[str]:
    return [sys.executable, "-I", "-S", str(_HELPER), verb]


def _login(user: str) -> dict[str, str]:
    home = "/root" if user == "root" else f"/home/{user}"
    return {
        "PATH": PATH,
        "HOME": home,
        "USER": user,
        "LOGNAME": user,
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
    }


def _wait(condition: Callable[[], bool], timeout: float) -> None:
    """Wait for something that happens within milliseconds or seconds.

    Raises:
        TimeoutError: it did not happen.
    """
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(_PAUSE)


def _reap(process: subprocess.Popen[Any]) -> None:
    threading.Thread(target=process.wait, name="reap-machine", daemon=True).start()


def _keys(file: pathlib.Path) -> dict[str, str]:
    """A control group's file of one ``key value`` a line; empty if there is none."""
    try:
        return dict(line.split(None, 1) for line in file.read_text().splitlines())
    except OSError:
        return {}


def _number_inside(pid: str) -> int | None:
    """A process's number in its own innermost namespace."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                numbers = line.split()[1:]
                return int(numbers[-1]) if len(numbers) > 1 else None
    return None


@functools.cache
def _cgroups() -> pathlib.Path:
    """Where the host's cgroup2 hierarchy is mounted; mounts it where it is not."""
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
        _, point, filesystem, *_ = line.split()
        if filesystem == "cgroup2":
            return pathlib.Path(point)
    point = pathlib.Path("/run/minijuju/cgroup")
    point.mkdir(parents=True, exist_ok=True)
    system.run("mount", "-t", "cgroup2", "cgroup2", str(point))
    return point


def _unmount(point: pathlib.Path) -> None:
    while os.path.ismount(point):
        with contextlib.suppress(system.CommandError):
            system.run("umount", str(point))
            continue
        # Someone on the host looks into it; the kernel finishes when they are done.
        system.run("umount", "--lazy", str(point))


def _ensure_loop_devices() -> None:
    """Where /dev is not kept by the kernel, make the node of the next free loop device."""
    with contextlib.suppress(system.CommandError, ValueError, OSError):
        # Without its node the answer is "/dev/loop8 (lost)".
        device = pathlib.Path(system.run("losetup", "--find").split()[0])
        if not device.exists():
            number = int(device.name.removeprefix("loop"))
            os.mknod(device, 0o660 | 0o060000, os.makedev(7, number))
