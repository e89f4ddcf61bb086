"""What machines promise, on real ones."""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable

import pytest

from minijuju.machines import image, machine, network, system

Make = Callable[..., machine.Machine]
Trio = list[machine.Machine]


def reaches(one: machine.Machine, other: machine.Machine | str, *, ipv6: bool = False) -> bool:
    """Whether a ping gets an answer within a second."""
    if isinstance(other, machine.Machine):
        other = str(other.address6 if ipv6 else other.address)
    return one.run(["ping", "-c1", "-W1", other], check=False).returncode == 0


def eventually(condition: Callable[[], bool], timeout: float = 5) -> bool:
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def running_command(one: machine.Machine) -> subprocess.Popen[str]:
    """A command inside that goes on until it is killed."""
    words = ["sh", "-c", "echo up; exec sleep 1000"]
    process = one.popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    with process.stdout:
        assert process.stdout.readline() == "up\n"
    return process


def test_given_three_machines_when_started_at_once_then_all_are_up_in_three_seconds(
    make: Make,
) -> None:
    machines = [make() for _ in range(3)]
    for one in machines:
        one.create()
    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(machine.Machine.start, machines))
    took = time.monotonic() - begun
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    for one in machines:
        assert one.state() is machine.State.RUNNING
        one.destroy()
    assert took < 3 * busy


def test_given_a_machine_when_looked_at_then_it_is_a_juju_machine(trio: Trio) -> None:
    one = trio[0]
    assert one.run(["hostname"]).stdout.strip() == one.hostname
    assert one.run(["systemctl", "is-system-running", "--wait"]).stdout.strip() == "running"
    assert "VERSION_CODENAME=noble" in one.run(["cat", "/etc/os-release"]).stdout
    assert one.run(["sudo", "id", "-u"], user="ubuntu").stdout.strip() == "0"
    assert one.run(["pwd"], user="ubuntu").stdout.strip() == "/home/ubuntu"


def test_given_an_environment_when_a_command_runs_then_it_gets_exactly_that(trio: Trio) -> None:
    given = {"PATH": "/usr/bin", "JUJU_UNIT_NAME": "a/0", "MULTI": "a\nb", "EMPTY": ""}
    out = trio[0].run(["cat", "/proc/self/environ"], env=given).stdout
    assert dict(entry.split("=", 1) for entry in out.split("\0") if entry) == given


def test_given_a_command_when_it_fails_or_is_missing_then_its_code_says_so(trio: Trio) -> None:
    assert trio[0].run(["sh", "-c", "exit 7"], check=False).returncode == 7
    assert trio[0].run(["no-such-command"], check=False).returncode == 127
    with pytest.raises(system.CommandError, match="no user nobody-here"):
        trio[0].run(["true"], user="nobody-here")


def test_given_a_running_command_when_signalled_then_the_command_gets_the_signal(
    trio: Trio,
) -> None:
    script = "trap 'echo caught; exit 3' TERM; echo up; while :; do sleep 0.1; done"
    with trio[0].popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        process.terminate()
        assert process.stdout.readline() == "caught\n"
        assert process.wait(5) == 3


def test_given_a_running_command_when_killed_then_it_is_gone_inside_too(trio: Trio) -> None:
    with trio[0].popen(["sleep", "4711"]) as process:
        assert eventually(lambda: "4711" in trio[0].run(["ps", "-eo", "args"]).stdout)
        process.kill()
        process.wait(5)
    assert eventually(lambda: "4711" not in trio[0].run(["ps", "-eo", "args"]).stdout)


def test_given_one_network_when_machines_talk_then_they_reach_each_other_and_the_host(
    trio: Trio, net: network.Network
) -> None:
    assert reaches(trio[0], trio[1])
    assert reaches(trio[1], trio[2], ipv6=True)
    assert reaches(trio[2], str(net.gateway))


def test_given_a_connection_when_its_machine_is_cut_then_it_is_silent_until_healed(
    trio: Trio, net: network.Network
) -> None:
    one, other, third = trio
    listen = textwrap.dedent(f"""
        import socket
        server = socket.create_server(("{other.address}", 7000))
        print("up", flush=True)
        peer, _ = server.accept()
        while data := peer.recv(100):
            peer.sendall(data)
    """)
    talk = textwrap.dedent(f"""
        import socket, sys
        peer = socket.create_connection(("{other.address}", 7000))
        peer.settimeout(0.5)
        for line in sys.stdin:
            peer.sendall(b"x")
            try:
                print(peer.recv(100).decode(), flush=True)
            except TimeoutError:
                print("silent", flush=True)
    """)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with other.popen(["python3", "-c", listen], **pipes) as server:
        assert server.stdout
        assert server.stdout.readline() == "up\n"
        with one.popen(["python3", "-c", talk], **pipes) as client:
            assert client.stdin
            assert client.stdout

            def ask() -> str:
                assert client.stdin
                assert client.stdout
                client.stdin.write("go\n")
                client.stdin.flush()
                return client.stdout.readline().strip()

            assert ask() == "x"
            net.cut(other)
            assert ask() == "silent"
            assert not reaches(one, other, ipv6=True)
            assert reaches(one, third)
            assert reaches(other, str(net.gateway))
            net.heal(other)
            assert eventually(lambda: "x" in ask(), 10)
            client.stdin.close()
            client.wait(10)
        server.wait(10)


def test_given_a_cut_between_two_when_a_third_is_asked_then_it_reaches_both(
    trio: Trio, net: network.Network
) -> None:
    one, other, third = trio
    net.cut(one, [other])
    assert not reaches(other, one)
    assert reaches(third, one)
    assert reaches(third, other)
    net.heal(one, [other])
    assert reaches(other, one)


def test_given_a_machine_that_is_muted_when_others_send_then_it_hears_and_they_do_not(
    trio: Trio, net: network.Network
) -> None:
    one, other, third = trio
    listen = "import socket as s\nu = s.socket(type=s.SOCK_DGRAM)\nu.bind(('', 7002))\n"
    listen += "print('up', flush=True)\nwhile True: print(u.recv(9).decode(), flush=True)"
    net.mute(one, [other])
    for address in (str(one.address), str(other.address)):  # resolved anew, though it is muted
        for who in (one, other):
            who.run(["ip", "neigh", "del", address, "dev", network.INTERFACE], check=False)
    pipes = {"stdout": subprocess.PIPE, "text": True}
    with (
        one.popen(["python3", "-c", listen], **pipes) as muted,
        other.popen(["python3", "-c", listen], **pipes) as deaf,
    ):
        for hears, address, senders in (
            (muted, one.address, (other, third)),
            (deaf, other.address, (one, third)),
        ):
            assert hears.stdout
            assert hears.stdout.readline() == "up\n"
            for number, sender in enumerate(senders):
                say = f"echo -n {number} > /dev/udp/{address}/7002"
                sender.run(["bash", "-c", say])
        assert (muted.stdout.readline(), muted.stdout.readline()) == ("0\n", "1\n")
        assert deaf.stdout.readline() == "1\n"
        muted.kill()
        deaf.kill()
    assert not reaches(one, other)
    net.heal(one)
    assert reaches(one, other)


def synced(one: machine.Machine) -> float:
    """Seconds that ten small writes take, each of them brought to the disk."""
    write = ["dd", "if=/dev/zero", "of=/root/synced", "bs=4k", "count=10", "oflag=dsync"]
    begun = time.monotonic()
    one.run(write)
    return time.monotonic() - begun


def test_given_a_slowed_disk_when_written_then_it_takes_long_and_only_there(trio: Trio) -> None:
    one, other, _ = trio
    one.slow_disk(5)
    assert synced(one) > 1.5
    assert synced(other) < 1.5
    one.slow_disk(0)
    assert synced(one) < 1.5


def test_given_a_slowed_disk_when_its_machine_is_destroyed_then_the_next_one_is_quick(
    make: Make,
) -> None:
    one, other = make(), make()
    one.create()
    one.start()
    one.slow_disk(5)
    device = one.disk.device
    one.destroy()
    other.create()
    other.start()
    assert other.disk.device == device
    assert synced(other) < 1.5
    other.destroy()


def test_given_a_running_machine_when_killed_then_its_commands_die_and_its_files_stay(
    trio: Trio,
) -> None:
    one = trio[2]
    one.run(["sh", "-c", "echo kept > /root/kept"])
    process = running_command(one)
    begun = time.monotonic()
    one.kill()
    assert time.monotonic() - begun < 2
    assert process.wait(5) == -signal.SIGKILL
    assert one.state() is machine.State.STOPPED
    assert (one.root / "root/kept").read_text() == "kept\n"
    with pytest.raises(system.Error, match="not running"):
        one.run(["true"])
    (one.root / "root/written-while-off").write_text("seen")
    one.start()
    assert one.run(["cat", "/root/written-while-off"]).stdout == "seen"


def test_given_a_machine_when_stopped_then_its_services_end_in_order(trio: Trio) -> None:
    one = trio[2]
    unit = "[Service]\nExecStart=/bin/sleep 1000\nExecStop=/bin/touch /root/stopped-in-order\n"
    (one.root / "etc/systemd/system/probe.service").write_text(unit)
    one.run(["systemctl", "daemon-reload"])
    one.run(["systemctl", "start", "probe"])
    one.stop()
    assert one.state() is machine.State.STOPPED
    assert (one.root / "root/stopped-in-order").exists()
    one.start()


def test_given_a_machine_when_paused_then_it_answers_only_after_resume(trio: Trio) -> None:
    one, other, _ = trio
    server = "import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=7001)"
    with other.popen(["python3", "-c", server], stdout=subprocess.DEVNULL) as process:

        def connect() -> bytes:
            with socket.create_connection((str(other.address), 7001), timeout=1) as peer:
                peer.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return peer.recv(100)

        def answers() -> bool:
            try:
                return bool(connect())
            except OSError:
                return False

        assert eventually(answers)
        other.pause()
        assert other.state() is machine.State.PAUSED
        assert not answers()
        other.resume()
        assert other.state() is machine.State.RUNNING
        assert eventually(answers)
        process.kill()
    assert reaches(one, other)


def test_given_a_paused_machine_when_killed_then_it_is_off(trio: Trio) -> None:
    trio[2].pause()
    trio[2].kill()
    assert trio[2].state() is machine.State.STOPPED
    trio[2].start()


@pytest.mark.parametrize("inside", [True, False])
def test_given_an_attached_directory_when_the_machine_reboots_then_it_comes_back_with_it(
    trio: Trio, tmp_path: pathlib.Path, inside: bool
) -> None:
    one = trio[1]
    (tmp_path / "file").write_text("seen")
    one.attach(tmp_path, "/srv/attached")
    before = one.boot_id
    process = running_command(one)
    if inside:
        one.run(["systemctl", "reboot"], check=False)
        assert eventually(lambda: one.boot_id not in (None, before), 20)
        one.start()
    else:
        one.reboot()
    assert process.wait(5)
    assert one.boot_id not in (None, before)
    assert one.run(["cat", "/srv/attached/file"]).stdout == "seen"
    assert reaches(one, trio[0])
    one.detach("/srv/attached")
    assert one.run(["ls", "/srv/attached"]).stdout == ""


def test_given_a_shutdown_inside_when_it_ends_then_the_machine_is_stopped(trio: Trio) -> None:
    one = trio[2]
    one.run(["systemctl", "poweroff"], check=False)
    assert eventually(lambda: one.state() is machine.State.STOPPED, 20)
    one.start()


def test_given_a_read_only_directory_when_written_inside_then_it_refuses(
    trio: Trio, tmp_path: pathlib.Path
) -> None:
    trio[0].attach(tmp_path, "/srv/read-only", read_only=True)
    assert trio[0].run(["touch", "/srv/read-only/x"], check=False).returncode != 0
    trio[0].detach("/srv/read-only")


def test_given_a_busy_directory_when_detached_then_only_force_takes_it(
    trio: Trio, tmp_path: pathlib.Path
) -> None:
    one = trio[0]
    one.attach(tmp_path, "/srv/busy")
    with one.popen(["sleep", "1000"], cwd="/srv/busy") as process:
        assert eventually(lambda: "sleep 1000" in one.run(["ps", "-eo", "args"]).stdout)
        with pytest.raises(system.CommandError):
            one.detach("/srv/busy")
        one.detach("/srv/busy", force=True)
        process.kill()
    assert one.attachments() == []


def test_given_a_disk_of_its_own_when_attached_then_it_has_its_size_and_survives(
    trio: Trio, tmp_path: pathlib.Path
) -> None:
    disk = machine.Disk(tmp_path / "pool.img", tmp_path / "pool", 64 * 1024**2)
    disk.create()
    disk.mount()
    one = trio[0]
    one.attach(disk.mountpoint, "/srv/pool")
    one.run(["sh", "-c", "echo kept > /srv/pool/kept"])
    fill = ["dd", "if=/dev/zero", "of=/srv/pool/big", "bs=1M", "count=100"]
    assert "No space left" in one.run(fill, check=False).stderr
    one.reboot()
    one.detach("/srv/pool")
    trio[1].attach(disk.mountpoint, "/srv/pool")
    assert trio[1].run(["cat", "/srv/pool/kept"]).stdout == "kept\n"
    trio[1].detach("/srv/pool")
    disk.unmount()
    assert not disk.mounted


def test_given_a_socket_in_the_run_directory_when_used_inside_then_it_answers(
    trio: Trio,
) -> None:
    one = trio[0]
    with socket.socket(socket.AF_UNIX) as server:
        # Bound by a short path: a socket's may have 107 bytes.
        here = os.open(one.run_dir, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{here}/s")
        server.listen()
        script = (
            "import socket; s = socket.socket(socket.AF_UNIX); "
            f"s.connect('{machine.RUN_DIRECTORY}/s'); print(s.recv(10).decode())"
        )
        with one.popen(["python3", "-c", script], stdout=subprocess.PIPE, text=True) as client:
            server.settimeout(10)
            peer, _ = server.accept()
            with peer:
                peer.sendall(b"hello")
            assert client.communicate(timeout=10)[0] == "hello\n"
        os.close(here)
    (one.run_dir / "s").unlink()


def test_given_a_full_disk_when_written_then_it_refuses_until_freed(trio: Trio) -> None:
    one = trio[0]
    host_before = os.statvfs(one.directory).f_bavail
    one.fill_disk()
    write = ["dd", "if=/dev/zero", "of=/root/big", "bs=1M", "count=4", "conv=fsync"]
    assert "No space left" in one.run(write, check=False).stderr
    one.free_disk()
    one.run(write)
    taken = (host_before - os.statvfs(one.directory).f_bavail) * os.statvfs(one.directory).f_frsize
    assert taken < 2 * 1024**3, "filling a machine's disk must not fill the host's"


def test_given_no_outside_network_when_a_package_is_installed_then_the_image_has_it(
    trio: Trio,
) -> None:
    wanted = image.recipe().repository
    if not wanted:
        pytest.skip("this project's image has no package repository")
    trio[0].run(["apt-get", "update"], timeout=60)
    trio[0].run(
        ["apt-get", "install", "-y", wanted[-1]],
        timeout=120,
        env={"PATH": machine.PATH, "DEBIAN_FRONTEND": "noninteractive"},
    )
    status = trio[0].run(["dpkg-query", "-W", "-f", "${Status}", wanted[-1]]).stdout
    assert status == "install ok installed"


def test_given_a_starter_that_dies_when_another_process_looks_then_the_machine_runs(
    make: Make,
) -> None:
    one = make()
    one.create()
    script = textwrap.dedent(f"""
        import os, pathlib, signal
        from minijuju.machines import machine
        machine.Machine.load(pathlib.Path({str(one.directory)!r})).start()
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], env=env, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert one.state() is machine.State.RUNNING
    assert one.run(["hostname"]).stdout.strip() == one.hostname
    one.destroy()


def test_given_leftovers_of_a_crash_when_created_again_then_they_are_gone(make: Make) -> None:
    one = make()
    one.create()
    one.start()
    one.run(["touch", "/root/old"])
    one.create()
    assert one.state() is machine.State.STOPPED
    one.start()
    assert not (one.root / "root/old").exists()
    one.destroy()


def test_given_a_machine_when_destroyed_then_nothing_of_it_is_left(
    make: Make, net: network.Network
) -> None:
    one = make()
    one.create()
    one.start()
    net.cut(one)
    process = running_command(one)
    one.destroy()
    assert process.wait(5) == -signal.SIGKILL
    assert not one.directory.exists()
    assert str(one.directory) not in pathlib.Path("/proc/self/mountinfo").read_text()
    assert str(one.directory) not in system.run("losetup", "--list")
    assert one.id not in system.run("ip", "link")
    assert one.id not in system.run("nft", "list", "ruleset")
    assert one.id not in system.run("ps", "-eo", "args")
    assert str(one.directory) not in system.run("ps", "-eo", "args")
    assert not [*pathlib.Path("/sys/fs/cgroup").glob(f"**/{one.id}")]
    assert [*one.directory.parent.glob(f"*{one.directory.name}*")] == []
    one.destroy()


def test_given_two_networks_when_up_then_they_share_nothing(
    net: network.Network, tmp_path: pathlib.Path
) -> None:
    other = network.Network(tmp_path / "network", ipv6=False)
    other.up()
    try:
        assert not other.ipv4.overlaps(net.ipv4)
        assert other.bridge != net.bridge
        assert other.ipv6 is None
        again = network.Network(tmp_path / "network")
        again.up()
        assert again.ipv4 == other.ipv4
    finally:
        other.down()
    assert other.bridge not in system.run("ip", "link")


def test_given_a_host_that_lost_everything_when_started_then_the_machine_is_as_it_was(
    make: Make, tmp_path: pathlib.Path, root_image: pathlib.Path
) -> None:
    net = network.Network(tmp_path / "network")
    net.up()
    one = machine.Machine(
        tmp_path / "m",
        image=root_image,
        name="lost",
        hostname="juju-lost-0",
        network=net,
        address=net.address(0),
    )
    try:
        one.create()
        one.start()
        one.run(["sh", "-c", "echo kept > /root/kept"])
        one.kill()
        # What a reboot of the host takes away.
        system.run("umount", str(one.directory / "root"))
        system.run("umount", str(one.directory / "disk"))
        system.run("ip", "link", "delete", net.bridge)
        again = machine.Machine.load(one.directory)
        assert again.state() is machine.State.STOPPED
        again.network.up()
        again.start()
        assert again.run(["cat", "/root/kept"]).stdout == "kept\n"
        assert again.run(["ping", "-c1", "-W1", str(net.gateway)]).returncode == 0
    finally:
        one.destroy()
        net.down()


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.2, 0.4])
def test_given_a_process_killed_while_it_creates_when_created_again_then_it_works(
    make: Make, delay: float
) -> None:
    one = make()
    script = textwrap.dedent(f"""
        import pathlib
        from minijuju.machines import machine, network
        one = machine.Machine(
            pathlib.Path({str(one.directory)!r}), image=pathlib.Path({str(one.image)!r}),
            name="x", hostname="x", address="{one.address}",
            network=network.Network(pathlib.Path({str(one.network.directory)!r})),
        )
        print("go", flush=True)
        one.create()
        one.start()
        one.destroy()
    """)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", script], env=env, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        time.sleep(delay)
        process.kill()
    one.create()
    one.start()
    assert one.run(["hostname"]).stdout.strip() == one.hostname
    one.destroy()
    assert one.directory.name not in {path.name for path in one.directory.parent.iterdir()}
    assert str(one.directory) not in pathlib.Path("/proc/self/mountinfo").read_text()
    assert str(one.directory) not in system.run("losetup", "--list")


def test_given_a_home_nobody_cares_for_when_swept_then_all_in_it_is_gone(
    tmp_path: pathlib.Path, root_image: pathlib.Path
) -> None:
    net = network.Network(tmp_path / "model" / "network")
    net.up()
    one = machine.Machine(
        tmp_path / "model" / "machines" / "0",
        image=root_image,
        name="0",
        hostname="juju-swept-0",
        network=net,
        address=net.address(0),
    )
    one.create()
    one.start()
    machine.sweep(tmp_path)
    machine.sweep(tmp_path)
    assert one.state() is machine.State.STOPPED
    assert str(tmp_path) not in pathlib.Path("/proc/self/mountinfo").read_text()
    assert net.bridge not in system.run("ip", "link")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
