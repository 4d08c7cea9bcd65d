"""The four endpoints of the OpenAI API."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.common.calibration.files import NO_GUARANTEE
from services.common.sampling import Sampling
from services.edge_worker.answer import Answerer, AnswerRequest, Follows
from services.edge_worker.http import asking
from services.edge_worker.http.bounds import Bounds
from services.edge_worker.http.detokenise import TokenTable
from services.edge_worker.http.errors import ApiError
from services.edge_worker.http.guard import request_id, tenant
from services.edge_worker.http.knobs import Knobs, knobs
from services.edge_worker.http.prompts import PromptEncoder
from services.edge_worker.http.response import AnswerResponse, Job
from services.edge_worker.http.schemas import ChatBody, CompletionBody, parse_chat, parse_completion
from services.edge_worker.http.shapes import ChatShape, CompletionShape, Shape
from services.edge_worker.http.watch import Unwatched, Watch

TRACEPARENT_CHARACTERS = 256  # 55 today; later versions may be longer

Promise = Callable[[AnswerRequest, bool], str]  # a request, and whether its prompt came through the chat template


def promise_nothing(request: AnswerRequest, chat: bool) -> str:
    """The guarantee of a worker without a calibration."""
    return NO_GUARANTEE


@dataclass(frozen=True)
class Endpoints:
    """What the endpoints share. ``context_tokens`` is the model's context, prompt and answer together."""

    answerer: Answerer
    encoder: PromptEncoder
    table: TokenTable
    model_name: str
    context_tokens: int
    end_ids: frozenset[int]
    bounds: Bounds
    promise: Promise = promise_nothing
    watch: Watch = field(default_factory=Unwatched)
    created: int = field(default_factory=lambda: int(time.time()))

    def add_to(self, app: FastAPI) -> None:
        app.add_route("/v1/models", self.models, methods=["GET"])
        app.add_route("/v1/models/{name:path}", self.model, methods=["GET"])
        app.add_route("/v1/chat/completions", self.chat, methods=["POST"])
        app.add_route("/v1/completions", self.completions, methods=["POST"])

    async def models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        self._check_model(request.path_params["name"])
        return JSONResponse(self._model())

    async def chat(self, request: Request) -> Response:
        body = parse_chat(await request.body())
        self._check_model(body.model)
        turns = asking.turns(body.messages, self.bounds)
        shape = ChatShape(self.model_name, self.table, asking.top_logprobs(body, self.bounds))
        plan = self._plan(body)
        return self._answer(request, body, plan, await self.encoder.chat(turns), shape, default_tokens=None)

    async def completions(self, request: Request) -> Response:
        body = parse_completion(await request.body())
        self._check_model(body.model)
        prompt = asking.raw_prompt(body.prompt)
        shape = CompletionShape(self.model_name, self.table, asking.top_logprobs(body, self.bounds))
        plan = self._plan(body)
        ids = await self.encoder.plain(prompt)
        return self._answer(request, body, plan, ids, shape, default_tokens=self.bounds.default_completion_tokens)

    def _plan(self, body: ChatBody | CompletionBody) -> tuple[Knobs, tuple[str, ...], Sampling]:
        return knobs(body.sluice, self.bounds), asking.stops(body.stop, self.bounds), asking.sampling(body)

    def _answer(
        self,
        request: Request,
        body: ChatBody | CompletionBody,
        plan: tuple[Knobs, tuple[str, ...], Sampling],
        ids: list[int],
        shape: Shape,
        *,
        default_tokens: int | None,
    ) -> Response:
        chosen, stops, sampling = plan
        asked, param = asking.asked_tokens(body)
        max_tokens = asking.answer_tokens(
            asked, param, default=default_tokens, prompt=len(ids), context=self.context_tokens, bounds=self.bounds
        )
        wanted = AnswerRequest(
            prompt_ids=ids,
            max_tokens=max_tokens,
            sampling=sampling,
            seed=asking.seed(body.seed),
            mode=chosen.mode,
            k=chosen.k,
            gamma=chosen.gamma,
            deadline_seconds=chosen.deadline,
            on_outage=chosen.on_outage,
            tenant=tenant(request.scope),
            top_logprobs=asking.top_logprobs(body, self.bounds),
            slm_only=chosen.k == 0,
            traceparent=request.headers.get("traceparent", "")[:TRACEPARENT_CHARACTERS],
            audit_seed=asking.seed(None),  # a client that always sends the same seed must not decide what is audited
        )
        # a stop sequence cuts an answer where the calibration did not
        promised = NO_GUARANTEE if stops else self.promise(wanted, isinstance(body, ChatBody))
        wanted = self.watch.admit(wanted, promised)
        wanted = replace(wanted, follows=self._follows(chosen, promised, seeded=body.seed is not None))
        job = Job(
            wanted,
            replace(chosen, gamma=wanted.gamma),
            stops,
            shape,
            bool(body.stream),
            body.include_usage,
            request_id(request.scope),
            promised,
            self.watch,
        )
        return AnswerResponse(self.answerer, job, self.table, self.end_ids)

    def _follows(self, chosen: Knobs, promised: str, *, seeded: bool) -> Follows | None:
        """What of the fleet's policy an answer takes over: no knob that its request names, and none at all where a seed shall
        reproduce it. A promise was measured at this ``k`` and holds up to ``gamma`` 1."""
        if seeded or chosen.k == 0:
            return None
        bound = min(self.bounds.gamma_max, self.watch.gamma, math.inf if promised == NO_GUARANTEE else 1.0)
        keeps_k = "k" in chosen.asked or promised != NO_GUARANTEE
        return Follows(None if keeps_k else self.bounds.k_max, None if "gamma" in chosen.asked else bound)

    def _model(self) -> dict[str, object]:
        return {"id": self.model_name, "object": "model", "created": self.created, "owned_by": "sluice"}

    def _check_model(self, name: str) -> None:
        if name != self.model_name:
            message = f"The model '{name[:200]}' does not exist here; this server has '{self.model_name}'."
            raise ApiError(404, message, param="model", code="model_not_found")
