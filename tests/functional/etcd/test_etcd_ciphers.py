"""What a client that is no friend can talk a real etcd into, by openssl."""

from __future__ import annotations

import dataclasses
import subprocess

import pytest

from etcd import config as etcd_config

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


def test_given_tls_1_3_as_the_lowest_when_asked_in_1_2_then_no_port_answers(cluster):
    """An etcd that would speak 1.2 on, whatever its file says, is not told to."""
    told = etcd_config.unknown(cluster.found(3, tls_min_version="TLS1.3").nodes[0].config)
    node = cluster.nodes[0]
    refuses = not any(spoken(cluster, url, "-tls1_2") for url in (node.client_url, node.peer_url))
    assert refuses is not bool(told), told
    for url in (node.client_url, node.peer_url):
        assert spoken(cluster, url, "-tls1_3").startswith("TLS_")
    assert all(member.healthy for member in cluster.client().observe().members)
    assert "OK" in cluster.etcdctl("put", "a", "b")


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ((3, 4, 24), "etcd 3.4.24 cannot be kept to TLS1.3: 3.5.8, or 3.4.25, or later can"),
        ((3, 4, 25), ""),
        ((3, 5, 7), "etcd 3.5.7 cannot be kept to TLS1.3"),
        ((3, 5, 8), ""),
        ((3, 6, 0), ""),
    ],
)
def test_given_a_version_of_etcd_when_it_is_to_be_kept_to_tls_1_3_then_its_patch_decides(
    cluster, version, told
):
    config = dataclasses.replace(cluster.node().config, version=version)
    assert etcd_config.unknown(config) == ""
    strict = dataclasses.replace(config, tls_min_version="TLS1.3")
    found = etcd_config.unknown(strict)
    assert found.startswith(told) and bool(found) == bool(told)
