"""A charm's author elsewhere installs minijuju's wheel, and tests a charm on it in a folder."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys
import venv

import pytest

pytestmark = pytest.mark.minijuju
ROOT = pathlib.Path(__file__).parents[2]
PINNED = ("jubilant", "pytest", "pytest-jubilant", "pyyaml")
"""In the versions of these tests: a new one is not what this test is about."""
CONFTEST = """\
from minijuju.testing.fixtures import *  # noqa: F403
from minijuju.testing.fixtures import _agent_version, _skip_elsewhere  # noqa: F401
"""
SUITE = """\
import pathlib

import jubilant


def test_given_a_charm_when_deployed_then_it_settles(juju, pack_charm):
    juju.deploy(pack_charm(pathlib.Path("charm")), "mine", num_units=2)
    status = juju.wait(jubilant.all_agents_idle, timeout=240)
    assert len(status.apps["mine"].units) == 2
    assert "ubuntu" in juju.ssh("mine/0", "id -un")
"""
IMAGE = """\
[tool.minijuju]
image-packages = []
repository-packages = []
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A Python that has the wheel, and what it asks for, alone."""
    folder = tmp_path_factory.mktemp("elsewhere")
    wheel = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*wheel, "--directory", folder], cwd=ROOT, check=True, timeout=120)
    (built,) = folder.glob("minijuju-*.whl")
    venv.create(folder / "venv", with_pip=True)
    found = folder / "venv" / "bin" / "python"
    pinned = [f"{name}=={importlib.metadata.version(name)}" for name in PINNED]
    install = [found, "-m", "pip", "install", "--quiet", f"{built}[testing]", *pinned]
    subprocess.run(install, check=True, timeout=300)
    return found


def test_given_the_wheel_when_a_charm_is_tested_in_an_empty_folder_then_its_suite_passes(
    python: pathlib.Path, tmp_path: pathlib.Path
):
    shutil.copytree(ROOT / "charms" / "probe", tmp_path / "charm")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_mine.py").write_text(SUITE)
    mine = ROOT.parent / "pyproject.toml"  # its image has been built, where it is there
    table = mine.read_text().partition("[tool.minijuju]")[2].partition("\n[")[0]
    (tmp_path / "pyproject.toml").write_text(f"[tool.minijuju]{table}" if table else IMAGE)
    path = f"{python.parent}{os.pathsep}/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"
    env = {"PATH": path, "HOME": str(tmp_path), "MINIJUJU_HOME": str(tmp_path / "home")}
    env |= {k: v for k, v in os.environ.items() if k == "MINIJUJU_CACHE"}
    try:
        suite = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"]
        ran = subprocess.run(
            suite, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=600
        )
        assert not ran.returncode, ran.stdout + ran.stderr
        assert "1 passed" in ran.stdout
    finally:
        down = [python.parent / "minijuju", "down"]
        subprocess.run(down, cwd=tmp_path, env=env, check=True, timeout=300)
