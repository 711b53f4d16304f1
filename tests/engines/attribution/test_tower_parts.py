import pytest

from laco_engines.attribution.tower_parts import tower_parts

BLOCKS = [f"vision_model.encoder.layers.{layer}" for layer in range(3)]
MERGE, OTHER = "vision_model.compressors.block_1", "vision_model.compressors.block_2"
EMBEDDINGS, NORM = "vision_model.embeddings", "vision_model.encoder.norm"


def names_and_ends(boundaries, **options):
    return [(part.name, part.end) for part in tower_parts(boundaries, **options)]


@pytest.mark.parametrize(
    ("boundaries", "parts"),
    [
        ([EMBEDDINGS, *BLOCKS, NORM], [("tower", NORM)]),
        (
            [EMBEDDINGS, BLOCKS[0], f"{MERGE}.residual", MERGE, *BLOCKS[1:], NORM],
            [("tower before the merge", BLOCKS[0]), ("merge", MERGE), ("tower after the merge", NORM)],
        ),
        ([EMBEDDINGS, BLOCKS[0], NORM, MERGE], [("tower before the merge", NORM), ("merge", MERGE)]),
        (
            [EMBEDDINGS, BLOCKS[0], MERGE, BLOCKS[1], f"{OTHER}.residual", OTHER, BLOCKS[2], NORM],
            [
                ("tower before merge 1", BLOCKS[0]),
                ("merge 1", MERGE),
                ("tower between merges 1 and 2", BLOCKS[1]),
                ("merge 2", OTHER),
                ("tower after merge 2", NORM),
            ],
        ),
    ],
    ids=["no merge", "one", "behind the last block", "two"],
)
def test_parts_end_where_merges_do(boundaries, parts):
    assert names_and_ends(boundaries) == [*parts, ("projector", "image_features")]


def test_each_block_a_part():
    boundaries = [EMBEDDINGS, BLOCKS[0], f"{MERGE}.residual", MERGE, NORM]
    assert names_and_ends(boundaries, each_block=True) == [
        ("embeddings", EMBEDDINGS),
        ("encoder.layers.0", BLOCKS[0]),
        ("compressors.block_1", MERGE),
        ("encoder.norm", NORM),
        ("projector", "image_features"),
    ]
