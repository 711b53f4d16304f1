"""The CUDA device, its board beside it, by stand-ins for NVIDIA's bindings that answer what boards were seen to say."""

import pytest

from laco_engines.devices.cuda import DeviceMissingError, find_device
from laco_engines.devices.profiles import PROFILES

# Two modules that CUDA calls "Orin", each with its multiprocessors and MiB of memory.
# The 16 GB one: trtexec's lines in https://github.com/OE4T/meta-tegra/pull/2243
ORIN_NX = ("Orin", 8, 15536)
# The 8 GB one: as much memory as the table of profiles gives it, and NVIDIA's Jetson Orin Nano Series data sheet's 1024
# cores, 128 a multiprocessor.
ORIN_NANO = ("Orin", 8, PROFILES["orin-nano"].memory_bytes >> 20)
# The names of their boards below are the tests' own; test_jetson.py has what real ones say.


class Answering:
    """``cuda.bindings.runtime`` of a machine with one device."""

    def __init__(self, name, multiprocessors, mebibytes):
        self.major, self.minor, self.integrated = 8, 7, 1
        self.name, self.multiProcessorCount = name.encode() + bytes(8), multiprocessors
        self._bytes = mebibytes << 20

    def cudaGetDeviceCount(self):
        return 0, 1

    def cudaGetDeviceProperties(self, index):
        return 0, self

    def cudaMemGetInfo(self):
        return 0, self._bytes // 2, self._bytes

    def cudaDriverGetVersion(self):
        return 0, 12060


@pytest.fixture
def board(tmp_path):
    """``board(model, release)``: a file system with a Jetson's two files."""

    def make(model, release):
        for path, text in (("proc/device-tree/model", model), ("etc/nv_tegra_release", release)):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        return tmp_path

    return make


def test_an_orin_says_which_board_and_which_system_it_is(board):
    root = board(
        "NVIDIA Jetson Orin NX Engineering Reference Developer Kit\0", "# R36 (release), REVISION: 4.3, GCID\n"
    )
    device = find_device(Answering(*ORIN_NX), root)
    assert (device.name, device.capability, device.driver, device.integrated) == ("Orin", 87, "12.6", True)
    assert device.identity == (
        "Orin sm_87, 8 multiprocessors, 15 GiB, NVIDIA Jetson Orin NX Engineering Reference Developer Kit"
    )
    assert device.system == "L4T 36.4.3"


def test_two_modules_on_one_board_are_two_devices(board):
    root = board("NVIDIA Jetson Orin Nano Developer Kit", "# R36 (release), REVISION: 4.3, GCID\n")
    nx, nano = (find_device(Answering(*module), root).identity for module in (ORIN_NX, ORIN_NANO))
    assert nx != nano
    assert "7 GiB" in nano


def test_a_discrete_gpu_has_neither(tmp_path):
    device = find_device(Answering("NVIDIA H200", 132, 143771), tmp_path)
    assert (device.board, device.l4t, device.system) == ("", "", "")
    assert device.identity == "NVIDIA H200 sm_87, 132 multiprocessors, 140 GiB"


def test_no_device_is_told():
    from cuda.bindings.runtime import cudaError_t

    class Nothing:
        def cudaGetDeviceCount(self):
            return cudaError_t.cudaErrorNoDevice, 0

    with pytest.raises(DeviceMissingError, match="the driver finds no device"):
        find_device(Nothing())


def test_the_real_bindings_have_what_is_read():
    from cuda.bindings import runtime

    for name in ("multiProcessorCount", "major", "minor", "integrated", "name"):
        assert hasattr(runtime.cudaDeviceProp, name)
