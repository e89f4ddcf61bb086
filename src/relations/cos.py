"""The `cos-agent` relation (interface cos_agent): what an observability agent on the unit needs.

The agent is a subordinate on the same machine and reads one key of this unit's databag: scrape
jobs as Prometheus takes them, alert rules, and dashboards, each as base64 of LZMA.
"""

from __future__ import annotations

import base64
import functools
import json
import lzma
import pathlib
from typing import TYPE_CHECKING, Any

from backup import keeper_files

if TYPE_CHECKING:
    import ops

ENDPOINT = "cos-agent"
KEY = "config"
_FILES = pathlib.Path(__file__).resolve().parent.parent / "cos"


class Cos:
    """Typed access to all relations of the endpoint.

    Args:
        charm: the charm.
        endpoint: name of the endpoint.
    """

    def __init__(self, charm: ops.CharmBase, endpoint: str = ENDPOINT):
        self._charm = charm
        self._endpoint = endpoint

    def publish(self, port: int, ca: bytes) -> bool:
        """Tell every agent where the metrics are; answers whether that changed anything.

        Args:
            port: where the keeper serves them, 0 for nowhere.
            ca: PEM of what verifies the certificate shown there.
        """
        relations = [r for r in self._charm.model.relations[self._endpoint] if r.active]
        if not relations:
            return False
        text = json.dumps(self._config(port, ca.decode()), sort_keys=True)
        bags = [relation.data[self._charm.unit] for relation in relations]
        changed = [bag for bag in bags if bag.get(KEY) != text]
        for bag in changed:
            bag[KEY] = text
        return bool(changed)

    def _config(self, port: int, ca: str) -> dict[str, Any]:
        model = self._charm.model
        topology = {
            "juju_model": model.name,
            "juju_model_uuid": model.uuid,
            "juju_application": self._charm.app.name,
        }
        jobs = [scrape_job(f"{self._charm.app.name}_0_etcd", port, ca)] if port and ca else []
        return {
            "metrics_alert_rules": alert_rules(topology, self._charm.meta.name) if jobs else {},
            "log_alert_rules": {},
            "dashboards": [dashboard()],
            "metrics_scrape_jobs": jobs,
            "log_slots": [],
        }


def scrape_job(name: str, port: int, ca: str) -> dict[str, Any]:
    """One entry of Prometheus's `scrape_configs`.

    The authority goes along as text: its file on the unit is not the agent's to read.
    """
    return {
        "job_name": name,
        "metrics_path": keeper_files.METRICS_PATH,
        "scheme": "https",
        "tls_config": {"ca": ca},
        "static_configs": [{"targets": [f"{keeper_files.METRICS_HOST}:{port}"]}],
    }


def alert_rules(topology: dict[str, str], charm: str) -> dict[str, Any]:
    """The alert rules of one application.

    Args:
        topology: labels that name the model and the application.
        charm: the charm's name.
    """
    import yaml  # costly, and most applications have no agent

    matchers = ",".join(f'{key}="{value}"' for key, value in topology.items())
    text = (_FILES / "alerts.yaml").read_text()
    rules: dict[str, Any] = yaml.safe_load(text)
    prefix = "_".join(
        [topology["juju_model"], topology["juju_model_uuid"][:8], topology["juju_application"]]
    )
    for group in rules["groups"]:
        group["name"] = f"{prefix}_{group['name']}_alerts"
        for rule in group["rules"]:
            rule["expr"] = rule["expr"].replace("%%juju_topology%%", matchers)
            rule["labels"] |= topology | {"juju_charm": charm}
    return rules


@functools.cache
def dashboard() -> str:
    """Grafana's dashboard, as the databag carries it."""
    content = json.loads((_FILES / "dashboard.json").read_text())
    return base64.b64encode(lzma.compress(json.dumps(content).encode())).decode()
