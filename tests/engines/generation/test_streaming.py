"""An answer's text, piece by piece; stops: test_generator.py."""

import numpy as np
import pytest
from chat_formats import TOKENIZERS

from laco_engines.generation.streaming import TextPieces


def in_pieces(tokenizer, token_ids):
    pieces = TextPieces(tokenizer)
    return [pieces.add(token) for token in token_ids]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_the_pieces_of_a_text_are_the_text(kind):
    tokenizer = TOKENIZERS[kind]("<s>", "</s>").backend_tokenizer
    text = "It is red.\n  Two boxes: 犬 \u00e9\n\U0001f600\U0001f415!"
    token_ids = tokenizer.encode(text, add_special_tokens=False).ids
    pieces = in_pieces(tokenizer, [*token_ids, tokenizer.token_to_id("</s>")])
    assert "".join(pieces) == text == tokenizer.decode(token_ids)
    assert sum(bool(piece) for piece in pieces) > 12


def test_bytes_that_are_no_character_end_no_answer():
    """A newline and half a character: tokenizers' DecodeStream raises at the word behind them."""
    tokenizer = TOKENIZERS["sentence piece"]("<s>", "</s>").backend_tokenizer
    token_ids = [tokenizer.token_to_id(token) for token in ("<0x0A>", "<0xE7>", "\u2581is", "<0x0A>", "<0x41>")]
    assert "".join(in_pieces(tokenizer, token_ids)).endswith(" is\nA")
    tokens = np.random.default_rng(0).integers(0, tokenizer.get_vocab_size(), (20, 40)).tolist()
    assert all("".join(in_pieces(tokenizer, row)) for row in tokens)
