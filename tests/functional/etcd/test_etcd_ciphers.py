"""What a client that is no friend can talk a real etcd into, by openssl."""

from __future__ import annotations

import subprocess

import pytest

GOOD = ("ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384")  # fmt: skip


def spoken(cluster, url: str, *options: str) -> str:
    """The cipher that came of it, "" when the server refused."""
    done = subprocess.run(
        [
            "openssl", "s_client", "-connect", url.removeprefix("https://"),
            "-cert", str(cluster.tls.cert), "-key", str(cluster.tls.key),
            "-CAfile", str(cluster.tls.ca), *options,
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )  # fmt: skip
    found = [line for line in done.stdout.splitlines() if line.startswith("New, ")]
    cipher = found[0].rpartition(" is ")[2] if found else ""
    return "" if cipher == "(NONE)" else cipher


@pytest.mark.parametrize("port", ["client", "peer"])
def test_given_a_real_etcd_when_weak_ciphers_are_offered_then_they_are_refused(cluster, port):
    cluster.found(1)
    node = cluster.nodes[0]
    url = node.client_url if port == "client" else node.peer_url
    weak = "AES128-SHA:AES256-SHA:AES128-GCM-SHA256:AES256-GCM-SHA384:ECDHE-RSA-AES128-SHA"
    weak += ":ECDHE-RSA-AES256-SHA:ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA256:DES-CBC3-SHA"
    assert spoken(cluster, url, "-tls1_2", "-cipher", f"{weak}:@SECLEVEL=0") == ""
    assert spoken(cluster, url, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0") == ""
    assert spoken(cluster, url, "-tls1_2") in GOOD
    assert spoken(cluster, url, "-tls1_2", "-cipher", ":".join(GOOD)) in GOOD
    assert spoken(cluster, url, "-tls1_3").startswith("TLS_")
