"""The processes of a run, as torchrun or ``accelerate launch`` started them; alone without either.

accelerate's ``PartialState`` joins them (NCCL on CUDA, gloo on the CPU). Folders are written by the main process; the
others wait for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from laco_export.errors import LacoError, UsageError


def launched() -> bool:
    """Whether a launcher started this process as one of several."""
    return stated_count() > 1


def stated_count() -> int:
    """How many processes the launcher says that it started; known without joining the others."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process writes and speaks for all; known without joining the others."""
    return int(os.environ.get("RANK", "0")) == 0


def join():
    """accelerate's state of this process, joined with the others."""
    from accelerate import PartialState

    return PartialState(cpu=on_cpu())


def count() -> int:
    """How many processes train; alone it is known without accelerate."""
    return join().num_processes if launched() else 1


def on_cpu() -> bool:
    """Whether there is no accelerator, or ``accelerate launch --cpu`` told to leave it alone."""
    import torch

    return (
        os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes") or not torch.accelerator.is_available()
    )


def by_deepspeed() -> bool:
    """Whether the launcher asks for DeepSpeed."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() in ("1", "true", "yes")


def shards_weights() -> bool:
    """Whether the launcher asks for FSDP or DeepSpeed, where a block's weights may lie on several processes."""
    return by_deepspeed() or os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true", "yes")


def check_launcher() -> None:
    """What the launcher asks for is there.

    Raises:
        UsageError: ``accelerate launch --use_deepspeed`` without DeepSpeed; found before anything is loaded.
    """
    if by_deepspeed() and not find_spec("deepspeed"):
        raise UsageError(
            "the launcher asks for DeepSpeed, which is not installed",
            given="ACCELERATE_USE_DEEPSPEED",
            todo="pip install deepspeed, or shard with FSDP2 (the package's configs/fsdp2.yaml)",
        )


def wait() -> None:
    """Return when every process has come here."""
    if launched():
        join().wait_for_everyone()


def agree(value: Any) -> Any:
    """The main process's value, in every process."""
    if not launched():
        return value
    from accelerate.utils import broadcast_object_list

    join()
    return broadcast_object_list([value])[0]


def run_on_main(check: Callable[[], None]) -> None:
    """Let the main process check or change something on the disk; every process raises the error that it meets."""
    failure = None
    if is_main():
        try:
            check()
        except LacoError as error:
            failure = error
    if failure := agree(failure):
        raise failure


def leave() -> None:
    """Take leave of the other processes at the end of a run."""
    if launched():
        import torch.distributed

        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
