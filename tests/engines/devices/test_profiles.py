import pytest

from laco_engines.devices.profiles import PROFILES, profile_of


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", "orin-nano"),
        ("NVIDIA Jetson AGX Orin Developer Kit", "agx-orin"),
        ("NVIDIA Jetson AGX Thor Developer Kit", "thor"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA GeForce RTX 4090", None),
    ],
)
def test_profiles_by_name(name, profile):
    assert profile_of(name) is (PROFILES[profile] if profile else None)
