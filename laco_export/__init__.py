"""LaCo Export: export vision-language models whose encoder merges its tokens half-way, with proof.

Three floors: the base (numpy and PIL only), the LaCo model (torch and transformers) and the exporter. Importing
:mod:`laco_export` itself imports none of the heavy packages; it turns ONNX Runtime's telemetry off.

The command:

- :mod:`.cli`: ``laco-export``, its options and its errors;
- :mod:`.console`: what all commands share: progress, steps with their seconds, how an error reaches the user;
- :mod:`.standard_streams`: stdout and stderr where they may be closed, full or gone;
- :mod:`.progress_lines`: progress where stderr is no terminal;
- :mod:`.utf8`: words and names from outside that are UTF-8, and those that are not;
- :mod:`.quiet`: other libraries' log lines held back;
- :mod:`.required_packages`: what a command needs, looked for before it is imported;
- :mod:`.optimum_conflict`: Optimum beside versions that it does not allow;
- :mod:`.unneeded_packages`: packages that are there and need not be imported;
- :mod:`.errors`: errors that a person can act on;
- :mod:`.charts`: charts as PNG files, in one palette;
- :mod:`.contact_sheet`: pictures with questions and answers on one sheet.

What a checkpoint's folder says of itself, read without PyTorch:

- :mod:`.stated_checkpoint`: its configuration, refused where it can be seen that it is no checkpoint;
- :mod:`.compression`: how and where its encoder's tokens are merged;
- :mod:`.exportable`: which language models can be exported;
- :mod:`.published_families`: which published models can be imported, and why others cannot;
- :mod:`.weight_files`: the weight files of a folder;
- :mod:`.checksums`: their SHA-256;
- :mod:`.checkpoint_files`: the files that a checkpoint consists of, and what may be replaced.

What a bundle is:

- :mod:`.bundle`: the manifest as objects, a bundle written and verified;
- :mod:`.carried_depths`: the depths that it carries, and which of them is asked for;
- :mod:`.verified_files`: its files, verified and known again when they are opened;
- :mod:`.manifest_schema`: what each of the manifest's fields may hold;
- :mod:`.manifest_agreement`: what they must agree on, and a manifest read by both;
- :mod:`.field_types`: types of a JSON document's fields;
- :mod:`.stored_arrays`: NumPy arrays of a bundle, checked before they are read;
- :mod:`.golden`: ``golden.npz``, pictures with what PyTorch made of them;
- :mod:`.golden_answers`: ``golden_answers.npz``, what PyTorch answers about them;
- :mod:`.embedding_table`: the decoder's input embeddings, read row by row;
- :mod:`.decoder_steps`: a pass of the decoder in ONNX Runtime, over a prompt or a step;
- :mod:`.number_formats`: the eight- and four-bit numbers of a calibrated graph;
- :mod:`.agreement`: how far two tensors agree;
- :mod:`.summary`: a bundle in two tables.

From a picture and a question to tokens:

- :mod:`.picture_files`: which files are pictures, by name and by content, how a folder is walked;
- :mod:`.preprocessing`: a picture to the encoder's input;
- :mod:`.decoding_limits`: what a picture may take while it is read, in pixels and in bytes;
- :mod:`.scaled_decoding`: JPEGs decoded at the scale that the encoder needs;
- :mod:`.tiling`: a picture of any resolution as tiles;
- :mod:`.layout_rules`: what families of models do besides: newlines, several pictures, videos;
- :mod:`.token_layouts`: where the tiles' tokens go in the prompt;
- :mod:`.video`: frames of a video;
- :mod:`.depth`: a depth of the merge, ``1/2`` or ``block:7``, and its block;
- :mod:`.merge_path`: one merge or several in a row, ``1/4+3/4``, and the ratio of each;
- :mod:`.token_grid`: how many tokens a picture takes before and after the merge;
- :mod:`.generation_fields`: which fields a ``generation_config.json`` may have;
- :mod:`.chat_format`: the text around each role's words, and around pictures;
- :mod:`.conversation`: conversations written in such a format, marks and special tokens;
- :mod:`.tokens_behind`: tokens of a text that stands behind another.

The machine:

- :mod:`.machine`: processor, memory, and ``default_threads``, the one rule for how many threads are used;
- :mod:`.timing`: runs in turn, stalled samples thrown out;
- :mod:`.telemetry`: ONNX Runtime's is off;
- :mod:`.onnx_session`: ONNX Runtime sessions, with exact integer products on every processor;
- :mod:`.disk_space`: room on the disk, asked for before the work;
- :mod:`.atomic`: outputs that are complete or absent.

Above them:

- :mod:`.models`: the LaCo model and its checkpoints;
- :mod:`.exporter`: a checkpoint in, a proven bundle out.
"""

from .telemetry import turn_off_telemetry

__version__ = "0.1.0"

turn_off_telemetry()
