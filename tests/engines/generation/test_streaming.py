"""What looks at an answer's logits while it is generated, and its text, piece by piece; stops: test_generator.py."""

import numpy as np
import pytest
import torch
from chat_formats import TOKENIZERS

from laco_engines.generation.decoder import EmbedsDecoder
from laco_engines.generation.streaming import FiniteLogits, ForcedAnswer, TextPieces
from laco_export.errors import NotFiniteError


@pytest.mark.parametrize(
    ("tokens", "value"), [(7, float("nan")), (7, float("inf")), (slice(None), float("-inf"))], ids=["nan", "inf", "all"]
)
def test_the_first_and_each_sixteenth_tokens_logits_are_looked_at(tokens, value):
    sound, broken = torch.randn(2, 300), torch.randn(2, 300)
    sound[0, 5] = float("-inf")  # a token that transformers was told not to choose
    broken[1, tokens] = value
    for last_sound in range(2 * FiniteLogits.EVERY):
        look = FiniteLogits()
        for _ in range(last_sound):
            assert look(None, sound) is sound
        if last_sound % FiniteLogits.EVERY:
            assert look(None, broken) is broken
        else:
            with pytest.raises(NotFiniteError, match="the language model's logits are inf or NaN") as refused:
                look(None, broken)
            assert refused.value.given == f"at token {last_sound + 1} of the answer"


def from_step(first, monkeypatch):
    """Let the decoder's logits be NaN from its pass number ``first`` on."""
    run, passes = EmbedsDecoder._run, []

    def broken(self, *arguments):
        passes.append(1)
        return run(self, *arguments) * (float("nan") if len(passes) > first else 1)

    monkeypatch.setattr(EmbedsDecoder, "_run", broken)


@pytest.mark.parametrize(("first", "token"), [(0, 1), (1, 17), (16, 17)])
@pytest.mark.parametrize("options", [{}, {"temperature": 0.7, "seed": 1}], ids=["greedy", "sampled"])
def test_an_answer_of_nan_ends_in_an_error(answerer, monkeypatch, first, token, options):
    monkeypatch.setattr(answerer.generator, "rows", without_end(answerer.generator.rows))
    from_step(first, monkeypatch)
    if options and first == 1:
        with pytest.raises((NotFiniteError, RuntimeError)):  # torch refuses to sample from NaN
            answerer.answer([], "What is this?", max_new_tokens=40, **options)
        return
    with pytest.raises(NotFiniteError, match=f"at token {token} of the answer"):
        answerer.answer([], "What is this?", max_new_tokens=40, **options)
    monkeypatch.undo()
    assert answerer.answer([], "What is this?", max_new_tokens=2).token_ids  # the next one is answered


def without_end(rows):
    """Answers that no end token ends."""

    def make(*arguments):
        made = rows(*arguments)
        for row in made:
            row.end_tokens = frozenset()
        return made

    return make


def test_a_batch_is_looked_at_too(answerer, monkeypatch):
    from_step(0, monkeypatch)
    prompts = [answerer.prompter.prepare([], question) for question in ("What?", "And what is this?")]
    with pytest.raises(NotFiniteError):
        answerer.generate_batch(prompts, max_new_tokens=2)


def test_an_answer_is_forced_and_what_would_have_been_said_recorded(answerer):
    prompt = answerer.prompter.prepare([], "What is this?")
    said = answerer.generate(prompt, max_new_tokens=4, output_scores=True)
    other = np.array([(token + 1) % 256 for token in said.token_ids])
    forced = ForcedAnswer(other, np.tile(np.arange(3), (4, 1)))
    answer = answerer.generate(prompt, max_new_tokens=4, logits_processor=forced)
    assert answer.token_ids == other.tolist()
    assert forced.chosen[0] == said.token_ids[0]  # nothing was forced before it
    assert np.stack(forced.logits).shape == (4, 3)
    again = ForcedAnswer(np.array(said.token_ids), np.array(said.token_ids)[:, None])
    answerer.generate(prompt, max_new_tokens=4, logits_processor=again)
    assert again.chosen == said.token_ids
    np.testing.assert_allclose(np.stack(again.logits)[:, 0], [score.logit for score in said.scores], rtol=1e-4)


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
