"""Fixtures for tests of charms: `from minijuju.testing.fixtures import *` in a conftest.py.

The tests speak to Juju through jubilant only, and never know which Juju it is: minijuju, unless
``--juju-binary`` or $JUJU_BINARY names another. The fixture ``juju`` (one new model per module) is
pytest-jubilant's own; here we put the chosen binary on PATH under the name ``juju`` for it.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import jubilant
import pytest

from minijuju.testing import entering, hurting, packing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOG_LINES = 200
"""How much of the debug-log a failing test shows."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the choice of Juju, once however many conftest.py bring it."""
    with contextlib.suppress(ValueError):
        parser.addoption(
            "--juju-binary",
            default=os.environ.get("JUJU_BINARY"),
            help="the juju to test with; by default minijuju",
        )
        parser.addoption(
            "--agent-version",
            default=os.environ.get("JUJU_AGENT_VERSION", ""),
            help="which Juju minijuju is to be, such as 4.0",
        )


def pytest_configure(config: pytest.Config) -> None:
    """Name our markers."""
    config.addinivalue_line("markers", "timing: measures times, and may fail on a slow controller")
    config.addinivalue_line("markers", "minijuju: needs something that only minijuju can do")


@pytest.fixture(scope="session", autouse=True)
def juju_binary(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[pathlib.Path]:
    """Let ``juju`` on PATH be the Juju under test; gives its path."""
    chosen = pytestconfig.getoption("--juju-binary")
    found = shutil.which(chosen) if chosen else shutil.which("minijuju", path=_scripts())
    if not found:
        pytest.exit(f"{chosen or 'minijuju'} is not installed", returncode=3)
    link = pathlib.Path(found).absolute()
    if link.name != "juju":  # a snap's juju must keep its place, or it cannot be told from others
        link = tmp_path_factory.mktemp("bin") / "juju"
        link.symlink_to(pathlib.Path(found).absolute())
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{link.parent}{os.pathsep}{before}"
    yield link
    os.environ["PATH"] = before


def _scripts() -> str:
    return str(pathlib.Path(sys.executable).parent)


@pytest.fixture(scope="session")
def on_minijuju(juju_binary: pathlib.Path) -> bool:
    """Whether the Juju under test is minijuju."""
    return hurting.on_minijuju()


@pytest.fixture(scope="session", autouse=True)
def _agent_version(
    pytestconfig: pytest.Config, juju_binary: pathlib.Path, on_minijuju: bool
) -> None:
    """Be the Juju that was asked for, in all models that are not told otherwise."""
    version = pytestconfig.getoption("--agent-version")
    if version and on_minijuju:
        command = [juju_binary, "bootstrap", "--agent-version", version]
        subprocess.run(command, check=True, timeout=60)


@pytest.fixture(scope="module")
def juju(juju: jubilant.Juju, on_minijuju: bool) -> jubilant.Juju:
    """pytest-jubilant's model, into whose machines the tests may go."""
    entering.admit(juju, on_minijuju)
    return juju


@pytest.fixture(autouse=True)
def _skip_elsewhere(request: pytest.FixtureRequest, on_minijuju: bool) -> None:
    if request.node.get_closest_marker("minijuju") and not on_minijuju:
        pytest.skip("needs what only minijuju offers")


@pytest.fixture(scope="session")
def pack_charm(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., pathlib.Path]:
    """Pack a charm that has no dependencies; takes what `packing.pack` takes after ``target``."""

    def pack(source: pathlib.Path, **changes: Any) -> pathlib.Path:
        return packing.pack(source, tmp_path_factory.mktemp("charm"), **changes)

    return pack


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Show the status and the end of the debug-log of the model in which a test failed."""
    report = yield
    if report.failed and report.when != "teardown":
        for juju in _models_of(item):
            report.sections.extend(_sections(juju))
    return report


def _models_of(item: pytest.Item) -> list[jubilant.Juju]:
    values = getattr(item, "funcargs", {}).values()
    found = [getattr(value, "juju", value) for value in values]
    models = [value for value in found if isinstance(value, jubilant.Juju) and value.model]
    return list({juju.model: juju for juju in models}.values())


def _sections(juju: jubilant.Juju) -> list[tuple[str, str]]:
    sections: list[tuple[str, str]] = []
    try:
        sections.append((f"status of {juju.model}", juju.cli("status")))
        lines = juju.debug_log(limit=LOG_LINES).splitlines()
        shown = "\n".join(line[:300] for line in lines)
        sections.append((f"debug-log of {juju.model}", shown))
    except (jubilant.CLIError, OSError) as error:
        sections.append((f"no status of {juju.model}", str(error)))
    return sections
