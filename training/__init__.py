"""Training: from a pretrained encoder and LLM to a LaCo checkpoint, in LLaVA-OneVision's stages.

`laco-train` (see `cli`) runs a recipe; the package's only output is the checkpoint folder that `laco-export` takes.
"""
