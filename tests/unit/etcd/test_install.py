"""The machine's parts that can be shown without root and without Juju."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import pathlib
import random
import subprocess
import tarfile

import programs
import pytest

import errors
from etcd import install, service
from etcd import release as releases
from machine import apt, files, juju_exec, processes, systemd, users

PROGRAM = programs.program()


def release(path: pathlib.Path, members: dict[str, bytes], mode: str = "w:gz") -> pathlib.Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


GOOD = {
    "etcd-v3.5.99-linux-amd64/README.md": b"x",
    "etcd-v3.5.99-linux-amd64/etcd": PROGRAM,
    "etcd-v3.5.99-linux-amd64/etcdctl": PROGRAM,
    "etcd-v3.5.99-linux-amd64/etcdutl": PROGRAM,
}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Install below a temporary directory; users and systemd are there already."""
    lib, bin_ = tmp_path / "lib", tmp_path / "bin"
    bin_.mkdir()
    monkeypatch.setattr(install, "RELEASES", lib)
    monkeypatch.setattr(install, "COMMANDS", bin_)
    monkeypatch.setattr(service, "INSTALLED", lib / "etcd")
    monkeypatch.setattr(users, "ensure_user", lambda *_: False)
    monkeypatch.setattr(service, "ensure_unit", lambda *_: False)
    return tmp_path


def test_given_a_release_when_installed_then_it_is_switched_to_once(machine):
    tarball = release(machine / "etcd.tar.gz", GOOD)
    assert install.install_etcd(tarball)
    assert not install.install_etcd(tarball)
    assert service.version() == (3, 5, 99)
    assert (machine / "lib" / "etcd").readlink() == machine / "lib" / "etcd-3.5.99"
    assert (machine / "bin" / "etcdctl").resolve() == machine / "lib" / "etcd-3.5.99" / "etcdctl"
    assert sorted(p.name for p in (machine / "lib").iterdir()) == ["etcd", "etcd-3.5.99"]
    newer = {name: programs.program("3.6.1") for name in GOOD}
    assert install.install_etcd(release(machine / "newer.tar.gz", newer))
    assert service.version() == (3, 6, 1)


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"notes.txt": b"hello"}, "no etcd and no etcdctl"),
        ({"x/etcd": PROGRAM}, "no etcdctl"),
        ({"x/etcd": b"\x7fELF nonsense", "x/etcdctl": PROGRAM}, "etcd is for no known machine"),
        ({"x/etcd": b"#!/bin/sh\necho 3\n", "x/etcdctl": PROGRAM}, "etcd is for no known machine"),
        (
            {"x/etcd": PROGRAM[:150], "x/etcdctl": PROGRAM},
            "etcd of the etcd resource does not run",
        ),
        (
            {"x/etcd": programs.program(machine=183), "x/etcdctl": PROGRAM},
            "etcd is for arm64, etcdc",
        ),
        ({"x/etcd": PROGRAM, "x/etcdctl": programs.program("3.5.98")}, r"etcdctl 3\.5\.98\)"),
        (
            {"x/etcd": programs.program("3.6.1"), "x/etcdctl": programs.program("3.6.1")},
            "no etcdutl",
        ),
        ({"x/etcd": b"", "x/etcdctl": PROGRAM}, "of 0 bytes"),
    ],
)
def test_given_another_tarball_when_installed_then_nothing_changes(machine, members, sentence):
    good = release(machine / "etcd.tar.gz", GOOD)
    install.install_etcd(good)
    bad = release(machine / "bad.tar.gz", members)
    with pytest.raises(errors.InstallError, match=sentence) as caught:
        install.install_etcd(bad)
    assert "nothing was changed" in str(caught.value)
    assert service.version() == (3, 5, 99)
    assert sorted(p.name for p in (machine / "lib").iterdir()) == ["etcd", "etcd-3.5.99"]


def test_given_no_tarball_when_installed_then_it_says_so(machine):
    path = machine / "x"
    path.write_bytes(b"this is no archive at all")
    with pytest.raises(errors.InstallError, match="not a tar archive"):
        install.install_etcd(path)
    tarball = release(machine / "etcd.tar.gz", GOOD)
    path.write_bytes(tarball.read_bytes()[:-40])
    with pytest.raises(errors.InstallError, match="nothing was changed"):
        install.install_etcd(path)


def test_given_a_hostile_archive_when_unpacked_then_nothing_is_written_outside(tmp_path):
    tarball = release(
        tmp_path / "x.tar.gz",
        {"../../etcd": PROGRAM, "/tmp/etcdctl": PROGRAM, "../evil": b"x"},
    )
    folder = tmp_path / "deep" / "folder"
    folder.mkdir(parents=True)
    releases.unpack(tarball, folder)
    assert sorted(p.name for p in folder.iterdir()) == ["etcd", "etcdctl"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep", "x.tar.gz"]


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.REGTYPE])
def test_given_an_archive_that_unpacks_to_gigabytes_when_unpacked_then_refused(tmp_path, kind):
    """One MiB of zeros in a header or a file that says to be of 8 GiB, and goes on."""
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = kind, 8 << 30
    packed = gzip.compress(b"\0" * (64 << 20), 1)
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(entry.tobuf()) + packed)
    with pytest.raises(errors.InstallError, match="nothing was changed"):
        releases.unpack(tmp_path / "x.tar.gz", tmp_path)


def test_given_an_archive_packed_otherwise_when_unpacked_then_it_says_so(tmp_path):
    for mode in ("w:xz", "w:bz2"):
        with pytest.raises(errors.InstallError, match="packed by gzip"):
            releases.unpack(release(tmp_path / "x.tar", GOOD, mode), tmp_path)


def sums(members: dict[str, bytes], mark: str = " ") -> bytes:
    """What `sha256sum` prints of them."""
    lines = (f"{hashlib.sha256(data).hexdigest()} {mark}{name}" for name, data in members.items())
    return "\n".join(lines).encode() + b"\n"


def test_given_no_checksum_at_all_when_unpacked_then_refused_and_with_sha256sums_it_goes_in(
    tmp_path,
):
    """A tar archive has none of what its files hold."""
    with pytest.raises(
        errors.InstallError, match="neither packed by gzip nor holds a file SHA256"
    ):
        releases.unpack(release(tmp_path / "x.tar", GOOD, "w:"), tmp_path)
    summed = {**GOOD, "SHA256SUMS": sums(GOOD, "*")}
    releases.unpack(release(tmp_path / "x.tar", summed, "w:"), tmp_path)


@pytest.mark.parametrize("mode", ["w:", "w:gz"])
@pytest.mark.parametrize(
    "listed",
    [
        {**GOOD, "etcd-v3.5.99-linux-amd64/etcdctl": b"other"},
        {name: data for name, data in GOOD.items() if not name.endswith("/etcdctl")},
        {"etcd-v3.5.99-linux-amd64.tar.gz": b"the sums of the published archives"},
    ],
    ids=["another checksum", "left out", "of archives"],
)
def test_given_sha256sums_that_do_not_fit_when_unpacked_then_refused(tmp_path, listed, mode):
    members = {"x/SHA256SUMS": sums(listed), **GOOD}
    with pytest.raises(
        errors.InstallError, match=r"etcdctl .*of the etcd resource cannot be beli"
    ):
        releases.unpack(release(tmp_path / "x.tar", members, mode), tmp_path)


def test_given_any_bit_that_was_flipped_when_unpacked_then_refused(tmp_path):
    """But for bits that say nothing of the content: gzip's head, and what fills its last byte."""
    drawn = random.Random(7)
    filler = drawn.randbytes(40_000)
    members = {name: programs.program(filler=filler[:20_000]) + filler for name in GOOD}
    tarball = release(tmp_path / "x.tar.gz", members)
    good = tarball.read_bytes()
    head = good.index(b"\0", 10) + 1  # ten bytes, and the name that Python writes
    places = {*range(head + 8), *range(len(good) - 64, len(good))}
    places |= set(drawn.sample(range(head, len(good)), 120))
    accepted = []
    for place in sorted(places):
        flipped = bytearray(good)
        flipped[place] ^= 1 << drawn.randrange(8)
        tarball.write_bytes(flipped)
        try:
            releases.unpack(tarball, tmp_path)
        except errors.InstallError:
            continue
        accepted.append(place)
        for name in ("etcd", "etcdctl", "etcdutl"):
            assert (tmp_path / name).read_bytes() == members[f"etcd-v3.5.99-linux-amd64/{name}"]
    assert {place for place in accepted if place >= head} <= {len(good) - 9}


def test_given_something_behind_the_archive_when_unpacked_then_refused(tmp_path):
    tarball = release(tmp_path / "x.tar.gz", GOOD)
    tarball.write_bytes(tarball.read_bytes() + b"more")
    with pytest.raises(errors.InstallError, match="is damaged"):
        releases.unpack(tarball, tmp_path)


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Programs that write down how they were called."""
    for name in ("systemctl", "systemd-run"):
        (tmp_path / name).write_text(
            f'#!/bin/sh\nfor a in "$@"; do echo "$a"; done >> {tmp_path}/{name}.calls\n'
        )
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(processes, "PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def test_given_a_wake_when_scheduled_then_it_replaces_the_one_before(commands):
    juju_exec.wake(2.5, "etcd/0", pathlib.Path("/var/lib/juju/agents/unit-etcd-0/charm"))
    stopped = (commands / "systemctl.calls").read_text().splitlines()
    assert stopped == ["stop", "etcd-wake-etcd-0-*.timer"]
    ran = (commands / "systemd-run.calls").read_text().splitlines()
    assert "--on-active=2.500s" in ran and "--collect" in ran
    assert any(a.startswith("--unit=etcd-wake-etcd-0-") for a in ran)
    assert ran[-2] == "etcd/0"
    assert ran[-1] == (
        "cd /var/lib/juju/agents/unit-etcd-0/charm && "
        "JUJU_DISPATCH_PATH=hooks/update-status JUJU_HOOK_NAME=update-status ./dispatch"
    )
    assert ran[-3].endswith("juju-exec")


def test_given_a_service_without_privileges_when_it_wakes_then_systemd_watches_for_its_file(
    commands, monkeypatch
):
    """No call of systemd's, which may refuse it, is on the way of the keeper's wake."""
    units, charm = commands / "units", pathlib.Path("/var/lib/juju/agents/unit-etcd-0/charm")
    units.mkdir()
    monkeypatch.setattr(systemd, "SYSTEM_UNITS", units)
    monkeypatch.setattr(juju_exec, "WAKE", commands / "wake")
    assert juju_exec.ensure_wakes("etcd/0", charm)
    called = (commands / "systemctl.calls").read_text().splitlines()
    assert called[-2:] == ["restart", "etcd-wake.path"]
    assert called[called.index("enable") + 1] == "etcd-wake.path"
    (commands / "systemctl.calls").unlink()
    assert not juju_exec.ensure_wakes("etcd/0", charm)
    juju_exec.wake_now()
    assert juju_exec.WAKE.exists()
    assert not (commands / "systemctl.calls").exists()
    assert not (commands / "systemd-run.calls").exists()
    assert f"PathExists={juju_exec.WAKE}" in (units / "etcd-wake.path").read_text().splitlines()
    service = (units / "etcd-wake.service").read_text().splitlines()
    removes = service.index(f"ExecStartPre=/bin/rm -f {juju_exec.WAKE}")
    runs = next(n for n, line in enumerate(service) if line.startswith("ExecStart="))
    assert removes < runs, "a file that comes while it runs is met afterwards"
    assert "StartLimitIntervalSec=0" in service, "systemd would give the path up"
    assert not any(line.startswith("Condition") for line in service), "the file would stay"


def test_given_no_room_for_the_file_when_woken_then_it_is_one_of_our_errors(tmp_path, monkeypatch):
    monkeypatch.setattr(juju_exec, "WAKE", tmp_path / "missing" / "wake")
    with pytest.raises(errors.ToolError, match="cannot be written"):
        juju_exec.wake_now()


def test_given_paths_when_asked_then_mounts_and_room_are_known(tmp_path):
    assert files.is_mount(pathlib.Path("/proc")) and not files.is_mount(tmp_path)
    assert files.free_bytes(tmp_path / "not" / "there") > 0
    assert files.ensure_dir(tmp_path / "a" / "b", 0o750)
    assert not files.ensure_dir(tmp_path / "a" / "b", 0o750)


def test_given_another_platform_when_imported_then_the_module_does_not_mind():
    assert "charmhelpers.fetch" not in vars(apt)


def test_given_a_file_when_kept_in_memory_then_what_is_written_goes_there(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MEMORY", tmp_path / "run")
    path, file = tmp_path / "state.db", tmp_path / "run" / "etcd-0.db"
    path.write_text("old")
    for text in ("first", "second"):
        files.keep_in_memory(path, file.name)
        path.write_text(text)
        assert file.read_text() == text
    assert file.stat().st_mode & 0o777 == 0o600
    (file.parent / "other").touch()
    files.forget_in_memory(file.name)
    assert [each.name for each in file.parent.iterdir()] == ["other"], "another unit's"
    (file.parent / "other").unlink()
    files.forget_in_memory(file.name)
    assert not file.parent.exists()


def test_given_an_installation_that_fails_when_tried_again_then_its_problem_is_gone(
    tmp_path, monkeypatch
):
    refuse = _packages(tmp_path, monkeypatch)
    assert not install.install(None)
    assert install.install_problem() == "no room for etcd"
    refuse.sentence = ""
    assert install.install(None)
    assert install.install_problem() == ""


def test_given_an_installation_that_was_cut_off_when_looked_at_then_it_is_to_be_tried_again(
    tmp_path, monkeypatch
):
    refuse = _packages(tmp_path, monkeypatch)
    monkeypatch.setattr(processes, "checked", lambda command: "")  # began, and never ended
    install.begin_install(None, tmp_path)
    monkeypatch.setattr(systemd, "service_active", lambda name: False)
    install.await_install()
    assert not install.await_packages()
    assert "tried again" in install.install_problem()
    refuse.sentence = ""
    assert install.install(None)
    assert install.install_problem() == ""


def test_given_an_installation_that_goes_on_when_awaited_then_not_for_ever(tmp_path, monkeypatch):
    _packages(tmp_path, monkeypatch)
    monkeypatch.setattr(processes, "checked", lambda command: "")
    monkeypatch.setattr(install, "_INSTALL_WAIT", 0.1)
    install.begin_install(None, tmp_path)
    monkeypatch.setattr(systemd, "service_active", lambda name: True)
    install.await_install()
    assert install.installing()
    assert not install.await_packages()


@pytest.mark.parametrize("fails", [False, True])
def test_given_packages_that_are_here_when_awaited_then_they_need_not_be_unpacked(
    tmp_path, monkeypatch, fails
):
    archive = _Archive(fails=fails)
    put_in = apt.install
    _packages(tmp_path, monkeypatch)
    monkeypatch.setattr(apt, "install", put_in)
    monkeypatch.setattr(apt, "_fetch", lambda: archive)
    monkeypatch.setattr(processes, "checked", lambda command: "")
    monkeypatch.setattr(systemd, "service_active", lambda name: True)
    monkeypatch.setattr(install, "_INSTALL_WAIT", 0.1)
    install.begin_install(None, tmp_path)
    with contextlib.suppress(errors.InstallError):
        install._packages("etcd-server")
    assert install.await_packages() is not fails
    monkeypatch.setattr(systemd, "service_active", lambda name: False)
    assert not install.await_packages()  # it ended, and there is no etcd


def test_given_no_systemd_to_ask_when_begun_then_it_is_installed_at_once(tmp_path, monkeypatch):
    _packages(tmp_path, monkeypatch).sentence = ""
    monkeypatch.setattr(processes, "checked", _no_systemd)
    install.begin_install(None, tmp_path)
    assert not install.installing()
    assert install.install_problem() == ""


def _no_systemd(_: object) -> str:
    raise errors.ToolError("systemd-run could not be run")


def _packages(tmp_path, monkeypatch) -> _Refusing:
    """Packages that cannot be installed until its sentence is emptied."""
    monkeypatch.setattr(install, "_PROBLEM", tmp_path / "run" / "problem")
    monkeypatch.setattr(install, "_BEGUN", tmp_path / "lib" / "installing")
    monkeypatch.setattr(apt, "install", lambda *names, **_: True)
    monkeypatch.setattr(users, "ensure_user", lambda *names: True)
    monkeypatch.setattr(install, "install_etcd", refuse := _Refusing())
    monkeypatch.setattr(apt, "_installed", lambda name: False)
    monkeypatch.setattr(apt, "known", lambda name: True)
    monkeypatch.setattr(service, "INSTALLED", tmp_path / "installed")
    monkeypatch.setattr(service, "binary", lambda name, must_exist=True: tmp_path / "no-etcd")
    return refuse


class _Archive:
    """The archive and apt, which tells when all is fetched, unless the archive does not answer."""

    def __init__(self, fails):
        self.fails = fails

    def apt_update(self, fatal):
        pass

    def apt_install(self, names, options, fatal, quiet):
        if self.fails:
            raise subprocess.CalledProcessError(100, "apt-get")
        key = "--option=DPkg::Pre-Invoke::="
        [command] = [each.removeprefix(key) for each in options if each.startswith(key)]
        subprocess.run(["sh", "-c", command], check=True)


class _Refusing:
    sentence = "no room for etcd"

    def __call__(self, release):
        if self.sentence:
            raise errors.InstallError(self.sentence)
