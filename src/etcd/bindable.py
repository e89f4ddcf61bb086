"""Whether whoever runs this may listen: `bindable HOST PORT HOST PORT...` prints what may not.

It imports nothing of ours, and is run by a user who may do no more than etcd.
"""

from __future__ import annotations

import errno
import socket
import sys

NO_ADDRESS = "is no address of this machine"
_WHY = {
    errno.EADDRINUSE: "another program listens on port {port} of {host}",
    errno.EACCES: "etcd may not listen on port {port}, which is the system's own",
    errno.EADDRNOTAVAIL: f"{{host}} {NO_ADDRESS}",
}


def problem(host: str, port: int) -> str:
    """Why nobody can listen there now, "" where one can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError as error:
            why = _WHY.get(error.errno or 0, "{host} port {port} cannot be listened on")
            return why.format(host=host, port=port)
    return ""


def main() -> None:
    """Print the first problem."""
    words = sys.argv[1:]
    found = (problem(host, int(port)) for host, port in zip(words[::2], words[1::2], strict=True))
    print(next(filter(None, found), ""))


if __name__ == "__main__":
    main()
