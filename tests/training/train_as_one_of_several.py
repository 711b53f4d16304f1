"""What each process of ``test_processes`` runs: the same stages, and the losses of the main one as JSON.

    torchrun --nproc-per-node 2 train_as_one_of_several.py KIND START DATA OUTPUT TEACHER

accelerate starts FSDP on accelerators only; for ``fsdp`` gloo on the CPU passes as one.
"""

import json
import os
import sys
from pathlib import Path

FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "ACCELERATE_TORCH_DEVICE": "cpu",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": "Aimv2EncoderLayer,Qwen2DecoderLayer",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
}
RATES = {"encoder": 1e-3, "compressor": 2e-3, "projector": 1e-3, "language_model": 1e-3}


def stages(processes):
    """Name -> stage: 50 steps of everything, a stage 1, and one in which a process may meet text alone."""
    from laco_training.recipe import StageRecipe

    sizes = {"global_batch_size": 4, "per_device_batch_size": 4 // processes, "precision": "fp32", "max_length": 256}
    return {
        "everything": StageRecipe("data.json", RATES, epochs=12.5, **sizes),
        "first": StageRecipe("data.json", {"compressor": 1e-3, "projector": 1e-3}, plain=True, **sizes),
        "mixed": StageRecipe("data.json", RATES, group_by="none", **sizes),
    }


def distil(teacher, data, output, processes):
    """An elastic student of ``teacher``, whose later blocks join in after the third of eight steps."""
    from laco_training.distillation.recipe import DistillationRecipe
    from laco_training.distillation.stage import distil_stage
    from laco_training.recipe import CompressionRecipe, StageRecipe

    stage = StageRecipe(
        ".",
        {"compressor": 2e-3, "encoder": 1e-3},
        global_batch_size=4,
        per_device_batch_size=4 // processes,
        precision="fp32",
        max_steps=8,
        distillation=DistillationRecipe(merge_first=0.4, blocks=0.5, flips=True),
    )
    return distil_stage(teacher, CompressionRecipe(at=["1/2", "1"]), stage, data, output, seed=0)


def run(start, data, output, teacher, *, fsdp=False):
    """Train the stages and return their losses; with FSDP one is interrupted and resumed."""
    from contextlib import nullcontext
    from dataclasses import replace

    from laco_training import processes
    from laco_training.stages import train_stage

    losses = {}
    for name, stage in stages(processes.join().num_processes).items():
        if fsdp and name == "everything":
            stage = replace(stage, epochs=2, save_every=3)

            def stop(steps, done=[0], **_):  # noqa: B006
                done[0] += steps
                if done[0] == 5:
                    raise InterruptedError

            try:
                train_stage(start, stage, data, output / name, seed=0, shown=lambda steps: nullcontext(stop))
            except InterruptedError:
                losses[name] = train_stage(start, stage, data, output / name, seed=0, resume=True)
        else:
            losses[name] = train_stage(start, stage, data, output / name, seed=0)
    if not fsdp:
        losses["distilled"] = distil(teacher, data, output / "distilled", processes.join().num_processes)
    return losses


def main():
    kind, start, data, output, teacher = sys.argv[1], *map(Path, sys.argv[2:])
    from laco_training import processes

    if kind == "fsdp":
        os.environ.update(FSDP)
        from accelerate.state import DistributedType, PartialState

        PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.MULTI_GPU)
        processes.on_cpu = lambda: False
    losses = run(start, data, output, teacher, fsdp=kind == "fsdp")
    if processes.is_main():
        (output / "losses.json").write_text(json.dumps(losses))
    processes.leave()


if __name__ == "__main__":
    main()
