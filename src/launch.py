#!/usr/bin/env python3
"""Runs a module of ours: `python -I launch.py MODULE ARGUMENT...`, the way of `python -m`.

Isolated, Python looks for modules neither where it was started nor where variables say: only
here, in `lib` beside this folder, and among the charm's packages.
"""

from __future__ import annotations

import pathlib
import runpy
import sys

if __name__ == "__main__":
    sources = pathlib.Path(__file__).resolve().parent
    sys.path[:0] = [str(sources.parent / "lib"), str(sources)]
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
