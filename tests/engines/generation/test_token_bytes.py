"""A token's bytes are those that the tokenizer's decoder makes of it."""

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from laco_engines.generation.token_bytes import TokenBytes

TEXT = "Ein Kätzchen, 猫 und 🐈\u200d⬛!\n\tfoo\x00"


@pytest.fixture
def byte_level():
    """Bytes and a merge of two halves of a character."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*alphabet, "Ãt"])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[("Ã", "t")]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.add_special_tokens([AddedToken("<|end ä|>", normalized=False)])
    return made


@pytest.fixture
def sentence_piece():
    """Words, and bytes by their names."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "E", "i", "n", "▁E", "▁Ei", "▁Ein"]
    merges = [("▁", "E"), ("▁E", "i"), ("▁Ei", "n")]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return made


@pytest.mark.parametrize("kind", ["byte_level", "sentence_piece"])
def test_a_texts_tokens_are_its_bytes(request, kind):
    tokenizer = request.getfixturevalue(kind)
    ids = tokenizer.encode(TEXT, add_special_tokens=False).ids
    stands_for = TokenBytes(tokenizer)
    assert b"".join(stands_for[index] for index in ids) == TEXT.encode()
    assert stands_for[100_000] == b""


def test_part_of_a_character_keeps_its_bytes(byte_level):
    assert TokenBytes(byte_level)[byte_level.token_to_id("Ãt")] == b"\xc3t"


def test_an_added_token_is_spelled_as_it_is(byte_level):
    assert TokenBytes(byte_level)[byte_level.token_to_id("<|end ä|>")] == "<|end ä|>".encode()
