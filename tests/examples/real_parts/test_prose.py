"""Which paragraphs count as prose, and that there is enough of it."""

import gzip

import pytest
from real_parts.packages import PackageError
from real_parts.prose import is_prose, make_prose, prose_of

SENTENCE = "   Hackers, as a rule, love wordplay and are very {conscious} and inventive in\n   their use of language."
PARAGRAPH = f"{SENTENCE}\n{SENTENCE}"
TEXT = "\n\n".join(
    [
        "Chapter\N{NO-BREAK SPACE}1. Hacker Slang and Hacker Culture",
        PARAGRAPH,
        "   a list",
        "Chapter 10. Pronunciation Guide",
        PARAGRAPH.replace("Hackers", "Lexicon"),
        "Appendix A. Hacker Folklore",
        PARAGRAPH.replace("Hackers", "Stories"),
        "Appendix B. A Portrait of J. Random Hacker",
        "Appendix C. Helping Hacker Culture Grow",
        PARAGRAPH.replace("Hackers", "Essays"),
    ]
)


def test_long_paragraphs_of_the_passages_remain():
    paragraphs = prose_of(TEXT)
    assert [paragraph.split(",")[0] for paragraph in paragraphs] == ["Hackers", "Stories", "Essays"]
    assert "  " not in paragraphs[0] and "\n" not in paragraphs[0] and "very conscious and" in paragraphs[0]


def test_another_text_is_refused():
    with pytest.raises(PackageError, match="Appendix A"):
        prose_of(TEXT.replace("Appendix A. Hacker Folklore", "Stories"))


@pytest.mark.parametrize(
    ("block", "prose"), [("word " * 30 + "end.", True), ("word " * 30 + "end", False), ("x.", False)]
)
def test_what_counts_as_prose(block, prose):
    assert is_prose(block) == prose


def test_a_package_becomes_a_text(tmp_path, make_deb):
    documents = "usr/share/doc/jargon-text"
    text = gzip.compress(TEXT.encode())
    make_prose([make_deb({f"{documents}/jargon.txt.gz": text, f"{documents}/copyright": b"free"})], tmp_path)
    assert (tmp_path / "prose.txt").read_text().count("\n\n") == 2
    assert (tmp_path / "COPYRIGHT").read_text() == "free"


def test_a_package_without_the_text(tmp_path, make_deb):
    with pytest.raises(PackageError, match="copyright"):
        make_prose([make_deb({"usr/share/doc/jargon-text/jargon.txt.gz": b""})], tmp_path)


@pytest.mark.real
@pytest.mark.parametrize("language_model", ["smollm2", "qwen2.5-coder"])
def test_there_are_windows_enough_for_a_perplexity(real_part, language_model):
    from transformers import AutoTokenizer

    text = (real_part("prose") / "prose.txt").read_text()
    tokens = AutoTokenizer.from_pretrained(real_part(language_model))(text)["input_ids"]
    assert len(tokens) // 256 >= 70
