from laco_engines.cost.roofline import floor_of


def test_the_floor_is_the_longer_of_arithmetic_and_memory():
    peaks = {"fp16": 1e12, "int8": 2e12}
    mixed = floor_of({"fp16": 10**9, "int8": 10**9}, 10**6, peak_flops=peaks, bandwidth=1e9)
    assert (mixed.compute_ms, mixed.memory_ms, mixed.bound) == (1.5, 1.0, "compute-bound")
    assert mixed.ms == 1.5
    slow = floor_of({"fp16": 10**9}, 10**7, peak_flops=peaks, bandwidth=1e9)
    assert (slow.ms, slow.bound) == (10.0, "bandwidth-bound")
    assert floor_of({"fp32": 1}, 1, peak_flops=peaks, bandwidth=1e9) is None
