"""Heavy work in a process of its own: its memory ends with it, and it can be ended at any time.

A snapshot takes gRPC, a proof that and cryptography besides: twice the memory of the keeper, which
is resident on every unit and needs neither for the rest of its days.

The child reads one request from its standard input and writes lines of JSON: how far it is, and
last what came of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import errors
from backup import manifest as manifests
from backup import proof
from etcd import client as clients
from etcd import responses
from machine import processes
from tls import pem_files

if TYPE_CHECKING:
    from collections.abc import Callable

    from backup import keeper_files

_SNAPSHOT = 3600.0  # seconds for the whole stream
_GRACE = 60.0  # seconds beyond its own limit after which a child is ended
# What gRPC's threads let go of goes back to the kernel at once: a fifth less of a snapshot's peak.
_FRUGAL = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "131072"}
_NICE = 9  # of a proof, beyond the keeper's own: nobody waits for it
_STRIDE = 64 * 1024  # bytes of a snapshot between two rests


@dataclasses.dataclass(frozen=True)
class Cluster:
    """How a child reaches etcd.

    Attributes:
        endpoints: client URLs of all members.
        local: that of this unit's, the one to work on.
        tls: as for `clients.Client`.
    """

    endpoints: tuple[str, ...]
    local: str
    tls: pem_files.TLSFiles

    def client(self) -> clients.Client:
        """A connection."""
        return clients.Client(self.endpoints, self.tls)


def reach(config: keeper_files.Config) -> Cluster:
    """How the keeper of a unit reaches etcd."""
    endpoints = tuple(dict.fromkeys((config.local, *config.endpoints)))
    return Cluster(endpoints, config.local, config.tls)


def snapshot(
    cluster: Cluster,
    path: pathlib.Path,
    progress: Callable[[int], None] | None = None,
    pace: float = 0.0,
) -> responses.Download:
    """What `Client.snapshot` does.

    Args:
        cluster: where to take it.
        path: the file to write.
        progress: told how many bytes there are.
        pace: bytes per second, of this unit's member: those who write to etcd go first. 0 is as
            fast as can be, of the first member that answers, for somebody who waits for it.

    Raises:
        errors.EtcdError: why there is none, in one sentence.
    """
    request = {"work": "snapshot", "path": str(path), "pace": pace}
    answer = _child(request, cluster, _SNAPSHOT, progress)
    if "error" in answer:
        raise errors.EtcdError(answer["error"])
    return responses.Download(path, answer["size"], answer["sha256"], answer["seconds"])


def prove(
    cluster: Cluster,
    path: pathlib.Path,
    directory: pathlib.Path,
    manifest: manifests.Manifest,
    limits: proof.Limits,
) -> proof.Proof:
    """What `proof.prove` does, compared with this unit's member.

    Raises:
        proof.ProofError: it is not what it should be, in one sentence.
        proof.HinderedError: it could not be proven, which says nothing of it.
    """
    request = {
        "work": "prove",
        "path": str(path),
        "directory": str(directory),
        "manifest": manifest.to_json(),
        "limits": dataclasses.asdict(limits),
    }
    answer = _child(request, cluster, limits.seconds)
    if "error" in answer:
        kind = proof.HinderedError if answer.get("hindered") else proof.ProofError
        raise kind(answer["error"])
    return proof.Proof(**answer)


def _child(
    request: dict[str, Any],
    cluster: Cluster,
    seconds: float,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Have a child work, and end it with all that it started when it takes too long."""
    tls = [str(path) for path in dataclasses.astuple(cluster.tls)]
    request |= {"endpoints": cluster.endpoints, "local": cluster.local, "tls": tls}
    process = processes.start(
        processes.python("backup.worker"),
        stdin=processes.PIPE,
        stdout=processes.PIPE,
        stderr=None,
        environment=_FRUGAL,
        session=True,
    )
    assert process.stdin and process.stdout  # noqa: S101
    late = threading.Timer(seconds + _GRACE, _end, (process,))
    late.start()
    answer: dict[str, Any] = {}
    try:
        with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
            stdin.write(json.dumps(request).encode())
        for line in process.stdout:
            answer = json.loads(line)
            if progress and "done" in answer:
                progress(answer["done"])
    finally:
        late.cancel()
        _end(process)
        process.stdout.close()
    if not answer or "done" in answer:
        how = f"signal {-process.returncode}" if process.returncode < 0 else "an error"
        sentence = f"the process for it was ended by {how}: it will be tried again"
        return {"error": sentence, "hindered": True}
    return answer


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a child's whole session, and wait for it."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(0.5)  # it closed its output: it is about to end by itself
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _work(request: dict[str, Any], say: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The child's part."""
    path = pathlib.Path(request["path"])
    tls = pem_files.TLSFiles(*(pathlib.Path(name) for name in request["tls"]))
    local = request["local"]
    with Cluster(tuple(request["endpoints"]), local, tls).client() as online:
        if request["work"] == "snapshot":
            told = _seldom(say)
            if request["pace"]:
                told = _resting(told, request["pace"])
            source = local if request["pace"] else None
            download = online.snapshot(path, source, _SNAPSHOT, told, durable=False)
            return {**dataclasses.asdict(download), "path": str(path)}
        os.nice(_NICE)

        def theirs(revision: int) -> responses.HashKV | None:
            with contextlib.suppress(errors.EtcdError):
                return online.hash_kv(local, revision)
            return None  # compacted meanwhile, or busy: nothing to compare with

        found = proof.prove(
            path,
            pathlib.Path(request["directory"]),
            manifests.Manifest.from_json(request["manifest"]),
            theirs,
            proof.Limits(**request["limits"]),
        )
        return dataclasses.asdict(found)


def _seldom(say: Callable[[dict[str, Any]], None]) -> Callable[[int], None]:
    """Progress, twice a second."""
    last = 0.0

    def progress(done: int) -> None:
        nonlocal last
        if time.monotonic() - last > 0.5:
            last = time.monotonic()
            say({"done": done})

    return progress


def _resting(progress: Callable[[int], None], pace: float) -> Callable[[int], None]:
    """Progress that keeps a stream at `pace` bytes per second, in rests of milliseconds.

    etcd sends with all of a core while it is read. What a stall left undone is not caught up on.
    """
    began, then = time.monotonic(), 0

    def rest(done: int) -> None:
        nonlocal began, then
        progress(done)
        if done - then >= _STRIDE:
            time.sleep(max(0.0, (done - then) / pace - (time.monotonic() - began)))
            began, then = time.monotonic(), done

    return rest


def main() -> int:
    """Do what standard input asks for."""

    def say(answer: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()

    processes.PATH = os.environ["PATH"]  # the keeper's, which started this
    try:
        say(_work(json.load(sys.stdin), say))
    except (errors.EtcdError, OSError) as error:
        blamed = isinstance(error, (proof.ProofError, errors.SnapshotError))
        say({"error": str(error), "hindered": not blamed})
    return 0


if __name__ == "__main__":
    sys.exit(main())
