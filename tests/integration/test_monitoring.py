"""The dashboard and the alert rules that ship in docs/monitoring show what is really served."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from signalpost.embedded.launching import free_port
from signalpost.settings import Settings
from signalpost_worker.runtime import Runtime
from tests import compose
from tests.databases import cloned
from tests.processes import Program, wait_for

FOLDER = Path(__file__).parents[2] / "docs" / "monitoring"
PAGE = Path(__file__).parents[2] / "docs" / "operations.md"

# What Prometheus' language has of its own in our expressions.
_WORDS = {"by", "le", "sum", "max", "rate", "delta", "absent", "histogram_quantile"}


@pytest.fixture(scope="module")
def served(postgres_server: str, migrated_template: str, redis_server: str) -> set[str]:
    """Every series name that a process with all roles serves."""
    with cloned(postgres_server, migrated_template) as url:
        port = free_port()
        settings = Settings(database_url=url, redis_url=redis_server, metrics_port=port)
        runtime = Runtime(settings)
        watching = runtime.watching
        runtime.consumer.start(None)
        watching.start(delivers=True, alerts=True)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                page = answer.read().decode()
        finally:
            watching.stop()
            runtime.consumer.stop()
            runtime.broker.close()
    names = set()
    for family in text_string_to_metric_families(page):
        names |= {sample.name for sample in family.samples}
        # One with labels has no sample before its first use.
        names.add(f"{family.name}_total" if family.type == "counter" else family.name)
    return names


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
    return found


def yaml(name: str) -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load(FOLDER / name)
    return found


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml("rules.yml")["groups"] for rule in group["rules"]]


def expressions() -> Iterator[str]:
    for panel in dashboard()["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (rule["expr"] for rule in rules())


def names_in(expression: str) -> set[str]:
    """The metrics that an expression reads."""
    plain = re.sub(r"\{[^}]*\}|\[[^\]]*\]|by \([^)]*\)", " ", expression)
    return set(re.findall(r"[a-z_:][a-z0-9_:]*", plain)) - _WORDS


def test_dashboard_and_rules_read_only_what_is_served(served: set[str]) -> None:
    """Each metric in a panel or a rule is one that a process of the stack serves."""
    read = set().union(*map(names_in, expressions()))
    assert len(read) > 15
    assert read - served == set()


def test_the_page_of_operations_names_every_metric(served: set[str]) -> None:
    """docs/operations.md has each metric of ours, so that nobody has to read a scrape."""
    text = PAGE.read_text()
    ours = {re.sub(r"_(bucket|count|sum)$", "", name) for name in served}
    ours = {name for name in ours if not name.startswith(("process_", "python_"))}
    assert {name for name in ours if f"`{name}" not in text} == set()


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('sum(rate(a_total{result!="b"}[5m])) by (code) * 60', {"a_total"}),
        (
            "histogram_quantile(0.9, sum(rate(c_bucket[$__rate_interval])) by (le)) > 6",
            {"c_bucket"},
        ),
    ],
)
def test_metrics_are_found_in_an_expression(expression: str, names: set[str]) -> None:
    """Labels, ranges and functions are no metrics."""
    assert names_in(expression) == names


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    """It has what Grafana needs of a dashboard, each panel its place, unit and questions."""
    found = dashboard()
    assert {"uid", "title", "schemaVersion", "panels", "templating", "time"} <= found.keys()
    ids = [panel["id"] for panel in found["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in found["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["title"]
        assert panel["description"]
        assert panel["type"] in ("stat", "timeseries")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_each_rule_says_what_to_do() -> None:
    """A rule has a name of its own, a severity, what is wrong and what to do."""
    found = rules()
    assert len({rule["alert"] for rule in found}) == len(found)
    for rule in found:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"].keys() == {"summary", "action"}


def test_the_scrape_reads_the_rules() -> None:
    """Prometheus is pointed at the rules file, and at the port that compose gives to workers."""
    found = yaml("prometheus.yml")
    assert found["rule_files"] == ["/etc/prometheus/rules.yml"]
    (job,) = found["scrape_configs"]
    (targets,) = job["dns_sd_configs"]
    assert targets == {"names": ["worker", "ops"], "type": "A", "port": 9464} | {
        "refresh_interval": "15s"
    }


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus on this machine")
def test_prometheus_takes_its_files_and_says_that_it_is_well(tmp_path: Path) -> None:
    """By compose's own words; its health check fails before it runs and passes after."""
    port = free_port()
    service = compose.read()["services"]["prometheus"]
    scrape = (FOLDER / "prometheus.yml").read_text()
    (tmp_path / "scrape.yml").write_text(
        scrape.replace("/etc/prometheus/rules.yml", str(FOLDER / "rules.yml"))
    )
    words = [
        word.replace("/etc/prometheus/prometheus.yml", str(tmp_path / "scrape.yml"))
        for word in service["command"]
    ]
    kind, check = service["healthcheck"]["test"]
    assert kind == "CMD-SHELL"

    def well(path: str = "/-/healthy") -> bool:
        words = check.replace("9090", str(port)).replace("/-/healthy", path)
        return subprocess.run(["/bin/sh", "-c", words], check=False, timeout=10).returncode == 0

    assert not well()
    here = [f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    with Program(["prometheus", *words, *here], cwd=tmp_path) as prometheus:
        wait_for(well, what="prometheus")
        wait_for(lambda: well("/-/ready"), what="its rules")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/rules", timeout=10) as answer:
            groups = json.load(answer)["data"]["groups"]
        read = [rule["name"] for group in groups for rule in group["rules"]]
        assert read == [rule["alert"] for rule in rules()]
        assert prometheus.end() == 0
