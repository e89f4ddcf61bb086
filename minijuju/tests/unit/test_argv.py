"""Command lines are read as Juju reads them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from minijuju.cli import argv
from minijuju.cli import main as cli
from minijuju.cli.verbs import tasks

if TYPE_CHECKING:
    import pathlib


def test_given_mixed_words_when_parsed_then_flags_and_positionals_part() -> None:
    flags = argv.parse(
        "model,m= num-units,n= config=* force",
        ["-m", "m1", "./x.charm", "--config", "a=1", "app", "-n=3", "--config=b=2", "--force"],
    )
    assert flags.positionals == ["./x.charm", "app"]
    assert flags.text("model") == "m1"
    assert flags.integer("num-units", 1) == 3
    assert flags.all("config") == ["a=1", "b=2"]
    assert flags.on("force")
    assert not flags.given("quiet")


def test_given_a_short_flag_when_its_value_is_glued_then_read() -> None:
    assert argv.parse("num-units,n=", ["-n3"]).integer("num-units", 1) == 3


def test_given_two_dashes_when_parsed_then_flags_end() -> None:
    flags = argv.parse("unit,u=", ["--unit", "a/0", "--", "ls", "-l", "--", "x"])
    assert flags.text("unit") == "a/0"
    assert flags.positionals == ["ls", "-l", "--", "x"]


def test_given_an_unmixed_verb_when_parsed_then_the_first_word_ends_the_flags() -> None:
    flags = argv.parse("model,m=", ["--model", "m", "a/0", "-v", "--model", "x"], mixed=False)
    assert flags.positionals == ["a/0", "-v", "--model", "x"]
    assert flags.text("model") == "m"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--no-such"], "option provided but not defined: --no-such"),
        (["--no-such=1"], "option provided but not defined: --no-such"),
        (["--model"], "option needs an argument: --model"),
        (["--force=maybe"], 'invalid boolean value "maybe" for --force: invalid syntax'),
    ],
)
def test_given_a_wrong_flag_when_parsed_then_usage_error(words: list[str], text: str) -> None:
    with pytest.raises(argv.UsageError, match=text):
        argv.parse("model,m= force", words)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("True", True), ("0", False)])
def test_given_a_go_boolean_when_given_to_a_switch_then_read(text: str, value: bool) -> None:
    assert argv.parse("force", [f"--force={text}"]).on("force") is value


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("60.0s", 60), ("1m30s", 90), ("1h", 3600), ("500ms", 0.5), ("0", 0)],
)
def test_given_a_duration_when_read_then_seconds(text: str, seconds: float) -> None:
    assert argv.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "90", "s", "1x", "1.2.3s", "-1s", "."])
def test_given_no_duration_when_read_then_usage_error(text: str) -> None:
    with pytest.raises(argv.UsageError):
        argv.duration(text)


def test_given_pairs_when_read_then_only_the_first_equals_counts() -> None:
    assert argv.pairs(["a=b=c", "d="]) == {"a": "b=c", "d": ""}
    with pytest.raises(argv.UsageError):
        argv.pairs(["novalue"])
    with pytest.raises(argv.UsageError):
        argv.pairs(["=x"])


def test_given_ssh_words_when_options_lead_then_only_the_command_remains() -> None:
    words = ["-t", "-o", "StrictHostKeyChecking=no", "-L8080:x:80", "ls", "-l"]
    assert tasks.without_ssh_options(words) == ["ls", "-l"]
    assert tasks.without_ssh_options([]) == []
    assert tasks.without_ssh_options(["--", "-x"]) == ["-x"]


JUBILANT = [
    "add-model --no-switch m --config k=v --controller c --credential x",
    "set-model-constraints --model m arch=amd64",
    "destroy-model m --no-prompt --destroy-storage --force --no-wait --release-storage",
    "deploy --model m ./c a --attach-storage d/0 --base ubuntu@24.04 --bind x --channel s "
    "--config k=v --constraints k=v --force --num-units 3 --overlay o --resource k=v "
    "--revision 1 --storage k=v --to 0 --trust",
    "refresh --model m a --base b --channel c --config k=v --force --force-base --force-units "
    "--path p --resource k=v --revision 1 --storage k=v --trust",
    "remove-unit --model m --no-prompt a/0 --destroy-storage --force --num-units 2",
    "integrate --model m a b --via 1",
    "config --model m --format json a",
    "config --model m a k=v --reset x,y",
    "run --model m --format json a/0 act --wait 60.0s --params f",
    "exec --model m --format json --unit a/0 --wait 5s -- ls -l",
    "ssh --model m --container c --no-host-key-checks u@a/0 -v ls",
    "scp --model m --container c --no-host-key-checks -- -r a b",
    "status --model m --format json",
    "show-secret --model m x --format json --reveal --revisions --revision 2",
    "add-secret --model m n --info i --file f",
    "update-secret --model m n --info i --name n --auto-prune --file f",
    "add-machine --model m --base b --constraints k=v --disks d -n 2",
    "debug-log --model m --limit 0",
    "version --format json --all",
    "trust --model m a --remove --scope cluster",
    "bootstrap c n --no-switch --config k=v --constraints k=v --model-default k=v --to x",
    "add-cloud c --client --controller x --credential y --force --target-controller z --file f",
    "update-cloud c --client --controller x -f f",
    "offer m.a:e --controller c n",
    "consume --model m o a",
]


@pytest.mark.parametrize("line", JUBILANT, ids=lambda line: line.split()[0])
def test_given_what_jubilant_sends_when_parsed_then_every_flag_is_known(line: str) -> None:
    verb, *words = line.split()
    _, spec = cli.VERBS[verb]
    argv.parse(spec, words, mixed=verb not in ("ssh", "scp"))


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["echo $HOME; ls"], "echo $HOME; ls"),
        (["sh", "-c", "a; b"], 'sh -c "a; b"'),
        (
            ["echo", 'say "it"', "$HOME", "back\\slash"],
            r'echo "say \"it\"" "\$HOME" "back\\slash"',
        ),
        (["echo", "a;b", "*"], "echo a;b *"),
    ],
)
def test_given_words_to_execute_when_joined_then_quoted_as_juju_does(
    words: list[str], command: str
) -> None:
    assert tasks.command_string(words) == command


@pytest.mark.parametrize("line", ["deploy ./x.charm --num-units 0", "add-unit x -n 0"])
def test_given_no_units_when_asked_for_then_exit_2(
    line: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from minijuju.cli.verbs import models

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(models, "ensure_image", lambda: None)
    (tmp_path / "x.charm").touch()
    assert cli.main(line.split()) == 2
    assert capsys.readouterr().err == "ERROR --num-units must be a positive integer\n"


def _scheduled(monkeypatch: pytest.MonkeyPatch, *ids: str, **results: Any) -> None:
    """A controller that schedules tasks with these ids, and has run them."""
    from minijuju.controller import daemon

    made = [{"id": each, "receiver": f"etcd/{number}"} for number, each in enumerate(ids)]
    done = {
        one["id"]: {**one, "status": "completed", "results": {"return-code": 0, **results}}
        for one in made
    }
    answers = {"run": {"operation": "1", "tasks": made, "errors": []}, "wait-tasks": done}
    monkeypatch.setattr(daemon, "call", lambda verb, params, **_: answers[verb])


@pytest.mark.parametrize("form", ["plain", "json", "yaml"])
def test_given_a_background_task_when_scheduled_then_nothing_is_on_stdout(
    form: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    _scheduled(monkeypatch, "2")
    assert cli.main(["run", "etcd/0", "health", "--background", "--format", form]) == 0
    assert capsys.readouterr() == (
        "",
        "Scheduled operation 1 with task 2\n"
        "Check operation status with 'juju show-operation 1'\n"
        "Check task status with 'juju show-task 2'\n",
    )
    _scheduled(monkeypatch, "2", "3")
    assert cli.main(["run", "etcd/0", "health", "--background", "--format", form]) == 0
    out, said = capsys.readouterr()
    assert out == 'etcd/0:\n  id: "2"\netcd/1:\n  id: "3"\n'
    assert "operation 1 with 2 tasks" in said
    assert "show-task <id>" in said


def test_given_results_when_shown_then_keys_are_sorted_and_tables_stay_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    table = "ID  NAME\n1   etcd-0\n2   etcd-1"
    long = " ".join(["word"] * 20)
    _scheduled(monkeypatch, "2", members=table, count="2", text=long, m10="x", m9="yes")
    assert cli.main(["run", "etcd/0", "member-list"]) == 0
    out, said = capsys.readouterr()
    assert out == (
        'count: "2"\nm9: "yes"\nm10: x\n'
        "members: |-\n  ID  NAME\n  1   etcd-0\n  2   etcd-1\n"
        # A line ends with the word that passes column 80.
        f"text: {' '.join(['word'] * 16)}\n  {' '.join(['word'] * 4)}\n"
    )
    assert said == (
        "Running operation 1 with 1 task\n  - task 2 on unit-etcd-0\n\nWaiting for task 2...\n"
    )


def test_given_every_verb_when_looked_up_then_it_is_implemented() -> None:
    import importlib

    for place, _ in cli.VERBS.values():
        module, _, function = place.partition(".")
        assert callable(getattr(importlib.import_module(f"minijuju.cli.verbs.{module}"), function))


def test_given_an_unknown_verb_when_called_then_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["conquer"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("ERROR ")


def test_given_version_when_asked_then_jubilant_can_read_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    import json

    from jubilant import _version

    assert cli.main(["version", "--format", "json", "--all"]) == 0
    version = _version.Version._from_dict(json.loads(capsys.readouterr().out))
    assert version.tuple >= (3, 6, 0)


def test_given_a_home_with_other_files_when_taken_down_then_only_ours_go(
    tmp_path: pathlib.Path,
) -> None:
    from minijuju.cli.verbs import models

    (tmp_path / "models" / "uuid").mkdir(parents=True)
    for name in ("state.db", "state.db-wal", "lock", "pid", "letter-to-mum"):
        (tmp_path / name).write_text("x")
    models._remove_files(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter-to-mum"]
    (tmp_path / "letter-to-mum").unlink()
    models._remove_files(tmp_path)
    assert not tmp_path.exists()


def test_given_no_root_when_a_model_is_added_then_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cli.main(["add-model", "m"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("ERROR minijuju ")
    assert "root" in captured.err
    assert captured.err.count("\n") == 1
