"""A case of its own for each way in which a cluster's history once broke."""

from __future__ import annotations

import dataclasses
import functools
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from proof import lab as labs

SERVED = 30.0
"""Seconds in which a generation that serves clients before it is confirmed is seen to do so."""
QUORUM_PAUSE = 30.0
"""Seconds without an acknowledged write that a planned change may cost at most."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One way to break it.

    Attributes:
        name: as `make proof PROOF="case NAME"` calls it.
        promise: what must hold.
        run: does it, from the deployment to the last wait.
    """

    name: str
    promise: str
    run: Callable[[labs.Lab], None]


def split_brain(lab: labs.Lab, hurt: str, undo: str) -> None:
    """The machines of units that were removed by force come back with their majority."""
    lab.deploy(3)
    lab.share_machine(*lab.units())
    lab.begin()
    survivor = lab.cluster.leader()
    gone = lab.others(survivor)
    lab.pass_time(5)
    lab.chaos(hurt, *gone, undo=undo)
    lab.remove_by_force(*gone)
    words = "no status advises recover to the survivor of a lost majority"
    lab.expect(words, lambda: lab.cluster.says(survivor, "recover", 5), 180)
    if lab.recover(survivor):
        lab.settle(1)
    lab.pass_time(5)
    lab.come_back()
    lab.pass_time(45)


def same_revisions(lab: labs.Lab) -> None:
    """One snapshot is restored twice, the second time while no etcd runs."""
    lab.deploy(3)
    lab.begin()
    lab.pass_time(3)
    taken = lab.run("snapshot")["snapshot"]
    lab.pass_time(3)
    lab.restore(path=taken["path"])
    lab.settle(3)
    lab.pass_time(10)
    blocked = "/run/systemd/system/etcd.service.d/proof.conf"
    block = (
        f"mkdir -p $(dirname {blocked}); "
        f"printf '[Unit]\\nConditionPathExists=/nonexistent\\n' > {blocked}; "
        "systemctl daemon-reload; systemctl kill -s KILL etcd; systemctl stop etcd"
    )
    before = lab.record()["number"]
    with lab.acting("stop etcd", ",".join(lab.units())):
        for unit in lab.units():
            lab.cluster.shell(unit, block)
    if lab.run("restore", lost=True, path=taken["path"]) is None:
        lab.complain("restore is refused while no etcd runs")
    with lab.acting("let etcd start", ",".join(lab.units())):
        for unit in lab.units():
            lab.cluster.shell(unit, f"rm -f {blocked}; systemctl daemon-reload")
    lab.within(120, lambda: lab.record()["number"] > before)
    lab.settle(3, 240)
    lab.pass_time(20)


def total_loss_twice(lab: labs.Lab) -> None:
    """Every machine is lost twice, and there is one backup."""
    address = lab.serve_backups()
    lab.deploy(3, backup_interval="0", recover_total_loss=True)
    lab.use_backups(address)
    lab.begin()
    lab.pass_time(5)
    made = lab.run("create-backup")["backup"]
    lab.run("verify-backup", backup_id=made["id"])
    lab.pass_time(3)
    for _ in range(2):
        with lab.acting("lose every machine"):
            lab.cluster.lose_every_machine()
            lab.announce("total loss", "", int(made["revision"]), str(made))
        lab.settle(3, 420)
        lab.pass_time(10)


def leaving_takes_quorum(lab: labs.Lab) -> None:
    """Two units are replaced by new ones while the third machine is down."""
    lab.deploy(3)
    lab.begin()
    third = lab.others(lab.cluster.leader())[0]
    leaving = lab.others(third)
    lab.pass_time(3)
    lab.chaos("kill", third, undo="start")
    since = time.monotonic()
    with lab.acting("add-unit -n 2"):
        lab.juju.add_unit("etcd", num_units=2)
    with lab.acting("remove-unit", ",".join(leaving)):
        lab.juju.remove_unit(*leaving)
    lab.pass_time(100)
    _demand_writes(lab, since)
    lab.heal()
    lab.settle(3, 200)


def leaving_healthy(lab: labs.Lab) -> None:
    """One of three machines is down, and a healthy unit is removed."""
    lab.deploy(3)
    lab.begin()
    third = lab.others(lab.cluster.leader())[0]
    leaving = lab.others(third, lab.cluster.leader())[0]
    lab.pass_time(3)
    lab.chaos("kill", third, undo="start")
    since = time.monotonic()
    with lab.acting("remove-unit", leaving):
        lab.juju.remove_unit(leaving)
    lab.pass_time(90)
    _demand_writes(lab, since)
    lab.heal()
    lab.settle(2, 240)


def _demand_writes(lab: labs.Lab, since: float) -> None:
    gap = lab.write_gap(since)
    if gap > QUORUM_PAUSE:
        lab.complain(f"no write was acknowledged for {gap:.0f} s: a leaving unit took the quorum")


def unconfirmed(lab: labs.Lab) -> None:
    """A restore serves from two founders, the third one fails, and all is rolled back."""
    lab.deploy(3)
    lab.begin()
    lab.pass_time(3)
    before = lab.record()["number"]
    leader = lab.cluster.leader()
    taken = lab.run("snapshot", leader)["snapshot"]
    late = lab.others(leader)[0]
    lab.pass_time(5)
    lab.hold(late, "before Adopt")
    lab.run("restore", leader, lost=True, path=taken["path"])
    if not lab.await_held(late, "before Adopt", 180):
        lab.complain("no founder adopted the restored data within 180 s")
    with lab.acting("spoil what was prepared", late):
        spoil = (
            "for db in /var/lib/etcd/prepared/*/etcd/member/snap/db; do "
            "dd if=/dev/urandom of=$db bs=4096 count=8 conv=notrunc; done"
        )
        lab.cluster.shell(late, spoil)
    lab.pass_time(SERVED)
    lab.release(late)
    lab.expect(
        "the failed restore is neither confirmed nor rolled back after 420 s",
        lambda: lab.record()["number"] > before + 1 and lab.record()["confirmed"],
        420,
    )
    lab.settle(3, 300)
    lab.pass_time(20)


def undecided(lab: labs.Lab) -> None:
    """A founder stands still after the commit, another is cut off while the new data serves."""
    lab.deploy(3)
    lab.begin()
    for unit in lab.units():
        _decide_soon(lab, unit)
    lab.pass_time(3)
    before = lab.record()["number"]
    leader = lab.cluster.leader()
    still, cut = lab.others(leader)
    taken = lab.run("snapshot", leader)["snapshot"]
    lab.hold(still, "before Adopt")
    lab.run("restore", leader, lost=True, path=taken["path"])
    if not lab.await_held(still, "before Adopt", 180):
        lab.complain("no founder adopted the restored data within 180 s")
    lab.chaos("pause", still)
    lab.within(60, lambda: lab.cluster.serves(leader) and lab.cluster.serves(cut))
    lab.pass_time(10)  # the one that is going to be cut off publishes what it sees
    away = ",".join(lab.machines(leader, still))
    with lab.acting("cut", cut, f"from {leader}, {still}"):
        lab.juju.cli("chaos", "cut", *lab.machines(cut), "--from", away)
    lab.after(lambda: lab.juju.cli("chaos", "heal", *lab.machines(cut)))
    lab.pass_time(CONFIRM + 20)
    lab.chaos("resume", still)
    lab.release(still)
    lab.expect(
        f"neither confirmed nor rolled back {CONFIRM + 60:g} s after a quorum was there again",
        lambda: lab.record()["number"] > before and lab.record()["confirmed"],
        CONFIRM + 60,
    )
    lab.heal()
    lab.settle(3, 300)
    lab.pass_time(10)


CONFIRM = 60
"""Seconds here that a committed restore may take: the policy's five minutes are a long test."""


def _decide_soon(lab: labs.Lab, unit: str) -> None:
    view = f"/var/lib/juju/agents/unit-{unit.replace('/', '-')}/charm/src/cluster/view.py"
    word = "confirm_deadline: float = "
    lab.cluster.shell(
        unit,
        f"grep -q '{word}' {view} && sed -i 's/{word}.*/{word}{CONFIRM}/' {view} && "
        f"rm -rf $(dirname {view})/__pycache__ && grep -q '{word}{CONFIRM}' {view}",
    )


def no_data_left(lab: labs.Lab) -> None:
    """The survivor stands still in the middle of its recovery, and new units look meanwhile."""
    lab.deploy(3)
    lab.begin()
    survivor = lab.cluster.leader()
    gone = lab.others(survivor)
    lab.pass_time(3)
    lab.chaos("kill", *gone)
    lab.remove_by_force(*gone)
    with lab.acting("add-unit -n 2"):
        lab.juju.add_unit("etcd", num_units=2)

    def wait() -> bool:
        units = lab.cluster.units()
        told = all("install" not in u.workload_status.message for u in units.values())
        return (
            len(units) == 3
            and told
            and all(u.juju_status.current == "idle" for u in units.values())
        )

    lab.expect("the new units are not installed within 240 s", wait, 240)
    words = "no status advises recover to the survivor of a lost majority"
    lab.expect(words, lambda: lab.cluster.says(survivor, "recover", 5), 180)
    for unit in lab.units():
        _decide_soon(lab, unit)
    lab.hold(survivor, "before Adopt")
    if not lab.recover(survivor):
        lab.complain("recover is refused beside new units")
    if not lab.await_held(survivor, "before Adopt", 120):
        lab.complain("the survivor did not come to adopt its data within 120 s")
    new = lab.others(survivor)
    _look(lab, new)  # from here on they count how long the generation takes
    lab.pass_time(CONFIRM + 5)
    _look(lab, new)
    for unit in new:
        said = lab.cluster.units()[unit].workload_status.message
        if "no unit has" in said.lower():
            lab.complain(f"{unit} says while the survivor recovers: {said}")
    lab.release(survivor)
    # It stood still for longer than the bound: the leader may have taken the generation back.
    if lab.within(150, lambda: lab.cluster.says(survivor, "recover", 5)):
        lab.recover(survivor)
    lab.settle(3, 240)
    lab.pass_time(5)


def _look(lab: labs.Lab, units: list[str]) -> None:
    """Run a hook on these units, as Juju's tick would."""
    look = "JUJU_DISPATCH_PATH=hooks/update-status ./dispatch"
    for unit in units:
        lab.juju.cli("exec", "--unit", unit, "--", look)


def late_hook(lab: labs.Lab) -> None:
    """A hook that stood still in its loop goes on, with an old goal state, when a member has come.

    It stands still after it removed a dead member: etcd adds none while one is down.
    """
    lab.deploy(3)
    lab.begin()
    leader = lab.cluster.leader()
    dead = lab.others(leader)[0]
    lab.pass_time(3)
    lab.hold(leader, "after RemoveMember")
    lab.chaos("kill", dead)
    lab.remove_by_force(dead)
    if not lab.await_held(leader, "after RemoveMember", 180):
        lab.complain("the leader did not remove the dead member within 180 s")
    known = set(lab.units())
    with lab.acting("add-unit"):
        lab.juju.add_unit("etcd")
    new = ""

    def voter() -> bool:
        nonlocal new
        (new,) = set(lab.units()) - known
        name = new.replace("/", "-")
        members = lab.cluster.members(lab.others(leader, new)[0])["members"]
        return any(m.get("name") == name and not m.get("isLearner") for m in members)

    if not lab.expect("the new unit did not become a voter within 300 s", voter, 300):
        return
    name = new.replace("/", "-")
    witness = lab.others(leader, new)[0]

    def ident() -> int:
        members = lab.cluster.members(witness)["members"]
        return next((m["ID"] for m in members if m.get("name") == name), 0)

    before = ident()
    lab.release(leader)
    if lab.within(40, lambda: ident() != before, 0.5):
        lab.complain(f"the late hook removed the member of {new}, which was healthy")
    lab.settle(3, 300)
    lab.pass_time(5)


CASES = {
    case.name: case
    for case in (
        Case(
            "split-brain",
            "a majority that comes back after `recover` acknowledges nothing beside the new one",
            functools.partial(split_brain, hurt="pause", undo="resume"),
        ),
        Case(
            "split-brain-cut",
            "a removed majority that was only cut off acknowledges nothing beside the new one",
            functools.partial(split_brain, hurt="cut", undo="heal"),
        ),
        Case(
            "same-revisions",
            "no watcher is led from one restore of a snapshot to another of the same snapshot",
            same_revisions,
        ),
        Case(
            "total-loss-twice",
            "no watcher is led from one cluster to another that was founded from the same backup",
            total_loss_twice,
        ),
        Case(
            "leaving-replaced",
            "a unit that leaves goes when its replacements are in, and not before",
            leaving_takes_quorum,
        ),
        Case(
            "leaving-healthy",
            "a unit that leaves while another is down leaves the quorum in place",
            leaving_healthy,
        ),
        Case(
            "unconfirmed",
            "clients reach no generation that can still be rolled back",
            unconfirmed,
        ),
        Case(
            "undecided",
            "a restore is confirmed or rolled back within its bound",
            undecided,
        ),
        Case(
            "no-data-left",
            "a unit that has heard nothing does not say that all data is lost",
            no_data_left,
        ),
        Case(
            "late-hook",
            "a hook that stood still removes no member that came meanwhile",
            late_hook,
        ),
    )
}
