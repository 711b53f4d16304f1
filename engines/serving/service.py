"""One served bundle: takes requests in, prepares and queues them, and lets go of them when the server ends."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive

from laco_export import __version__
from laco_export.bundle import Bundle
from laco_export.console import say

from ..answering import Answer, Answerer
from ..generation.token_logprobs import TokenLogprobs
from ..prompts.prompter import Prompt, Prompter
from .body import read_body
from .chat_request import ChatRequest, parse_chat_request
from .chat_response import Completion, EventStream
from .depth_choice import DepthChoice
from .errors import ApiError, client_gone, shutting_down
from .fetching import fetch_picture
from .governed import GovernedDepths
from .image_urls import is_remote
from .logprobs import SentLogprobs
from .metrics import Metrics
from .prompting import Abandoned, build_prompt
from .settings import ServeSettings
from .worker import Job, Worker

FETCHES_AT_ONCE = 4


class Service:
    """Answers chat requests about one bundle. Its methods belong to the event loop.

    Args:
        load: makes the answerer; called in the worker's thread by :meth:`start`.
        model: the id by which clients name the bundle.
        at: the depth of requests that name none; None takes the bundle's first.
        governed: chooses it for each of them, in the place of ``at``.
        on_loaded: called from the worker's thread with the answerer, or with what loading raised.
    """

    def __init__(
        self,
        bundle: Bundle,
        prompter: Prompter,
        settings: ServeSettings,
        *,
        load: Callable[[], Answerer],
        model: str,
        at: str | None = None,
        governed: GovernedDepths | None = None,
        on_loaded: Callable[[Answerer | BaseException], None] = lambda _: None,
    ):
        self.settings, self.model = settings, model
        self.depths, self._governed = DepthChoice(bundle, model, at), governed
        self.metrics = Metrics()
        self.worker = Worker(lambda: self._load(load), on_loaded=self._loaded, on_answer=self._answered)
        self.draining = False
        self._told_loaded = on_loaded
        self._tokenizer = prompter.tokenizer
        self._prompters = {depth: prompter.at_depth(bundle.at(depth)) for depth in bundle.depths}
        self._bundle, self._told_replaced = bundle, False
        self._jobs: set[Job] = set()
        # One: a picture of 50 megapixels is 200 MB while it is scaled down (450 at most), and the worker needs the
        # other cores.
        self._preparation = ThreadPoolExecutor(1, "preparation")
        self._fetching = ThreadPoolExecutor(FETCHES_AT_ONCE, "fetching")

    def start(self) -> None:
        self.worker.start()

    def drain(self) -> None:
        """Take no more requests; those that are held are answered."""
        self.draining = True

    def cancel_all(self) -> None:
        """End the requests that are held, with an error that says why."""
        for job in list(self._jobs):
            job.cancel("shutdown")

    def stop(self, wait_s: float) -> None:
        self._preparation.shutdown(wait=False, cancel_futures=True)
        self._fetching.shutdown(wait=False, cancel_futures=True)
        self.worker.stop(wait_s)

    @property
    def held(self) -> int:
        return len(self._jobs)

    @property
    def status(self) -> str:
        """``ready``, ``loading``, ``draining``, or ``failed``."""
        if self.draining:
            return "draining"
        if not self.worker.alive:
            return "failed"
        return "loading" if self.worker.answerer is None else "ready"

    def bundle_is_replaced(self) -> bool:
        """Whether the folder is gone or holds another bundle by now. Answers go on being those of the bundle that was
        loaded; the log is told once."""
        replaced = self._bundle.is_replaced()
        if replaced and not self._told_replaced:
            self._told_replaced = True
            say(
                f"bundle '{self._bundle.path}' was replaced or removed: answers go on being those of the bundle that "
                "was loaded; restart the server for the one that stands there now"
            )
        return replaced

    async def chat_completions(self, request: Request) -> Response:
        """Answer a request, whole or as a stream.

        Raises:
            ApiError: it gets no answer.
        """
        self.bundle_is_replaced()
        with ExitStack() as held:
            job = held.enter_context(self._place())
            chat = await self._receive(request, job)
            # From here on the connection brings nothing but its end.
            watcher = asyncio.ensure_future(_watch(request.receive, job))
            held.callback(watcher.cancel)
            fetched = await self._fetch(chat, job)
            job.options = chat.generation_options(self.settings.max_new_tokens, self.settings.prompt_lookup)
            job.prompt = await self._prepare(
                job,
                self._build_prompt,
                job,
                chat,
                fetched=fetched,
                wanted=lambda: not job.cancelled,
            )
            del fetched
            logprobs = self._recorded(job, chat)
            self.worker.submit(job)
            completion = Completion(chat, self.model, self._fingerprint(job.depth), job.depth)
            if chat.stream:
                return EventStream(
                    job, completion, include_usage=chat.include_usage, logprobs=logprobs, held=held.pop_all()
                )
            text = "".join([piece async for piece in job.texts()])
            return JSONResponse(
                completion.whole(job, text, logprobs and logprobs.behind(text)), headers=completion.headers
            )

    def _recorded(self, job: Job, chat: ChatRequest) -> SentLogprobs | None:
        """Have the job's log-probabilities recorded, where they are asked for."""
        if not chat.logprobs:
            return None
        job.logprobs = TokenLogprobs(chat.top_logprobs)
        return SentLogprobs(self._tokenizer, job.logprobs)

    def _build_prompt(self, job: Job, chat: ChatRequest, **further) -> Prompt:
        """Choose the depth of a job and prepare its prompt for it, in the preparation thread."""
        depth = self.depths.named_by(chat)
        if depth is None:
            depth = self.depths.default if self._governed is None else self._governed.choose(job, self.worker)
        job.depth = depth if self.depths.several else None
        return build_prompt(chat, self._prompters[depth], self.settings, **further)

    @contextmanager
    def _place(self) -> Iterator[Job]:
        """Hold one of the queue's places for a request."""
        if self.status != "ready":
            raise shutting_down() if self.draining else self._not_ready()
        if len(self._jobs) >= self.settings.places:
            raise ApiError(
                429,
                f"the queue is full: {self.settings.queue} requests are waiting; try again later",
                code="queue_full",
                headers={"retry-after": "1"},
            )
        job = Job(self.settings.timeout_s)
        self._jobs.add(job)
        try:
            yield job
        finally:
            self._jobs.discard(job)
            job.close()

    async def _receive(self, request: Request, job: Job) -> ChatRequest:
        body = await read_body(request, self.settings.max_body_bytes)
        chat = await self._prepare(job, parse_chat_request, body)
        self.depths.named_by(chat)
        return chat

    async def _prepare(self, job: Job, work: Callable, *arguments, **further):
        """Run ``work`` in the preparation thread, for as long as the job is wanted."""
        loop = asyncio.get_running_loop()
        try:
            return await job.unless_cancelled(
                loop.run_in_executor(self._preparation, lambda: work(*arguments, **further))
            )
        except Abandoned:
            raise client_gone() from None

    async def _fetch(self, chat: ChatRequest, job: Job) -> dict[str, bytes]:
        """The bytes of the pictures that are not in the request itself."""
        places: dict[str, str] = {}
        for number, message in enumerate(chat.messages):
            for image in message.images:
                if is_remote(image.url):
                    places.setdefault(image.url, f"messages[{number}].content")
        if not places:
            return {}
        if not self.settings.allow_fetch:
            raise ApiError(
                400,
                "this server fetches no pictures from the web: send them as data: URLs (data:image/png;base64,…)",
                param=next(iter(places.values())),
                code="invalid_image_url",
            )
        if len(places) > self.settings.max_pictures:
            raise ApiError(400, f"too many pictures (allowed: {self.settings.max_pictures})", code="too_many_images")
        loop, most = asyncio.get_running_loop(), self.settings.max_body_bytes // len(places)
        waiting = [
            loop.run_in_executor(
                self._fetching, lambda url=url, param=param: fetch_picture(url, max_bytes=most, param=param)
            )
            for url, param in places.items()
        ]
        return dict(zip(places, await job.unless_cancelled(asyncio.gather(*waiting)), strict=True))

    def _not_ready(self) -> ApiError:
        message = {"loading": "the models are being loaded; try again soon"}.get(self.status, "the worker has failed")
        return ApiError(503, message, code="not_ready", headers={"retry-after": "5"})

    def _fingerprint(self, depth: str | None) -> str:
        answerer = self.worker.answerer
        digest = self._bundle.manifest_entry["sha256"][:12]
        parts = [digest, __version__, answerer.vision.name, answerer.text.name]
        if depth is not None:
            parts.append(depth)
        if self.settings.prompt_lookup == "close":  # which positions are read at once, the measured costs decide
            parts.append(f"{zlib.crc32(repr(answerer.text.pass_costs).encode()):08x}")
        return "-".join(parts).replace(" ", "_")

    def _load(self, load: Callable[[], Answerer]) -> Answerer:
        answerer = load()
        if self._governed is not None:
            self._governed.prepare(answerer)
        return answerer

    def _loaded(self, answerer: Answerer | BaseException) -> None:
        if isinstance(answerer, Answerer):
            self.metrics.loaded(self.model, __version__, answerer.vision.name, answerer.text.provider)
        self._told_loaded(answerer)

    def _answered(self, job: Job, answer: Answer) -> None:
        self.metrics.answer(answer, job.started - job.created)
        if job.depth is not None:
            self.metrics.answered_at(job.depth)
        if self._governed is not None and answer.finish != "cancelled":
            self._governed.answered(job, answer)


async def _watch(receive: Receive, job: Job) -> None:
    """Cancel the job when its client goes away."""
    while (await receive())["type"] != "http.disconnect":
        pass
    job.cancel("disconnect")
