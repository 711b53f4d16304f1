"""Power by sensors that are files. Layout and labels are quoted from boards in public; no Jetson was at hand."""

import pytest

from laco_engines.devices.power import find_rails, measure_energy

# Labels and total power of an idle Orin Nano 8 GB with JetPack 6.2, as tegrastats printed them in
# https://forums.developer.nvidia.com/t/jetson-orin-nano-8gb-lowest-theoretical-operating-power-consumption/348662
# (milliwatts; the split into millivolts and milliamperes is the test's: 1000 mV).
ORIN_NANO = {"VDD_IN": 2180, "VDD_CPU_GPU_CV": 370, "VDD_SOC": 945}
# Labels of an AGX Orin: jtop's log in https://github.com/rbonghi/jetson_stats/issues/428 (the second INA3221 of
# https://github.com/alumet-dev/alumet/issues/212 has channels whose files give "Input/output error").
AGX_ORIN = {"VDD_GPU_SOC": 3000, "VDD_CPU_CV": 500, "VIN_SYS_5V0": 4000}


def add_monitor(root, number, rails, name="ina3221"):
    folder = root / f"sys/class/hwmon/hwmon{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    for channel, (label, milliwatts) in enumerate(rails.items(), 1):
        (folder / f"in{channel}_label").write_text(f"{label}\n")
        (folder / f"in{channel}_input").write_text("1000\n")
        (folder / f"curr{channel}_input").write_text(f"{milliwatts}\n")
    (folder / "in7_label").write_text("sum of shunt voltages\n")  # jtop's log, as above
    (folder / "in7_input").write_text("999\n")
    return folder


def test_the_rail_that_carries_everything_is_the_power(tmp_path):
    add_monitor(tmp_path, 1, ORIN_NANO)
    (rail,) = find_rails(tmp_path)
    assert (rail.label, rail.watts()) == ("VDD_IN", pytest.approx(2.18))


def test_without_one_the_rails_are_added(tmp_path):
    add_monitor(tmp_path, 3, AGX_ORIN)
    second = add_monitor(tmp_path, 2, {"NC": 7, "VDDQ_VDD2_1V8AO": 250, "NC2": 7})
    rails = find_rails(tmp_path)
    assert {rail.label for rail in rails} == {*AGX_ORIN, "VDDQ_VDD2_1V8AO"}
    assert sum(rail.watts() for rail in rails) == pytest.approx(7.75)
    (second / "in2_input").unlink()
    (second / "in2_input").mkdir()  # reading it fails, as a switched-off channel's file does
    assert {rail.label for rail in find_rails(tmp_path)} == set(AGX_ORIN)


def test_thor_gives_its_whole_input_in_microwatts(tmp_path):
    """The INA238 of its carrier board: https://github.com/rbonghi/jetson_stats/pull/900"""
    add_monitor(tmp_path, 1, {"VDD_GPU": 1000})
    add_monitor(tmp_path, 2, {}, name="ina238")
    (tmp_path / "sys/class/hwmon/hwmon2/power1_input").write_text("21500000\n")
    (rail,) = find_rails(tmp_path)
    assert rail.watts() == pytest.approx(21.5)


def test_other_sensors_are_no_rails(tmp_path):
    add_monitor(tmp_path, 0, ORIN_NANO, name="nvme")
    assert find_rails(tmp_path) == []
    assert measure_energy(lambda: None, 1, []) is None


def test_joules_per_image_are_power_times_time(tmp_path):
    import time

    add_monitor(tmp_path, 1, ORIN_NANO)
    energy = measure_energy(lambda: time.sleep(0.02), 5, find_rails(tmp_path), seconds=0.2, period=0.01)
    runs = round(energy.watts * energy.seconds / energy.joules_per_image / 5)
    assert energy.watts == pytest.approx(2.18)
    assert 2 <= runs <= 10
    assert energy.joules_per_image == pytest.approx(2.18 * energy.seconds / (5 * runs))
    assert energy.samples >= 2
    assert energy.rails == ("VDD_IN",)


def test_a_sensor_that_falls_silent_gives_no_energy(tmp_path):
    folder = add_monitor(tmp_path, 1, ORIN_NANO)
    rails = find_rails(tmp_path)
    (folder / "curr1_input").write_text("")
    assert measure_energy(lambda: None, 1, rails, seconds=0.02, period=0.01) is None
