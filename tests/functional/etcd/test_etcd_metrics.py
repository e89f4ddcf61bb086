"""The metrics page beside a real etcd: what is in it, and who can reach it."""

from __future__ import annotations

import base64
import dataclasses
import http.client
import lzma
import re
import socket
import ssl

import etcd_cluster
import pytest

from backup import keeper_files
from keeper import alarms, metrics
from relations import cos
from support import keeper_config

TOPOLOGY = {"juju_model": "m", "juju_model_uuid": "1", "juju_application": "etcd"}


# Absent until something failed; and until etcd's prober looked, half a minute after the start.
LATER = {"etcd_backup_last_error", "etcd_network_peer_round_trip_time_seconds_bucket"}


@pytest.fixture
def three(cluster, tmp_path):
    """An exporter of the first of three members."""
    cluster.found(3)
    made = serve(cluster, tmp_path)
    yield made
    made.close()


@pytest.fixture
def exporter(cluster, tmp_path):
    """An exporter with no etcd behind it."""
    cluster.node()
    made = serve(cluster, tmp_path)
    yield made
    made.close()


def serve(cluster, folder) -> metrics.Exporter:
    (port,) = etcd_cluster.free_ports(1)
    tls = cluster.tls
    config = keeper_config.told(
        local=cluster.nodes[0].client_url,
        tls=tls,
        interval=60.0,
        retention="last=1",
        units=3,
        certificates={"peer": 2e9},
        certificates_from={"peer": 1e9},
        metrics_port=port,
    )
    path = folder / "keeper.json"
    path.write_text(config.to_json())
    watched = alarms.Watch(lambda: None, path)

    def sight() -> alarms.Sight | None:
        watched.look()
        return watched.sight

    made = metrics.Exporter(path, folder / "status.json", tls, sight)
    made.follow()
    return made


def port_of(exporter: metrics.Exporter) -> int:
    return keeper_files.Config.read(exporter._config).metrics_port


def scrape(exporter: metrics.Exporter, path: str = "/metrics", ca: str | None = None):
    context = ssl.create_default_context(cafile=ca) if ca else ssl._create_unverified_context()
    connection = http.client.HTTPSConnection(
        "127.0.0.1", port_of(exporter), timeout=10, context=context
    )
    connection.request("GET", path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_given_the_rules_and_the_dashboard_when_etcd_is_scraped_then_all_they_name_is_there(
    cluster, three
):
    cluster.client().put("a", "1")
    status, text = scrape(three, ca=str(cluster.tls.ca))
    assert status == 200
    there = set(re.findall(r"^([a-z_]\w+)[ {]", text, re.MULTILINE))
    rules = cos.alert_rules(TOPOLOGY, "etcd")["groups"]
    wanted = [rule["expr"] for group in rules for rule in group["rules"]]
    wanted.append(lzma.decompress(base64.b64decode(cos.dashboard())).decode())
    named = {name for each in wanted for name in re.findall(r"\betcd_\w+", each)}
    assert named - there <= LATER


def test_given_tls_1_3_as_the_lowest_when_scraped_in_1_2_then_refused(cluster, three):
    older = ssl.create_default_context(cafile=str(cluster.tls.ca))
    older.maximum_version = ssl.TLSVersion.TLSv1_2

    def speak() -> str | None:
        with (
            socket.create_connection(("127.0.0.1", port_of(three)), 10) as raw,
            older.wrap_socket(raw, server_hostname="127.0.0.1") as spoken,
        ):
            return spoken.version()

    assert speak() == "TLSv1.2"
    told = keeper_files.Config.read(three._config)
    strict = dataclasses.replace(told, tls_min_version="TLS1.3")
    three._config.write_text(strict.to_json())
    with pytest.raises(ssl.SSLError, match="version"):
        speak()
    assert scrape(three, ca=str(cluster.tls.ca))[0] == 200
    three._config.write_text(told.to_json())


def test_given_three_members_when_scraped_then_they_are_counted(three):
    _, text = scrape(three)
    lines = text.splitlines()
    assert "etcd_charm_members 3" in lines
    assert "etcd_charm_learners 0" in lines
    assert "etcd_charm_member_up 1" in lines
    assert 'etcd_charm_alarms{alarm="NOSPACE"} 0' in lines
    assert "etcd_charm_members_answering 3" in lines
    assert "etcd_charm_quorum_margin 1" in lines


def test_given_a_machine_that_died_when_another_is_scraped_then_it_says_so(cluster, three):
    cluster.nodes[2].stop()
    lines = scrape(three)[1].splitlines()
    assert f'etcd_charm_member_answers{{member="{cluster.nodes[2].name}"}} 0' in lines
    assert f'etcd_charm_member_answers{{member="{cluster.nodes[1].name}"}} 1' in lines
    assert "etcd_charm_members_answering 2" in lines
    assert "etcd_charm_quorum_margin 0" in lines


def test_given_a_dead_member_when_scraped_then_the_page_says_so_and_the_rest(cluster, three):
    cluster.nodes[0].stop()
    _, text = scrape(three)
    assert "etcd_charm_member_up 0" in text.splitlines()
    assert "etcd_charm_units 3" in text.splitlines()
    assert "etcd_server_has_leader" not in text


def test_given_no_quorum_when_scraped_then_the_page_comes_in_time_without_alarms(cluster, three):
    for node in cluster.nodes[1:]:
        node.stop()
    _, text = scrape(three)
    assert "etcd_charm_member_up 1" in text.splitlines()
    assert "etcd_charm_members 3" in text.splitlines()


def test_given_plaintext_when_asked_then_refused_and_the_next_scrape_works(exporter):
    connection = http.client.HTTPConnection("127.0.0.1", port_of(exporter), timeout=10)
    connection.request("GET", "/metrics")
    with pytest.raises((OSError, http.client.HTTPException)):
        connection.getresponse()
    assert scrape(exporter)[0] == 200


def test_given_a_client_that_says_nothing_when_another_scrapes_then_it_is_served(exporter):
    with socket.create_connection(("127.0.0.1", port_of(exporter))):
        assert scrape(exporter)[0] == 200


def test_given_another_address_of_the_machine_when_asked_then_nobody_listens(exporter):
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.2", port_of(exporter)), timeout=5)


def test_given_another_path_when_asked_then_it_is_not_found(exporter):
    assert scrape(exporter, "/v3/kv/range")[0] == 404


def test_given_another_port_when_the_charm_names_it_then_the_page_moves_there(cluster, exporter):
    before = port_of(exporter)
    (port,) = etcd_cluster.free_ports(1)
    text = exporter._config.read_text().replace(str(before), str(port))
    exporter._config.write_text(text)
    exporter.follow()
    assert scrape(exporter)[0] == 200
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", before), timeout=5)


def test_given_a_port_that_is_taken_when_it_is_free_again_then_the_page_is_served(
    cluster, exporter, caplog
):
    (port,) = etcd_cluster.free_ports(1)
    text = exporter._config.read_text().replace(str(port_of(exporter)), str(port))
    with socket.create_server(("127.0.0.1", port)), caplog.at_level("INFO"):
        exporter._config.write_text(text)
        exporter.follow()
    assert "not served" in caplog.text
    exporter.follow()
    assert scrape(exporter)[0] == 200
