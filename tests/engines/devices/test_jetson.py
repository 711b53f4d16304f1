"""The readers on texts quoted from boards in public; each names its source. No Jetson was at hand."""

import pytest

from laco_engines.devices.jetpack import jetpack_of
from laco_engines.devices.jetson import read_board
from laco_engines.devices.profiles import PROFILES, profile_of

# An Orin Nano with JetPack 5.1.1: the error log in https://github.com/rbonghi/jetson_stats/issues/400
ORIN_NANO_RELEASE = (
    "# R35 (release), REVISION: 3.1, GCID: 32827747, BOARD: t186ref, EABI: aarch64, "
    "DATE: Sun Mar 19 15:19:21 UTC 2023\n"
)
ORIN_NANO_MODEL = "NVIDIA Orin Nano Developer Kit\0"
# /etc/nv_tegra_release of JetPack 6.2, quoted from
# https://github.com/roboflow/inference/blob/14fb144c1490299c5779421e5f86a02f5d3178d4/inference_models/tests/unit_tests/runtime_introspection/test_core.py
JETPACK_6_2_RELEASE = (
    "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, "
    "DATE: Wed Jan  8 01:49:37 UTC 2025\n"
    "# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\n"
    "TARGET_USERSPACE_LIB_DIR_PATH=usr/lib/aarch64-linux-gnu/nvidia\n"
)
# What `nvpmodel -q` prints: show_query in tests/nvpmodel of https://github.com/rbonghi/jetson_stats; the mode's name as
# an Orin Nano Super gives it in https://github.com/AbuAyah110/jetbot-orin-super/issues/1
NVPMODEL = "NVPM WARN: fan mode is not set!\nNV Power Mode: MAXN_SUPER\n2\n"
# Where an AGX Orin's GPU clock is: jtop's log in https://github.com/rbonghi/jetson_stats/issues/668
GPU_NODE = "17000000.gpu"


@pytest.fixture
def system(tmp_path):
    """``system({path: text})``: a file system with these files."""

    def make(files):
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        return tmp_path

    return make


def silent(command):
    return None


def test_an_orin_nano_of_jetpack_5(system):
    root = system({"etc/nv_tegra_release": ORIN_NANO_RELEASE, "proc/device-tree/model": ORIN_NANO_MODEL})
    board = read_board(root, silent)
    assert (board.model, board.l4t, board.jetpack) == ("NVIDIA Orin Nano Developer Kit", "35.3.1", "5.x")
    assert (board.power_mode, board.gpu_clock_mhz, board.memory_bytes) == (None, None, None)
    assert profile_of(board.model) is PROFILES["orin-nano"]
    assert jetpack_of(board.jetpack) is None


def test_jetpack_6_with_power_mode_clock_and_memory(system):
    root = system(
        {
            "etc/nv_tegra_release": JETPACK_6_2_RELEASE,
            "proc/device-tree/model": ORIN_NANO_MODEL,
            "proc/meminfo": "MemTotal:        7802888 kB\nMemFree:          123 kB\n",
            f"sys/class/devfreq/{GPU_NODE}/cur_freq": "306000000\n",
            f"sys/class/devfreq/{GPU_NODE}/max_freq": "1020000000\n",
            "sys/class/devfreq/15340000.vic/cur_freq": "115200000\n",
        }
    )
    asked = []
    board = read_board(root, lambda command: asked.append(command) or NVPMODEL)
    assert (board.l4t, board.jetpack, board.power_mode) == ("36.4.3", "6.2", "MAXN_SUPER")
    assert (board.gpu_clock_mhz, board.gpu_clock_max_mhz) == (306, 1020)
    assert board.memory_bytes == 7802888 * 1024
    assert asked == [["nvpmodel", "-q"]]
    assert any("jp6/cu126" in command for command in jetpack_of(board.jetpack).commands)


def test_a_release_that_is_not_in_the_table_gives_the_major_version(system):
    root = system({"etc/nv_tegra_release": JETPACK_6_2_RELEASE.replace("4.3", "9.9")})
    assert read_board(root, silent).jetpack == "6.x"


def test_a_damaged_release_file_is_a_board_of_unknown_version(system):
    board = read_board(system({"etc/nv_tegra_release": "nonsense"}), silent)
    assert (board.model, board.l4t, board.jetpack) == ("Jetson", None, None)


def test_another_machine_is_no_board(system):
    assert read_board(system({"proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"}), silent) is None
    assert read_board(system({"proc/meminfo": "MemTotal: 1 kB\n"}), silent) is None
