"""Judge recorded histories once more: `PYTHONPATH=tests python -m proof.judge_again FILE...`."""

from __future__ import annotations

import pathlib
import sys

from proof import judge, records


def main() -> int:
    """Judge each file; 1 when anything was found."""
    found = 0
    for name in sys.argv[1:]:
        with pathlib.Path(name).open() as lines:
            history = records.History.read(lines)
        judgement = judge.judge(history)
        found += len(judgement.findings)
        print(f"{name}: {len(judgement.findings)} findings; {judgement.figures}")
        for finding in judgement.findings:
            after = finding.at - history.began
            print(f"  [{after:5.0f} s] {finding.verdict.value}: {finding.sentence}")
            for line in finding.evidence:
                print(f"            {line}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
