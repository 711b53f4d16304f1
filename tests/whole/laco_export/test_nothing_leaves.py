"""Each command with an empty home and no network: it leaves no file that it was not asked for, and asks no host.

ONNX Runtime's reporting is native, so that no hook of Python's sees its sockets: ``strace`` watches the system calls.
Its import alone writes an id, a database (both under the user's cache) and a file in the temporary folder, which is
seen without ``strace`` too.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from planted_source import COMMANDS as MODULES

from laco_engines.commands import COMMANDS
from laco_export.telemetry import VARIABLE

ASSETS = Path(__file__).resolve().parents[2] / "assets"
CHECKPOINT, HELD_OUT = ASSETS / "tiny-checkpoint", ASSETS / "tiny-heldout"
PICTURES = HELD_OUT / "pictures"
INTERNET = re.compile(r"^\d+ +(\w+)\(.*sa_family=AF_INET6?", re.MULTILINE)
"""A call of ``strace``'s that names a host."""

BUNDLE, PICTURE, FOLDER, QUESTIONS = "BUNDLE", "PICTURE", "FOLDER", "QUESTIONS"
NO_REPORTS = [
    "CI",
    "TF_BUILD",
    "GITHUB_ACTIONS",
    "GITLAB_CI",
    "CIRCLECI",
    "TRAVIS",
    "JENKINS_URL",
    "CODEBUILD_BUILD_ID",
    "BUILDKITE",
    "TEAMCITY_VERSION",
    "APPVEYOR",
    "BITBUCKET_BUILD_NUMBER",
]
"""Where one of these is set ONNX Runtime takes the machine for a build server's and is silent by itself, so that the
watch would be blind there."""
NOT_HERE = "nothing was built: an engine for Jetson Orin Nano"
"""``build`` estimates for a device that this machine is not, and fails."""
# What loads and runs Optimum, PyTorch and transformers is the same for all commands: "run" is watched with them, the
# others with the text runtime that a device has.
ENGINE = {
    "run": [BUNDLE, "--image", PICTURE, "--question", "What?", "--max-new-tokens", "3"],
    "chat": [BUNDLE, "--image", PICTURE, "--max-new-tokens", "3", "--text-runtime", "lean"],
    "serve": [BUNDLE, "--port", "0", "--text-runtime", "lean"],
    "inspect": [BUNDLE],
    "build": [BUNDLE, "--device", "orin-nano"],
    "diff": [BUNDLE, "--runtime", "onnxruntime"],
    "bench": [BUNDLE, "--runtime", "onnxruntime", "--text-runtime", "lean", "--plot", "asked.png"],
    "doctor": [BUNDLE],
    "plan": [BUNDLE, "--budget", "900s", "--of", "encode", "--runtime", "onnxruntime", "--plot", "asked.png"],
    "report": [
        *[BUNDLE, "--images", FOLDER, "--questions", QUESTIONS, "--output", "asked.html", "--no-memory"],
        *["--text-runtime", "lean", "--runtime", "onnxruntime", "--max-new-tokens", "2"],
    ],
}
FETCHING = {"evaluate"}
"""Its data come from the hub where no folder is named, by a package that is installed apart."""
OTHERS = [
    ["laco-export", "--model", str(CHECKPOINT), "--fp32", "--no-compile", "--bisect", "--output", "asked"],
    ["laco-train", "--recipe", "tiny", "--dry-run"],
    ["laco-train", "look", str(CHECKPOINT), "--data", str(HELD_OUT / "heldout.json"), "--samples", "4"],
    ["laco-calibrate", BUNDLE, "--images", str(PICTURES), "--no-compile", "--output", "asked"],
]
CASES = [["laco-engine", name, *arguments] for name, arguments in ENGINE.items()] + OTHERS


@pytest.fixture(scope="module")
def bundle_and_picture(trained_bundle, tmp_path_factory):
    picture, folder = next(PICTURES.rglob("*.png")), tmp_path_factory.mktemp("asked")
    (folder / "pictures").mkdir()
    shutil.copy(picture, folder / "pictures")
    (folder / "questions.txt").write_text("What?\n")
    named = {FOLDER: folder / "pictures", QUESTIONS: folder / "questions.txt", PICTURE: picture, BUNDLE: trained_bundle}
    return {word: str(path) for word, path in named.items()}


@pytest.fixture
def watched(tmp_path):
    """``watched(*words)``: run a command in empty folders; the calls that named a host, and the files it left."""

    def run(*words: str, **environment: str) -> tuple[list[str], list[str]]:
        calls = tmp_path / "calls"
        folders = {name: tmp_path / name for name in ("home", "temporary", "working")}
        for folder in folders.values():
            folder.mkdir()
        dropped = {VARIABLE, *NO_REPORTS}
        inherited = {
            k: v for k, v in os.environ.items() if k not in dropped and not k.startswith(("XDG_", "HF_", "MPL"))
        }
        inherited |= {"HOME": str(folders["home"]), "TMPDIR": str(folders["temporary"]), "OMP_NUM_THREADS": "1"}
        strace = shutil.which("strace")
        calls_of = ["-e", "trace=connect,sendto,sendmsg,sendmmsg", "--seccomp-bpf"]  # no other call stops the process
        watch = [strace, "-f", "-qq", *calls_of, "-o", str(calls)] if strace else []
        process = subprocess.Popen(
            [*watch, sys.executable, *words],
            cwd=folders["working"],
            env=inherited | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said = _serve_and_stop(process) if "serve" in words else process.communicate("What?\n", timeout=600)[0]
        assert process.returncode == 0 or NOT_HERE in said, said
        left = [
            path.relative_to(tmp_path).as_posix()
            for folder in folders.values()
            for path in folder.rglob("*")
            if path.is_file() and not path.relative_to(tmp_path).as_posix().startswith("working/asked")
        ]
        return INTERNET.findall(calls.read_text()) if strace else [], left

    return run


def _serve_and_stop(process: subprocess.Popen) -> str:
    said = ""
    for line in process.stdout:
        said += line
        if "http://" in line:
            break
    time.sleep(3)  # the model loads, and what reports of it has had its time
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split() or [process.pid]:
        os.kill(int(child), signal.SIGTERM)  # strace's child, where there is one
    return said + process.communicate(timeout=600)[0]


def test_every_command_is_watched():
    assert set(ENGINE) == {command.name for command in COMMANDS} - FETCHING
    assert {words[0] for words in CASES} == set(MODULES)


@pytest.mark.parametrize("words", CASES, ids=lambda words: "-".join(words[:2]).replace(str(CHECKPOINT), ""))
def test_a_command_leaves_nothing_and_asks_no_host(watched, bundle_and_picture, words):
    arguments = [bundle_and_picture.get(word, word) for word in words[1:]]
    measurements = {"LACO_ENGINE_CACHE": "asked"} if words[1] == "plan" else {}
    assert watched("-m", MODULES[words[0]], *arguments, **measurements) == ([], [])


def test_what_onnx_runtime_leaves_by_itself_is_seen(watched):
    """The same watch on the library without us."""
    import onnxruntime

    if tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 29):
        pytest.skip("needs ONNX Runtime 1.29 or newer, which reports under Linux")
    _, left = watched("-c", "import onnxruntime", **{VARIABLE: "0"})
    assert any("onnxruntime" in path for path in left)
