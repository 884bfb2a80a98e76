"""Recorded cases: which question gets which answer, and how badly it is given.

A case is a JSON file. `match` names fields of the question and the values they must have; of the cases
that match, the one that names most fields answers, the first by file name among equals.

| key | meaning |
| --- | --- |
| `match` | field of the question → value; at least one |
| `answer` | `root_cause`, `confidence` (0 to 100), `recommendations` |
| `failures` | the first so many questions of one analysis fail; `"always"` for every one |
| `status` | of a failure; 503 |
| `delay_seconds` | the time before an answer of any kind; 0 |

How often an analysis has asked is the only thing remembered, for the last `REMEMBERED` analyses; the
same questions in the same order get the same answers.
"""

import json
from collections import Counter, OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

REMEMBERED = 10_000

Matchable = Literal[
    "signal_fingerprint", "signal_name", "severity", "environment", "remediation_request"
]


class CaseError(Exception):
    """A folder of cases that cannot be used; names the file."""


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    root_cause: Annotated[str, Field(min_length=1)]
    confidence: Annotated[int, Field(ge=0, le=100)]
    recommendations: list[str]


class Case(BaseModel):
    model_config = ConfigDict(extra="forbid")

    case_id: str
    match: Annotated[dict[Matchable, str], Field(min_length=1)]
    answer: Answer | None = None
    failures: Annotated[int, Field(ge=0)] | Literal["always"] = 0
    status: Annotated[int, Field(ge=400, le=599)] = 503
    delay_seconds: Annotated[float, Field(ge=0)] = 0

    def fits(self, question: dict) -> bool:
        return all(question.get(field) == value for field, value in self.match.items())


@dataclass(frozen=True)
class Reply:
    """What a question gets: an answer, or a failure of that status."""

    case_id: str
    delay_seconds: float
    answer: Answer | None
    status: int


class Cases:
    def __init__(self, cases: list[Case]) -> None:
        self._cases = sorted(cases, key=lambda case: (-len(case.match), case.case_id))
        self._asked: OrderedDict[str, Counter] = OrderedDict()

    def __len__(self) -> int:
        return len(self._cases)

    @classmethod
    def read(cls, folder: Path) -> "Cases":
        """Reads every case of a folder; a case is called what its file is called."""
        files = sorted(folder.glob("*.json"))
        if not files:
            raise CaseError(f"there are no cases in `{folder}`")
        return cls([_read(file) for file in files])

    def reply(self, analysis_id: str, question: dict) -> Reply | None:
        """The reply to a question; none if no case fits."""
        case = next((case for case in self._cases if case.fits(question)), None)
        if case is None:
            return None
        fails = case.failures == "always" or self._count(analysis_id, case) <= case.failures
        answer = None if fails else case.answer
        return Reply(case.case_id, case.delay_seconds, answer, case.status)

    def _count(self, analysis_id: str, case: Case) -> int:
        asked = self._asked.setdefault(analysis_id, Counter())
        self._asked.move_to_end(analysis_id)
        if len(self._asked) > REMEMBERED:
            self._asked.popitem(last=False)
        asked[case.case_id] += 1
        return asked[case.case_id]


def _read(file: Path) -> Case:
    try:
        case = Case.model_validate({"case_id": file.stem, **json.loads(file.read_text("utf-8"))})
    except (ValidationError, ValueError, TypeError) as error:
        raise CaseError(f"`{file}` is no case: {error}") from error
    if case.answer is None and case.failures != "always":
        raise CaseError(f"`{file}` is no case: it has no `answer` and does not always fail")
    return case
