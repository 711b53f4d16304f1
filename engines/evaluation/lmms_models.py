"""lmms-eval's models ``laco`` (a checkpoint, in PyTorch) and ``laco_bundle`` (a bundle, on what it is shipped for).

::

    lmms-eval --model laco --model_args checkpoint=DIR,at=1/4 --tasks ai2d,chartqa
    lmms-eval --model laco_bundle --model_args bundle=DIR,runtime=tensorrt,answers=DIR --tasks mmstar

Tasks that generate are answered, as all of the paper's are; those that compare likelihoods or take several rounds are
refused. This is the only module that imports lmms-eval, whose registry imports it.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from pathlib import Path

import torch
from lmms_eval.api.model import lmms

from laco_export.console import progress, say
from laco_export.errors import LacoError, UsageError

from .answer_file import AnswerFile, answer_key, model_identity
from .asked import Asked, asked


class LacoModel(lmms):
    """What both have in common: a question is answered once, and its answer is kept at once.

    Args:
        answers: a folder that keeps them (:mod:`.answer_file`); default: they are not kept.
        at: the depth, of a model of several; default: its first.
        max_frames: taken of a video; default: the checkpoint's.
        batch_size, max_batch_size, device: lmms-eval gives them; a question is answered at a time.
    """

    is_simple = True

    def __init__(self, *, answers=None, at=None, max_frames=None, batch_size=1, max_batch_size=None, device=None):
        super().__init__()
        if int(batch_size or 1) != 1:
            raise UsageError("a question is answered at a time", given=f"batch_size {batch_size}", allowed="1")
        self.at = None if at is None else str(at)
        self.max_frames, self.asked_device = max_frames, device
        self._rank, self._world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.device = torch.device("cpu")  # of lmms-eval's own small tensors
        self.open()
        self.kept = AnswerFile(Path(answers), self.identity(), self._rank) if answers else None

    @abstractmethod
    def open(self) -> None:
        """Load the model."""

    @abstractmethod
    def identity(self) -> dict:
        """What its answers depend on; JSON."""

    @abstractmethod
    def answer(self, question: Asked) -> str:
        """Answer a question.

        Raises:
            LacoError: it cannot be asked.
        """

    def generate_until(self, requests) -> list[str]:
        """The answers. A question that cannot be asked (a video that cannot be decoded, a prompt that outgrows the
        context) gets an empty one, and ``failed`` in the file of the answers says why."""
        answers = []
        description = f"{requests[0].task_name}: {len(requests)} questions" if requests else ""
        with progress(description, len(requests)) as advance:
            for request in requests:
                answers.append(self._answer_request(request))
                advance()
        return answers

    def _answer_request(self, request) -> str:
        words, generation, doc_to_visual, doc_id, task, split = request.args
        key = answer_key(task=task, split=split, doc=doc_id, words=words, generation=generation)
        record = self.kept.answers.get(key) if self.kept else None
        if record is not None and record["failed"] is None:
            return record["answer"]
        text, failed = "", None
        try:
            visuals = doc_to_visual(self.task_dict[task][split][doc_id])
            text = self.answer(asked(words, visuals or (), generation))
        except (LacoError, OSError, SystemExit) as error:  # a task's function leaves Python where a video is missing
            failed = f"{task}: {error.failed if isinstance(error, LacoError) else error}"
            say(f"not asked: question {doc_id} of {failed}")
        if self.kept:
            self.kept.add(
                {"key": key, "task": task, "doc_id": doc_id, "question": words, "answer": text, "failed": failed}
            )
        return text

    def loglikelihood(self, requests):
        raise UsageError(
            "this task compares likelihoods, and a bundle gives answers only", allowed="tasks of generate_until"
        )

    def generate_until_multi_round(self, requests):
        raise UsageError("this task takes several rounds", allowed="tasks of generate_until")


class LacoCheckpointModel(LacoModel):
    """``laco``: a checkpoint's folder, in PyTorch, on the process's GPU where there is one."""

    def __init__(self, checkpoint: str, **options):
        self.folder = Path(str(checkpoint))
        super().__init__(**options)

    def open(self) -> None:
        from .pytorch_answerer import PytorchAnswerer

        device = self.asked_device or (
            f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
        )
        self.answerer = PytorchAnswerer(self.folder, at=self.at, max_frames=self.max_frames, device=str(device))

    def identity(self) -> dict:
        return model_identity(self.answerer.sha256, self.at, self.max_frames)

    def answer(self, question: Asked) -> str:
        return self.answerer.answer(question)


class LacoBundleModel(LacoModel):
    """``laco_bundle``: a bundle, on the runtimes that ``laco-engine run`` takes by these names."""

    def __init__(self, bundle: str, runtime=None, text_runtime=None, provider=None, threads=None, **options):
        self.folder = Path(str(bundle))
        self.runtimes = {"runtime": runtime, "text_runtime": text_runtime, "provider": provider}
        self.threads = threads
        super().__init__(**options)

    def open(self) -> None:
        from laco_export.bundle import open_bundle

        from ..answering import Answerer

        self.bundle = open_bundle(self.folder, self.at)
        self.answerer = Answerer(self.bundle, threads=self.threads, **self.runtimes)

    def identity(self) -> dict:
        return model_identity(self.bundle.manifest_entry["sha256"], self.at, self.max_frames, **self.runtimes)

    def answer(self, question: Asked) -> str:
        prepare = {"videos": question.videos, "max_frames": self.max_frames}
        prompt = self.answerer.prompter.prepare(question.pictures, question.words, **prepare)
        return self.answerer.generate(prompt, question.options).text
