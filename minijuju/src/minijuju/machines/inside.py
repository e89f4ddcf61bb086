"""Enter a machine's namespaces; run as a program of its own, by path, with ``python -I -S``.

A process can change its namespaces only while it has one thread, and the controller has many.
So this file uses nothing but the standard library and is never imported by the controller.

    inside.py launch DIRECTORY                  become systemd-nspawn for the machine there
    inside.py exec LEADER CGROUP USER CWD -- COMMAND...
    inside.py attach LEADER SOURCE TARGET MODE  bind a directory of the host, MODE rw or ro
    inside.py detach LEADER TARGET MODE         MODE now or lazy

LEADER is the host's number of the machine's first process.
"""

# The builtin half of signal: this program starts with every hook, and each import costs it
# milliseconds; signal's own would be the dearest.
import _signal as signal
import ctypes
import os
import resource
import sys

_SETNS = {
    "cgroup": 0x02000000,
    "ipc": 0x08000000,
    "uts": 0x04000000,
    "net": 0x40000000,
    "pid": 0x20000000,
    "mnt": 0x00020000,
}
_SYS_OPEN_TREE = 428  # the same on every architecture
_SYS_MOVE_MOUNT = 429
_SYS_MOUNT_SETATTR = 442
_OPEN_TREE_CLONE = 1
_AT_RECURSIVE = 0x8000
_AT_EMPTY_PATH = 0x1000
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MOUNT_ATTR_RDONLY = 1
_MNT_DETACH = 2
_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ORPHANED = signal.SIGRTMIN
_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)

_libc = ctypes.CDLL(None, use_errno=True)


def _check(answer: int, what: str) -> int:
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return answer


def _enter(leader: int, names: tuple[str, ...]) -> int:
    """Change namespaces; return a descriptor of the machine's root directory."""
    root = os.open(f"/proc/{leader}/root", os.O_PATH | os.O_DIRECTORY)
    handles = [(name, os.open(f"/proc/{leader}/ns/{name}", os.O_RDONLY)) for name in names]
    for name, handle in handles:
        _check(_libc.setns(handle, _SETNS[name]), f"enter {name} namespace")
        os.close(handle)
    return root


def _change_root(root: int) -> None:
    os.fchdir(root)
    os.chroot(".")
    os.chdir("/")
    os.close(root)


# ---------------------------------------------------------------- launch


def launch(directory: str) -> None:
    """Become systemd-nspawn, in a mount namespace that the caller made for it alone."""
    import json  # Only here, for the same reason.

    with open(os.path.join(directory, "machine.json")) as handle:
        spec = json.load(handle)
    attached = [one["source"] for one in spec["attachments"]]
    _forget_other_mounts([directory, *attached])
    group = os.path.join(spec["cgroup"], "machine")
    _make_group(group)
    with open(os.path.join(group, "cgroup.procs"), "w") as handle:
        handle.write(str(os.getpid()))
    if not os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        # This hides the path of the group, which systemd-nspawn does not need.
        code = _libc.mount(b"cgroup2", b"/sys/fs/cgroup", b"cgroup2", 0, None)
        _check(code, "mount cgroup2")
    argv = [
        "systemd-nspawn",
        "--quiet",
        "--boot",
        "--register=no",
        "--keep-unit",
        "--settings=no",
        "--link-journal=no",
        "--resolv-conf=off",
        "--timezone=off",
        "--console=read-only",
        # Services ask for limits that only these allow; a machine of one's own has them.
        "--capability=CAP_IPC_LOCK,CAP_SYS_RESOURCE",
        f"--machine={spec['id']}",
        f"--uuid={spec['machine_id']}",
        f"--hostname={spec['hostname']}",
        f"--directory={os.path.join(directory, 'root')}",
        f"--network-bridge={spec['bridge']}",
        f"--bind={_escape(os.path.join(directory, 'run'))}:/var/lib/minijuju",
    ]
    if os.path.exists("/dev/fuse"):
        argv.append("--bind=/dev/fuse")
    for one in spec["attachments"]:
        if os.path.isdir(one["source"]):
            option = "--bind-ro" if one["read_only"] else "--bind"
            argv.append(f"{option}={_escape(one['source'])}:{_escape(one['target'])}")
    env = {
        "PATH": _DEFAULT_PATH,
        "SYSTEMD_NSPAWN_TMPFS_TMP": "0",
    }
    os.execvpe(argv[0], argv, env)


def _make_group(path: str) -> None:
    """Make a control group, but not those above it: without them the machine is gone."""
    try:
        os.mkdir(path)
    except FileExistsError:
        return


def _escape(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:")


def _forget_other_mounts(kept: list[str]) -> None:
    """Drop this namespace's copies of other machines' mounts, which they would keep busy."""
    kept = [os.path.join(os.path.realpath(path), "") for path in kept]
    with open("/proc/self/mountinfo") as handle:
        lines = handle.read().splitlines()
    for line in reversed(lines):
        filesystem, source = line.partition(" - ")[2].split()[:2]
        loop = source.startswith("/dev/loop")
        if not loop and (filesystem, source) != ("overlay", "minijuju"):
            continue
        point = _mountpoint(line)
        under = os.path.join(point, "")
        if any(path.startswith(under) or under.startswith(path) for path in kept):
            continue
        _libc.umount2(os.fsencode(point), _MNT_DETACH)


def _mountpoint(line: str) -> str:
    """The mount point in a line of mountinfo, where blanks are octal numbers."""
    return line.split()[4].encode().decode("unicode_escape")


# ------------------------------------------------------------------ exec


def execute(leader: int, cgroup: str, user: str, cwd: str, argv: list[str]) -> int:
    """Run a command in all of the machine's namespaces and its control group.

    The environment is the one this program was started with, to the letter.

    Three processes: this one, which the caller knows; the command; and a guard between them on
    the host's side, which kills the command when this one is killed and collects it. Left to
    the host's init, a dead command could stay in the machine and delay its shutdown.
    """
    guard = os.fork()
    if guard == 0:
        os._exit(_guard(leader, cgroup, user, cwd, argv))
    return _wait(guard)


def _guard(leader: int, cgroup: str, user: str, cwd: str, argv: list[str]) -> int:
    try:
        env = _exact_environment()
        bounding = _bounding_set(leader)
        _make_group(cgroup)
        group = os.open(os.path.join(cgroup, "cgroup.procs"), os.O_WRONLY)
        root = _enter(leader, tuple(_SETNS))
        command = os.fork()
    except OSError as error:
        os.write(2, f"{argv[0]}: {error}\n".encode())
        return 125
    if command == 0:
        try:
            os.write(group, b"0")
            os.close(group)
            _become(root, user, cwd, bounding)
            for number in (signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            _exec(argv, env)
        except FileNotFoundError as error:
            os.write(2, f"{error.filename or argv[0]}: not found\n".encode())
            os._exit(127)
        except BaseException as error:
            os.write(2, f"{argv[0]}: {error}\n".encode())
            os._exit(126)

    def kill(_number: int, _frame: object) -> None:
        os.kill(command, signal.SIGKILL)

    signal.signal(_ORPHANED, kill)
    caller = os.getppid()
    _libc.prctl(_PR_SET_PDEATHSIG, _ORPHANED, 0, 0, 0)
    if os.getppid() != caller:
        os.kill(command, signal.SIGKILL)
    os.setpgid(0, 0)  # A signal to the caller's group is for the command, not for its guard.
    os.close(root)
    os.close(group)
    return _wait(command)


def _exec(argv: list[str], env: dict[bytes, bytes]) -> None:
    """As os.execvpe, which imports a module: in the machine that would be the machine's."""
    if "/" in argv[0]:
        os.execve(argv[0], argv, env)
    for folder in os.fsdecode(env.get(b"PATH", _DEFAULT_PATH.encode())).split(":"):
        path = f"{folder}/{argv[0]}"
        if os.path.isfile(path) and os.access(path, os.X_OK):
            os.execve(path, argv, env)
    raise FileNotFoundError


def _become(root: int, user: str, cwd: str, bounding: int) -> None:
    """In the new process: the machine's root, the user's identity, the machine's capabilities."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    _change_root(root)
    uid, gid, groups, home = _identity(user)
    for capability in range(64):
        if not bounding >> capability & 1:
            _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.setgroups(groups)
    os.setgid(gid)
    os.setuid(uid)
    # Changing the user forgets it.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.umask(0o022)
    os.chdir(cwd or home)


def _wait(child: int) -> int:
    """Pass signals on until the child ends, and end as it did."""

    def forward(number: int, _frame: object) -> None:
        try:
            os.kill(child, number)
        except ProcessLookupError:
            return

    for number in _FORWARDED:
        signal.signal(number, forward)
    # A terminal sends these to the command itself; anyone else means the command too.
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN if os.isatty(0) else forward)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    return os.WEXITSTATUS(status)


def _exact_environment() -> dict[bytes, bytes]:
    """The environment as it was given: Python may have added to ``os.environ``."""
    with open("/proc/self/environ", "rb") as handle:
        pairs = [entry.partition(b"=") for entry in handle.read().split(b"\0") if entry]
    return {name: value for name, _, value in pairs}


def _bounding_set(leader: int) -> int:
    with open(f"/proc/{leader}/status") as handle:
        for line in handle:
            if line.startswith("CapBnd:"):
                return int(line.split()[1], 16)
    return 0


def _identity(user: str) -> tuple[int, int, list[int], str]:
    """Look a user up in the machine's own files; the host's libraries must not load its own."""
    with open("/etc/passwd") as handle:
        for line in handle:
            fields = line.rstrip("\n").split(":")
            if user in (fields[0], fields[2]):
                break
        else:
            raise LookupError(f"no user {user} in this machine")
    name, uid, gid, home = fields[0], int(fields[2]), int(fields[3]), fields[5]
    groups = [gid]
    with open("/etc/group") as handle:
        for line in handle:
            entry = line.rstrip("\n").split(":")
            if len(entry) == 4 and name in entry[3].split(","):
                groups.append(int(entry[2]))
    return uid, gid, groups, home or "/"


# ---------------------------------------------------------------- mounts


class _MountAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


def attach(leader: int, source: str, target: str, mode: str) -> None:
    """Bind a directory of the host into the machine as it runs."""
    here = -100  # AT_FDCWD
    flags = _OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC
    tree = _check(
        _libc.syscall(_SYS_OPEN_TREE, here, os.fsencode(source), flags), f"open {source}"
    )
    if mode == "ro":
        wanted = _MountAttributes(set=_MOUNT_ATTR_RDONLY)
        size = ctypes.sizeof(wanted)
        code = _libc.syscall(
            _SYS_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH | _AT_RECURSIVE,
            ctypes.byref(wanted), ctypes.c_size_t(size),
        )  # fmt: skip
        _check(code, f"make {source} read-only")
    _change_root(_enter(leader, ("mnt",)))
    os.makedirs(target, exist_ok=True)
    code = _libc.syscall(
        _SYS_MOVE_MOUNT, tree, b"", here, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH
    )
    _check(code, f"mount on {target}")


def detach(leader: int, target: str, mode: str) -> None:
    """Unmount what is on ``target`` in the machine."""
    _change_root(_enter(leader, ("mnt",)))
    if not os.path.ismount(target):
        return
    code = _libc.umount2(os.fsencode(target), _MNT_DETACH if mode == "lazy" else 0)
    _check(code, f"unmount {target}")


def main(arguments: list[str]) -> int:
    """Do one of the verbs; see the module's docstring."""
    verb, *rest = arguments
    if verb == "exec":
        leader, cgroup, user, cwd, _, *argv = rest
        return execute(int(leader), cgroup, user, cwd, argv)
    if verb == "launch":
        launch(*rest)
    elif verb == "attach":
        attach(int(rest[0]), *rest[1:])
    elif verb == "detach":
        detach(int(rest[0]), *rest[1:])
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(125)
