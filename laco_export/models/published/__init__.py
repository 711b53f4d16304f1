"""Published vision-language models, from their folders as they are downloaded.

A folder becomes a LaCo model with compression off that gives the same logits; nothing of it is run, its tensors are
renamed by a key map and every one is used or skipped by name. One file for each publisher's layout says what its
``config.json`` means; adding one is that file and one line in :data:`LAYOUTS` and in
:data:`~laco_export.published_families.PUBLISHED_FAMILIES`.

- :mod:`.specification`: what a folder describes: configurations, layouts, preprocessing, key map;
- :mod:`.llava`: LLaVA 1.5, LLaVA-NeXT and LLaVA-OneVision as transformers saves them;
- :mod:`.llava_qwen`: LLaVA-OneVision as LLaVA-NeXT's own code saves it;
- :mod:`.internvl`: InternVL 2.5 and 3, as transformers and as OpenGVLab save it;
- :mod:`.tensors`: the stored tensors in their places;
- :mod:`.importing`: a folder as model and processor, and as a checkpoint.
"""

from __future__ import annotations

from .importing import LAYOUTS, import_published, read_published

__all__ = ["LAYOUTS", "import_published", "read_published"]
