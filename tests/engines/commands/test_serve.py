import socket
import subprocess
import sys
import time

import pytest

from laco_engines.cli import main

pytest.importorskip("fastapi", reason="needs the extra 'serve'")


def test_help_needs_no_heavy_package():
    start = time.perf_counter()
    code = "import sys; from laco_engines.cli import build_parser; build_parser(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"fastapi", "uvicorn", "torch", "numpy", "prometheus_client"} & set(loaded)
    assert time.perf_counter() - start < 10


def serve(capsys, *arguments) -> tuple[int, str]:
    code = main(["serve", *map(str, arguments)])
    return code, capsys.readouterr().err


def test_elsewhere_than_loopback_it_needs_a_key(capsys, bundle_folder, monkeypatch):
    monkeypatch.delenv("LACO_API_KEY", raising=False)
    code, error = serve(capsys, bundle_folder, "--host", "0.0.0.0")
    assert code == 2
    assert "LACO_API_KEY" in error
    assert "Traceback" not in error


def test_a_port_in_use_is_told_before_anything_is_loaded(capsys, bundle_folder, monkeypatch):
    monkeypatch.setattr("laco_export.bundle.open_bundle", None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, error = serve(capsys, bundle_folder, "--port", taken.getsockname()[1])
    assert code == 1
    assert "is in use" in error
    assert "--port" in error


@pytest.mark.parametrize("host", ["203.0.113.7", "no.such.host.invalid"])
def test_an_address_of_another_machine_is_refused(capsys, bundle_folder, host):
    code, error = serve(capsys, bundle_folder, "--host", host, "--api-key", "secret")
    assert code == 2
    assert "no address of this machine" in error


def test_a_bundle_that_cannot_answer_is_refused(capsys, rewritten):
    code, error = serve(capsys, rewritten(decoder=None), "--port", 0)
    assert code == 1
    assert "no language model" in error


def test_no_bundle(capsys, tmp_path):
    code, error = serve(capsys, tmp_path / "nothing", "--port", 0)
    assert code == 1
    assert "nothing" in error


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "prometheus_client"])
def test_a_missing_extra_is_named(bundle_folder, package):
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from laco_engines.cli import main; sys.exit(main(['serve', sys.argv[1]]))"
    )
    result = subprocess.run([sys.executable, "-c", code, bundle_folder], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "laco-export[serve]" in result.stderr
    assert "Traceback" not in result.stderr


def test_models_that_cannot_be_loaded_end_the_server(capsys, bundle_folder, monkeypatch):
    from laco_export.errors import BundleError

    def fail(*arguments, **further):
        raise BundleError("the language model cannot be loaded")

    monkeypatch.setattr("laco_engines.answering.Answerer.__init__", fail)
    code, error = serve(capsys, bundle_folder, "--port", 0)
    assert code == 1
    assert "cannot be loaded" in error
