"""Training data: from LLaVA JSON, mixtures and parquet to batches whose labels are exact.

::

    sources ─ mixture ─▶ dataset ─ samples (conversations, pictures) ─▶ batches
                            └─ sampler: in which order

:func:`open_dataset` and :class:`GroupedSampler` serve local files by index; :class:`ConversationStream` reads parquet
as it comes. In reading order:

- :mod:`.sources`: which reader a data path gets;
- :mod:`.json_files`: LLaVA's JSON, read sample by sample;
- :mod:`.parquet_files`: parquet as the Hub publishes it, read by row group;
- :mod:`.arrow_folders`: folders of ``datasets.save_to_disk``;
- :mod:`.mixture`: LLaVA-OneVision's mixture files;
- :mod:`.conversations`: who says what and which pictures a sample names, in any of the published spellings;
- :mod:`.mending`: a sample as it is trained on, and what is mended of published data's oddities;
- :mod:`.llava_next`: the same as LLaVA-NeXT prepares it;
- :mod:`.causes`: by which odd and broken samples are counted;
- :mod:`.pictures`: pictures and videos, wherever they lie;
- :mod:`.archives`: files inside a zip or a tar;
- :mod:`.positioned_file`: a file read at given places by many processes at once;
- :mod:`.samples`: one sample as the model's inputs and labels;
- :mod:`.dataset`: the samples of a stage by index;
- :mod:`.sampler`: the order of a pass;
- :mod:`.picture_sources`: pictures without conversations: folders, archives, parquet;
- :mod:`.picture_dataset`: these as samples, cropped and flipped by chance;
- :mod:`.stream`: parquet from afar, as it comes;
- :mod:`.batches`: samples to a batch, padded or packed;
- :mod:`.broken`: samples that cannot be used: named, counted, skipped;
- :mod:`.odd`: samples that are mended: named and counted;
- :mod:`.sample_logs`: the logs of both;
- :mod:`.preview`: a sample as the model will read it, for ``--dry-run``;
- :mod:`.errors`: what goes wrong with training data.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .conversations import image_names, plain_pieces, turns_of
from .errors import DataError
from .json_files import read_entries
from .mixture import MixturePart, pictures_of_parts
from .picture_sources import hold_out, open_pictures, with_one_picture, with_pictures

if TYPE_CHECKING:
    from .batches import Collator
    from .broken import BatchNotes, BrokenSample, BrokenSamples
    from .dataset import ConversationDataset, count_samples, open_dataset
    from .odd import OddSamples
    from .picture_dataset import DrawSampler, PictureCollator, PictureDataset, PixelEncoder
    from .sampler import GroupedSampler
    from .samples import IGNORED, SampleEncoder
    from .stream import ConversationStream

_WITH_TORCH = {
    "batches": ("Collator",),
    "broken": ("BatchNotes", "BrokenSample", "BrokenSamples"),
    "odd": ("OddSamples",),
    "dataset": ("ConversationDataset", "count_samples", "open_dataset"),
    "picture_dataset": ("DrawSampler", "PictureCollator", "PictureDataset", "PixelEncoder"),
    "sampler": ("GroupedSampler",),
    "samples": ("IGNORED", "SampleEncoder"),
    "stream": ("ConversationStream",),
}
"""Module → the names that are taken from it when they are asked for: it makes tensors, and who only looks whether data
is there need not wait for PyTorch."""

__all__ = [
    "IGNORED",
    "BatchNotes",
    "BrokenSample",
    "BrokenSamples",
    "Collator",
    "ConversationDataset",
    "ConversationStream",
    "DataError",
    "DrawSampler",
    "GroupedSampler",
    "MixturePart",
    "OddSamples",
    "PictureCollator",
    "PictureDataset",
    "PixelEncoder",
    "SampleEncoder",
    "count_samples",
    "hold_out",
    "image_names",
    "open_dataset",
    "open_pictures",
    "pictures_of_parts",
    "plain_pieces",
    "read_entries",
    "turns_of",
    "with_one_picture",
    "with_pictures",
]


def __getattr__(name: str):
    for module, names in _WITH_TORCH.items():
        if name in names:
            return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
