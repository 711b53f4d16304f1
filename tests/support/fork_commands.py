"""Runs Python modules as commands, each in a process forked from one that has imported the heavy packages already.

Importing PyTorch and transformers is nine tenths of what a tiny export takes until its first refusal: 8 s of CPU time;
what a first trace imports and reads is much of the rest. Started by planted_source.py. A line of JSON on stdin names a
job, a line on stdout its exit code.
"""

import gc
import json
import os
import runpy
import sys
import traceback
from contextlib import suppress

import onnx_graphsurgeon  # noqa: F401
import polygraphy.comparator  # noqa: F401
import torch.onnx._internal.exporter._registration
from process_costs import read_onnx_functions_once
from transformers import AutoModelForCausalLM, CLIPImageProcessor, LlavaOnevisionImageProcessor  # noqa: F401

with suppress(ImportError):
    import optimum.onnxruntime  # noqa: F401

OPSET = 20  # an export's default, for which the functions are read


def run(module: str, arguments: list[str], folder: str, output: str) -> None:
    """Become the command: its packages are those in ``folder``, what it says goes to the file ``output``."""
    with open(output, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    code = 1
    try:
        os.chdir(folder)
        sys.path.insert(0, folder)
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def trace_once() -> None:
    """Import and read what every trace does."""
    read_onnx_functions_once()
    module, pixels = torch.nn.Linear(2, 2), torch.zeros(1, 2)
    torch.onnx.export(module, (pixels,), dynamo=True, opset_version=OPSET, verbose=False)


def main() -> None:
    ours = [name for name in sys.modules if name.startswith("laco_")]
    assert not ours, f"imported before the copy could be: {ours}"
    trace_once()
    gc.freeze()  # a child's collections look at its own objects
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(**json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
