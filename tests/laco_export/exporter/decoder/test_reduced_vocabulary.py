"""Which tokens are kept, whatever the tokenizer's kind, and what is refused."""

import json

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from laco_export.chat_format import CHATML
from laco_export.errors import UsageError
from laco_export.exporter.decoder.precision import DECODER_PRECISIONS
from laco_export.exporter.decoder.reduced_vocabulary import NeededTokens, choose_vocabulary, passages
from laco_export.exporter.decoder.vocabulary_request import VocabularyRequest

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
MERGES = [("a", "b"), ("c", "d"), ("ab", "cd"), ("e", "f"), ("g", "h"), ("i", "j")]
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|image_pad|>", "<tool>"]
AB, CD, ABCD, EF, GH, IJ = range(256, 262)
START, END, IMAGE, TOOL = range(262, 266)
ROWS = 270  # the last four stand for no token


@pytest.fixture(scope="module")
def tokenizer():
    """Byte-level BPE: 256 bytes, six merges, four added tokens."""
    vocabulary = {token: index for index, token in enumerate([*ALPHABET, *map("".join, MERGES)])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=MERGES))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL[:3]])
    made.add_tokens([AddedToken(SPECIAL[3], normalized=False)])
    return made


@pytest.fixture(scope="module")
def needed(tokenizer):
    return NeededTokens(tokenizer, CHATML, [END], ROWS)


@pytest.fixture
def choose(tokenizer, needed, tmp_path):
    """``choose(text or list, size=None)``: the vocabulary."""

    def chosen(content, size=None, rows=ROWS):
        path = tmp_path / ("texts.txt" if isinstance(content, str) else "list.json")
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return choose_vocabulary(VocabularyRequest.read([path], size), tokenizer, needed, rows)

    return chosen


def test_bytes_added_tokens_and_the_texts_own_are_kept(choose):
    vocabulary = choose("abcd ef")
    assert vocabulary.token_ids.tolist() == [*range(256), ABCD, EF, START, END, IMAGE, TOOL]
    assert (len(vocabulary), vocabulary.vocab_size, vocabulary.source) == (262, ROWS, "texts.txt")


def test_a_size_takes_the_most_frequent_and_then_the_tokenizers_order(choose):
    text = "abcd ef ef gh gh gh"
    kept = lambda size: sorted(set(choose(text, size).token_ids) - {*range(256), START, END, IMAGE, TOOL})
    assert kept(260) == []
    assert kept(261) == [GH]
    assert kept(262) == [EF, GH]
    assert kept(264) == [AB, ABCD, EF, GH]  # the texts' three, and the first of the others
    assert kept(266) == [AB, CD, ABCD, EF, GH, IJ]


def test_a_size_that_cannot_be_had_says_the_least_and_the_most(choose):
    for size in (1, 259, 267, 10_000):
        with pytest.raises(UsageError, match="--vocabulary-size cannot be had") as caught:
            choose("abcd", size)
        assert str(caught.value.allowed).startswith("260 (") and str(caught.value.allowed).endswith("… 266")


def test_a_list_is_taken_as_it_is(choose):
    needed_ids = [*range(256), START, END, IMAGE]
    assert choose([*needed_ids, GH]).token_ids.tolist() == sorted([*needed_ids, GH])  # <tool> is not added
    named = choose({"tokens": [*ALPHABET, *SPECIAL[:3], "abcd"], "ids": [EF]})
    assert named.token_ids.tolist() == sorted([*needed_ids, ABCD, EF])
    assert named.held_out_coverage is None
    assert choose([*needed_ids, GH], 262).token_ids.tolist() == sorted([*needed_ids, GH, AB, CD])


@pytest.mark.parametrize(
    ("entries", "says", "names"),
    [
        ([*range(256), START, IMAGE, GH], "leaves out tokens that an answer needs", "<|im_end|> (263)"),
        ([*range(10, 256), START, END, IMAGE], "leaves out tokens that an answer needs", "and 7 more"),
        ([*range(256), START, END, IMAGE, ROWS], "no token of the language model", str(ROWS)),
        ({"tokens": [*ALPHABET, *SPECIAL[:3], "Ġnever"]}, "no token of the language model", "'Ġnever'"),
    ],
)
def test_a_list_that_cannot_be_used_names_what_is_wrong(choose, entries, says, names):
    with pytest.raises(UsageError, match=says) as caught:
        choose(entries)
    assert names in caught.value.given and caught.value.allowed


def test_a_vocabulary_that_leaves_nothing_out_is_refused(choose):
    with pytest.raises(UsageError, match="leaves nothing out"):
        choose("abcd", 266, rows=266)


def test_rows_beyond_the_heads_are_none(tokenizer):
    """A tokenizer may have more tokens than the head has rows."""
    needed = NeededTokens(tokenizer, CHATML, [END], END)
    assert max(needed.added) == START


def test_coverage_is_of_text_that_it_was_not_chosen_from(choose):
    """Two passages of other words: each half is judged by a vocabulary from the other, which has none of them."""
    words = {word: f"{word} " * (1999 // (len(word) + 1)) for word in ("abcd", "ef")}
    both = "\n".join(text.ljust(1999) for text in words.values())  # passages of 2,000 characters
    vocabulary = choose(both)
    assert {ABCD, EF} <= set(vocabulary.token_ids.tolist())
    assert 0.4 < vocabulary.held_out_coverage < 0.75  # spaces have rows, words have none
    assert choose("\n".join([words["ef"].ljust(1999)] * 2)).held_out_coverage == 1
    assert choose("ef").held_out_coverage is None


def test_passages_hold_the_whole_text_and_end_where_words_do():
    lines = "".join(f"line {number} of the text\n" for number in range(400))
    for text in (lines, lines.replace("\n", " "), "x" * 5001, "", "y" * 2000):
        parts = list(passages(text))
        assert "".join(parts) == text
        assert all(0 < len(part) <= 2000 for part in parts)
    assert all(part.endswith("\n") for part in passages(lines))
    assert all(part.startswith(" ") for part in list(passages(lines.replace("\n", " ")))[1:])


def test_sentence_pieces_bytes_are_kept():
    vocabulary = {"<unk>": 0, **{f"<0x{byte:02X}>": 1 + byte for byte in range(256)}, "▁": 257, "a": 258, "▁a": 259}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[("▁", "a")], byte_fallback=True, unk_token="<unk>"))
    made.add_special_tokens([AddedToken("<|im_end|>", normalized=False)])
    needed = NeededTokens(made, CHATML, [0], 300)
    assert needed.required == {*range(257), 258, 260}  # "a" is a byte's name in byte-level tokenizers too


def test_the_record_counts_the_bytes_that_a_step_reads_less(choose):
    vocabulary, width = choose("abcd ef"), 100
    record = vocabulary.to_manifest(DECODER_PRECISIONS["fp16"], width)
    assert (record["rows"], record["of"], record["bytes_saved"]) == (262, ROWS, 8 * width * 2)
    # A row of 100 is one block of 128 bytes and its scale.
    assert vocabulary.to_manifest(DECODER_PRECISIONS["int4"], width)["bytes_saved"] == 8 * (128 + 4)
    assert json.loads(json.dumps(record)) == record


def test_ids_are_of_the_dtype_that_indexes(choose):
    assert choose("abcd").token_ids.dtype == np.int64
