import pytest

from laco_engines.cli import main


@pytest.fixture
def run(capfd):
    """``run(*arguments)``: exit code, stdout and stderr of ``laco-engine`` with these arguments."""

    def call(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exit:
            code = exit.code
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call
