"""Liveness, readiness and metrics."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

Readiness = Callable[[], str | None]  # None: ready, else the reason why not


def add_probes(app: FastAPI, readiness: Readiness | None, registry: CollectorRegistry | None) -> None:
    """``/livez``, ``/readyz`` (503 with the reason while not ready) and, with a registry, ``/metrics``."""

    async def livez(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        reason = readiness() if readiness is not None else None
        if reason is None:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready", "reason": reason}, status_code=503)

    app.add_route("/livez", livez, methods=["GET"])
    app.add_route("/readyz", readyz, methods=["GET"])
    if registry is None:
        return

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    app.add_route("/metrics", metrics, methods=["GET"])
