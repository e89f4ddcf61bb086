"""No process of ours takes its directory, path, environment or umask from whoever started it."""

from __future__ import annotations

import ast
import os
import pathlib
import subprocess
import sys

import pytest

from backup import peer_transfer, worker
from etcd import install
from hook import launcher, removal
from keeper import systemd_unit
from machine import juju_exec, processes, systemd, users
from tls import pem_files

ROOT = pathlib.Path(__file__).resolve().parents[3]
TYPES = {"CompletedProcess", "Popen", "SubprocessError", "CalledProcessError", "TimeoutExpired"}
STARTERS = ("system", "popen", "exec", "spawn", "posix_spawn", "fork", "startfile")


def started(tree: ast.AST) -> list[str]:
    """What a module starts by itself."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("subprocess", "pty", "asyncio"):
            found.append(f"from {node.module} import")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of, name = node.func.value, node.func.attr
            if isinstance(of, ast.Name) and of.id == "os" and name.startswith(STARTERS):
                found.append(f"os.{name}")
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "subprocess":
            found += [f"subprocess.{node.attr}"] if node.attr not in TYPES else []
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "subprocess.Popen":
            found.append("subprocess.Popen()")
    return found


@pytest.mark.parametrize(
    "text",
    [
        "import subprocess\nsubprocess.run(['x'])",
        "import subprocess\nsubprocess.Popen(['x'])",
        "from subprocess import run",
        "import os\nos.system('x')",
        "import os\nos.execvp('x', [])",
    ],
)
def test_given_a_module_that_starts_a_process_when_looked_at_then_it_is_found(text):
    assert started(ast.parse(text))


def test_given_the_sources_when_looked_at_then_one_module_starts_all_processes():
    found = {
        str(path.relative_to(ROOT)): names
        for path in sorted((ROOT / "src").rglob("*.py"))
        if (names := started(ast.parse(path.read_text())))
    }
    assert list(found) == ["src/machine/processes.py"], found


@pytest.fixture
def poison(tmp_path, monkeypatch):
    """A directory of somebody else's, and everything that leads a program of root's there."""
    folder, mark = tmp_path / "shared", tmp_path / "mark"
    folder.mkdir()
    trap = f"open({str(mark)!r}, 'a').write(__file__ + chr(10))\nraise SystemExit(3)\n"
    for name in ("dataclasses", "json", "machine", "backup", "runpy", "sitecustomize"):
        (folder / f"{name}.py").write_text(trap)
    for name in ("python", "python3", "env", "rclone", "systemctl", "systemd-run", "true", "sh"):
        (folder / name).write_text(f"#!/bin/sh\necho $0 >> {mark}\n")
        (folder / name).chmod(0o755)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(processes, "PATH", "/usr/bin:/bin")
    for name in ("PATH", "PYTHONPATH", "PYTHONUSERBASE", "TMPDIR", "HOME"):
        monkeypatch.setenv(name, str(folder))
    for name in ("ETCD_NAME", "ETCDCTL_ENDPOINTS", "RCLONE_CONFIG", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "poison")
    monkeypatch.setenv("PYTHONSTARTUP", str(folder / "json.py"))
    monkeypatch.setenv("BASH_ENV", str(folder / "sh"))
    before = os.umask(0)
    yield mark
    os.umask(before)


def test_given_a_poisonous_caller_when_a_program_is_run_then_nothing_of_it_is_passed_on(poison):
    shell = "/usr/bin/env; pwd; umask; true"
    done = processes.run(["/bin/sh", "-c", shell], 10, environment={"ADDED": "1"})
    *variables, at, umask = done.stdout.splitlines()
    of_the_shell = ("PWD=", "_=", "SHLVL=", "OLDPWD=")
    passed = sorted(each for each in variables if not each.startswith(of_the_shell))
    assert passed == ["ADDED=1", "LANG=C.UTF-8", "PATH=/usr/bin:/bin"]
    assert (at, umask) == ("/", "0077")
    assert not poison.exists()


def test_given_a_poisonous_caller_when_a_child_works_then_only_the_charms_modules_run(poison):
    cluster = worker.Cluster(
        (), "https://127.0.0.1:1", pem_files.TLSFiles(*[pathlib.Path("/no")] * 3)
    )
    answer = worker._child({"work": "nothing", "path": "/no"}, cluster, 30)
    assert "error" in answer and not poison.exists()


def test_given_a_poisonous_caller_when_a_share_starts_then_it_is_the_charms(poison):
    served = peer_transfer.Share(
        pathlib.Path("/no"), "a", "127.0.0.1", 0, *[pathlib.Path("/no")] * 3
    )
    done = subprocess.run(served.argv(), capture_output=True, text=True, check=False)
    assert "FileNotFoundError" in done.stderr and not poison.exists()


def test_given_a_poisonous_caller_when_it_asks_etcd_admin_then_only_the_charms_modules_run(
    poison, tmp_path, monkeypatch
):
    charm = tmp_path / "charm"
    charm.mkdir()
    for name, target in (("src", "src"), ("lib", "lib")):
        (charm / name).symlink_to(ROOT / target)
    (charm / "venv").symlink_to(pathlib.Path(sys.prefix))
    monkeypatch.setattr(launcher, "COMMAND", tmp_path / "etcd-admin")
    monkeypatch.setattr(launcher, "PLACE", tmp_path / "etc" / "admin.json")
    launcher.ensure(charm, launcher.Place(()))
    done = subprocess.run(
        [str(tmp_path / "etcd-admin"), "backup", "list"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr.startswith("etcd-admin: "), done.stderr
    assert not poison.exists(), poison.read_text()


def test_given_a_proxy_when_etcd_admin_is_asked_then_nothing_of_the_caller_is_kept(
    tmp_path, monkeypatch
):
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    python = tmp_path / "venv" / "bin" / "python"
    python.write_text("#!/bin/sh\nexec /usr/bin/env\n")
    python.chmod(0o755)
    monkeypatch.setattr(launcher, "COMMAND", tmp_path / "etcd-admin")
    monkeypatch.setattr(launcher, "PLACE", tmp_path / "etc" / "admin.json")
    launcher.ensure(tmp_path, launcher.Place(()))
    given = {"HTTPS_PROXY": "http://a proxy:1/$(touch x)", "NO_PROXY": "", "ETCDCTL_USER": "x"}
    done = subprocess.run(
        [str(tmp_path / "etcd-admin")], env=given, capture_output=True, text=True, check=True
    )
    of_the_shell = ("PWD=", "_=", "SHLVL=", "OLDPWD=")
    passed = sorted(x for x in done.stdout.splitlines() if not x.startswith(of_the_shell))
    assert passed == ["LANG=C.UTF-8", f"PATH={processes.PATH}"]


def test_given_a_charm_when_a_service_runs_its_module_then_python_is_isolated(tmp_path):
    command = processes.charm_python(tmp_path, "keeper")
    environment, own = command[:4], command[4:]
    assert environment == ["/usr/bin/env", "-i", f"PATH={processes.PATH}", "LANG=C.UTF-8"]
    assert own == [f"{tmp_path}/venv/bin/python", "-I", f"{tmp_path}/src/launch.py", "keeper"]


def test_given_a_unit_of_ours_when_systemd_starts_it_then_its_environment_is_its_own(
    tmp_path, monkeypatch
):
    """What DefaultEnvironment= says reaches no program: systemd starts each through `env -i`."""
    texts = {}

    def ensure(name: str, text: str) -> bool:
        if name.endswith(".service"):
            texts[name] = text
        return False

    monkeypatch.setattr(systemd, "ensure_service", ensure)
    juju_exec.ensure_wakes("etcd/0", tmp_path)
    removal.ensure_services(tmp_path, "etcd/0")
    texts["keeper"] = systemd_unit.unit_text(tmp_path, 1 << 20, str(tmp_path / "backup"))
    ran = []
    for name in ("checked", "completed"):
        monkeypatch.setattr(processes, name, lambda command, *_: ran.append(list(command)))
    juju_exec.wake(1, "etcd/0", tmp_path)
    monkeypatch.setattr(users, "ensure_user", lambda *_: None)
    monkeypatch.setattr(install, "_BEGUN", tmp_path / "begun")
    install.begin_install(None, tmp_path)
    done = subprocess.CompletedProcess([], 0, "", "")
    monkeypatch.setattr(processes, "run", lambda command, *_: ran.append(list(command)) or done)
    peer_transfer.Share(
        pathlib.Path("/no"), "a", "127.0.0.1", 0, *[pathlib.Path("/no")] * 3
    ).start()
    starts = [
        line.partition("=")[2].removeprefix("-")
        for text in texts.values()
        for line in text.splitlines()
        if line.startswith(("ExecStart=", "ExecCondition="))
    ]
    starts += [
        " ".join(word for word in command[1:] if not word.startswith("-"))
        for command in ran
        if command[0] == "systemd-run"
    ]
    assert len(starts) == 7 + len(list(removal.commands()))
    for start in starts:
        assert start.startswith(("/usr/bin/env -i ", "/usr/bin/env PATH=")), start
    for name in ("LD_PRELOAD", "LD_LIBRARY_PATH"):
        assert all(name in text for text in texts.values())
