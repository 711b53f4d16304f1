"""Tokenizers of several kinds, and chat templates that write what published ones write, for tests of chat formats."""

import json
from functools import cache

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

PARTS = "{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% else %}"
"""What a template of typed parts begins with; a picture's text and :data:`END_PARTS` follow."""
END_PARTS = "{% endif %}{% endfor %}"

TEMPLATES = {
    # Qwen2.5's, for plain texts
    "qwen": (
        "{% if messages[0].role != 'system' %}<|im_start|>system\n"
        "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n{% endif %}"
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    # LLaVA-OneVision's: a space behind the role, pictures in its line, and an earlier answer behind another header
    "llava-onevision": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + ' ' }}"
        "{% for part in m.content if part.type == 'image' %}{{ '<image>' }}{% endfor %}"
        "{% for part in m.content if part.type == 'text' %}{% if m.role == 'assistant' %}"
        "{% generation %}{{ '\n' + part.text }}{% endgeneration %}{% else %}{{ '\n' + part.text }}{% endif %}"
        "{% endfor %}{{ '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    # LLaVA-1.5's: Vicuna's words, no special token at all
    "llava-1.5": (
        "{% for m in messages %}{% if m.role != 'system' %}{{ m.role.upper() + ': ' }}{% endif %}"
        "{% for part in m.content if part.type == 'image' %}{{ '<image>\n' }}{% endfor %}"
        "{% for part in m.content if part.type == 'text' %}{{ part.text + ' ' }}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
    ),
    # Vicuna's own: a system line before the first question, and </s> behind each answer
    "vicuna": (
        "{% if messages[0].role != 'system' %}{{ 'A chat between a user and an assistant. ' }}{% endif %}"
        "{% for m in messages %}{% if m.role == 'system' %}{{ m.content + ' ' }}"
        "{% elif m.role == 'user' %}{{ 'USER: ' + m.content + ' ' }}"
        "{% else %}{{ 'ASSISTANT: ' + m.content + eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
    ),
    # LLaVA-NeXT's with Mistral: instructions in brackets, nothing before an answer
    "llava-next-mistral": (
        "{% for m in messages %}{% if m.role == 'system' %}{{ '<<SYS>>\n' + m.content[0].text + '\n<</SYS>>\n\n' }}"
        "{% elif m.role == 'user' %}{{ '[INST] ' }}"
        "{% for part in m.content if part.type == 'image' %}{{ '<image>\n' }}{% endfor %}"
        "{% for part in m.content if part.type == 'text' %}{{ part.text }}{% endfor %}{{ ' [/INST]' }}"
        "{% else %}{{ ' ' + m.content[0].text + '</s> ' }}{% endif %}{% endfor %}"
    ),
    # Llama 2's: the system line inside the first question, the first token before each, words stripped
    "llama-2": (
        "{% set first = messages[0].role == 'system' %}"
        "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' }}"
        "{% if first and loop.index0 == 1 %}{{ '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' }}{% endif %}"
        "{{ m.content | trim }}{{ ' [/INST]' }}"
        "{% elif m.role == 'assistant' %}{{ ' ' + m.content.strip() + ' </s>' }}{% endif %}{% endfor %}"
    ),
    # Llama 3's: a first token, headers of tokens, words stripped
    "llama-3": (
        "{{ bos_token }}{% for m in messages %}"
        "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}"
        "{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
    # InternVL's: ChatML without a default system line, its own image token
    "internvl": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
        + PARTS
        + "{{ '<IMG_CONTEXT>\n' }}"
        + END_PARTS
        + "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    # Gemma's: no system role, another name for the assistant
    "gemma": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}"
        "{% endif %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n'"
        " + m.content | trim + '<end_of_turn>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
    ),
}
"""Chat templates by name. They write what the published templates write, in other words."""

LLAMA_3_2 = (
    "{% if date_string is defined %}{% set day = date_string %}"
    "{% elif strftime_now is defined %}{% set day = strftime_now('%d %b %Y') %}{% else %}{% set day = '26 Jul 2024' %}"
    "{% endif %}{% set given = messages[0].role == 'system' %}"
    "{{ bos_token + '<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n' }}"
    "{{ 'Today Date: ' + day + '\n\n' + (messages[0].content | trim if given else '') + '<|eot_id|>' }}"
    "{% for m in messages[1 if given else 0:] %}"
    "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
"""Llama 3.2's, which writes the day's date, or the one that it is given, or one of its own where there is no clock."""
LLAMA_3_TOKENS = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")


_TEXT = """
USER: What is the colour of the box in the picture? ASSISTANT: The box in the picture is red. User: Assistant: system
user assistant model [INST] What is it? [/INST] It is red. A chat between a user and an assistant. You are a helpful
assistant. SYS Frame1: Frame2: and the others are not, I'm sure: don't ask! \"10%\" of them, e.g. (these).
"""


@cache
def byte_level(bos, eos, *special, around=None) -> PreTrainedTokenizerFast:
    """As Qwen's and Llama 3's: merges of bytes within the words of a regular expression."""
    words = Regex(r"(?i:'s|'t|'m)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(words, behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(_TEXT.splitlines() * 8, trainer)
    return _with_special(tokenizer, bos, eos, special, around)


@cache
def sentence_piece(bos, eos, *special, around=None, newer=True) -> PreTrainedTokenizerFast:
    """As Llama's and Mistral's: merges of characters over ``▁``, single bytes for other characters.

    Args:
        newer: a ``▁`` stands before the text alone, and no merge crosses one; else one stands before each part of the
            text that special tokens leave, and all of a part is one word.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    bytes_ = [f"<0x{number:02X}>" for number in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=480, special_tokens=["<unk>", *bytes_], show_progress=False, initial_alphabet=["▁"]
    )
    lines = [" " * spaces + line for line in _TEXT.splitlines() for spaces in (0, 1, 2)]
    tokenizer.train_from_iterator(lines * 4, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    # As in Llama's own files, bytes are ordinary tokens, and runs of spaces have merges.
    vocabulary = {**model["vocab"], "▁▁": len(model["vocab"]), "▁▁▁": len(model["vocab"]) + 1}
    merges += [("▁", "▁"), ("▁▁", "▁")]
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    if newer:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _with_special(tokenizer, bos, eos, special, around)


def sentence_piece_of_old(*names, around=None) -> PreTrainedTokenizerFast:
    return sentence_piece(*names, around=around, newer=False)


TOKENIZERS = {
    "byte level": byte_level,
    "sentence piece": sentence_piece,
    "older sentence piece": sentence_piece_of_old,
}
"""Kinds of tokenizers by name, each made by ``make(bos, eos, *special, around=…)``."""


def named_tokens(bos, eos, *special, around=None) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes with these special tokens; ``around`` is what it puts around a text, as ``<s> $A``."""
    alphabet = {token: index for index, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _with_special(tokenizer, bos, eos, special, around)


def _with_special(tokenizer, bos, eos, special, around=None) -> PreTrainedTokenizerFast:
    names = [token for token in (bos, eos, *special) if token is not None]
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    if around is not None:
        ids = [(name, tokenizer.token_to_id(name)) for name in names]
        tokenizer.post_processor = processors.TemplateProcessing(single=around, special_tokens=ids)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, pad_token=eos, clean_up_tokenization_spaces=False
    )
