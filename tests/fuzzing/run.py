"""Feed one target in a process with bounds: `run.py TARGET SEED SECONDS MOST`.

Prints how many inputs it read. What ends it otherwise is a finding: the input lies under
`build/fuzz`, and `run.py TARGET FILE` reads it again.
"""

from __future__ import annotations

import hashlib
import pathlib
import random
import resource
import shutil
import signal
import sys
import time

from fuzzing import mutations, targets

MEMORY = 1 << 30  # bytes of address space: the interpreter with all it imports takes half
SLOW = 5.0  # seconds for one input
FOUND = pathlib.Path(__file__).resolve().parents[2] / "build" / "fuzz"


def feed(target: targets.Target, raw: bytes, folder: pathlib.Path, slow: float = 0) -> None:
    """Read one input.

    Args:
        target: reads it.
        raw: the input.
        folder: is empty, and will be.
        slow: seconds after which it took too long, 0 for no such bound.

    Raises:
        Exception: it raised what is no error of ours, or took too long.
    """
    if slow:
        signal.setitimer(signal.ITIMER_REAL, slow)
    try:
        target.read(raw, folder)
    except target.allowed as error:
        assert str(error), "an error without a sentence"
    finally:
        if slow:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _late(*_: object) -> None:
    raise TimeoutError(f"one input took more than {SLOW:.0f} s")


def main() -> int:
    """Run."""
    name, chosen, *bounds = sys.argv[1:]
    target = targets.TARGETS[name]
    seeds = target.seeds()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
    signal.signal(signal.SIGALRM, _late)
    with targets.scratch() as at:
        folder = pathlib.Path(at)
        if not bounds:
            feed(target, pathlib.Path(chosen).read_bytes(), folder, SLOW)
            return 0
        chance, count = random.Random(int(chosen)), 0
        until = time.monotonic() + float(bounds[0])
        for raw in seeds:
            feed(target, raw, folder, SLOW)
        while count < int(bounds[1]) and time.monotonic() < until:
            raw = mutations.mutated(seeds, chance)
            try:
                feed(target, raw, folder, SLOW)
            except BaseException:
                FOUND.mkdir(parents=True, exist_ok=True)
                path = FOUND / f"{hashlib.sha256(raw).hexdigest()[:16]}"
                path.write_bytes(raw)
                sys.stderr.write(f"{name}: {path}\n")
                raise
            count += 1
    sys.stdout.write(f"{count}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
