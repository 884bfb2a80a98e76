"""Paths, validation, and what every request leaves in the log and the metrics.

| path | method | answer |
| --- | --- | --- |
| `/api/v1/investigations` | POST | 200 the recorded analysis; 404 no such case; 422 an invalid question; else as the case says |
| `/health`, `/ready` | GET | 200; the cases were read before the server listened |
| `/metrics` | GET | Prometheus' text form |
"""

import asyncio
import time
from typing import Annotated

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field

from holmesgpt_api.cases import Cases
from holmesgpt_api.logs import LOGGER
from holmesgpt_api.metrics import Metrics

PROBES = {"/health", "/ready", "/metrics"}

Name = Annotated[str, Field(min_length=1, max_length=253)]


class TargetResource(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: Name
    name: Name
    namespace: Name


class Question(BaseModel):
    model_config = ConfigDict(extra="forbid")

    analysis_id: Name
    remediation_request: Name
    signal_fingerprint: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    signal_name: Name
    severity: Annotated[str, Field(pattern="^(critical|warning|info)$")]
    environment: Name
    target_resource: TargetResource


def make_app(cases: Cases) -> FastAPI:
    """The whole application over these cases."""
    app = FastAPI(title="holmesgpt-api", docs_url=None, redoc_url=None)
    metrics = Metrics()

    @app.middleware("http")
    async def observe(request: Request, call_next) -> Response:
        began = time.perf_counter()
        response = await call_next(request)
        route = request.scope.get("route")
        path = route.path if route else "unmatched"
        seconds = time.perf_counter() - began
        metrics.requests.labels(request.method, path, response.status_code).observe(seconds)
        if path not in PROBES or response.status_code >= 400:
            fields = {"method": request.method, "path": path, "status": response.status_code}
            fields["duration_ms"] = round(seconds * 1000)
            LOGGER.info("request", extra=fields | getattr(request.state, "fields", {}))
        return response

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        metrics.answers.labels("invalid").inc()
        errors = [
            {"field": ".".join(str(part) for part in fault["loc"][1:]), "message": fault["msg"]}
            for fault in error.errors()
        ]
        request.state.fields = {"invalid": [fault["field"] for fault in errors]}
        detail = "; ".join(f"{fault['field']}: {fault['message']}" for fault in errors)
        return JSONResponse({"detail": detail, "errors": errors}, 422)

    @app.post("/api/v1/investigations")
    async def investigate(request: Request, question: Question) -> JSONResponse:
        reply = cases.reply(question.analysis_id, question.model_dump())
        fields = {"analysis_id": question.analysis_id, "signal_name": question.signal_name}
        request.state.fields = fields
        if reply is None:
            metrics.answers.labels("unknown").inc()
            return JSONResponse({"detail": f"no case fits `{question.signal_name}`"}, 404)
        fields["case_id"] = reply.case_id
        await asyncio.sleep(reply.delay_seconds)
        if reply.answer is None:
            metrics.answers.labels("failure").inc()
            detail = f"case `{reply.case_id}` fails here"
            return JSONResponse({"detail": detail}, reply.status)
        metrics.answers.labels("analysis").inc()
        return JSONResponse({"case_id": reply.case_id, **reply.answer.model_dump()})

    @app.get("/health")
    async def health() -> dict:
        return {"status": "alive"}

    @app.get("/ready")
    async def ready() -> dict:
        return {"status": "ready", "cases": len(cases)}

    @app.get("/metrics")
    async def scrape() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return app
