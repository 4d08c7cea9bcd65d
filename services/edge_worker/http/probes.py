"""Liveness, readiness and metrics."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.common.health import Health
from services.common.packing import packed

Readiness = Callable[[], str | None]  # None: ready, else the reason why not


def add_probes(
    app: FastAPI,
    readiness: Readiness | None,
    registry: CollectorRegistry | None,
    health: Health | None = None,
    scraped: Callable[[int], None] = lambda size: None,
) -> None:
    """``/livez`` (503 with the causes while a part is stuck), ``/readyz`` (503 with the reason while not ready) and, with a
    registry, ``/metrics``, of whose bytes ``scraped`` is told. What ``health`` knows besides is told too, but does not
    decide: an edge answers without links."""

    async def livez(_: Request) -> Response:
        causes = health.causes() if health is not None else {}
        if not causes:
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "stuck", "causes": causes}, status_code=503)

    async def readyz(_: Request) -> Response:
        reason = readiness() if readiness is not None else None
        known = {"links": dict(health.notes)} if health is not None else {}
        if reason is None:
            return JSONResponse({"status": "ready", **known})
        return JSONResponse({"status": "not ready", "reason": reason, **known}, status_code=503)

    app.add_route("/livez", livez, methods=["GET"])
    app.add_route("/readyz", readyz, methods=["GET"])
    if registry is None:
        return

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        body, headers = packed(encode(registry), request.headers.get("accept-encoding", ""))
        scraped(len(body))
        return Response(body, headers={"content-type": content_type, **headers})

    app.add_route("/metrics", metrics, methods=["GET"])
