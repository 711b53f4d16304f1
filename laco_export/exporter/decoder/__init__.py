"""The language model as ONNX, through Optimum, taking embeddings instead of token ids.

::

    inputs_embeds [B, T, D], seqlens_k [B], total_sequence_length [], logit_positions [B, N, 1],
    past_key_values.N.key/value [B, kv_heads, P, head_dim]
        -> logits [B, N, V], present.N.key/value [B, kv_heads, max(P, total), head_dim]

The graph is traced without its weights, which are then written in the precision asked for. :func:`export_decoder`
writes the files; :func:`verify_decoder` compares them with PyTorch.

- :mod:`.precision`: the choices of ``--llm``;
- :mod:`.skeleton`: the model that is traced: what its inputs mean, which families are supported;
- :mod:`.placeholders`: the operators that name a weight instead of holding it;
- :mod:`.tracing`: the graph of names;
- :mod:`.optimum_tracing`: written by Optimum;
- :mod:`.torch_tracing`: written by torch's exporter alone;
- :mod:`.prompts`: the real positions that weights are rounded over and decoders judged on;
- :mod:`.sentences`: the text of them that ships with the package;
- :mod:`.user_texts`: the text of them that the user gives;
- :mod:`.vocabulary_request`: what ``--vocabulary`` names;
- :mod:`.reduced_vocabulary`: the tokens that a reduced head keeps;
- :mod:`.left_out_tokens`: what it can no longer say but byte by byte;
- :mod:`.reduced_head`: its nodes in the graph;
- :mod:`.eight_bits`: which layers of a four-bit decoder keep eight bits;
- :mod:`.compensation`: a matrix to few bits, its errors made good by later columns;
- :mod:`.rounding`: layers' weights to few bits, over text;
- :mod:`.realize`: from the graph of names to what ONNX Runtime runs, its weights in a precision;
- :mod:`.rounded`: PyTorch with the weights that a quantised decoder stores;
- :mod:`.stepping`: sessions of the exported decoder, as shipped and at float activations;
- :mod:`.greedy`: greedy tokens of PyTorch's language model and of the exported one;
- :mod:`.proof`: is the graph right: the decoder against PyTorch with the weights that it stores;
- :mod:`.rounding_cost`: what rounding costs: the decoder against the language model as it was given.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...bundle import Decoder
from .precision import DECODER_PRECISIONS, DecoderPrecision
from .prompts import DecoderPrompts, check_texts, prompts_of

if TYPE_CHECKING:
    from .reduced_vocabulary import ReducedVocabulary

__all__ = [
    "DECODER_PRECISIONS",
    "DecoderPrecision",
    "bytes_per_weight",
    "check_texts",
    "export_decoder",
    "prompts_of",
    "verify_decoder",
]

FOLDER = "llm"
_SCALE_BYTES = 4  # a float32 a block


def __getattr__(name: str):
    """:func:`verify_decoder`, whose module imports PyTorch and onnx: the choices of ``--llm`` are read without."""
    if name == "verify_decoder":
        from .proof import verify_decoder

        return verify_decoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def export_decoder(
    language_model,
    *,
    image_token_id: int,
    eos_token_ids: Sequence[int],
    output_folder: Path,
    precision: str = "fp32",
    generation_config=None,
    prompts: DecoderPrompts | None = None,
    vocabulary: ReducedVocabulary | None = None,
    advance: Callable[..., None] | None = None,
) -> Decoder:
    """Write ``<output_folder>/llm/``: ``model.onnx`` over ``model.onnx_data``, and the model's configurations.

    Args:
        language_model: a transformers causal language model in a float dtype; it is left as it was.
        eos_token_ids: the tokens that end an answer; written to ``generation_config.json``.
        output_folder: the bundle that is being built.
        precision: a name of :data:`DECODER_PRECISIONS`.
        generation_config: what ``generation_config.json`` starts from; pass the whole model's
            (``model.generation_config``), which a checkpoint stores. Default: the language model's own.
        prompts: what weights are rounded over where the precision asks for it; None rounds each to the nearest.
        vocabulary: the tokens that the head has rows for; None for all.
        advance: called as ``advance(0, description)`` when a step begins; it never moves the bar.

    Returns:
        the manifest's entry for the decoder.

    Raises:
        ExportError: a language model that is not supported, or Optimum's export failed.
    """
    from .eight_bits import choose_eight_bits
    from .realize import write_decoder
    from .rounded import stored_matrices
    from .rounding import bits_a_weight, require_finite, round_layers
    from .tracing import GRAPH, trace

    say = advance or (lambda steps, description: None)
    folder, chosen = Path(output_folder) / FOLDER, DECODER_PRECISIONS[precision]
    folder.mkdir(parents=True, exist_ok=True)
    generation = copy.deepcopy(generation_config or language_model.generation_config)
    say(0, "tracing the language model")
    graph = trace(language_model, folder)
    text, eight_bit, rounded = () if prompts is None else prompts.rounding, {}, {}
    if chosen.bits is not None:
        require_finite(language_model)
    if text and chosen.eight_bit_share:
        say(0, "choosing the language model's eight-bit layers")
        eight_bit = choose_eight_bits(language_model, chosen, text[0])
    if chosen.bits is not None:
        say(0, f"rounding the language model's weights to {precision}")
        rounded = round_layers(language_model, chosen, text, frozenset(eight_bit))
    say(0, f"writing the language model's weights in {precision}")
    token_ids = None if vocabulary is None else vocabulary.token_ids
    embedding = write_decoder(graph, language_model, chosen, folder, rounded, token_ids)
    quantization = None
    if chosen.bits is not None:
        layers = stored_matrices(language_model, graph, chosen)
        quantization = chosen.to_manifest(bits_a_weight(layers[name] for name in rounded), eight_bit)
    _write_generation_config(generation, list(eos_token_ids), folder)
    config = language_model.config
    return Decoder(
        folder=FOLDER,
        graph=f"{FOLDER}/{GRAPH}",
        embedding=embedding,
        model_type=config.model_type,
        precision=precision,
        quantization=quantization,
        hidden_size=config.hidden_size,
        vocab_size=embedding.vocab_size,
        context_length=config.max_position_embeddings,
        image_token_id=image_token_id,
        eos_token_ids=list(eos_token_ids),
        vocabulary=None if vocabulary is None else vocabulary.to_manifest(chosen, config.hidden_size),
    )


def bytes_per_weight(precision: str) -> float:
    """About what :func:`export_decoder` writes for a weight; of an integer precision the most, layers or head."""
    chosen = DECODER_PRECISIONS[precision]
    floats = np.dtype(chosen.dtype).itemsize
    return max(
        floats if bits is None else bits / 8 + _SCALE_BYTES / block_size
        for bits, block_size in (chosen.of_blocks(), chosen.of_head())
    )


def _write_generation_config(generation_config, eos_token_ids: list[int], folder: Path) -> None:
    generation_config.eos_token_id = eos_token_ids
    if generation_config.pad_token_id is None:
        generation_config.pad_token_id = eos_token_ids[0]  # else generate() warns and takes the same
    generation_config.to_json_file(folder / "generation_config.json")
