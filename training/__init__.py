"""Training: from a pretrained encoder and LLM to a LaCo checkpoint, in LLaVA-OneVision's stages.

``laco-train`` runs a recipe; the package's only output is the checkpoint folder that ``laco-export`` takes. From a
recipe to the checkpoint, in reading order:

- :mod:`.cli`: the command ``laco-train``; :mod:`.__main__`: the same for launchers;
- :mod:`.init_command`: ``laco-train init``, a checkpoint from an encoder folder and a language-model folder;
- :mod:`.recipe`: a recipe as frozen dataclasses;
- :mod:`.recipe_files`: recipes read from YAML with overrides, and written back;
- :mod:`.recipes`: the built-in ones;
- :mod:`.refusals`: what of it is not there, asked before PyTorch is imported;
- :mod:`.plan`: what a recipe would do, for ``--dry-run``;
- :mod:`.memory`: how much memory a stage takes, before it is run;
- :mod:`.plan_view`: the plan on the terminal;
- :mod:`.run`: a whole recipe, its run folder, and what is left of it to do;
- :mod:`.replacing`: ``--force`` where a run stands;
- :mod:`.checkpoint_start`: a run that starts from a checkpoint;
- :mod:`.stages`: one stage, from a checkpoint to the next;
- :mod:`.stage_data`: a stage's samples, their order, and the place in it;
- :mod:`.resuming`: checkpoints inside a stage;
- :mod:`.trainer`: HF's Trainer with what is our own;
- :mod:`.step_callbacks`: what happens around an optimiser step;
- :mod:`.look`: what a picture is worth to a model;
- :mod:`.look_command`: ``laco-train look``;
- :mod:`.price_command`: ``laco-train price``;
- :mod:`.price`: what merging inside the encoder costs on somebody's pictures;
- :mod:`.projector_start`: a projector that begins with the words of the captions;
- :mod:`.frozen_outputs`: what frozen blocks give of a picture, kept on the disk;
- :mod:`.parameter_groups`: which parameter belongs to which part of the model;
- :mod:`.optimizers`: AdamW, or Muon for matrices;
- :mod:`.schedule`: warm-up and cosine with one floor for all parts;
- :mod:`.padding_picture`: a picture that nobody sees, for a batch without any;
- :mod:`.counted_positions`: logits only where the loss counts;
- :mod:`.processes`: the processes of a run;
- :mod:`.evaluation`: greedy answers to held-out questions;
- :mod:`.distillation`: the stage ``distil``, in which a model that merges inside learns its own earlier features;
- :mod:`.distil_command`: ``laco-train distil``, that stage alone;
- :mod:`.loss_curves`: the losses as a picture;
- :mod:`.fake_quant_stage`: ``laco-train --fake-quant``, a finished run fine-tuned under a calibrated bundle's numbers;
- :mod:`.fake_quantization`: Linear layers that round as the bundle does;
- :mod:`.data`: from LLaVA JSON, mixtures and parquet to batches whose labels are exact;
- :mod:`.tiny`: what the recipe ``tiny`` draws and pretrains before stage 1.
"""

import laco_export  # noqa: F401 - telemetry is off before anything here imports ONNX Runtime
