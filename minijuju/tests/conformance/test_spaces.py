"""Endpoints in spaces of their own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import jubilant
import pytest

if TYPE_CHECKING:
    import pathlib

    from conformance import prober as probers

APP, UNIT = "spaced", "spaced/0"

pytestmark = pytest.mark.minijuju  # elsewhere the subnets are what the cloud has


def test_given_a_space_when_an_endpoint_is_bound_to_it_then_only_its_addresses_are_told(
    prober: probers.Prober, probe: pathlib.Path
) -> None:
    subnets = json.loads(prober.juju.cli("subnets", "--format", "json"))["subnets"]
    assert {each["space"] for each in subnets.values()} == {"alpha"}
    six = next(subnet for subnet, each in subnets.items() if each["type"] == "ipv6")
    prober.juju.cli("add-space", "six", six)
    spaces = json.loads(prober.juju.cli("spaces", "--format", "json"))["spaces"]
    assert {s["name"]: list(s["subnets"]) for s in spaces}["six"] == [six]
    with pytest.raises(jubilant.CLIError, match="nowhere"):
        prober.juju.deploy(probe, APP, bind="nowhere")

    prober.juju.deploy(probe, APP, bind={"extra": "six", "mates": "six"})
    prober.expect(UNIT, "start")
    for endpoint, family in {"extra": ":", "mates": ":", "source": "."}.items():
        told = prober.ask(UNIT, "network-get", "--format=json", endpoint)
        found = [*told["ingress-addresses"], *told["egress-subnets"]]
        found += [each["value"] for each in told["bind-addresses"][0]["addresses"]]
        assert found
        assert all(family in address for address in found)
    bindings = json.loads(prober.juju.cli("status", "--format", "json"))
    assert bindings["applications"][APP]["endpoint-bindings"]["extra"] == "six"
    mates = prober.ask(UNIT, "relation-ids", "mates", "--format=json")[0]
    bag = prober.ask(UNIT, "relation-get", "-r", mates, "--format=json", "-", UNIT)
    assert ":" in bag["ingress-address"]
