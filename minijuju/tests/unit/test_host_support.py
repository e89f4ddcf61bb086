"""What a user reads where machines cannot run, and the parts that need no machine."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import ipaddress
import os
import pathlib
import threading
import time

import pytest

from minijuju.machines import host, image, network, system


@pytest.fixture
def debian(monkeypatch: pytest.MonkeyPatch) -> None:
    """A supported host, and root."""
    monkeypatch.setattr(system, "os_release", lambda: {"ID": "debian", "VERSION_ID": "12"})
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def test_given_another_distribution_when_required_then_one_sentence_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(system, "os_release", lambda: {"ID": "fedora", "PRETTY_NAME": "Fedora 41"})
    with pytest.raises(system.Unsupported, match="this is Fedora 41") as caught:
        system.require()
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("debian")
def test_given_no_root_when_required_then_one_sentence_says_sudo(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(system.Unsupported, match="sudo"):
        system.require()


@pytest.mark.usefixtures("debian")
def test_given_a_missing_tool_when_it_cannot_be_installed_then_its_package_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(system.TOOLS, "no-such-tool", "no-such-package")
    with pytest.raises(system.Unsupported, match=r"apt-get install .*no-such-package"):
        system.require(install=False)


def test_given_a_recipe_when_anything_in_it_changes_then_so_does_its_digest() -> None:
    first = image.Recipe("debian", "trixie", "amd64", ("a",), ("b",))
    assert first.digest == dataclasses.replace(first).digest
    others = [
        dataclasses.replace(first, suite="bookworm"),
        dataclasses.replace(first, packages=("a", "c")),
        dataclasses.replace(first, repository=()),
        dataclasses.replace(first, schema=first.schema + 1),
    ]
    assert len({one.digest for one in (first, *others)}) == 5


def test_given_a_project_when_its_recipe_is_read_then_its_packages_are_in_it(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "run", lambda *_argv, **_options: "amd64\n")
    monkeypatch.setenv("MINIJUJU_SUITE", "bookworm")
    table = '[tool.minijuju]\nimage-packages = ["jq"]\nrepository-packages = ["z", "a"]\n'
    (tmp_path / "pyproject.toml").write_text(table)
    recipe = image.recipe(tmp_path)
    assert (recipe.suite, recipe.packages, recipe.repository) == ("bookworm", ("jq",), ("a", "z"))


def test_given_two_homes_when_networks_are_named_then_no_name_is_shared(
    tmp_path: pathlib.Path,
) -> None:
    one, other = (network.Network(tmp_path / home / "network") for home in "ab")
    assert one.bridge != other.bridge
    assert one.ipv6 != other.ipv6
    assert len(one.bridge) <= 15


def test_given_a_network_when_addresses_are_asked_for_then_they_pair_up(
    tmp_path: pathlib.Path,
) -> None:
    (tmp_path / "network.json").write_text('{"index": 3, "ipv6": true}')
    one = network.Network(tmp_path)
    assert one.ipv4 == ipaddress.IPv4Network("198.18.12.0/22")
    assert str(one.gateway) == "198.18.12.1"
    assert str(one.address(0)) == "198.18.12.10"
    assert one.ipv6 is not None
    assert one.address6(one.address(0)) == one.ipv6[10]
    assert len({one.address(number) for number in range(1000)}) == 1000
    with pytest.raises(system.Error):
        one.address(1014)


@pytest.mark.usefixtures("debian")
def test_given_another_builder_when_the_image_is_wanted_then_it_waits_and_takes_theirs(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIJUJU_CACHE", str(tmp_path))
    monkeypatch.setattr(system, "require", lambda: None)
    wanted = image.Recipe("debian", "trixie", "amd64")
    root = image.path(wanted)
    said: list[str] = []
    waiting = threading.Event()

    def hear(text: str) -> None:
        said.append(text)
        waiting.set()

    with concurrent.futures.ThreadPoolExecutor() as pool:
        with system.locked(root.parent.with_suffix(".lock")):
            answer = pool.submit(image.ensure, wanted, progress=hear)
            assert waiting.wait(10)
            root.mkdir(parents=True)
        assert answer.result(10) == root
    assert said == ["Waiting for another process that builds the same machine image"]


def test_given_a_lock_that_is_removed_when_another_waits_then_it_locks_the_new_file(
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / "lock"
    with concurrent.futures.ThreadPoolExecutor() as pool:

        def wait() -> bool:
            with system.locked(path):
                return path.exists()

        with system.locked(path):
            answer = pool.submit(wait)
            time.sleep(0.1)
            path.unlink()
        assert answer.result(10)


def test_given_a_failing_command_when_run_then_the_error_has_its_words(
    tmp_path: pathlib.Path,
) -> None:
    with pytest.raises(system.CommandError, match="sh failed with 3: no luck"):
        system.run("sh", "-c", "echo no luck >&2; exit 3")
    assert system.run("sh", "-c", "exit 3", accept=(3,)) == ""
    with pytest.raises(system.CommandError, match="not installed"):
        system.run("no-such-command")
    with pytest.raises(system.CommandError, match=r"took over 0\.1 s"):
        system.run("sleep", "5", timeout=0.1)
    log = tmp_path / "log"
    with pytest.raises(system.CommandError, match="seen"):
        system.run("sh", "-c", "echo seen; exit 1", log=log)
    assert log.read_text() == "seen\n"


class Disk:
    """A machine of which only the disk is there."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root


def test_given_a_unit_that_is_gone_when_its_machine_stays_then_only_its_own_directories_go(
    tmp_path: pathlib.Path,
) -> None:
    made = host.Host(None, "0", lambda: None, None, tmp_path, lambda: None)  # type: ignore[arg-type]
    made._machine = Disk(tmp_path)  # type: ignore[assignment]
    for folder in (host.hookcontext.AGENTS, host.hookcontext.TOOLS):
        for name in ("unit-etcd-0", "unit-other-3", "machine-0"):
            (made.path(folder) / name / "charm").mkdir(parents=True)
    data = tmp_path / "var/lib/etcd/current"
    data.mkdir(parents=True)
    made._recall({"unit-other-3"})
    for folder in (host.hookcontext.AGENTS, host.hookcontext.TOOLS):
        assert {p.name for p in made.path(folder).iterdir()} == {"unit-other-3", "machine-0"}
    assert data.is_dir()
