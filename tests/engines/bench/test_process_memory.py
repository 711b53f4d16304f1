from laco_engines.bench.process_memory import MemoryRequest, bundle_memory


def test_a_process_that_fails_does_not_end_the_benchmark(tmp_path):
    memory = bundle_memory(MemoryRequest(str(tmp_path / "missing"), None, 1, 1, False))
    assert "is not a bundle" in memory["error"]
