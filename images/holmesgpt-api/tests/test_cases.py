"""Which case answers, and when it fails."""

import json
from pathlib import Path

import pytest

from holmesgpt_api import cases
from holmesgpt_api.cases import CaseError, Cases

ANSWER = {"root_cause": "r", "confidence": 1, "recommendations": []}
RECORDED = Path(__file__).parent.parent / "cases"


def folder(tmp_path: Path, **files) -> Path:
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / f"{name}.json").write_text(text)
    return tmp_path


def case(answer=ANSWER, **keys) -> dict:
    return {"match": {"signal_name": "A"}, "answer": answer, **keys}


def test_the_recorded_cases_can_be_read():
    assert len(Cases.read(RECORDED)) == len(list(RECORDED.glob("*.json"))) > 0


def test_the_case_that_names_most_fields_answers(tmp_path):
    wide = case()
    narrow = case() | {"match": {"signal_name": "A", "environment": "production"}}
    read = Cases.read(folder(tmp_path, a_wide=wide, b_narrow=narrow))
    for environment, expected in [("production", "b_narrow"), ("staging", "a_wide")]:
        reply = read.reply("id", {"signal_name": "A", "environment": environment})
        assert reply.case_id == expected
    assert read.reply("id", {"signal_name": "B", "environment": "production"}) is None


def test_failures_are_counted_for_each_analysis(tmp_path):
    read = Cases.read(folder(tmp_path, flaky=case(failures=2, status=500)))
    question = {"signal_name": "A"}
    assert [read.reply("one", question).answer is None for _ in range(4)] == [True, True, False, False]
    reply = read.reply("two", question)
    assert (reply.answer, reply.status) == (None, 500)


def test_only_so_many_analyses_are_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(cases, "REMEMBERED", 2)
    read = Cases.read(folder(tmp_path, flaky=case(failures=1)))
    question = {"signal_name": "A"}
    for analysis in ("one", "two", "three"):
        assert read.reply(analysis, question).answer is None
    assert read.reply("three", question).answer is not None
    assert read.reply("one", question).answer is None, "the oldest was forgotten"


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        {"match": {}, "answer": ANSWER},
        {"match": {"colour": "red"}, "answer": ANSWER},
        {"match": {"signal_name": "A"}},
        case(failures=-1),
        case(failures="sometimes"),
        case(status=200),
        case(speed=1),
        case(answer=ANSWER | {"confidence": 101}),
    ],
)
def test_what_is_no_case_is_named(tmp_path, content):
    with pytest.raises(CaseError, match="bad.json"):
        Cases.read(folder(tmp_path, bad=content))


def test_a_folder_without_cases_is_refused(tmp_path):
    with pytest.raises(CaseError, match="no cases"):
        Cases.read(tmp_path)
