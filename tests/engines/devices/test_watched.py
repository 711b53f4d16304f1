"""Temperatures and powers that are to stay below a limit, on files as the kernel shows them."""

import pytest

from laco_engines.devices.watched import WatchedValue
from laco_export.errors import UsageError


def test_a_file_is_read_when_it_is_asked_for(tmp_path):
    file = tmp_path / "temp=now"
    file.write_text("61500\n")
    watched = WatchedValue.parse(f"{file}=70000")
    assert (watched.name, watched.limit, watched.read()) == (str(file), 70000, 61500)
    file.write_text("70500\n")
    assert watched.read() == 70500
    for silent in ("", "N/A", "nan", "inf"):
        file.write_text(silent)
        assert watched.read() is None
    file.unlink()
    assert watched.read() is None


def test_power_is_that_of_the_boards_sensors(tmp_path):
    monitor = tmp_path / "sys/class/hwmon/hwmon0"
    monitor.mkdir(parents=True)
    for name, text in (("name", "ina3221"), ("in1_label", "VDD_IN"), ("in1_input", "5000"), ("curr1_input", "2400")):
        (monitor / name).write_text(text)
    watched = WatchedValue.parse("power=12", tmp_path)
    assert watched.read() == pytest.approx(12.0)
    (monitor / "curr1_input").write_text("off")
    assert watched.read() is None


@pytest.mark.parametrize("text", ["", "=5", "power", "power=", "power=none", "power=0", "power=-1", "power=inf"])
def test_what_is_no_limit_is_refused(text, tmp_path):
    with pytest.raises(UsageError, match="FILE=NUMBER"):
        WatchedValue.parse(text, tmp_path)


def test_what_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no power sensor"):
        WatchedValue.parse("power=12", tmp_path)
    with pytest.raises(UsageError, match="holds no number"):
        WatchedValue.parse(f"{tmp_path / 'none'}=12")
