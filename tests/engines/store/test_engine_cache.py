"""The cache of engines by its files alone: what is kept, and what can never be loaded again."""

import pytest

from laco_engines.store.engine_cache import EngineCache, EngineKey

GRAPH = "a" * 64


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path / "engines")


def store(cache, library="tensorrt_rtx", version="1.7", capabilities=(86,), kernels=()):
    """An engine, its sidecar, and kernels that were compiled on devices of these compute capabilities."""
    key = EngineKey(GRAPH, library, version, "", capabilities, {})
    cache.path_of(key).parent.mkdir(parents=True, exist_ok=True)
    cache.path_of(key).write_bytes(b"engine")
    stored = cache.seal(key, {})
    for capability in kernels:
        stored.kernels(capability).write_bytes(b"kernels")
    return stored


def kernels(cache):
    return sorted(path.name for path in cache.folder.rglob("*.runtime-cache"))


def test_kernels_of_the_same_version_stay(cache):
    stored = store(cache, capabilities=(86,), kernels=(86,))
    store(cache, capabilities=(86, 89), kernels=(89,))
    store(cache, "tensorrt", "10.3", ())  # another library knows nothing of them
    assert len(kernels(cache)) == 2
    assert stored.kernels(86).is_file()


def test_kernels_of_another_version_go_when_an_engine_of_this_one_is_built(cache):
    old = store(cache, version="1.6", kernels=(86, 89))
    store(cache, version="1.7")
    assert kernels(cache) == []
    assert old.path.is_file()  # the engine is good where that version is


def test_kernels_go_with_their_engine(cache):
    stored = store(cache, kernels=(86, 120))
    store(cache)  # built anew: what was compiled of the old file is of another engine
    assert kernels(cache) == []
    stored.kernels(86).write_bytes(b"kernels")
    cache.forget(stored.key)
    assert list(cache.folder.rglob("*.*")) == []


def test_kernels_without_an_engine_go(cache):
    stored = store(cache, capabilities=(120,), kernels=(120,))
    stored.path.unlink()
    stored.path.with_suffix(".json").unlink()
    store(cache, capabilities=(86,))
    assert kernels(cache) == []


@pytest.mark.parametrize(
    "change", [lambda path: path.write_bytes(b"another"), lambda path: path.unlink()], ids=["changed", "removed"]
)
def test_an_engine_is_what_was_stored_when_it_is_read(cache, change):
    stored = store(cache)
    assert stored.read() == stored.path.read_bytes()
    change(stored.path)
    with pytest.raises(RuntimeError, match=r"\.engine' "):
        stored.read()


@pytest.mark.parametrize("exposed", ["engine", "json", "graph", "cache"])
def test_an_engine_that_anybody_could_have_written_is_none_of_ours(cache, exposed):
    """With its sidecar in place, which says that all is well."""
    stored = store(cache)
    assert stored.damage() is None
    places = {"graph": stored.path.parent, "cache": cache.folder}
    place = places.get(exposed) or stored.path.with_suffix(f".{exposed}")
    place.chmod(place.stat().st_mode | 0o002)
    assert stored.damage() == f"everybody may write to '{place}'"
    if place.is_dir():  # as /tmp is
        place.chmod(place.stat().st_mode | 0o1000)
        assert stored.damage() is None


def test_an_engine_of_another_user_is_none_of_ours(cache, monkeypatch):
    stored = store(cache)
    owner = stored.path.stat().st_uid
    monkeypatch.setattr("os.geteuid", lambda: owner + 1)
    assert stored.damage() == (None if owner == 0 else f"another user ({owner}) may write to '{stored.path}'")
    real = type(stored.path).stat

    class OfAnother:
        def __init__(self, facts):
            self.st_mode, self.st_uid = facts.st_mode, 4711

    monkeypatch.setattr(type(stored.path), "stat", lambda path, **options: OfAnother(real(path, **options)))
    assert stored.damage() == f"another user (4711) may write to '{stored.path}'"
