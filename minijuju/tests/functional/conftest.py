"""Real machines for the tests of minijuju's machine layer; they need root."""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
from collections.abc import Callable, Iterator

import pytest

from minijuju.machines import image, machine, network, system

Make = Callable[..., machine.Machine]


@pytest.fixture(scope="session")
def root_image() -> pathlib.Path:
    """The cached machine image."""
    if os.geteuid():
        pytest.skip("real machines need root")
    return image.ensure(progress=print)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("machines")


@pytest.fixture(scope="session")
def net(root_image: pathlib.Path, home: pathlib.Path) -> Iterator[network.Network]:
    system.require()
    one = network.Network(home / "network")
    one.up()
    yield one
    one.down()


@pytest.fixture(scope="session")
def make(root_image: pathlib.Path, home: pathlib.Path, net: network.Network) -> Iterator[Make]:
    """Make a machine, not yet created; all are destroyed at the end."""
    made: list[machine.Machine] = []

    def make_one(**options: object) -> machine.Machine:
        number = len(made)
        one = machine.Machine(
            home / f"m{number}",
            image=root_image,
            name=str(number),
            hostname=f"juju-0a1b2c-{number}",
            network=net,
            address=net.address(number),
            **options,  # type: ignore[arg-type]
        )
        made.append(one)
        return one

    yield make_one
    for one in made:
        one.destroy()


@pytest.fixture(scope="session")
def trio(make: Make) -> list[machine.Machine]:
    """Three machines that run."""
    machines = [make() for _ in range(3)]

    def bring_up(one: machine.Machine) -> None:
        one.create()
        one.start()

    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(bring_up, machines))
    return machines
