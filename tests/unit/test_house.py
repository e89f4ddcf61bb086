"""What `make lint` sees of a house out of order."""

from __future__ import annotations

import importlib.util
import pathlib
import types

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def script(name: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def built(folder: pathlib.Path, **files: str) -> pathlib.Path:
    for name, text in files.items():
        path = folder / "src" / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "src"


def test_given_this_house_when_looked_at_then_it_is_in_order():
    floors, unused = script("floors"), script("unused")
    assert floors.faults(floors.read(ROOT / "src")) == []
    assert unused.unused(ROOT / "src") == {}


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (
            {"etcd__client": "from hook import unit", "hook__unit": ""},
            "etcd.client imports hook.unit, which is on a floor above",
        ),
        (
            {
                "backup__catalog": "from backup import owner",
                "backup__owner": "import backup.catalog",
            },
            "a circle: backup.catalog -> backup.owner -> backup.catalog",
        ),
        (
            {
                "startup": "if TYPE_CHECKING:\n    import charm",
                "charm": "def f():\n    import startup",
            },
            "a circle: charm -> startup -> charm",
        ),
        (
            {"cluster__plan": "import subprocess"},
            "cluster.plan imports subprocess: there is a wall",
        ),
        (
            {"etcd__client": "from ops import model"},
            "etcd.client imports ops: there is a wall",
        ),
        ({"attic": ""}, "attic is on no floor: say in scripts/floors.py on which"),
    ],
)
def test_given_an_import_against_the_plan_when_looked_at_then_it_is_named(
    tmp_path: pathlib.Path, files: dict[str, str], sentence: str
):
    floors = script("floors")
    assert floors.faults(floors.read(built(tmp_path, **files))) == [sentence]


def test_given_what_nothing_calls_when_looked_at_then_it_is_named(tmp_path: pathlib.Path):
    text = "def called(): ...\ndef idle(): ...\nclass Thing:\n    def spare(self): ...\n"
    use = "import a\na.called()\nrun(['-m', 'a.Thing'])\n"
    found = script("unused").unused(built(tmp_path, a=text, b=use))
    assert found == {"idle": "src/a.py:2", "spare": "src/a.py:4"}
