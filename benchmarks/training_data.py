"""What training data costs before and while it is used: start-up, memory, padding, packing, reading.

    python benchmarks/training_data.py startup   # 100,000 samples of JSON, 1,000,000 rows of parquet (4 GB in --folder)
    python benchmarks/training_data.py padding   # length grouping against a plain shuffle
    python benchmarks/training_data.py packing   # one packed row against a padded batch, forward and backward
    python benchmarks/training_data.py reading   # tiled samples a CPU second from a folder, a zip, a tar, parquet

Each writes its part of benchmarks/results/training_data.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from statistics import median

import numpy as np
from measured_on import measured_on

RESULTS = Path(__file__).resolve().parent / "results" / "training_data.json"
LIBRARIES = ("torch", "transformers", "datasets", "pyarrow", "numpy")
TEXT = "the picture shows a table with three rows and the second one lists more than both of the others 42"
WORDS = TEXT.split()


def tiny_processor(tiling: bool = False):
    """AIMv2-L/336's preprocessing and token counts with a small byte-level tokenizer: no model is made."""
    from published_sizes import vision_config
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from laco_export.models import LacoImageProcessor, LacoProcessor
    from laco_export.models.encoders import encoder_spec

    letters = {token: index for index, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=letters, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image_pad|>"])
    config = vision_config("aimv2-large-patch14-336")
    preprocessing = encoder_spec(config.model_type).preprocessing(config)
    return LacoProcessor(
        LacoImageProcessor(**preprocessing.to_dict()),
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|endoftext|>"),
        image_seq_length=144,
        tiling={"tile": 336} if tiling else None,
    )


def entries(count: int):
    """Conversations of 1 … 8 rounds and answers of 5 … 120 words; a fifth shows no picture, a tenth three."""
    random = np.random.default_rng(0)
    for number in range(count):
        pictures = [0, 0, 1, 1, 1, 1, 1, 1, 1, 3][number % 10]
        turns = []
        for turn in range(int(random.integers(1, 9))):
            mark = "<image>" * pictures + "\n" if turn == 0 and pictures else ""
            words = random.integers(0, len(WORDS), size=int(random.integers(5, 121)))
            turns.append({"from": "human", "value": f"{mark}What is shown in row {turn}?"})
            turns.append({"from": "gpt", "value": " ".join(WORDS[word] for word in words)})
        yield {
            "id": f"{number:09}",
            "image": [f"{number % 100}.jpg"] * pictures if pictures != 1 else f"{number % 100}.jpg",
            "conversations": turns,
        }


def write_json_file(path: Path, count: int) -> None:
    with path.open("w") as file:
        for number, entry in enumerate(entries(count)):
            file.write(("[" if number == 0 else ",\n") + json.dumps(entry))
        file.write("]")


def write_parquet_files(folder: Path, rows: int) -> None:
    """Row groups of 100 rows, as ``datasets`` writes data with pictures; these are noise that is never decoded."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    picture_bytes, files = 2000, 8
    folder.mkdir()
    random = np.random.default_rng(0)
    turns = [entry["conversations"] for entry in entries(1000)]
    for file in range(files):
        with pq.ParquetWriter(folder / f"{file:02}.parquet", _schema(pa), compression="none") as writer:
            for start in range(0, rows // files, 1000):
                count = min(1000, rows // files - start)
                noise = [random.bytes(picture_bytes) for _ in range(count)]
                table = pa.table(
                    {
                        "id": [f"{file}-{start + row}" for row in range(count)],
                        "image": [{"bytes": data, "path": "a.jpg"} for data in noise],
                        "conversations": turns[:count],
                        "data_source": ["bench"] * count,
                    },
                    schema=_schema(pa),
                )
                writer.write_table(table, row_group_size=100)


def _schema(pa):
    text = pa.string()
    return pa.schema(
        {
            "id": text,
            "image": pa.struct({"bytes": pa.binary(), "path": text}),
            "conversations": pa.list_(pa.struct({"from": text, "value": text})),
            "data_source": text,
        }
    )


def memory(field: str) -> float:
    """MiB of this process: VmHWM (peak) or VmRSS (now)."""
    return int(Path("/proc/self/status").read_text().split(field + ":")[1].split()[0]) / 1024


def bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split("rchar:")[1].split()[0])


def open_and_order(path: Path) -> dict:
    """In a process of its own: open the data, and draw the first global batch of 512."""
    import pyarrow.parquet  # noqa: F401  imported before the clock starts, as the model code is

    from laco_training.data import GroupedSampler, open_dataset

    processor = tiny_processor()
    before, read = memory("VmRSS"), bytes_read()
    start, cpu = time.perf_counter(), time.process_time()
    dataset = open_dataset(path, processor, images=path.parent)
    opened, opened_cpu = time.perf_counter() - start, time.process_time() - cpu
    sampler = iter(GroupedSampler(dataset, global_batch_size=512))
    first = [next(sampler) for _ in range(512)]
    ordered = time.perf_counter() - start
    for index in first[:64]:
        dataset.entry(index)
    size = sum(file.stat().st_size for file in (path.rglob("*.parquet") if path.is_dir() else [path]))
    return {
        "samples": len(dataset),
        "data_mb": round(size / 1e6, 1),
        "open_s": opened,
        "open_cpu_s": opened_cpu,
        "first_global_batch_s": ordered,
        "peak_over_imports_mib": memory("VmHWM") - before,
        "read_mb": (bytes_read() - read) / 1e6,
    }


def startup(folder: Path) -> dict:
    results = {}
    for count in (10_000, 100_000):
        path = folder / f"{count}.json"
        if not path.exists():
            write_json_file(path, count)
        results[f"json {count:,}"] = _alone("open", path)
    for count in (100_000, 1_000_000):
        path = folder / f"rows-{count}"
        if not path.exists():
            write_parquet_files(path, count)
        results[f"parquet {count:,}"] = _alone("open", path)
    return results


def _alone(step: str, path: Path) -> dict:
    """Three fresh processes; the one of the median opening time."""
    runs = []
    for _ in range(3):
        command = [sys.executable, __file__, step, "--folder", str(path)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        runs.append(json.loads(output.splitlines()[-1]))
    return sorted(runs, key=lambda run: run["open_s"])[1]


def padding(folder: Path) -> dict:
    """Share of positions that are padding, by estimated lengths, in forward passes of 8 of global batches of 512."""
    from laco_training.data import GroupedSampler, open_dataset

    path = folder / "100000.json"
    if not path.exists():
        write_json_file(path, 100_000)
    dataset = open_dataset(path, tiny_processor(), images=folder)
    results = {}
    for group_by in ("none", "length"):
        order = np.array(list(GroupedSampler(dataset, global_batch_size=512, group_by=group_by)))
        kinds, lengths = dataset.measure(order)
        batches, kinds = lengths.reshape(-1, 8), kinds.reshape(-1, 8)
        results[group_by] = {
            "padding_share": 1 - lengths.sum() / (8 * batches.max(axis=1)).sum(),
            "batches_of_one_kind": float((kinds.min(axis=1) == kinds.max(axis=1)).mean()),
        }
    return results


def packing() -> dict:
    """Two of Qwen2.5-0.5B's 24 layers, forward and backward, on one packed row and on the padded batch, interleaved.

    CPU seconds of one thread, as the machine may have other work.
    """
    import torch
    from published_sizes import qwen2_5_0_5b_config
    from transformers import Qwen2Model

    torch.manual_seed(0)
    torch.set_num_threads(1)  # threads that wait for each other would count as CPU time
    config = qwen2_5_0_5b_config()
    config.num_hidden_layers, config.vocab_size = 2, 1000
    model = Qwen2Model(config)
    random = np.random.default_rng(0)
    cases = {
        "captions: 8 x about 170, grouped": random.integers(165, 176, 8),
        "conversations: 4 x about 500, grouped": random.integers(475, 526, 4),
        "conversations: 4 of 150 … 900, shuffled": np.linspace(150, 900, 4).astype(int),
        "tiled: 2 x about 1800, grouped": random.integers(1710, 1891, 2),
    }
    results = {}
    for name, lengths in cases.items():
        seconds: dict[str, list[float]] = {"padded": [], "packed": []}
        for repeat in range(4):
            for form in ("padded", "packed"):
                inputs = _inputs(torch, lengths, packed=form == "packed")
                start = time.process_time()
                model(**inputs, use_cache=False).last_hidden_state.square().mean().backward()
                if repeat:  # the first is a warm-up
                    seconds[form].append(time.process_time() - start)
                model.zero_grad()
        results[name] = {
            "padding_share": float(1 - lengths.sum() / (lengths.max() * len(lengths))),
            **{f"{form}_cpu_s": median(values) for form, values in seconds.items()},
            "packed_to_padded": median(seconds["packed"]) / median(seconds["padded"]),
        }
    return results


def _inputs(torch, lengths, *, packed: bool) -> dict:
    if packed:
        positions = torch.cat([torch.arange(length) for length in lengths.tolist()])[None]
        return {"input_ids": torch.randint(1000, positions.shape), "position_ids": positions}
    mask = (torch.arange(int(lengths.max()))[None] < torch.from_numpy(lengths)[:, None]).long()
    return {"input_ids": torch.randint(1000, mask.shape), "attention_mask": mask}


def reading(folder: Path) -> dict:
    """Samples a second of CPU time: a 640 x 480 JPEG as up to 3 x 3 tiles with its base, from each kind of store."""
    import datasets
    from PIL import Image

    from laco_training.data import open_dataset

    store = folder / "store"
    store.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    rows = []
    for number in range(100):
        noise = Image.fromarray(random.integers(0, 256, (48, 64, 3), np.uint8)).resize((640, 480))
        noise.save(store / f"{number}.jpg", quality=90)
        turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "noise"}]
        rows.append({"id": str(number), "image": f"{number}.jpg", "conversations": turns})
    (folder / "rows.json").write_text(json.dumps(rows))
    with zipfile.ZipFile(folder / "store.zip", "w", zipfile.ZIP_STORED) as archive:
        for row in rows:
            archive.write(store / row["image"], row["image"])
    subprocess.run(["tar", "-cf", folder / "store.tar", "."], cwd=store, check=True)
    with_bytes = [
        {**row, "image": {"bytes": (store / row["image"]).read_bytes(), "path": row["image"]}} for row in rows
    ]
    datasets.disable_progress_bars()
    datasets.Dataset.from_list(with_bytes).to_parquet(folder / "rows.parquet", batch_size=100)
    processor, results = tiny_processor(tiling=True), {}
    sources = {name: (folder / "rows.json", folder / f"store{name}") for name in ("", ".zip", ".tar")}
    sources["parquet"] = (folder / "rows.parquet", store)
    opened = {name: open_dataset(path, processor, images=images) for name, (path, images) in sources.items()}
    seconds = {name: [] for name in opened}
    for _ in range(3):
        for name, dataset in opened.items():
            start = time.process_time()
            for index in range(100):
                assert len(dataset[index]["pixel_values"]) > 1
            seconds[name].append(time.process_time() - start)
    tiles = len(opened[""][0]["pixel_values"])
    for name, values in seconds.items():
        results[name.strip(".") or "folder"] = {"samples_per_cpu_s": 100 / median(values), "tiles": tiles}
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=["startup", "padding", "packing", "reading", "open"])
    parser.add_argument("--folder", type=Path, help="where data is written and kept; default: a temporary folder")
    arguments = parser.parse_args()
    if arguments.step == "open":
        print(json.dumps(open_and_order(arguments.folder)))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        measure = {"startup": startup, "padding": padding, "reading": reading}.get(arguments.step)
        result = packing() if measure is None else measure(folder)
    result = json.loads(json.dumps(result), parse_float=lambda text: float(f"{float(text):.4g}"))
    print(json.dumps(result, indent=1))
    earlier = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps({**earlier, **measured_on(*LIBRARIES), arguments.step: result}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
