"""Performance promises, as ratios against the same work done by hand in the same run."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# The charm's own modules, and what its integration tests look at a deployed cluster with.
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests"), str(ROOT / "tests/integration/charm")]
