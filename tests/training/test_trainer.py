"""What is logged of every optimiser step."""

from laco_training.recipe import StageRecipe
from laco_training.stages import train_stage


def test_samples_that_were_cut_are_counted(tiny_checkpoint, stage_data, tmp_path):
    """Of the 16 answers ``colour * (index % 4 + 1)`` the longer ones do not fit; each step's count is logged."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from laco_export.models import LacoProcessor
    from laco_training.data import open_dataset

    processor = LacoProcessor.from_pretrained(tiny_checkpoint)
    samples = open_dataset(stage_data / "data.json", processor)
    lengths = sorted(len(samples[index]["input_ids"]) for index in range(16))
    recipe = StageRecipe(
        "data.json", {"projector": 1e-3}, global_batch_size=4, per_device_batch_size=2, max_length=lengths[9], epochs=1
    )
    train_stage(tiny_checkpoint, recipe, stage_data, tmp_path / "o", seed=0, tensorboard=tmp_path / "board")
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    logged = [event.value for event in events.Scalars("train/truncated_samples")]
    assert len(logged) == 4 and sum(logged) == sum(length > lengths[9] for length in lengths) > 2
