"""A whole tokenizer out of a GGUF file's metadata.

transformers makes one too, and it is damaged: Qwen's vision tokens are no longer special and the embedding's padding
rows become words; SmolLM2's begin and end tokens are exchanged and its digits are not split. The metadata has all that
is needed: each token's kind, the merges, the ids of the end and padding tokens and the chat template.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from laco_export.errors import LacoError

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""GGUF's kinds of tokens: of the vocabulary, special, added but not special, and padding of the embedding."""


class GgufError(LacoError):
    """A GGUF file that is incomplete, or of a family that no folder is made of."""


@dataclass(frozen=True)
class TokenizerFamily:
    """What a GGUF names in one word (``tokenizer.ggml.pre``).

    Attributes:
        architecture: of the model whose tokenizer it is, as a GGUF names it.
        tokenizer_class: of transformers: the publisher's, where that splits words as the file says (GPT-2's of
            transformers 5 splits them its own way).
        has_begin_token: whether the publisher's tokenizer has one; GGUF always names an id.
    """

    architecture: str
    tokenizer_class: str
    has_begin_token: bool


FAMILIES = {
    "smollm": TokenizerFamily("llama", "PreTrainedTokenizerFast", has_begin_token=True),
    "qwen2": TokenizerFamily("qwen2", "Qwen2TokenizerFast", has_begin_token=False),
}

_QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def whole_tokenizer(metadata: Mapping[str, object], *, max_length: int):
    """The tokenizer that a GGUF's ``tokenizer.*`` fields describe, its special tokens special at their own ids.

    Raises:
        GgufError: another family, or tokens whose ids cannot be kept.
    """
    import transformers

    family = family_of(metadata)
    tokens = metadata["tokenizer.ggml.tokens"]
    tokenizer = _backend(metadata)
    ends = {
        "eos_token": tokens[metadata["tokenizer.ggml.eos_token_id"]],
        "pad_token": tokens[metadata["tokenizer.ggml.padding_token_id"]],
        "bos_token": tokens[metadata["tokenizer.ggml.bos_token_id"]] if family.has_begin_token else None,
        "unk_token": _token(metadata, "tokenizer.ggml.unknown_token_id"),
    }
    control = [token for token, kind in zip(tokens, metadata["tokenizer.ggml.token_type"]) if kind == CONTROL]
    wrapped = getattr(transformers, family.tokenizer_class)(
        tokenizer_object=tokenizer,
        **ends,
        additional_special_tokens=[token for token in control if token not in ends.values()],
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
        add_prefix_space=False,
    )
    wrapped.chat_template = metadata["tokenizer.chat_template"]
    return wrapped


def _backend(metadata: Mapping[str, object]):
    """The BPE of the metadata, with its added tokens at their own ids."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, processors

    tokens, kinds = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    last_word = max(index for index, kind in enumerate(kinds) if kind == NORMAL)
    # Added tokens behind the words are not the BPE's own, as in published folders; those among them hold their places.
    vocabulary = {token: index for index, token in enumerate(tokens[: last_word + 1])}
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    _split_words(tokenizer, metadata["tokenizer.ggml.pre"])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    added = [(index, kind) for index, kind in enumerate(kinds) if kind in (CONTROL, USER_DEFINED)]
    for index, kind in added:
        special = kind == CONTROL
        add = tokenizer.add_special_tokens if special else tokenizer.add_tokens
        add([AddedToken(tokens[index], special=special, normalized=False)])
    if moved := [tokens[index] for index, _ in added if tokenizer.token_to_id(tokens[index]) != index]:
        raise GgufError(f"added tokens do not keep their ids: {', '.join(moved[:3])}")
    return tokenizer


def _split_words(tokenizer, word_rule: str) -> None:
    """Set the normaliser and the rule by which a text is cut into words before the BPE."""
    from tokenizers import Regex, normalizers, pre_tokenizers

    if word_rule == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
        words = pre_tokenizers.Split(Regex(_QWEN_WORDS), behavior="isolated")
        into_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    else:
        words = pre_tokenizers.Digits(individual_digits=True)
        into_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, into_bytes])


def family_of(metadata: Mapping[str, object]) -> TokenizerFamily:
    """The family of a GGUF file, by its fields alone: before gigabytes of weights are read.

    Raises:
        GgufError: model or tokenizer are of another.
    """
    architecture, kind, word_rule = (
        metadata.get(name) for name in ("general.architecture", "tokenizer.ggml.model", "tokenizer.ggml.pre")
    )
    family = FAMILIES.get(word_rule) if kind == "gpt2" else None
    if family is None or family.architecture != architecture:
        raise GgufError(
            "the GGUF file is of another family",
            given=f"architecture {architecture}, tokenizer {kind}, words {word_rule}",
            allowed="; ".join(f"{entry.architecture}, gpt2, {name}" for name, entry in FAMILIES.items()),
        )
    return family


def _token(metadata: Mapping[str, object], field: str) -> str | None:
    index = metadata.get(field)
    return None if index is None else metadata["tokenizer.ggml.tokens"][index]
