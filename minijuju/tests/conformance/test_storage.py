"""Storage that dies with its machine, and storage that outlives its unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance import prober as probers

if TYPE_CHECKING:
    import pathlib

APP = "keep"


@pytest.fixture(scope="module", autouse=True)
def deployed(prober: probers.Prober, probe: pathlib.Path) -> None:
    """One unit with storage that can be detached, and storage at a place of its own."""
    prober.juju.deploy(probe, APP, storage={"data": "lxd,1,64M", "fixed": "rootfs,1,64M"})
    prober.expect(f"{APP}/0", "start", timeout=probers.BOOT_PATIENCE)
    prober.settle()


def _attached(prober: probers.Prober) -> dict[str, str]:
    """Storage name to id, of what is attached."""
    return {
        name.partition("/")[0]: name
        for name, info in prober.juju.status().storage.storage.items()
        if info.attachments and info.attachments.units
    }


def test_given_storage_when_attached_then_mounted_at_its_place(prober: probers.Prober) -> None:
    storage = prober.juju.status().storage.storage
    names = _attached(prober)
    assert set(names) == {"data", "fixed"}
    assert storage[names["data"]].persistent == prober.behaviour.persistent
    assert not storage[names["fixed"]].persistent
    fixed = prober.ask(f"{APP}/0", "storage-get", "-s", names["fixed"], "--format=json")
    assert fixed["location"].startswith("/srv/probe-fixed")
    listed = prober.ask(f"{APP}/0", "storage-list", "--format=json")
    assert sorted(listed) == sorted(names.values())
    place = prober.ask(f"{APP}/0", "storage-get", "-s", names["data"], "location", "--format=json")
    prober.shell(f"{APP}/0", f"echo kept > {place}/word")


def test_given_detachable_storage_when_its_unit_goes_then_the_next_gets_it_with_its_content(
    prober: probers.Prober,
) -> None:
    names = _attached(prober)
    mark = prober.mark()
    prober.juju.remove_unit(f"{APP}/0")
    prober.gone(f"{APP}/0")
    removed = prober.names(f"{APP}/0", after=mark)
    assert removed.index("data-storage-detaching") < removed.index("stop")
    left = prober.juju.status().storage.storage
    assert names["data"] in left
    assert names["fixed"] not in left
    prober.juju.add_unit(APP, attach_storage=names["data"])
    prober.expect(f"{APP}/1", "start", timeout=probers.BOOT_PATIENCE)
    prober.settle()
    assert prober.events(f"{APP}/1")[0].name.endswith("-storage-attached")
    again = _attached(prober)
    assert again["data"] == names["data"]
    assert again["fixed"] not in names.values()
    place = prober.ask(f"{APP}/1", "storage-get", "-s", names["data"], "location", "--format=json")
    assert prober.shell(f"{APP}/1", f"cat {place}/word").strip() == "kept"


def test_given_a_live_unit_when_storage_is_added_and_detached_then_hooks_tell(
    prober: probers.Prober,
) -> None:
    unit = f"{APP}/1"
    mark = prober.mark()
    prober.juju.cli("add-storage", unit, "data=lxd,1,64M")
    added = prober.expect(unit, "data-storage-attached", mark)
    name = added.env["JUJU_STORAGE_ID"]
    prober.settle()
    prober.juju.cli("detach-storage", name)
    gone = prober.expect(unit, "data-storage-detaching", mark)
    assert gone.env["JUJU_STORAGE_ID"] == name
    assert gone.told("storage-get")["location"] == added.env["JUJU_STORAGE_LOCATION"]
    prober.settle()
    assert name not in prober.ask(unit, "storage-list", "--format=json")
    if not prober.behaviour.detaches_rootfs:
        with probers.refused():
            prober.juju.cli("detach-storage", _attached(prober)["fixed"])
