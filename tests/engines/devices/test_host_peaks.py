from laco_engines.devices.host_peaks import measure_peaks


def test_peaks_are_measured(monkeypatch):
    from laco_engines.devices import host_peaks

    monkeypatch.setattr(host_peaks, "_SIDE", 256)
    monkeypatch.setattr(host_peaks, "_ARRAY_BYTES", 1 << 22)
    monkeypatch.setattr(host_peaks, "_REPEATS", 2)
    peaks = measure_peaks(1)
    assert peaks.threads == 1
    assert 1e8 < peaks.flops < 1e14
    assert 1e8 < peaks.int8_ops < 1e15
    assert 1e8 < peaks.bandwidth < 1e13
    assert 0 < peaks.cpu_share < 1.2
