"""A tokenizer that does not fit its model, or that a text could make run away, is refused or bounded."""

from types import SimpleNamespace

import pytest
from files_as_they_are import FilesAsTheyAre
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from laco_engines.prompts.bundle_tokenizer import open_tokenizer, token_ids
from laco_export.bundle import Bundle
from laco_export.errors import BundleError, UsageError


@pytest.fixture
def save(tmp_path):
    """``save(change=…, rows=…)``: a bundle of nothing but a tokenizer of the letters a and b, changed before it is
    written."""

    def make(change=lambda tokenizer: None, rows=3):
        tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
        tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
        change(tokenizer)
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        manifest = SimpleNamespace(files=FilesAsTheyAre(tmp_path), decoder=SimpleNamespace(vocab_size=rows))
        return Bundle(tmp_path, manifest)

    return make


def normalized(*steps):
    return lambda tokenizer: setattr(tokenizer, "normalizer", normalizers.Sequence(list(steps)))


def test_a_sound_tokenizer(save):
    tokenizer = open_tokenizer(save(lambda tokenizer: tokenizer.enable_truncation(1)))
    assert token_ids(tokenizer, "abc", 3).tolist() == [0, 1, 2]


def test_a_bundle_without_one(save):
    bundle = save()
    bundle.file("tokenizer.json").unlink()
    with pytest.raises(BundleError, match=r"has no tokenizer\.json"):
        open_tokenizer(bundle)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": "1.0", "model": {"type": "BPE"}}', b"\xff"])
def test_a_file_that_cannot_be_read(save, content):
    bundle = save()
    bundle.file("tokenizer.json").write_bytes(content)
    with pytest.raises(BundleError, match="cannot be read"):
        open_tokenizer(bundle)


@pytest.mark.parametrize(
    "change", [lambda t: None, lambda t: t.add_tokens(["c"]), lambda t: t.add_special_tokens(["d"])]
)
def test_tokens_beyond_the_embedding_are_refused_when_it_is_opened(save, change):
    bundle = save(change)
    rows = Tokenizer.from_file(str(bundle.file("tokenizer.json"))).get_vocab_size()
    bundle.manifest.decoder.vocab_size = rows
    open_tokenizer(bundle)
    bundle.manifest.decoder.vocab_size = rows - 1
    with pytest.raises(BundleError, match="no row"):
        open_tokenizer(bundle)


def test_an_id_that_was_left_a_gap_before_is_refused_when_it_is_given(save):
    """A vocabulary of three may give 70: no count tells."""
    bundle = save(lambda t: setattr(t, "model", models.WordLevel({"a": 0, "b": 70, "?": 2}, unk_token="?")))
    tokenizer = open_tokenizer(bundle)
    assert token_ids(tokenizer, "a", 3).tolist() == [0]
    with pytest.raises(BundleError, match="no row") as caught:
        token_ids(tokenizer, "ab", 3)
    assert "'b' (70)" in caught.value.given


@pytest.mark.parametrize(
    "steps",
    [
        [normalizers.Replace("a", "a" * 1000)],
        [normalizers.Replace("a", "aaaa")] * 12,
        [normalizers.Replace(Regex("x*"), "y" * 40)],
        [normalizers.Sequence([normalizers.Prepend("a" * 50)])],
    ],
    ids=["at once", "step by step", "of nothing", "before it"],
)
def test_a_normaliser_that_multiplies_text_is_refused(save, steps):
    with pytest.raises(BundleError, match="multiplies"):
        open_tokenizer(save(normalized(*steps)))


def test_published_normalisers_are_taken(save):
    llama = normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")
    assert len(token_ids(open_tokenizer(save(normalized(*llama))), "a b", 3)) == 4
    open_tokenizer(
        save(normalized(normalizers.NFC(), normalizers.Lowercase(), normalizers.Replace(Regex(" {2,}"), " ")))
    )


def test_a_regular_expression_that_never_ends_is_given_up(save):
    bundle = save(lambda t: setattr(t, "pre_tokenizer", pre_tokenizers.Split(Regex("(a+)+$"), "isolated")))
    with pytest.raises(UsageError, match=r"cannot tokenise the text: .*retry-limit"):
        token_ids(open_tokenizer(bundle), "a" * 40 + "b", 3)
