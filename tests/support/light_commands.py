"""Runs commands in processes forked from one that has imported nothing heavy, and tells which heavy packages each
tried to import.

::

    commands = LightCommands()
    commands.ask("laco_export.cli", ["--model", "nope"], folder)  # {"code": 1, "said": "error: …", "heavy": []}

The process that forks is this file as a script. A line of JSON on stdin is a job, a line on stdout its answer.
"""

import importlib.abc
import importlib.machinery
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

HEAVY = (
    *("torch", "transformers", "optimum", "accelerate", "datasets", "tensorboard", "safetensors.torch"),
    *("onnx", "onnxscript", "onnx_ir", "onnx_graphsurgeon", "polygraphy"),
    *("scipy", "sklearn", "pandas", "pyarrow", "matplotlib", "fastapi", "pydantic", "uvicorn"),
)
"""What takes a tenth of a second or more."""

attempts: list[str] = []


class HeavyImportError(BaseException):
    """Ends the command: no ``except ImportError`` may carry on without the package."""


class _Refusing(importlib.abc.Loader):
    def create_module(self, spec):
        return None

    def exec_module(self, module):
        attempts.append(module.__name__)
        raise HeavyImportError(module.__name__)


class HeavyFinder(importlib.abc.MetaPathFinder):
    """Finds heavy packages where they are installed (``find_spec`` tells the truth), and lets none be imported."""

    def find_spec(self, name, path, target=None):
        if name not in HEAVY or importlib.machinery.PathFinder.find_spec(name, path) is None:
            return None
        return importlib.machinery.ModuleSpec(name, _Refusing(), is_package=True)


class LightCommands:
    """The forks, as a test asks them."""

    def __init__(self):
        self._forks = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "COLUMNS": "200"},
        )

    def ask(self, module: str, arguments: Sequence[object], folder: Path, absent: Sequence[str] = ()) -> dict:
        """Run a command in ``folder``.

        Args:
            module: whose ``main`` it is.
            absent: packages that are not installed.

        Returns:
            ``code``, its exit code; ``said``, all that it printed, on one line; ``heavy``, the packages of
            :data:`HEAVY` that it tried to import.
        """
        words = [str(argument) for argument in arguments]
        job = {"module": module, "arguments": words, "folder": str(folder), "absent": list(absent)}
        self._forks.stdin.write(json.dumps(job) + "\n")
        self._forks.stdin.flush()
        return json.loads(self._forks.stdout.readline())

    def close(self) -> None:
        self._forks.stdin.close()
        self._forks.wait()
        self._forks.stdout.close()


def run(job: dict, output: str, answer: int) -> None:
    """Be the command; ``answer`` is the end of a pipe that is told how it went."""
    with open(output, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(job["folder"])
    sys.modules.update(dict.fromkeys(job["absent"]))
    code: object = 1
    try:
        code = import_module(job["module"]).main(job["arguments"])
    except SystemExit as end:
        code = end.code
    except HeavyImportError:
        pass
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(answer, json.dumps({"code": code, "heavy": attempts}).encode())
        os._exit(0)


def main() -> None:
    sys.meta_path.insert(0, HeavyFinder())
    for line in sys.stdin:
        told, answer = os.pipe()
        with tempfile.NamedTemporaryFile() as output:
            if (child := os.fork()) == 0:
                run(json.loads(line), output.name, answer)
            os.close(answer)
            with open(told, "rb") as pipe:
                result = json.loads(pipe.read() or b'{"code": null, "heavy": []}')
            os.waitpid(child, 0)
            result["said"] = " ".join(output.read().decode().split())
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    # Light, and shared by all: what each refusal adds is then its own.
    for module in ("laco_export.console", "laco_export.bundle", "rich.console", "rich.text", "yaml"):
        import_module(module)
    main()
