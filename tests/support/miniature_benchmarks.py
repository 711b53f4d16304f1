"""Miniature copies of the paper's benchmarks as the hub has them: columns, configurations, splits and folders of videos
are the published ones, pictures and questions are drawn. And a checkpoint that answers in letters."""

from pathlib import Path

import numpy as np
from PIL import Image

LETTERS = "ABCD"
QUESTIONS = 3


def picture(seed):
    """A noisy 60 × 48 picture of one colour."""
    draw = np.random.default_rng(seed)
    pixels = draw.integers(0, 255, 3) + draw.integers(-40, 40, (48, 60, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_video(path, seed):
    """Six frames as mp4."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=2)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(6):
            frame = av.VideoFrame.from_image(picture(seed + number).resize((64, 48)))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_split(folder, config, split, records):
    """A split as the hub's datasets have it: ``CONFIG/SPLIT-00000-of-00001.parquet``, with PIL pictures encoded."""
    from datasets import Dataset, Features, Sequence
    from datasets import Image as Picture

    columns = {name: [record[name] for record in records] for name in records[0]}
    dataset = Dataset.from_dict(columns)
    pictures = {
        name: Sequence(Picture()) if isinstance(values[0], list) else Picture()
        for name, values in columns.items()
        if isinstance(values[0], Image.Image) or (isinstance(values[0], list) and isinstance(values[0][0], Image.Image))
    }
    dataset = dataset.cast(Features({**dataset.features, **pictures}))
    (folder / config).mkdir(parents=True, exist_ok=True)
    dataset.to_parquet(folder / config / f"{split}-00000-of-00001.parquet")
    lines = ["---", "configs:"]
    for name in sorted(path.name for path in folder.iterdir() if path.is_dir()):
        lines += [f"- config_name: {name}", "  data_files:"]
        for path in sorted((folder / name).iterdir()):
            lines += [f"  - split: {path.name.split('-')[0]}", f"    path: {name}/{path.name}"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))


def truth(number):
    """A is right half of the time: what a model that knows little says most is not always wrong."""
    return "ABAC"[number % 4]


def _letters(number):
    return {"question": f"Which colour is {number}?", "answer": truth(number)}


def single_image(number):
    """``{(dataset, config, split): record}`` of question ``number`` of each single-image benchmark."""
    shown, four = picture(number), ["red", "green", "blue", "grey"]
    hub = "lmms-lab-encoder"
    named = dict(zip(LETTERS, four))
    seed = {f"choice_{letter.lower()}": word for letter, word in named.items()}
    document = {"questionId": str(number), "question": "Which letter?", "image": shown, "answers": [truth(number)]}
    return {
        (f"{hub}/ai2d", "default", "test"): {
            "question": "Which colour?",
            "options": four,
            "answer": str(LETTERS.index(truth(number))),
            "image": shown,
        },
        (f"{hub}/ChartQA", "default", "test"): {"type": "human_test", **_letters(number), "image": shown},
        (f"{hub}/DocVQA", "DocVQA", "validation"): document,
        (f"{hub}/DocVQA", "InfographicVQA", "validation"): document,
        (f"{hub}/MMBench", "en", "dev"): {
            "index": number,
            **_letters(number),
            "hint": "nan",
            **named,
            "category": "color",
            "L2-category": "perception",
            "source": "drawn",
            "split": "dev",
            "image": shown,
        },
        (f"{hub}/MMMU", "default", "validation"): {
            "id": f"validation_Art_{number}",
            "question": "Which colour is <image 1>?",
            "options": str(four),
            "answer": truth(number),
            "question_type": "multiple-choice",
            "image_1": shown,
        },
        ("Lin-Chen/MMStar", "val", "val"): {
            "index": number,
            "question": "Which colour? Options: A: red, B: green, C: blue, D: grey",
            "answer": truth(number),
            "category": "coarse perception",
            "l2_category": "image style & quality",
            "image": shown,
        },
        (f"{hub}/SEED-Bench", "default", "test"): {
            **_letters(number),
            **seed,
            "question_id": str(number),
            "data_type": ("image", "video")[number % 2],
            "image": [shown] * (1 + number % 2),
        },
        (f"{hub}/ScienceQA", "ScienceQA-IMG", "test"): {
            "question": "Which colour?",
            "choices": four,
            "answer": LETTERS.index(truth(number)),
            "hint": "",
            "image": shown,
        },
        (f"{hub}/RealWorldQA", "default", "test"): {**_letters(number), "image": shown},
    }


def multi_image(number):
    """The same of the multi-image benchmarks; ``sub_task`` goes round."""
    from laco_engines.evaluation.benchmarks import MULTI_IMAGE

    records = {}
    for config in ("in_domain", "multi_view_in_domain", "out_of_domain"):
        task = {"multi_view_in_domain": "multi_view", "out_of_domain": "out_domain"}.get(config, config)
        mixed = [b for column in MULTI_IMAGE.columns for b in column.benchmarks if b.task.endswith(f"bench_{task}")]
        kind = mixed[number % len(mixed)]
        records["lmms-lab-encoder/LLaVA-NeXT-Interleave-Bench", config, "test"] = {
            "sample_id": number,
            "sub_task": kind.sub_tasks[0],
            "question_type": "multi-choice",
            "question": "<image><image> Which differs? Your answer is:",
            "conversations": "<image><image> Which differs?",
            "answer": truth(number),
            "image_0": picture(number),
            "image_1": picture(number + 100),
        }
    records["MUIRBENCH/MUIRBENCH", "default", "test"] = {
        "idx": str(number),
        "task": "Counting",
        "image_relation": "Overall",
        "image_type": "Drawing",
        "question": "How many in <image> and <image>?",
        "options": ["1", "2", "3", "4"],
        "answer": truth(number),
        "image_list": [picture(number), picture(number + 50)],
    }
    return records


def video(number):
    """The same of the video benchmarks."""
    five = ["run", "sit", "eat", "fly", "dig"]
    return {
        ("lmms-eval/egoschema", "Subset", "test"): {
            "question_idx": str(number),
            "question": "What happens?",
            "video_idx": f"ego{number}",
            "option": [f"{letter}. {word}" for letter, word in zip("ABCDE", five)],
            "answer": str(LETTERS.index(truth(number))),
        },
        ("lmms-eval/NExTQA", "MC", "test"): {
            "video": 100 + number,
            "question": "what happens",
            "answer": LETTERS.index(truth(number)),
            "qid": number,
            "type": "CW",
            **{f"a{index}": word for index, word in enumerate(five)},
        },
        ("lmms-eval/PerceptionTest_Val", "mc_question_val", "validation"): {
            "video_name": f"video_{number}",
            "question": "What happens?",
            "question_id": str(number),
            "options": five[:3],
            "answer_id": str(LETTERS.index(truth(number))),
            "area": "physics",
            "reasoning": "descriptive",
            "tag": ["motion"],
        },
        ("lmms-eval/Video-MME", "videomme", "test"): {
            "video_id": str(number),
            "duration": "short",
            "domain": "Knowledge",
            "sub_category": "Geography",
            "url": "",
            "videoID": f"mme{number}",
            "question_id": f"{number}-1",
            "task_type": "Counting Problem",
            "question": "How many?",
            "options": ["A. 1.", "B. 2.", "C. 3.", "D. 4."],
            "answer": truth(number),
        },
    }


VIDEOS = {
    "egoschema/videos/ego{}.mp4": 0,
    "nextqa/NExTVideo/{}.mp4": 100,
    "perceptiontest_val/videos/video_{}.mp4": 0,
    "videomme/data/mme{}.mp4": 0,
}
"""Where the tasks look for a question's video, in ``HF_HOME``, and the number of the first."""


def write_benchmarks(folder: Path, questions: int = QUESTIONS) -> Path:
    """All of them below ``folder``, with ``questions`` each (the interleaved sub-tasks get one each)."""
    every = {}
    for make, count in ((single_image, questions), (multi_image, 8), (video, questions)):
        for number in range(count):
            for place, record in make(number).items():
                every.setdefault(place, []).append(record)
    for (dataset, config, split), records in every.items():
        write_split(folder / dataset, config, split, records)
    for pattern, first in VIDEOS.items():
        for number in range(questions):
            write_video(folder / pattern.format(first + number), number)
    return folder


def lettered(model, tokenizer):
    """The model, changed so that it answers in the letters A to D and then ends: other tokens' logits are near zero."""
    import torch

    letters = [tokenizer.convert_tokens_to_ids(letter) for letter in LETTERS]
    weight = model.get_input_embeddings().weight
    with torch.no_grad():
        loud = {*letters, tokenizer.eos_token_id}
        quiet = [index for index in range(len(weight)) if index not in loud]
        weight[quiet] *= 0.02
        weight[tokenizer.eos_token_id] *= 3
    model.config.text_config.max_position_embeddings = 4096
    model.language_model.config.max_position_embeddings = 4096
    return model
