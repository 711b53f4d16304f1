"""A small VLM over real parts that merges nothing inside: what it reads once merged, and once that is healed.

    make real-parts
    laco-train --recipe laco_dinov2_smollm2_135m … --output RUN        (docs/small-vlm.md)
    python benchmarks/real_vlm_healing.py --run RUN --folder DIR [--at 1/2 1/4]

The teacher is DINOv2-Small as it comes with InternVL's window of 2 x 2 behind it, so that the language model has 64
tokens of a picture before and after. Its language model starts from RUN's, which reads pictures already, its projector
from the captions, and both are trained for some passes over the training pictures with the encoder frozen. Then
``merge_inside`` moves the window into the encoder, and ``laco-train distil`` heals that on pictures alone, the training
ones and clip art; the language model and the projector stay as they are. Each is asked the questions of ``real_vlm.py``
about the 60 held-out pictures, which no part has seen.

What stands in DIR is not made again; interrupted training goes on. :data:`CRITERIA` were written down before the
teacher was trained.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from measured_on import measured_on
from page_rows import replace_rows
from real_healing import CLIP_ART, taught
from real_vlm import Heldout, command
from real_weights.labelled_pictures import LabelledPictures
from real_weights.unlabelled_pictures import unlabelled_pictures

from laco_export.atomic import write_json
from laco_export.models import LacoForConditionalGeneration, LacoProcessor, checkpoint
from laco_export.models.encoders.loading import load_encoder
from laco_export.models.merging import merge_inside
from laco_training.data import open_dataset
from laco_training.evaluation import answer_questions
from laco_training.projector_start import start_from_captions

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples"))

from real_parts.cache import default_folder  # noqa: E402

RESULTS, PAGE = ROOT / "benchmarks" / "results" / "real_vlm_healing.json", ROOT / "docs" / "distillation.md"
RATES = {"projector": 1e-4, "language_model": 5e-5}
CRITERIA = {"right answers of 120 that healing at 1/2 may lose of the teacher's": 6}
"""Words and kinds together; one standard error of 120 answers of which half are right is 5.5."""


def started(run: Path, parts: Path, output: Path) -> Path:
    """The teacher before its training."""
    if output.exists():
        return output
    trained = checkpoint.load(run / "checkpoint")
    torch.manual_seed(0)
    model = LacoForConditionalGeneration.from_parts(
        load_encoder(parts / "encoder" / "224"),
        trained.model.language_model,
        image_token_id=trained.model.config.image_token_id,
        method=None,
        projector={"window": 2, "norm": True},
    )
    processor = trained.processor.fitted_to(model)
    explained = start_from_captions(model, open_dataset(parts / "pictures" / "train.json", processor, max_length=256))
    print(f"the projector explains {explained:.0%} of the variance of the answers' words", flush=True)
    checkpoint.save(model, processor, output)
    return output


def trained_teacher(start: Path, parts: Path, epochs: float, output: Path) -> Path:
    """The teacher, by the small VLM's recipe with the encoder frozen and nothing merged."""
    stage = {"epochs": epochs, "save_every": 25, "learning_rates": json.dumps(RATES)}
    settings = {"data_folder": parts / "pictures", "model.checkpoint": start, "compression.method": "null"}
    settings |= {f"model.{name}": "null" for name in ("encoder", "language_model")}
    settings |= {f"model.{name}_start": "default" for name in ("merge", "projector")}
    settings |= {f"stages.2-si.{name}": value for name, value in stage.items()}
    if not (output / "checkpoint").exists():
        options = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        command("laco-train", "--recipe", "laco_dinov2_smollm2_135m", *options, "--output", output)
    return output / "checkpoint"


class HeldoutJudge:
    """Asks models about the held-out pictures."""

    def __init__(self, processor: LacoProcessor, pictures: Path):
        entries = json.loads((pictures / "heldout.json").read_text())
        self.processor, self.heldout = processor, Heldout(entries, pictures)

    def scores(self, model: LacoForConditionalGeneration) -> dict:
        """Right words and kinds, those of other pictures' answers, and the answers."""
        entries, folder = self.heldout.entries, self.heldout.folder
        images = [(entry["image"],) for entry in entries]
        scored = answer_questions(model, self.processor.fitted_to(model), folder, entries, images)
        answers = [answer.answer for answer in scored]
        return {**self.heldout.scores(answers), "answers": answers}


def table_of(document: dict) -> str:
    """Right kinds and words as Markdown, a line a model."""
    lines = [
        f"| of {document['pictures']} held-out pictures | right kind | right word | as the teacher answers |",
        "|---|--:|--:|--:|",
    ]
    teacher = document["models"]["the teacher"]["answers"]
    for name, row in document["models"].items():
        same = sum(answer == other for answer, other in zip(row["answers"], teacher, strict=True))
        kept = f"{same} of {len(teacher)}" if row["answers"] is not teacher else ""
        lines.append(f"| {name} | {row['right_kind']} | {row['right_word']} | {kept} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="what laco-train left of the small VLM")
    parser.add_argument("--folder", type=Path, required=True, help="teacher, students and what is interrupted")
    parser.add_argument("--at", nargs="+", default=["1/2", "1/4"], metavar="DEPTH")
    parser.add_argument("--epochs", type=float, default=2.0, help="of the teacher's training (default: 2)")
    parser.add_argument("--steps", type=int, default=600, help="of 12 pictures, of each healing (default: 600)")
    parser.add_argument("--clip-art", type=int, default=CLIP_ART, help=f"pictures of it (default: {CLIP_ART})")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args(argv)
    parts = default_folder()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    start = started(arguments.run, parts, arguments.folder / "start")
    teacher = trained_teacher(start, parts, arguments.epochs, arguments.folder / "teacher")
    loaded = checkpoint.load(teacher)
    judge = HeldoutJudge(loaded.processor, parts / "pictures")
    document = {
        **measured_on("torch", "transformers"),
        "pictures": len(judge.heldout.pictures),
        "criteria": CRITERIA,
        "epochs": arguments.epochs,
        "steps": arguments.steps,
        "clip_art": arguments.clip_art,
        "models": {"the teacher": judge.scores(loaded.model)},
    }
    training = LabelledPictures.read(parts / "pictures" / "train.json")
    unlabelled = unlabelled_pictures(training, arguments.clip_art, arguments.folder / f"pictures-{arguments.clip_art}")
    for at in arguments.at:
        document["models"][f"merged at {at}, nothing trained"] = judge.scores(merge_inside(loaded.model, at))
        write_json(arguments.output, document)
        student = taught(teacher, at, arguments.steps, unlabelled, arguments.folder, "bf16")
        document["models"][f"merged at {at}, healed"] = judge.scores(checkpoint.load(student).model)
        write_json(arguments.output, document)
    if arguments.output == RESULTS:
        replace_rows(PAGE, RESULTS.name, table_of(document))
    print(table_of(document))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
