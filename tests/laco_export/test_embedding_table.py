"""Rows of an embedding read from a file, against the same rows computed by hand."""

import numpy as np
import pytest

from laco_export.embedding_table import EmbeddingStorage, EmbeddingTable, StoredTensor
from laco_export.errors import BundleError

ROWS, WIDTH = 6, 10


def stored(folder, offset: int, values: np.ndarray) -> StoredTensor:
    with open(folder / "weights", "r+b" if (folder / "weights").exists() else "wb") as file:
        file.seek(offset)
        file.write(values.tobytes())
    return StoredTensor("weights", offset, str(values.dtype), values.shape)


def random_values(seed=0, shape=(ROWS, WIDTH)):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_rows_of_floats(tmp_path, dtype):
    values = random_values().astype(dtype)
    table = EmbeddingTable(tmp_path, EmbeddingStorage(stored(tmp_path, 24, values), WIDTH, tied=True))
    rows = table.rows([[5, 0], [3, 3]])
    assert table.shape == (ROWS, WIDTH)
    assert rows.dtype == np.float32
    assert np.array_equal(rows, values[[[5, 0], [3, 3]]].astype(np.float32))


def test_rows_of_8_bits(tmp_path):
    """Three blocks of four, the last one half padding: a byte is 128 too large."""
    generator = np.random.default_rng(0)
    blocks = generator.integers(0, 256, (ROWS, 3, 4), dtype=np.uint8)
    scales = random_values(1, (ROWS * 3,))
    storage = EmbeddingStorage(
        stored(tmp_path, 0, blocks), WIDTH, tied=True, scales=stored(tmp_path, 256, scales), bits=8
    )
    expected = [
        [(float(blocks[row, i // 4, i % 4]) - 128) * scales[3 * row + i // 4] for i in range(WIDTH)]
        for row in range(ROWS)
    ]
    assert np.allclose(EmbeddingTable(tmp_path, storage).rows(np.arange(ROWS)), expected, rtol=1e-6)


def test_rows_of_4_bits(tmp_path):
    """The even element is in the low nibble, and a nibble is 8 too large."""
    blocks = np.array([[[0x80, 0xF1]], [[0x08, 0x7E]]], np.uint8)  # two rows of one block of four
    scales = np.array([0.5, 2.0], np.float32)
    storage = EmbeddingStorage(stored(tmp_path, 0, blocks), 3, tied=False, scales=stored(tmp_path, 8, scales), bits=4)
    assert EmbeddingTable(tmp_path, storage).rows([0, 1]).tolist() == [[-4.0, 0.0, -3.5], [0.0, -16.0, 12.0]]


@pytest.mark.parametrize("ids", [[-1], [ROWS], [0, 99]])
def test_ids_outside_the_vocabulary_are_refused(tmp_path, ids):
    table = EmbeddingTable(tmp_path, EmbeddingStorage(stored(tmp_path, 0, random_values()), WIDTH, tied=True))
    with pytest.raises(IndexError, match="0 … 5"):
        table.rows(ids)
    assert table.rows(np.zeros((0,), np.int64)).shape == (0, WIDTH)


@pytest.mark.parametrize("offset", [4, 10_000])
def test_a_file_that_is_too_short_or_missing_is_an_error(tmp_path, offset):
    whole = stored(tmp_path, 0, random_values())
    short = StoredTensor(whole.file, offset, whole.dtype, whole.shape)
    with pytest.raises(BundleError, match=f"at byte {offset}"):
        EmbeddingTable(tmp_path, EmbeddingStorage(short, WIDTH, tied=True))
    (tmp_path / "weights").unlink()
    with pytest.raises(BundleError, match="cannot be read"):
        EmbeddingTable(tmp_path, EmbeddingStorage(whole, WIDTH, tied=True))


@pytest.mark.parametrize(
    ("dtype", "shape", "scales", "bits"),
    [
        ("uint8", (6, 1, 10), False, 8),
        ("uint8", (6, 1, 10), True, None),
        ("uint8", (6, 1, 10), True, 5),
        ("uint8", (6, 10), True, 8),
        ("float32", (6, 10), True, None),
        ("float32", (6, 1, 10), False, None),
        ("float32", (6, 10), False, 8),
    ],
)
def test_records_that_cannot_be_are_refused(dtype, shape, scales, bits):
    tensor = StoredTensor("weights", 0, "float32", (6,)) if scales else None
    with pytest.raises(ValueError, match="uint8 with scales and bits"):
        EmbeddingStorage(StoredTensor("weights", 0, dtype, shape), WIDTH, tied=True, scales=tensor, bits=bits)


def test_a_record_survives_json():
    import json
    from dataclasses import asdict

    scales = StoredTensor("weights", 320, "float32", (6,))
    storage = EmbeddingStorage(StoredTensor("weights", 0, "uint8", (6, 1, 16)), WIDTH, True, scales, bits=8)
    assert EmbeddingStorage.from_dict(json.loads(json.dumps(asdict(storage)))) == storage


def test_threads_read_the_rows_that_they_ask_for(tmp_path):
    import sys
    from concurrent.futures import ThreadPoolExecutor

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # seconds: threads change between any two steps
    values = random_values(shape=(500, WIDTH))
    table = EmbeddingTable(tmp_path, EmbeddingStorage(stored(tmp_path, 24, values), WIDTH, tied=True))
    ids = [np.random.default_rng(seed).integers(0, len(values), 200) for seed in range(400)]
    try:
        with ThreadPoolExecutor(8) as pool:
            assert all(np.array_equal(rows, values[i]) for rows, i in zip(pool.map(table.rows, ids), ids, strict=True))
    finally:
        sys.setswitchinterval(before)


def test_a_file_cut_after_opening_is_an_error(tmp_path):
    values = random_values()
    table = EmbeddingTable(tmp_path, EmbeddingStorage(stored(tmp_path, 0, values), WIDTH, tied=False))
    with open(tmp_path / table.storage.rows.file, "r+b") as file:
        file.truncate(values.nbytes - 8)
    assert np.array_equal(table.rows(np.array([0])), values[:1])
    with pytest.raises(BundleError, match="a row gave"):
        table.rows(np.array([len(values) - 1]))
