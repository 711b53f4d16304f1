"""Training data: from LLaVA JSON, mixtures and parquet to batches whose labels are exact.

    sources ─ mixture ─▶ dataset ─ samples (conversations, pictures) ─▶ batches
                            └─ sampler: in which order

`open_dataset` and `GroupedSampler` serve local files by index; `ConversationStream` reads parquet as it comes.
"""

from .batches import Collator
from .broken import BatchNotes, BrokenSample, BrokenSamples
from .conversations import image_names, plain_pieces, turns_of
from .dataset import ConversationDataset, count_samples, open_dataset
from .errors import DataError
from .json_files import read_entries
from .preview import preview
from .sampler import GroupedSampler
from .samples import IGNORED, SampleEncoder
from .stream import ConversationStream

__all__ = [
    "IGNORED",
    "BatchNotes",
    "BrokenSample",
    "BrokenSamples",
    "Collator",
    "ConversationDataset",
    "ConversationStream",
    "DataError",
    "GroupedSampler",
    "SampleEncoder",
    "count_samples",
    "image_names",
    "open_dataset",
    "plain_pieces",
    "preview",
    "read_entries",
    "turns_of",
]
