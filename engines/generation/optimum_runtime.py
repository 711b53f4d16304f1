"""The text runtime on Optimum: transformers' ``generate`` with its logits processors, and ours beside them.

No sampling loop of our own. ``generate`` is given the whole prompt as ids (for a repetition penalty), and the
embeddings of the positions that no cache holds. Imports torch and Optimum.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version

import numpy as np
import torch
import transformers
from transformers import StoppingCriteria
from transformers.generation.streamers import BaseStreamer

from laco_export.bundle import Bundle
from laco_export.quiet import quiet_libraries

from ..providers import runtime_title
from .decoder import open_decoder
from .kv_cache import KVCache
from .logits_processors import FiniteLogits, LogitsProcessor, count_penalties
from .options import GenerationOptions
from .streaming import RowText
from .text_runtime import EmbeddedPrompt, no_prompt_lookup


class OptimumText:
    """:class:`~laco_engines.generation.text_runtime.TextRuntime` on Optimum; arguments and errors as of
    :func:`~laco_engines.generation.text_runtime.open_text_runtime`.

    Attributes:
        decoder: Optimum's ``ORTModelForCausalLM``, fed with embeddings.
    """

    def __init__(self, bundle: Bundle, *, threads: int | None = None, provider: str | None = None):
        self.decoder = open_decoder(bundle, threads=threads, provider=provider)
        self.provider = self.decoder.provider
        self.name = f"optimum {version('optimum')} on {runtime_title(self.provider)}"
        self.passed_over: tuple[str, ...] = ()

    @property
    def session(self):
        return self.decoder.session

    def prepare_prompt_lookup(self, mode: str) -> None:
        """See :meth:`TextRuntime.prepare_prompt_lookup`."""
        raise no_prompt_lookup("optimum")

    def embed(self, token_ids: np.ndarray) -> np.ndarray:
        """See :meth:`TextRuntime.embed`."""
        return self.decoder.embed(torch.from_numpy(token_ids)[None])[0].numpy()

    def logits(self, embeds: np.ndarray, logits_to_keep: int) -> np.ndarray:
        """See :meth:`TextRuntime.logits`."""
        with torch.inference_mode():
            output = self.decoder(inputs_embeds=torch.from_numpy(embeds)[None], logits_to_keep=logits_to_keep)
        return output.logits[0].float().numpy(force=True)

    def generate(
        self,
        prompts: Sequence[EmbeddedPrompt],
        rows: Sequence[RowText],
        options: GenerationOptions,
        *,
        past: KVCache | None = None,
        processors: Sequence[LogitsProcessor | transformers.LogitsProcessor] = (),
        cancelled: Callable[[], bool] | None = None,
    ) -> KVCache:
        """See :meth:`TextRuntime.generate`; processors may be transformers' too."""
        if options.prompt_lookup is not None:
            self.prepare_prompt_lookup(options.prompt_lookup)
        tensors = {name: tensor.to(self.decoder.device) for name, tensor in _padded(prompts).items()}
        processors = (FiniteLogits(), *count_penalties(options), *processors)
        with torch.inference_mode(), quiet_libraries(), _seeded(options):
            output = self.decoder.generate(
                **tensors,
                past_key_values=past,
                **options.to_generate(),
                max_new_tokens=rows[0].limit,
                eos_token_id=sorted(rows[0].end_tokens),
                streamer=_RowStreamer(rows),
                logits_processor=[_as_transformers(p, rows) for p in processors],
                stopping_criteria=[_RowsEnded(rows, cancelled)],
                return_dict_in_generate=True,
            )
        return output.past_key_values


def _padded(prompts: Sequence[EmbeddedPrompt]) -> dict[str, torch.Tensor]:
    """``generate``'s arguments, prompts of several lengths padded on the left."""
    longest = max(len(prompt.ids) for prompt in prompts)
    if len(prompts) == 1:  # a cache may hold its beginning: fewer embeddings than ids
        ids = torch.from_numpy(prompts[0].ids)[None]
        embeds = torch.from_numpy(prompts[0].embeds)[None]
        return {"input_ids": ids, "inputs_embeds": embeds, "attention_mask": torch.ones_like(ids)}
    ids = torch.empty((len(prompts), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    embeds = torch.zeros((len(prompts), longest, prompts[0].embeds.shape[1]))
    for index, prompt in enumerate(prompts):
        start = longest - len(prompt.ids)
        # The padding is not attended to, but a repetition penalty sees it: a token that the prompt holds anyway.
        ids[index, :start] = int(prompt.ids[0])
        ids[index, start:] = torch.from_numpy(prompt.ids)
        mask[index, start:] = 1
        embeds[index, start:] = torch.from_numpy(prompt.embeds)
    return {"input_ids": ids, "inputs_embeds": embeds, "attention_mask": mask}


@contextmanager
def _seeded(options: GenerationOptions) -> Iterator[None]:
    """Sample as ``torch.manual_seed(options.seed)`` would have it, and leave torch's generator as it was."""
    if not options.sampled:
        yield
        return
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(options.seed)
        yield


class _RowStreamer(BaseStreamer):
    """A transformers streamer that deals a batch's tokens out to its rows."""

    def __init__(self, rows: Sequence[RowText]):
        self._rows = rows
        self._prompt_seen = False

    def put(self, value) -> None:
        """Take the prompts (the first call, skipped) or the rows' next tokens ``[B]``; transformers calls this."""
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        now = time.perf_counter()
        for row, token in zip(self._rows, value.reshape(-1).tolist(), strict=True):
            row.add(token, now)

    def end(self) -> None:
        for row in self._rows:
            row.close()


class _RowsEnded(StoppingCriteria):
    """Ends each row with its :class:`RowText`, and all of them when ``cancelled()`` says so.

    transformers' own ``StopStringCriteria`` is not used for stop strings: it indexes the whole vocabulary first, which
    took 1.6 to 2.2 s of Qwen2.5's 151,643 tokens on two x86-64 cores, before the first token.
    """

    def __init__(self, rows: Sequence[RowText], cancelled: Callable[[], bool] | None = None):
        self._rows, self._cancelled = rows, cancelled

    def __call__(self, input_ids, scores, **kwargs):
        cancelled = self._cancelled is not None and self._cancelled()
        return torch.tensor([cancelled or row.finish is not None for row in self._rows], device=input_ids.device)


def _as_transformers(processor, rows: Sequence[RowText]) -> transformers.LogitsProcessor:
    return processor if isinstance(processor, transformers.LogitsProcessor) else _OnNumpy(processor, rows)


class _OnNumpy(transformers.LogitsProcessor):
    """Shows ``generate``'s scores to a :class:`~laco_engines.generation.logits_processors.LogitsProcessor`."""

    def __init__(self, processor: LogitsProcessor, rows: Sequence[RowText]):
        self._processor, self._answers = processor, [row.token_ids for row in rows]

    def __call__(self, input_ids, scores):
        logits = scores.float().numpy(force=True)
        changed = self._processor(self._answers, logits)
        return scores if changed is logits else torch.from_numpy(changed).to(scores)
