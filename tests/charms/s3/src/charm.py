"""Serve a bucket and tell every relation of it; the same work in every hook."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import juju
import server

ENDPOINT = "s3-credentials"
FAULTS = ("", "down", "read-only", "wrong-credentials", "wrong-ca", "silent")
ROOT = pathlib.Path("/srv/s3")
RCLONE = pathlib.Path("/usr/local/bin/rclone-s3")
LABEL = "s3-{relation}"


def main() -> None:
    """Run one hook or action."""
    hook = os.environ.get("JUJU_DISPATCH_PATH", "").rpartition("/")[2]
    if hook in ("stop", "remove") or hook.endswith(("-departed", "-broken")):
        return
    if not juju.is_leader():
        juju.status("waiting", "The leader serves the bucket")
        return
    config = juju.config()
    fault = str(config.get("fault", ""))
    if fault not in FAULTS:
        juju.status("blocked", f"fault must be one of {', '.join(filter(None, FAULTS))}, or empty")
        return
    if not RCLONE.exists():
        shutil.copy(juju.resource("rclone"), RCLONE)
        RCLONE.chmod(0o755)
    ours = server.Server(ROOT, RCLONE)
    if hook == "rotate":
        ours.rotate()
    address = juju.address(ENDPOINT)
    bucket, style = str(config["bucket"]), str(config["uri-style"])
    ours.ensure(
        address, bucket, running=fault != "down", read_only=fault == "read-only", style=style
    )
    access, secret = ours.keys()
    told = {
        "bucket": bucket,
        "path": str(config.get("path", "")),
        "endpoint": f"https://{address if style == 'path' else server.NAME}:{server.PORT}",
        "region": "us-east-1",
        "s3-uri-style": style,
        "tls-ca-chain": json.dumps(ours.chain("other" if fault == "wrong-ca" else "root")),
    }
    keys = {
        "access-key": access,
        "secret-key": "0" * 40 if fault == "wrong-credentials" else secret,
    }
    for relation in juju.relations(ENDPOINT) if fault != "silent" else ():
        publish(relation, told, keys, int(config["schema"]))
    juju.status("active", f"Of no use: {fault}" if fault else "Bucket ready")


def publish(relation: str, told: dict[str, str], keys: dict[str, str], schema: int) -> None:
    """Tell one relation, in the schema that it began with, once the other side has begun.

    As s3-integrator has it: the newer schema is spoken to who wrote `version` and asked for
    secrets; the older one begins with a note of its own, and waits for `bucket`.
    """
    before, asked = juju.read_own_application(relation), juju.read_remote_application(relation)
    if "data" in before or (schema == 0 and "version" not in before):
        juju.write_application(relation, {"data": "{}"})
        if asked.get("bucket"):
            juju.write_application(relation, {**told, **keys})
        return
    juju.write_application(relation, {"version": "1"})
    if not asked.get("version") or "secret-key" not in asked.get("requested-secrets", ""):
        return
    uri = before.get("secret-extra") or juju.add_secret(LABEL.format(relation=relation), keys)
    juju.set_secret(uri, keys)
    juju.grant(uri, relation)
    juju.write_application(relation, {**told, "secret-extra": uri})


if __name__ == "__main__":
    main()
