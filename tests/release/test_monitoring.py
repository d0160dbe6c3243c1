"""The files for Prometheus and Grafana ask for metrics that the server gives."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from cdxsync.base import metrics
from tests.support.fleet import Fleet

FOLDER = Path(__file__).parents[2] / "examples" / "monitoring"
ALERTS = yaml.safe_load((FOLDER / "alerts.yml").read_text())
DASHBOARD = json.loads((FOLDER / "grafana-dashboard.json").read_text())
OF_PROMETHEUS = {"exported_job", "instance", "le"}
"""Labels that Prometheus adds, or renames: ours are called `job` too."""


def expressions() -> Iterator[tuple[str, str]]:
    """What the alerts and the panels ask for, by their names."""
    for group in ALERTS["groups"]:
        yield from ((rule["alert"], rule["expr"]) for rule in group["rules"])
    for panel in DASHBOARD["panels"]:
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])


EXPRESSIONS = list(expressions())


@pytest.fixture(scope="module")
def given(fleet: Fleet) -> dict[str, set[str]]:
    """The metrics of a server, by sample name, with their labels."""
    with fleet.client(certificate="admin") as client:
        client.call("GET", "/healthz")
        text = client.call("GET", "/metrics").text
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    # These have no sample before something has happened.
    late = {
        f"{metric.name}_total": set(metric.labels) for metric in (metrics.connections_refused, metrics.worker_starts)
    }
    late |= {"cdxsync_canonical_age_seconds": set(), "cdxsync_job_last_success_timestamp_seconds": {"job"}}
    return late | found


@pytest.mark.parametrize(("name", "expression"), EXPRESSIONS, ids=[name for name, _ in EXPRESSIONS])
def test_metrics_and_labels_are_those_of_the_server(given: dict[str, set[str]], name: str, expression: str) -> None:
    asked = set(re.findall(r"\bcdxsync_\w+", expression))
    assert asked <= given.keys() or expression.startswith(("up", "sum(up"))
    labels = set(re.findall(r"(\w+)\s*=~?\"", expression))
    labels |= {label for listed in re.findall(r"by \(([^)]*)\)", expression) for label in listed.split(", ")}
    assert labels <= OF_PROMETHEUS.union({"job"} if "up{" in expression else (), *(given[metric] for metric in asked))


def test_a_fleet_with_a_document_gives_the_rest(connected: Fleet) -> None:
    with connected.client(certificate="admin") as client:
        text = client.call("GET", "/metrics").text
    assert re.search(r"^cdxsync_canonical_age_seconds [0-9.e+]+$", text, re.MULTILINE)
    assert re.search(r'^cdxsync_job_last_success_timestamp_seconds\{job="\w+"\} ', text, re.MULTILINE)


def test_the_scrape_can_be_made(fleet: Fleet) -> None:
    """With the certificate that the file tells to make, and no key of admins."""
    (job,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    fleet.cli("pki", "issue", Path(job["tls_config"]["cert_file"]).stem)
    with fleet.client(certificate="prometheus") as client:
        assert client.call("GET", job.get("metrics_path", "/metrics")).status_code == 200


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
        ("check", "config", "--syntax-only", "prometheus.yml"),
    ],
    ids=" ".join,
)
def test_prometheus_takes_them(arguments: tuple[str, ...]) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian's prometheus)")
    done = subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_do_not_overlap() -> None:
    taken: dict[tuple[int, int], Any] = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert x < 24
                assert taken.setdefault((x, y), panel["id"]) == panel["id"]
