"""Errors in OpenAI's shape, and a log line about a fault that holds no text of the user."""

from __future__ import annotations

import traceback
from typing import Any

import structlog
from starlette.responses import JSONResponse, Response

log: structlog.stdlib.BoundLogger = structlog.get_logger("sluice.http")


class ApiError(Exception):
    """Something the client is told: an HTTP status and one clear line."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: str = "invalid_request_error",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.kind = kind
        self.headers = headers or {}

    def body(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        return JSONResponse(self.body(), status_code=self.status, headers=self.headers)


def invalid(param: str | None, message: str, code: str | None = "invalid_value") -> ApiError:
    """A 400 about ``param``."""
    return ApiError(400, message, param=param, code=code)


def internal() -> ApiError:
    """A fault of ours: nothing about it leaves the machine."""
    return ApiError(
        500, "the edge worker failed on this request; its log has the details", code="internal_error", kind="server_error"
    )


def outage(message: str) -> ApiError:
    return ApiError(503, message, code="outage", kind="server_error")


def busy(message: str, retry_after_seconds: float) -> ApiError:
    seconds = max(1, round(retry_after_seconds + 0.5))
    return ApiError(429, message, code="rate_limit_exceeded", kind="rate_limit_error", headers={"retry-after": str(seconds)})


def log_fault(error: BaseException, request_id: str) -> None:
    """Log where ``error`` arose. Its message is left out: it may quote the user's text or token ids."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    where = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    log.error("request_failed", error=type(error).__name__, where=where, request_id=request_id)
