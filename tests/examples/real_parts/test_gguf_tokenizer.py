"""A tokenizer out of GGUF metadata: special tokens special at their own ids, padding rows gone."""

import pytest
from real_parts.gguf_tokenizer import CONTROL, NORMAL, UNUSED, USER_DEFINED, GgufError, whole_tokenizer
from tokenizers import pre_tokenizers

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
TEMPLATE = "{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>{% endfor %}"


def metadata_of(tokens, kinds, word_rule, **ids):
    """The ``tokenizer.*`` fields of a GGUF file with one merge, of two digits."""
    return {
        "general.architecture": {"smollm": "llama", "qwen2": "qwen2"}[word_rule],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": word_rule,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": ["1 2"],
        "tokenizer.chat_template": TEMPLATE,
        **{f"tokenizer.ggml.{role}_token_id": index for role, index in ids.items()},
    }


def smollm_metadata():
    """Special tokens before the words, as SmolLM2 has them."""
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    kinds = [CONTROL] * 3 + [NORMAL] * (len(BYTES) + 1)
    return metadata_of([*specials, *BYTES, "12"], kinds, "smollm", bos=1, eos=2, padding=2, unknown=0)


def qwen_metadata():
    """Special tokens behind the words, one that is not special, and rows of padding, as Qwen has them."""
    added = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image_pad|>", "<tool_call>", "[PAD1]", "[PAD2]"]
    kinds = [NORMAL] * (len(BYTES) + 1) + [CONTROL] * 4 + [USER_DEFINED] + [UNUSED] * 2
    first = len(BYTES) + 1
    return metadata_of([*BYTES, "12", *added], kinds, "qwen2", bos=first, eos=first + 2, padding=first)


def test_smollms_tokens():
    tokenizer = whole_tokenizer(smollm_metadata(), max_length=64)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")}
    assert ids == {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2}
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    assert tokenizer.tokenize("<|im_start|>12") == ["<|im_start|>", "1", "2"]  # digits stand alone, whatever merges say
    assert tokenizer.decode(tokenizer("a 12 é<|im_end|>")["input_ids"], skip_special_tokens=True) == "a 12 é"


def test_qwens_tokens():
    tokenizer = whole_tokenizer(qwen_metadata(), max_length=64)
    first = len(BYTES) + 1
    assert tokenizer("<|image_pad|>")["input_ids"] == [first + 3]
    assert tokenizer("<tool_call>")["input_ids"] == [first + 4]
    assert {"<|im_start|>", "<|image_pad|>"} <= set(tokenizer.all_special_tokens)
    assert "<tool_call>" not in tokenizer.all_special_tokens
    assert len(tokenizer) == first + 5  # without the padding's rows
    assert tokenizer.bos_token is None and tokenizer.pad_token == "<|endoftext|>"


@pytest.mark.parametrize("metadata", [smollm_metadata(), qwen_metadata()], ids=["smollm", "qwen2"])
def test_a_saved_tokenizer_is_the_same(tmp_path, metadata):
    from transformers import AutoTokenizer

    tokenizer = whole_tokenizer(metadata, max_length=64)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "<|im_start|>It's 12 o'clock, isn't it?\n\n<|im_end|>"
    assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert loaded.special_tokens_map == tokenizer.special_tokens_map
    assert loaded.get_chat_template() == TEMPLATE


@pytest.mark.parametrize(
    "change",
    [
        {"tokenizer.ggml.pre": "llama-bpe"},
        {"tokenizer.ggml.pre": "smollm"},  # another's words
        {"tokenizer.ggml.model": "llama"},
        {"general.architecture": "mamba"},
    ],
)
def test_another_family_is_refused(change):
    with pytest.raises(GgufError, match="of another family"):
        whole_tokenizer(qwen_metadata() | change, max_length=64)


def test_ids_that_would_move_are_refused():
    metadata = qwen_metadata()
    kinds = list(metadata["tokenizer.ggml.token_type"])
    kinds[len(BYTES) + 2] = UNUSED  # a gap: the tokens behind it would move up
    with pytest.raises(GgufError, match="do not keep their ids"):
        whole_tokenizer(metadata | {"tokenizer.ggml.token_type": kinds}, max_length=64)
