"""The one thread that runs the models, and the jobs that the event loop hands to it.

A job belongs to the event loop; the worker's thread only reads whether it is cancelled and posts text to it. So an
answer that nobody waits for any more ends at its next token, and a client that reads slowly slows nobody down.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from laco_export.errors import BundleError, NotFiniteError

from ..answering import Answer, Answerer
from ..generation.options import GenerationOptions
from ..generation.token_logprobs import TokenLogprobs
from ..prompts.prompter import Prompt
from .errors import ApiError, client_gone, shutting_down

STALLED_S = 60.0
"""An answer that runs so long past its deadline, which is looked at after each token, has stalled the worker: the
longest step between two tokens is a prompt's prefill, and 60 s of that mean a device that no longer answers."""

T = TypeVar("T")


class Job:
    """One request on its way to an answer. Made, read and cancelled in the event loop.

    Args:
        timeout_s: after which it cancels itself.

    Attributes:
        cancelled: why: ``disconnect``, ``timeout`` or ``shutdown``; None while it is wanted. Any thread may read it.
        started: ``time.monotonic()`` when the worker took it up.
        depth: at which it is answered; None is the answerer's own.
        answer: once :meth:`texts` has come to its end.
        logprobs: records them, where they were asked for.
    """

    def __init__(self, timeout_s: float):
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[str | Answer | BaseException] = asyncio.Queue()
        self._ended = self._loop.create_future()  # when it was cancelled
        self._timer = self._loop.call_later(timeout_s, self.cancel, "timeout")
        self.created = time.monotonic()
        self.deadline = self.created + timeout_s
        self.timeout_s = timeout_s
        self.cancelled: str | None = None
        self.started: float | None = None
        self.answer: Answer | None = None
        self.prompt: Prompt | None = None
        self.depth: str | None = None
        self.options: GenerationOptions | None = None
        self.logprobs: TokenLogprobs | None = None

    def cancel(self, reason: str) -> None:
        """Nobody wants it any more; whoever waits for it gets the error that says so."""
        if self.cancelled is None and self.answer is None:
            self.cancelled = reason
            self.prompt = None  # it may stand in the queue for a while: its pictures need not
            if not self._ended.done():
                self._ended.set_result(None)

    def close(self) -> None:
        """The request is over."""
        self._timer.cancel()
        if self.answer is None:
            self.cancel("disconnect")

    async def unless_cancelled(self, awaitable: Awaitable[T]) -> T:
        """The awaitable's result.

        Raises:
            ApiError: the job was cancelled first.
        """
        task = asyncio.ensure_future(awaitable)
        await asyncio.wait({task, self._ended}, return_when=asyncio.FIRST_COMPLETED)
        if self.cancelled is None:
            return task.result()
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):  # what it raised meanwhile is of no interest
            await task
        raise self._error()

    async def texts(self) -> AsyncIterator[str]:
        """The pieces of the answer as they come; afterwards :attr:`answer` is there.

        Raises:
            ApiError: it was cancelled, or answering it failed.
        """
        shown = ""
        while True:
            event = await self.unless_cancelled(self._events.get())
            if isinstance(event, str):
                shown += event
                yield event
            elif isinstance(event, Answer):
                self.answer = event
                # Bytes that never became a character are in the whole answer alone.
                if event.text != shown and event.text.startswith(shown):
                    yield event.text[len(shown) :]
                return
            else:
                raise event

    def post_text(self, text: str) -> None:
        """A piece of the answer, from the worker's thread; the log-probabilities of its tokens are there before it."""
        if self.logprobs is not None:
            self.logprobs.settle()
        self.post(text)

    def post(self, event: str | Answer | BaseException) -> None:
        """From the worker's thread."""
        with suppress(RuntimeError):  # the event loop has ended, and with it everyone who could listen
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    def _error(self) -> ApiError:
        if self.cancelled == "timeout" and self.started is None:
            message = f"the request waited for {self.timeout_s:g} s and was not answered; the server is busy"
            return ApiError(503, message, code="timeout", headers={"retry-after": "5"})
        if self.cancelled == "timeout":
            message = f"the answer was not complete after {self.timeout_s:g} s; ask for fewer tokens"
            # The same request would take as long again: openai's clients heed this header.
            return ApiError(504, message, code="timeout", headers={"x-should-retry": "false"})
        return shutting_down() if self.cancelled == "shutdown" else client_gone()


class Worker:
    """Loads the models and answers one job after another, all in its own thread.

    Args:
        load: makes the answerer.
        on_loaded: called from the thread with the answerer, or with what loading raised.
        on_answer: called from the thread with each job and its answer, cut off or whole.

    Attributes:
        answerer: None until it is loaded.
        current: the job that is being answered.
    """

    def __init__(
        self,
        load: Callable[[], Answerer],
        *,
        on_loaded: Callable[[Answerer | BaseException], None] = lambda _: None,
        on_answer: Callable[[Job, Answer], None] = lambda _job, _answer: None,
    ):
        self._load, self._on_loaded, self._on_answer = load, on_loaded, on_answer
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self.answerer: Answerer | None = None
        self.current: Job | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self, wait_s: float) -> None:
        """End the thread after the job that it works on."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(wait_s)

    def submit(self, job: Job) -> None:
        """Queue a job that has its prompt and options."""
        with self._changed:
            self._waiting.append(job)
            self._changed.notify()

    @property
    def alive(self) -> bool:
        """The thread runs, and what it works on has not stalled."""
        job = self.current
        stalled = job is not None and time.monotonic() > job.deadline + STALLED_S
        return self._thread.is_alive() and not stalled

    @property
    def waiting(self) -> int:
        """Jobs that wait and are still wanted."""
        with self._changed:
            return sum(job.cancelled is None for job in self._waiting)

    def ahead(self, now: float) -> tuple[tuple[str, ...], float]:
        """What a job that is queued now waits for: the depth of each that is answered before it, the one that is being
        answered first, and the seconds for which that one has been.

        Args:
            now: ``time.monotonic()``.
        """
        with self._changed:
            running = self.current
            waiting = [job for job in self._waiting if job.cancelled is None]
        before = [job for job in ([running] if running is not None else []) + waiting if job.depth is not None]
        began = running.started if running is not None else None
        return tuple(job.depth for job in before), 0.0 if began is None else max(0.0, now - began)

    def _run(self) -> None:
        try:
            self.answerer = self._load()
        except BaseException as error:
            self._on_loaded(error)
            return
        self._on_loaded(self.answerer)
        while (job := self._next()) is not None:
            prompt = job.prompt
            if job.cancelled is None and prompt is not None:
                self.current = job
                self._answer(job, prompt)
                self.current = None
            del job, prompt  # its pictures must not stay until the next one comes

    def _next(self) -> Job | None:
        with self._changed:
            while not self._waiting and not self._stopping:
                self._changed.wait()
            return None if self._stopping else self._waiting.popleft()

    def _answer(self, job: Job, prompt: Prompt) -> None:
        job.started = time.monotonic()
        recording = {} if job.logprobs is None else {"logits_processor": job.logprobs}
        try:
            answerer = self.answerer if job.depth is None else self.answerer.at(job.depth)
            answer = answerer.generate(
                prompt, job.options, on_text=job.post_text, cancelled=lambda: job.cancelled is not None, **recording
            )
        except NotFiniteError as error:
            print(error, file=sys.stderr)
            job.post(ApiError(500, f"{error.failed} ({error.given})", code="not_finite"))
            return
        except BundleError as error:  # the tower of a depth that was not asked for before
            print(error, file=sys.stderr)
            job.post(ApiError(503, f"depth {job.depth} cannot be loaded: {error.failed}", code="depth_not_loaded"))
            return
        except Exception:  # whatever it is, the next request deserves its answer
            traceback.print_exc(file=sys.stderr)
            job.post(ApiError(500, "answering failed; the server's log says more", code="answering_failed"))
            return
        try:  # before it is posted: who has an answer finds it counted
            self._on_answer(job, answer)
        except Exception:  # counting must neither lose an answer nor end the thread that gives them
            traceback.print_exc(file=sys.stderr)
        if answer.finish != "cancelled":
            if job.logprobs is not None:
                job.logprobs.settle()
            job.post(answer)
