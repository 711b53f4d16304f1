"""What results say of the machine."""

from measured_on import device_title, measured_on

from laco_export.machine import cpu_name, default_threads


def test_the_processor_its_threads_and_the_installed_libraries():
    facts = measured_on("numpy", "no-such-library")
    assert set(facts) == {"device", "cpu", "versions"}
    assert list(facts["versions"]) == ["numpy"]
    assert facts["cpu"] == cpu_name()
    assert facts["device"].startswith(f"{default_threads()} threads of ") and cpu_name() in facts["device"]


def test_a_gpu_goes_by_its_name(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"the name of {device}")
    assert device_title("cuda:1") == "the name of cuda:1"
