"""A small byte-level BPE tokenizer with Qwen2.5's special tokens, pre-tokeniser and ChatML template.

It is trained on the sentences of the tiny recipe with the written words and numbers left out, so letters in upper case
stay single tokens (Qwen splits digits too): an unseen word is spelled like a seen one.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING

from laco_export.chat_format import IM_END, IM_START
from laco_export.conversation import CHAT_TEMPLATE, DEFAULT_SYSTEM, IMAGE_TOKEN

from .descriptions import describe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# In the order of Qwen2.5's ids.
SPECIAL_TOKENS = (
    "<|endoftext|>",
    IM_START,
    IM_END,
    "<|vision_start|>",
    "<|vision_end|>",
    IMAGE_TOKEN,
    "<|video_pad|>",
)
VOCAB_SIZE = 448  # 256 bytes, 7 special tokens, and room for the words of the templates to be one token each
_QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SAMPLES = 400  # of each family; the vocabulary no longer changes beyond


def train_tokenizer() -> PreTrainedTokenizerFast:
    """Train the tokenizer; the result does not depend on the recipe's seed."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import Qwen2TokenizerFast

    from laco_export.models.transformers_versions import extra_special_tokens

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - len(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_sentences(), trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return Qwen2TokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=None,
        eos_token=IM_END,
        pad_token="<|endoftext|>",
        unk_token=None,
        chat_template=CHAT_TEMPLATE,
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
        **extra_special_tokens(SPECIAL_TOKENS[1:]),
    )


def _sentences() -> Iterator[str]:
    from .conversations import CAPTION_PROMPT, pair_questions
    from .dataset import DRAWN_FAMILIES, draw_entry

    yield from [f"system\n{DEFAULT_SYSTEM}", "user\n", "assistant\n", CAPTION_PROMPT] * _SAMPLES
    for index in range(_SAMPLES):
        entries = [draw_entry(family, Random(f"tokenizer {family} {index}")) for family in DRAWN_FAMILIES]
        for entry, other in zip(entries, entries[1:] + entries[:1], strict=True):
            sentences = [*entry.caption.split(". "), *(phrase for cell in describe(entry.regions) for phrase in cell)]
            sentences += [text for question in entry.questions for text in (question.text, question.answer)]
            sentences += [text for turn in pair_questions((entry, other), Random(index)) for text in turn]
            yield from (_without_written(sentence) for sentence in sentences)


def _without_written(sentence: str) -> str:
    """Capitals (but the sentence's first) and digits become spaces: no merge can swallow a letter of a word."""
    return sentence[:1] + "".join(" " if c.isupper() or c.isdigit() else c for c in sentence[1:])
