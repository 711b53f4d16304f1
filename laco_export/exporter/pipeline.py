"""The export, in order: load and audit, trace, rewrite, precision, gates, proof, decoder, manifest, rename.

    report = export_bundle(ExportOptions(Path("checkpoint"), at="1/2", precision="fp16"))

Everything is written into a temporary sibling of the output, which takes its final name when all gates have passed.
"""

from __future__ import annotations

import gc
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import __version__
from ..atomic import new_directory
from ..bundle import Manifest, refuse_to_replace_non_bundle, write_manifest
from ..console import Steps, console
from ..conversation import IM_END
from ..depth import Depth
from ..disk_space import require_space
from ..errors import CheckpointError
from ..golden import GOLDEN_NAME, write_golden
from ..machine import library_versions
from ..quiet import quiet
from ..token_grid import tokens_per_image
from . import compile_gate, decoder, vision_graph
from .golden_pictures import golden_pictures
from .options import ExportOptions
from .report import ExportReport

if TYPE_CHECKING:
    from .proof import Proof

_CARRIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "chat_template.jinja",
    "chat_template.json",
)
"""Tokenizer and processor files: copied from the checkpoint as they are."""

_LIBRARIES = (
    "torch",
    "transformers",
    "onnx",
    "onnxscript",
    "onnx-graphsurgeon",
    "polygraphy",
    "onnxruntime",
    "optimum",
    "optimum-onnx",
    "numpy",
)


def export_bundle(options: ExportOptions) -> ExportReport:
    """Export a checkpoint as a bundle.

    Raises:
        CheckpointError, DepthError, OutputExistsError, ImageError, UsageError: what was given cannot be used.
        DiskSpaceError: the output's disk is too full for the bundle.
        ExportError: a rewrite, a gate or the comparison failed; nothing is left under the output's name.
    """
    steps = Steps()
    depth, output = _resolve(options)
    if options.force:
        refuse_to_replace_non_bundle(output)
    with new_directory(output, force=options.force) as folder:
        report = _Export(options, depth, output, folder, steps).run()
    if options.force and not options.bisect:
        from .bisection import reports_beside

        for stale in reports_beside(output):  # of the bundle that was replaced
            stale.unlink(missing_ok=True)
    return report


def _resolve(options: ExportOptions) -> tuple[str | None, Path]:
    """The carried depth that ``--at`` names and the output's name, from the configuration alone."""
    with quiet():
        from ..models import checkpoint

        config = checkpoint.read_config(options.model)
    compression = config.compression_config
    if options.at is not None:
        depth, _ = compression.find(Depth.parse(options.at))
    else:
        depth = compression.depths[0] if compression.method else None
    return depth, options.output_for(depth)


class _Export:
    """One run: what the steps hand to each other, and the steps in order."""

    def __init__(self, options: ExportOptions, depth: str | None, output: Path, folder: Path, steps: Steps):
        self.options, self.depth, self.output, self.folder, self.steps = options, depth, output, folder, steps
        self.notes: list[str] = []

    def run(self) -> ExportReport:
        step = self.steps.step
        with step("load and audit the checkpoint"):
            self._load()
        with step("draw the golden pictures" if not self.options.images else "read the pictures"):
            self._prepare_pictures()
        with step("run the pictures in PyTorch"):
            self._run_reference()
        with step("trace and rewrite the vision tower"):
            self._trace()
        ranges = "" if self.options.precision == "fp32" else ", measure ranges"
        with step(f"compare the rewritten graph with PyTorch{ranges}"):
            self._prove_rewrites()
        with step("write and check the graph"):
            self._write_graphs()
        with step("compare with PyTorch"):
            self._prove()
        self._compile()
        if self.options.llm:
            self._export_decoder()
        with step("write the manifest"):
            manifest = self._finish()
        return ExportReport(self.output, manifest, self.steps.seconds, self.compiled)

    def _load(self) -> None:
        with quiet():
            from ..models import checkpoint

            self.checkpoint = checkpoint.load(self.options.model)
        self.model = self.checkpoint.model
        if self.depth is not None:
            self.model.set_depth(self.depth)
        self._require_space()
        if self.model.config.untrained:
            parts = " and ".join(self.model.config.untrained)
            self.notes.append(f"untrained: the checkpoint's {parts} have random weights; speed counts, answers do not")
        if not self.checkpoint.checked:
            self.notes.append("the checkpoint has no checksums.json: its weights could not be checked for damage")

    def _require_space(self) -> None:
        """Fail now and not after minutes when the disk cannot hold the bundle."""
        from .tower import VisionTower

        count = lambda module: sum(parameter.numel() for parameter in module.parameters())
        needed = count(VisionTower(self.model)) * (4 if self.options.precision == "fp32" else 2)
        if self.options.llm:
            needed += count(self.model.language_model) * decoder.bytes_per_weight(self.options.llm)
        require_space(self.folder, needed, place=self.output.absolute().parent)

    def _prepare_pictures(self) -> None:
        prepare = self.checkpoint.processor.image_processor.preprocessing
        spec, config = self.model.vision_model.spec, self.model.config.vision_config
        if (prepare.height, prepare.width) != spec.image_size(config):
            raise CheckpointError(
                "preprocessor_config.json and the encoder differ in the picture's size",
                given=f"{prepare.height} x {prepare.width} and {spec.image_size(config)}",
            )
        self.preprocessing = prepare
        pictures = golden_pictures(self.options.images, 2 * max(prepare.height, prepare.width))
        self.picture_names = [name for name, _ in pictures]
        self.pixels = [prepare.resize_and_crop(image) for _, image in pictures]  # uint8 [H, W, 3]
        self.pixel_values = [prepare.normalize(pixels)[None] for pixels in self.pixels]  # float32 [1, 3, H, W]

    def _run_reference(self) -> None:
        from .proof import Reference
        from .tower import VisionTower

        self.tower = VisionTower(self.model).eval()
        with quiet():
            self.reference = Reference.of(self.tower, self.pixel_values)

    def _trace(self) -> None:
        size = self.pixel_values[0].shape[1:]
        self.traced = [vision_graph.trace_and_rewrite(self.tower, (1, *size), opset=self.options.opset)]

    def _prove_rewrites(self) -> None:
        """Compare the FP32 graph block by block; measure the ranges and choose the FP32 islands on the same run."""
        from .half_formats import HALF_FORMATS
        from .precision import choose_fp32
        from .proof import prove_rewrites
        from .ranges import RangeMeter

        graph, self.form = self.traced[0].graph, HALF_FORMATS.get(self.options.precision)
        meter = None if self.form is None else RangeMeter(graph, self.form.torch)
        with quiet():
            self.rewritten = prove_rewrites(self.reference, graph, meter)
            self.kept_fp32 = {} if meter is None else choose_fp32(graph, meter.ranges, self.form)
        if not self.options.bisect:  # which reports on all runs together
            self.rewritten.require()

    def _write_graphs(self) -> None:
        from .structural_gates import check_structure

        traced = self.traced
        if self.form is not None:
            traced = vision_graph.in_half(traced, self.kept_fp32, self.form)
        traced = vision_graph.for_target(traced[0], self.options.reader, self.options.batches)
        written = vision_graph.write_vision(
            traced, self.folder, precision=self.options.precision, target=self.options.reader
        )
        self.vision = replace(written, **self._token_layout(), flops=self._flops())
        del traced
        gc.collect()  # the half weights: graphs are circular
        for graph in self.vision.graphs:
            check_structure(self.folder / graph.file, self.options.reader)

    def _flops(self) -> dict:
        from ..models.flops import vision_flops

        vision = self.model.vision_model
        total = vision_flops(self.model.config, block=vision.block).total
        if vision.block is None:
            return {"total": total}
        at_1 = vision_flops(self.model.config, block=vision.num_blocks).total
        return {"total": total, "ratio_to_1": total / at_1}

    def _token_layout(self) -> dict:
        """What an engine needs to place a picture's tokens: the grid, the tiling, the newline's file."""
        model, newline = self.model, None
        if model.image_newline is not None:
            newline = "image_newline.npy"
            np.save(self.folder / newline, model.image_newline.detach().float().numpy())
        grid = model.vision_model.merged_grid
        return {"token_grid": grid, "tiling": model.config.tiling, "image_newline": newline}

    def _prove(self) -> None:
        from .proof import prove_shipped

        files = {graph.batch: self.folder / graph.file for graph in self.vision.graphs}
        marked = self.folder / vision_graph.marked(files[1].name)
        with quiet():
            self.proof = self._judge(files[1], marked)
            self.traced.clear()  # proven or given up: the FP32 graph is needed no more
            gc.collect()  # graphs are circular
            if self.options.bisect:
                self._bisect(files[1], marked)
            self.rewritten.require()
            self.proof.require()
            self.proof = prove_shipped(self.reference, self.proof, files)
        marked.unlink()
        self.proof.require()
        self.notes += self.proof.notes
        write_golden(self.folder, self.picture_names, self.pixels, self.reference.expected)

    def _judge(self, shipped: Path, marked: Path) -> Proof:
        """The deciding run; where half precision drifts, again with more of the graph in FP32."""
        from .islands import MAX_RETRIES, widen
        from .proof import judge

        found = judge(self.reference, shipped, marked, precision=self.options.precision)
        for retry in range(1, MAX_RETRIES + 1):
            if self.form is None or found.failing is None or self.rewritten.failing is not None:
                break
            drifted = found.failing[1][0]
            self.kept_fp32 = widen(self.traced[0].graph, self.tower.boundary_names, self.kept_fp32, drifted, retry)
            self._write_graphs()
            self.notes.append(
                f"the {self.options.precision.upper()} graph drifted at {drifted.name} ({drifted.numbers()}): it was "
                f"converted again with the blocks around it in FP32 (retry {retry} of {MAX_RETRIES})"
            )
            found = judge(self.reference, shipped, marked, precision=self.options.precision)
        return found

    def _bisect(self, shipped: Path, marked: Path) -> None:
        from .bisection import FUSION_NOTE, bisect

        found = bisect(self.reference, self.rewritten, self.proof, shipped, marked)
        report, plot = found.write(self.output)
        self.notes += [f"bisect: {found.sentence} (see {report.name}, {plot.name})", f"bisect: {FUSION_NOTE}"]
        said = [f"bisect: {found.sentence}", f"  report: {report}", f"  plot:   {plot}", f"  note:   {FUSION_NOTE}"]
        console().print("\n".join(said), soft_wrap=True, highlight=False, markup=False)

    def _compile(self) -> None:
        self.compiled: list[dict] = []
        if not self.options.reader.compiled:
            return
        builder = compile_gate.available() if self.options.compile else None
        if builder is None:
            missing = "no TensorRT-RTX, and no TensorRT with a GPU, is installed"
            self.notes.append(f"the graph was not compiled: {missing if self.options.compile else '--no-compile'}")
            return
        with self.steps.step(f"compile with {builder}"):
            self.compiled = compile_gate.compile_graphs(self.folder, self.vision.graphs, builder)
        for built in self.compiled:
            self.notes.append(f"{built['graph']} was built by {builder} {built['version']} in {built['seconds']} s")

    def _export_decoder(self) -> None:
        model = self.model
        with self.steps.step("export the language model") as advance, quiet():
            self.decoder = decoder.export_decoder(
                model.language_model,
                image_token_id=model.config.image_token_id,
                eos_token_ids=self._eos_token_ids(),
                output_folder=self.folder,
                precision=self.options.llm,
                generation_config=model.generation_config,
                advance=advance,
            )
        with self.steps.step("compare the language model with PyTorch"), quiet():
            self.decoder_accuracy = decoder.verify_decoder(model.language_model, self.folder, self.decoder)

    def _eos_token_ids(self) -> list[int]:
        """The tokens that end an answer: the checkpoint's own and ChatML's ``<|im_end|>``."""
        tokenizer = self.checkpoint.processor.tokenizer
        own = self.model.generation_config.eos_token_id
        ids = list(own) if isinstance(own, (list, tuple)) else [own]
        ids += [tokenizer.convert_tokens_to_ids(IM_END), tokenizer.eos_token_id]
        return list(dict.fromkeys(i for i in ids if i is not None and i != tokenizer.unk_token_id))

    def _finish(self) -> Manifest:
        for name in _CARRIED:
            if (self.options.model / name).is_file():
                shutil.copyfile(self.options.model / name, self.folder / name)
        accuracy = self.proof.to_manifest(self.picture_names)
        accuracy["pictures_are"] = "given" if self.options.images else "drawn"
        accuracy["rewritten"] = self.rewritten.to_manifest(self.picture_names)
        if self.options.llm:
            accuracy["decoder"] = self.decoder_accuracy
        else:
            self.notes.append("without a decoder: --no-llm")
        manifest = Manifest(
            tool_version=__version__,
            libraries=library_versions(_LIBRARIES),
            source={"name": self.options.model.resolve().name, "sha256": self.checkpoint.sha256},
            encoder=self._encoder_entry(),
            compression=self._compression_entry(),
            vision=self.vision,
            preprocessing=self.preprocessing.to_dict(),
            golden=GOLDEN_NAME,
            accuracy=accuracy,
            decoder=self.decoder if self.options.llm else None,
            notes=self.notes,
            build={"seconds": self.steps.seconds, "compiled": self.compiled},
        )
        return write_manifest(self.folder, manifest)

    def _encoder_entry(self) -> dict:
        config, vision = self.model.config.vision_config, self.model.vision_model
        return {
            "model_type": config.model_type,
            "hidden_size": config.hidden_size,
            "num_blocks": vision.num_blocks,
            "image_size": list(vision.spec.image_size(config)),
            "patch_size": vision.spec.patch_size(config),
        }

    def _compression_entry(self) -> dict:
        vision = self.model.vision_model
        return {
            "method": vision.compression.method,
            "depth": self.depth,
            "block": vision.block,
            "ratio": vision.compression.ratio if vision.compression.method else 1,
            "tokens_before": tokens_per_image(vision.grid, 1),
            "tokens_after": self.model.tokens_per_image,
        }
