"""What the options say is what etcd takes: at the bounds of each, and in its own spelling."""

from __future__ import annotations

import base64
import http.client
import json
import subprocess
import urllib.parse

import pytest

from etcd import config as etcd_config
from etcd import gateway
from hook import config as configs

NUMBERS = {
    "max_request_bytes": configs.RANGES["max-request-bytes"],
    "max_txn_ops": configs.RANGES["max-txn-ops"],
    "snapshot_count": configs.RANGES["snapshot-count"],
    "quota_bytes": configs.RANGES["quota-backend-bytes"],
    "watch_progress": configs.PROGRESS,
}
LOW, HIGH = ({name: bounds[n] for name, bounds in NUMBERS.items()} for n in (0, 1))
LONGEST = configs.LONGEST_HISTORY // 3600
MOST = {"auto_compaction_mode": "revision"}
MOST["auto_compaction_retention"] = str(configs.MOST_REVISIONS)
BOUNDS = {
    "low": {**LOW, "log_level": configs.LOG_LEVELS[0], "heartbeat_ms": 10, "election_ms": 50},
    "high": {
        **HIGH,
        "log_level": configs.LOG_LEVELS[-1],
        "auto_compaction_retention": f"{LONGEST}h",
    },
    "hours": {"log_level": configs.LOG_LEVELS[1], "auto_compaction_retention": str(LONGEST)},
    "revisions": MOST,
}


@pytest.mark.parametrize("bound", BOUNDS)
def test_given_options_at_their_bounds_when_etcd_starts_then_it_serves(cluster, bound):
    cluster.found(1, **BOUNDS[bound])


def test_given_an_idle_watch_when_it_asks_for_progress_then_told_within_the_interval(cluster):
    cluster.found(1, watch_progress=1, gateway=True)
    node = cluster.nodes[0]
    at = urllib.parse.urlsplit(node.client_url)
    tls = gateway.context(cluster.tls.ca, cluster.tls.cert, cluster.tls.key)
    connection = http.client.HTTPSConnection(at.hostname, at.port, timeout=10, context=tls)
    wanted = {"key": base64.b64encode(b"nothing").decode(), "progress_notify": True}
    connection.request("POST", "/v3/watch", json.dumps({"create_request": wanted}))
    answers = connection.getresponse()
    created, noted = (json.loads(answers.readline())["result"] for _ in range(2))
    connection.close()
    assert created["created"] and "events" not in noted
    assert noted["header"]["revision"] == "1"


def test_given_a_rendered_option_when_etcd_is_asked_then_it_knows_each(cluster, etcd):
    """etcd passes over what it does not know in its file, without a word."""
    lines = etcd_config.render(cluster.node().config).splitlines()
    names = [line.partition(":")[0] for line in lines if line[:1].isalpha() and ":" in line]
    names = [name for name in names if not name.endswith("-transport-security")]
    assert len(names) > 15
    for name in (*names, "no-such-option"):
        command = [str(etcd / "etcd"), f"--{name}=1", "--version"]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
        assert ("not defined" in said) is (name == "no-such-option"), said
