"""What `/metrics` counts. Each application has a registry of its own, so that tests do not meet."""

from prometheus_client import CollectorRegistry, Counter, Histogram


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Histogram(
            "holmesgpt_http_request_duration_seconds",
            "Time from a request's head to its answer.",
            ["method", "path", "status"],
            registry=self.registry,
        )
        self.answers = Counter(
            "holmesgpt_answers_total",
            "Questions by what they were answered with.",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in ("analysis", "failure", "unknown", "invalid"):
            self.answers.labels(outcome)
