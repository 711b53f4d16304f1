"""What each field of ``laco.json`` may hold: its type and range, in :data:`MANIFEST`, and nowhere else.

What several fields must agree on is said by :mod:`.manifest_agreement`, which reads a manifest by both. Fields that an
earlier version did not write are optional here. Unknown ones are left out.
"""

from __future__ import annotations

import numpy as np

from .embedding_table import STORED_DTYPES
from .field_types import (
    FileField,
    FlagField,
    ListField,
    MapField,
    NullableField,
    NumberField,
    RecordField,
    TextField,
)
from .layout_rules import TOKEN_LAYOUTS
from .tiling import ANYRES, ASPECT_RATIO

VISION_PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8", "w8", "w4")
EIGHT_BIT_PRODUCTS, SEVEN_BIT_PRODUCTS = "u8s8", "u8s7"
"""Of the manifest's ``vision.products``."""
DECODER_DTYPES = ("fp32", "fp16", "int8", "int4")
"""Of the manifest's ``decoder.precision``."""

MOST_ELEMENTS = 2**31 - 1
"""Of a tensor: TensorRT takes no larger one."""

_MOST_BATCH = 4096  # pictures of 418 x 418 have MOST_ELEMENTS then
_LONGEST_SIDE = 8192  # of an encoder's input; published ones take up to 1,536
_MOST_DEPTHS = 64  # that a bundle carries
_MOST_GRID_SIDE = 64  # of a tiled picture, in tiles; published models take up to 12

_TEXT, _FLAG, _FILE = TextField(), FlagField(), FileField()
_SHA256 = TextField(pattern="[0-9a-f]{64}", named="64 hexadecimal digits", longest=64)
_NUMBER, _POSITIVE = NumberField(), NumberField(0)
_SHARE = NumberField(0, 1)
_COUNT, _SIZE = NumberField(0, whole=True), NumberField(1, MOST_ELEMENTS, whole=True)
_SIDE = NumberField(1, _LONGEST_SIDE, whole=True)
_SHAPE = ListField(_SIZE, 1, 8)

_TENSOR = RecordField({"name": _TEXT, "dtype": TextField(("float32", "float16", "bfloat16")), "shape": _SHAPE})
_GRAPH = RecordField(
    {"file": _FILE, "batch": NumberField(1, _MOST_BATCH, whole=True), "input": _TENSOR, "output": _TENSOR}
)
_GRAPHS = ListField(_GRAPH, 1, 64)

# What a bundle is held to later; an error as large as the tensor itself is 2.83 times its largest value at most.
_GATE = RecordField({"cosine": _SHARE, "norm_drift": _SHARE, "max_abs": NumberField(0, 4)})
_TOLERANCE = RecordField({"cosine": NumberField(most=1), "norm_drift": _POSITIVE, "max_abs": _POSITIVE})
_MAYBE = NullableField(_NUMBER)
_COMPARISON = RecordField(
    {"name": _TEXT, "cosine": _MAYBE, "norm_ratio": _MAYBE, "max_abs": _MAYBE},
    {"largest": _MAYBE, "worst_token_cosine": _MAYBE, "tolerance": NullableField(_TOLERANCE)},
)
_COMPARISONS = ListField(_COMPARISON)
_LOGITS = RecordField({"cosine": _NUMBER, "norm_ratio": _NUMBER, "max_abs": _NUMBER}, {"same_best_token": _SHARE})
_COST = RecordField(
    {
        "positions": _COUNT,
        "kl_mean": _NUMBER,
        "kl_p99": _NUMBER,
        "decided": _SHARE,
        "same_where_decided": _SHARE,
        "perplexity": _NUMBER,
        "perplexity_ratio": _NUMBER,
        "greedy": ListField(RecordField({"question": _TEXT, "given": _TEXT, "exported": _TEXT})),
    },
    {
        "texts": _TEXT,
        "same_best_token": _SHARE,
        "vocabulary": RecordField({"next_has_row": _SHARE, "best_has_row": _SHARE, "same_where_row": _SHARE}),
    },
)
_PROOF = {
    "reference": _TEXT,
    "pictures": ListField(_TEXT, 1),
    "branches": _COMPARISONS,
    "also": MapField(_COMPARISONS),
}
_ACCURACY = RecordField(
    optional={
        **_PROOF,
        "judged_by": _TEXT,
        "tensors": _COMPARISONS,
        "tolerance": _GATE,
        "pictures_are": _TEXT,
        "witnesses": ListField(
            RecordField({"watched": _TEXT, "by": _TEXT, "max_abs": _NUMBER}, {"largest": _NUMBER, "cases": _COUNT})
        ),
        "rewritten": RecordField(
            {"tensors": ListField(_COMPARISON, 1), "judged_by": _TEXT}, {**_PROOF, "tolerance": _TOLERANCE}
        ),
        "decoder": RecordField(
            optional={
                "prompt_tokens": _COUNT,
                "cached_steps": _COUNT,
                "activations": _TEXT,
                "whole": _LOGITS,
                "cached": _LOGITS,
                "embedding_error": _NUMBER,
                "cost": _COST,
                "max_kl": _MAYBE,
            }
        ),
    }
)

_FEATURE_ERROR = {"cosine": _NUMBER, "norm_ratio": _NUMBER, "agreement": _MAYBE}
_SERIES = RecordField(optional=dict.fromkeys(("milliseconds", "spread", "cpu_over_wall", "rejected"), _NUMBER))
_CALIBRATION = RecordField(
    optional={
        **dict.fromkeys(("target", "recipe", "number_format", "weights", "method", "base", "time"), _TEXT),
        **dict.fromkeys(("activations", "device"), NullableField(_TEXT)),
        **dict.fromkeys(("half_scales", "attention"), _FLAG),
        **dict.fromkeys(("source_graph_sha256", "statistics_sha256"), _SHA256),
        **dict.fromkeys(("pictures", "broken_pictures", "duplicate_pictures"), _COUNT),
        **dict.fromkeys(("flat_pictures", "copied_pictures", "held_out"), _COUNT),
        "golden": RecordField(
            optional={
                **dict.fromkeys(("pictures", "calibrated_on"), _COUNT),
                **dict.fromkeys(("points", "share_of_tolerance"), _MAYBE),
            }
        ),
        "max_drop": NumberField(0, 100),
        "statistics": NullableField(_FILE),
        "judged_on": ListField(_SHA256),
        "judged": RecordField(optional=_FEATURE_ERROR),
        "points": _NUMBER,
        "answers": NullableField(
            RecordField(
                optional={
                    **dict.fromkeys(("questions", "same", "with_answer"), _COUNT),
                    **dict.fromkeys(("right_base", "right"), NullableField(_COUNT)),
                }
            )
        ),
        "twin": NullableField(
            RecordField(optional={"blocks": _COUNT, **dict.fromkeys(("points", "golden_points"), _MAYBE)})
        ),
        "smoothing_equal_in_fp32": NullableField(RecordField(optional=_FEATURE_ERROR)),
        "milliseconds": NullableField(MapField(_SERIES)),
        "blocks": ListField(
            RecordField(
                {"name": _TEXT},
                {
                    **_FEATURE_ERROR,
                    "region": _TEXT,
                    "eight_bit": _FLAG,
                    **dict.fromkeys(("reason", "method"), NullableField(_TEXT)),
                    **dict.fromkeys(("points", "base_ms", "eight_bit_ms", "smoothing"), _MAYBE),
                },
            )
        ),
        "linears": ListField(
            RecordField(
                {"module": _TEXT, "input": _TEXT},
                {"scale": NumberField(np.finfo(np.float32).tiny), "zero_point": NumberField(-128, 255, whole=True)},
            )
        ),
    }
)

_VISION = RecordField(
    {
        "graphs": _GRAPHS,
        "weights": _FILE,
        "opset": NumberField(1, 1000, whole=True),
        "ir_version": NumberField(1, 1000, whole=True),
        "precision": TextField(VISION_PRECISIONS),
        "token_grid": ListField(_SIZE, 2, 2),
    },
    {
        "target": _TEXT,
        "kept_fp32": ListField(RecordField({"node": _TEXT, "reason": _TEXT})),
        "rewrites": ListField(RecordField({"name": _TEXT, "fired": _COUNT}, {"refused": ListField(_TEXT)})),
        "nodes": MapField(_COUNT),
        "nodes_before": MapField(_COUNT),
        "tiling": NullableField(
            RecordField(
                {"tile": _SIDE},
                {
                    **dict.fromkeys(("max_rows", "max_columns"), NumberField(1, _MOST_GRID_SIDE, whole=True)),
                    "max_tiles": NumberField(1, _MOST_GRID_SIDE**2, whole=True),
                    "grids": ListField(ListField(NumberField(1, _MOST_GRID_SIDE, whole=True), 2, 2)),
                    "rule": TextField((ANYRES, ASPECT_RATIO)),
                    "min_tiles": NumberField(1, _MOST_GRID_SIDE**2, whole=True),
                },
            )
        ),
        "token_layout": TextField(tuple(TOKEN_LAYOUTS)),
        "image_newline": NullableField(_FILE),
        "flops": RecordField(optional={"total": _POSITIVE, "ratio_to_1": _POSITIVE}),
        "calibration": NullableField(_CALIBRATION),
        "fallback": NullableField(
            RecordField({"precision": TextField(VISION_PRECISIONS), "weights": _FILE, "graphs": _GRAPHS})
        ),
        "products": NullableField(TextField((EIGHT_BIT_PRODUCTS, SEVEN_BIT_PRODUCTS))),
        "twin": NullableField(RecordField({"products": TextField((SEVEN_BIT_PRODUCTS,)), "graphs": _GRAPHS})),
    },
)

_STORED = RecordField({"file": _FILE, "offset": _COUNT, "dtype": TextField(STORED_DTYPES), "shape": _SHAPE})
_VOCABULARY = RecordField(
    {
        "rows": _SIZE,
        "of": _SIZE,
        "source": _TEXT,
        "bytes_saved": _COUNT,
        "left_out": ListField(
            RecordField({"script": _TEXT, "tokens": _COUNT, "of": _COUNT, "examples": ListField(_TEXT)})
        ),
    },
    {"held_out_coverage": NullableField(_SHARE)},
)
_DECODER = RecordField(
    {
        "folder": _FILE,
        "graph": _FILE,
        "embedding": RecordField(
            {"rows": _STORED, "hidden_size": _SIZE, "tied": _FLAG},
            {"scales": NullableField(_STORED), "bits": NullableField(NumberField(4, 8, whole=True))},
        ),
        "model_type": _TEXT,
        "precision": TextField(DECODER_DTYPES),
        "hidden_size": _SIZE,
        "vocab_size": _SIZE,
        "context_length": _SIZE,
        "image_token_id": _COUNT,
        "eos_token_ids": ListField(_COUNT, 1, 1000),
    },
    {
        "quantization": NullableField(
            RecordField(
                optional={
                    **dict.fromkeys(("bits", "head_bits"), NullableField(_COUNT)),
                    **dict.fromkeys(("block_size", "head_block_size", "accuracy_level"), _COUNT),
                    **dict.fromkeys(("eight_bit_share", "bits_a_weight"), _NUMBER),
                    **dict.fromkeys(("head_reason", "operator", "method"), _TEXT),
                    "zero_points": _FLAG,
                    "kept_wide": ListField(
                        RecordField(optional=dict.fromkeys(("weights", "precision", "reason"), _TEXT))
                    ),
                }
            )
        ),
        "vocabulary": NullableField(_VOCABULARY),
    },
)

_PREPROCESSING = RecordField(
    {
        "image_mean": ListField(NumberField(-100, 100), 3, 3),
        "image_std": ListField(NumberField(1e-4, 100), 3, 3),  # below, pixel values leave FP16
    },
    {
        **dict.fromkeys(("size", "crop_size"), MapField(_SIDE, most=8)),
        **dict.fromkeys(
            ("do_convert_rgb", "do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_pad"), _FLAG
        ),
        "resample": _COUNT,
        "rescale_factor": _NUMBER,
    },
)

_COMPRESSION = RecordField(
    {
        "method": NullableField(_TEXT),
        "depth": NullableField(_TEXT),
        "block": NullableField(_COUNT),
        "ratio": _SIDE,
        "tokens_before": _SIZE,
        "tokens_after": _SIZE,
    },
    {"merges": ListField(RecordField({"block": _COUNT, "ratio": _SIDE, "tokens_after": _SIZE}), 2)},
)

_OF_A_DEPTH = {"compression": _COMPRESSION, "vision": _VISION, "golden": _FILE, "accuracy": _ACCURACY}
_OPTIONAL_OF_A_DEPTH = {
    "golden_answers": NullableField(_FILE),
    "notes": ListField(_TEXT),
    "build": RecordField(
        optional={
            "seconds": MapField(_POSITIVE),
            "compiled": ListField(
                RecordField(
                    {"builder": _TEXT, "version": _TEXT, "plan_bytes": _COUNT},
                    {"seconds": _POSITIVE, "graph": _TEXT},
                )
            ),
        }
    ),
}

MANIFEST = RecordField(
    {
        "tool_version": _TEXT,
        "libraries": MapField(_TEXT),
        "source": RecordField({"name": _TEXT, "sha256": _SHA256}),
        "encoder": RecordField(
            {"model_type": _TEXT, "hidden_size": _SIZE, "num_blocks": _SIZE},
            {"image_size": ListField(_SIDE, 2, 2), "patch_size": _SIDE},
        ),
        **_OF_A_DEPTH,
        "preprocessing": _PREPROCESSING,
        "files": MapField(RecordField({"sha256": _SHA256, "bytes": _COUNT}), key=_FILE, least=1),
        "schema_version": NumberField(1, whole=True),
    },
    {
        **_OPTIONAL_OF_A_DEPTH,
        "decoder": NullableField(_DECODER),
        "depths": ListField(RecordField(_OF_A_DEPTH, _OPTIONAL_OF_A_DEPTH), 1, _MOST_DEPTHS - 1),
    },
)
