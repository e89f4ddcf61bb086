#!/usr/bin/env python3
"""Installs etcd beside the hooks: `host.begin_install` runs it as a service.

`install.py [RELEASE]`: a tarball of an etcd release, else the distribution's package.
"""

from __future__ import annotations

import pathlib
import sys

import host


def main() -> int:
    """Install; 1 when it could not be done, which `host.install_problem` tells the hooks."""
    release = pathlib.Path(sys.argv[1]) if sys.argv[1:] else None
    if not host.install(release):
        print(host.install_problem())
        return 1
    print("etcd is installed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
