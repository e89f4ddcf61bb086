"""A machine of the model that serves a bucket, and an application that is told of it."""

from __future__ import annotations

import pathlib
import shutil
import sys

import jubilant
from cluster_under_test import eventually

ROOT = "/srv/s3"
PORT = 9000
FOLDER = f"{ROOT}/backups"
"""Where the bucket's objects lie on the machine, as files."""
CONFIG = """\
[vault]
type = s3
provider = Other
access_key_id = ACCESSKEY
secret_access_key = SECRETKEY
endpoint = http://{address}:{port}
"""


def serve(juju: jubilant.Juju) -> tuple[str, str]:
    """Add a machine that serves the bucket `backups`; answers with its number and address.

    It stands for a service elsewhere: here, etcd goes first.
    """
    juju.cli("add-machine")
    (machine,) = eventually(
        lambda: [
            n for n, m in juju.status().machines.items() if m.juju_status.current == "started"
        ]
    )
    rclone = shutil.which("rclone", path=str(pathlib.Path(sys.executable).parent))
    juju.scp(rclone, f"{machine}:/tmp/rclone")
    juju.ssh(
        machine,
        f"sudo mkdir -p {FOLDER} && sudo systemd-run --quiet --unit=s3 -p Nice=19 "
        "/tmp/rclone serve s3 "
        f"--auth-key ACCESSKEY,SECRETKEY --addr :{PORT} {ROOT}",
    )
    return machine, juju.status().machines[machine].dns_name


def use(juju: jubilant.Juju, address: str, app: str = "etcd", port: int = PORT) -> None:
    """Tell an application that its backups go to the bucket at this address."""
    config = CONFIG.format(address=address, port=port)
    secret = juju.add_secret(f"rclone-{app}-{port}", {"rclone-conf": config})
    juju.grant_secret(secret, app)
    juju.config(app, {"rclone-config": str(secret), "backup-remote": "vault:backups"})
