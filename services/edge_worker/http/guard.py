"""What every request passes first: its id, its key, the size of its body, and a net for what nobody caught."""

from __future__ import annotations

import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.edge_worker.http.api_keys import ApiKeys
from services.edge_worker.http.errors import ApiError, internal, log_fault

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
STATE = "sluice_http"


def request_id(scope: Scope) -> str:
    return str(scope[STATE]["request_id"])


def tenant(scope: Scope) -> str:
    return str(scope[STATE]["tenant"])


class Guard:
    """ASGI middleware. Keys are asked for below /v1 only."""

    def __init__(self, app: ASGIApp, api_keys: ApiKeys, body_bytes: int) -> None:
        self._app = app
        self._keys = api_keys
        self._body_bytes = body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        identity = given if REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(16)}"
        state = {"request_id": identity, "tenant": ""}
        scope[STATE] = state
        started = False

        async def tagged(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)["x-request-id"] = identity
            await send(message)

        try:
            if scope["path"].startswith("/v1/"):
                state["tenant"] = self._tenant(headers)
                self._check_declared(headers)
            await self._app(scope, self._counted(receive), tagged)
        except ApiError as error:
            await error.response()(scope, receive, tagged)
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001 (the last net: every fault gets an answer in OpenAI's shape)
            log_fault(error, identity)
            if not started:
                await internal().response()(scope, receive, tagged)

    def _tenant(self, headers: Headers) -> str:
        if not self._keys.required:
            return ""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise _unauthorised("You didn't provide an API key. Send it as 'Authorization: Bearer KEY'.")
        found = self._keys.owner(token.strip())
        if found is None:
            raise _unauthorised("Incorrect API key provided.")
        return found

    def _check_declared(self, headers: Headers) -> None:
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise ApiError(415, "compressed bodies are not supported; send plain JSON", code="unsupported_content_encoding")
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._body_bytes:
            raise self._too_large()

    def _counted(self, receive: Receive) -> Receive:
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._body_bytes:
                raise self._too_large()
            return message

        return counted

    def _too_large(self) -> ApiError:
        return ApiError(413, f"the body is too large: at most {self._body_bytes} bytes are allowed", code="request_too_large")


def _unauthorised(message: str) -> ApiError:
    return ApiError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})
