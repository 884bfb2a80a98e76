"""The service over HTTP, with the recorded cases of the image."""

import json
import logging
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from holmesgpt_api import logs
from holmesgpt_api.app import make_app
from holmesgpt_api.cases import Cases

PATH = "/api/v1/investigations"


@pytest.fixture
def client() -> TestClient:
    return TestClient(make_app(Cases.read(Path(__file__).parent.parent / "cases")))


def question(**fields) -> dict:
    return {
        "analysis_id": "8a6e0804-2bd0-4672-b79d-d97027f9071a",
        "remediation_request": "rr-1",
        "signal_fingerprint": "a" * 64,
        "signal_name": "OOMKilled",
        "severity": "critical",
        "environment": "staging",
        "target_resource": {"kind": "Pod", "name": "web-0", "namespace": "prod"},
    } | fields


def test_a_known_signal_gets_its_recorded_analysis(client):
    answer = client.post(PATH, json=question())
    assert answer.status_code == 200
    assert answer.json()["case_id"] == "oom-killed"
    assert answer.json()["confidence"] == 92
    assert client.post(PATH, json=question()).json() == answer.json(), "it is the same each time"


def test_the_environment_can_decide(client):
    answer = client.post(PATH, json=question(environment="production"))
    assert answer.json()["case_id"] == "oom-killed-production"


def test_an_unknown_signal_is_not_found(client):
    answer = client.post(PATH, json=question(signal_name="NeverSeen"))
    assert answer.status_code == 404
    assert "NeverSeen" in answer.json()["detail"]


@pytest.mark.parametrize(("signal", "statuses"), [
    ("FlakyModel", [503, 503, 200, 200]),
    ("BrokenModel", [500, 500]),
    ("RejectedByModel", [400]),
])
def test_failures_are_those_of_the_case(client, signal, statuses):
    seen = [client.post(PATH, json=question(signal_name=signal)).status_code for _ in statuses]
    assert seen == statuses


@pytest.mark.parametrize(("field", "value"), [
    ("signal_fingerprint", "abc"),
    ("severity", "apocalyptic"),
    ("signal_name", ""),
    ("environment", None),
    ("colour", "red"),
])
def test_an_invalid_question_names_the_field(client, field, value):
    answer = client.post(PATH, json=question(**{field: value}))
    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["errors"]] == [field]
    assert field in answer.json()["detail"]


def test_probes_and_metrics(client):
    assert client.get("/health").json() == {"status": "alive"}
    assert client.get("/ready").json()["status"] == "ready"
    client.post(PATH, json=question())
    client.post(PATH, json={})
    client.get("/no/such/path")
    text = client.get("/metrics").text
    assert 'holmesgpt_answers_total{outcome="analysis"} 1.0' in text
    assert 'holmesgpt_answers_total{outcome="invalid"} 1.0' in text
    assert "no/such" not in text, "a caller can make as many series as it likes"
    assert 'path="unmatched",status="404"' in text


def test_a_log_line_is_one_json_object():
    record = logging.makeLogRecord({"levelname": "INFO", "msg": "a\nb", "case_id": "c"})
    line = logs.JsonLines().format(record)
    assert "\n" not in line
    read = json.loads(line)
    assert (read["message"], read["case_id"], read["level"]) == ("a\nb", "c", "info")
    assert {"timestamp", "level", "message", "case_id"} == set(read)
