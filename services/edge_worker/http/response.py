"""One answer on its way to the client, streamed or whole. Whatever happens, the work behind it is stopped."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from services.edge_worker.answer import Answer, Answerer, AnswerRequest, BusyError, OutageError
from services.edge_worker.http.connection import until_disconnect
from services.edge_worker.http.detokenise import TokenTable
from services.edge_worker.http.errors import ApiError, busy, internal, log_fault, outage
from services.edge_worker.http.knobs import Knobs
from services.edge_worker.http.reader import Reader
from services.edge_worker.http.shapes import Json, Shape, usage
from services.edge_worker.http.summary import summary, token_entries
from services.edge_worker.http.text import AnswerText, Piece
from services.edge_worker.http.watch import Watch

log: structlog.stdlib.BoundLogger = structlog.get_logger("sluice.http")
SSE_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


@dataclass(frozen=True)
class Job:
    """One checked request."""

    request: AnswerRequest
    knobs: Knobs
    stops: tuple[str, ...]
    shape: Shape
    stream: bool
    include_usage: bool
    request_id: str
    guarantee: str
    watch: Watch


def event(body: Json) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n\n"


class AnswerResponse(Response):
    """Starts the answer when it is sent, so that an error before the first token still has its own status."""

    def __init__(self, answerer: Answerer, job: Job, table: TokenTable, end_ids: frozenset[int]) -> None:
        self.background = None
        self._answerer = answerer
        self._job = job
        self._table = table
        self._end_ids = end_ids
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def work() -> None:
            await self._serve(scope, receive, send)

        try:
            if not await until_disconnect(receive, work()):
                log.info("client_gone", request_id=self._job.request_id)
        except asyncio.CancelledError:  # the server stops: the client is told why its answer ends here
            stopping = outage("this worker is shutting down; ask again")
            if not self._started:
                raise stopping from None
            if not self._job.stream:
                raise
            await send({"type": "http.response.body", "body": event(stopping.body())})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        job = self._job
        text = AnswerText(self._table.decoder(job.request.prompt_ids), job.stops, self._table.hidden)
        try:
            answer = self._answerer.answer(job.request)
        except Exception as error:
            raise self._explain(error) from error
        reader = Reader(answer, text, self._end_ids)
        try:
            if job.stream:
                await self._stream(answer, reader, send)
            else:
                body = await self._whole(answer, reader)
                self._started = True
                await JSONResponse(body)(scope, receive, send)
        finally:
            await self._stop(answer, reader)

    async def _stop(self, answer: Answer, reader: Reader) -> None:
        """Stop the work. A fault in doing so is ours alone: what the client got is final."""
        for close in (reader.close, answer.aclose):
            try:
                await close()
            except Exception as error:  # noqa: BLE001 (see above)
                log_fault(error, self._job.request_id)

    async def _whole(self, answer: Answer, reader: Reader) -> Json:
        pieces: list[Piece] = []
        try:
            while (batch := await reader.next()) is not None:
                pieces += batch
            await self._stop(answer, reader)
            body = self._job.shape.whole(pieces, reader.finish_reason())
        except Exception as error:
            raise self._explain(error) from error
        return body | {"usage": self._usage(reader), "sluice": self._account(answer, reader)}

    async def _stream(self, answer: Answer, reader: Reader, send: Send) -> None:
        try:
            batch = await reader.next()
            if batch is None:
                reader.finish_reason()
        except Exception as error:
            raise self._explain(error) from error
        self._started = True
        await send({"type": "http.response.start", "status": 200, "headers": SSE_HEADERS})
        opening = self._job.shape.opening()
        if opening is not None:
            await self._send(send, opening)
        try:
            while batch is not None:
                await self._send_pieces(send, batch)
                batch = await reader.next()
            await self._stop(answer, reader)
            reason = reader.finish_reason()
        except Exception as error:  # noqa: BLE001 (the headers are out: any fault must become an event)
            await self._break_off(answer, reader, send, self._explain(error))
            return
        await self._send(send, self._job.shape.closing(reason) | {"sluice": self._account(answer, reader)})
        if self._job.include_usage:
            usage_chunk = self._job.shape.usage_chunk() | {"usage": self._usage(reader)}
            await send({"type": "http.response.body", "body": event(usage_chunk), "more_body": True})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    async def _break_off(self, answer: Answer, reader: Reader, send: Send, error: ApiError) -> None:
        """The error as the last event, after what was final before it; no [DONE], for the answer is not."""
        await self._stop(answer, reader)
        rest = reader.rest()
        if rest:
            await self._send_pieces(send, rest)
        last = error.body() | {"sluice": self._account(answer, reader)}
        await send({"type": "http.response.body", "body": event(last)})

    async def _send_pieces(self, send: Send, pieces: Sequence[Piece]) -> None:
        await self._send(send, self._job.shape.chunk(pieces) | {"sluice": {"tokens": token_entries(pieces, self._table)}})

    async def _send(self, send: Send, body: Json) -> None:
        if self._job.include_usage:
            body = body | {"usage": None}
        await send({"type": "http.response.body", "body": event(body), "more_body": True})

    def _usage(self, reader: Reader) -> Json:
        return usage(len(self._job.request.prompt_ids), reader.decisions.total())

    def _account(self, answer: Answer, reader: Reader) -> Json:
        return summary(answer.stats, reader.decisions, self._job.knobs, self._job.guarantee, self._job.watch.withdrawn)

    def _explain(self, error: Exception) -> ApiError:
        if isinstance(error, ApiError):
            return error
        if isinstance(error, BusyError):
            return busy(str(error), error.retry_after_seconds)
        if isinstance(error, OutageError):
            return outage(str(error))
        log_fault(error, self._job.request_id)
        return internal()
