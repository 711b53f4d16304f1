"""What can no longer be said is named by script, with examples."""

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from laco_export.exporter.decoder.left_out_tokens import LeftOut, left_out_by_script, script_of

WORDS = ["the", " cat", "Кот", "кит", "猫", "12", "é", "\u200b", "한국"]


@pytest.fixture(scope="module")
def tokenizer():
    """Byte-level: 256 bytes, then :data:`WORDS`."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    spelled = [byte_level.pre_tokenize_str(word)[0][0] for word in WORDS]
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *spelled]
    made = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=[]))
    made.decoder = decoders.ByteLevel()
    return made


def test_scripts_without_a_row_are_told_from_those_with_some(tokenizer):
    kept = np.array([*range(256), 256, 258, 261])
    assert left_out_by_script(tokenizer, kept, 256 + len(WORDS)) == [
        LeftOut("Latin", 2, 55, ("cat", "é")),  # 52 letters are bytes
        LeftOut("CJK", 1, 1, ("猫",)),
        LeftOut("Cyrillic", 1, 2, ("кит",)),
        LeftOut("Hangul", 1, 1, ("한국",)),
        LeftOut("digits and signs", 1, 78, ()),  # what cannot be printed is no example
    ]


def test_nothing_is_left_out_of_a_whole_vocabulary(tokenizer):
    assert left_out_by_script(tokenizer, np.arange(256 + len(WORDS)), 256 + len(WORDS)) == []


def test_bytes_of_a_character_are_of_no_script(tokenizer):
    above_ascii = np.arange(94, 188)  # in the alphabet's order: bytes of 0xA1 and above
    assert left_out_by_script(tokenizer, np.setdiff1d(np.arange(256), above_ascii), 256) == [
        LeftOut("parts of characters", 94, 128, ())
    ]


@pytest.mark.parametrize(
    ("text", "script"),
    [
        *((" 7 cats", "Latin"), ("日本", "CJK"), ("ひ", "Hiragana"), ("α", "Greek")),
        *(("…", "digits and signs"), ("\ufffd", "parts of characters")),
    ],
)
def test_a_script_is_that_of_the_first_letter(text, script):
    assert script_of(text) == script
