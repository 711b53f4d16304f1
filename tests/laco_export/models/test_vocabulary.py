"""Tokenizers as they come: mended and said, or refused."""

import json

import pytest
import torch
from tokenizers import AddedToken

from laco_export.conversation import CHAT_TEMPLATE, render
from laco_export.errors import CheckpointError
from laco_export.models.vocabulary import grow_vocabulary, prepare_vocabulary

BYTES = 256
CHATML = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]  # 256, 257, 258
VISUAL = ["<|image_pad|>", "<|video_pad|>"]
SMOLLM = "{% for m in messages %}{% if loop.first and m.role != 'system' %}<|im_start|>system\nYou are Smol<|im_end|>\n"
SMOLLM += "{% endif %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"


def make_tokenizer(special=(*CHATML, *VISUAL), *, ordinary=(), added=(), **names):
    """Byte-level BPE: 256 bytes, then ``ordinary`` words of the vocabulary, ``special`` tokens, other added ones."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocabulary |= {token: BYTES + index for index, token in enumerate(ordinary)}
    backend = Tokenizer(models.BPE(vocabulary, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in added])
    names = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"} | names
    names = {role: token for role, token in names.items() if token}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def make_llama_tokenizer():
    """The Llama family's: a unigram with a first token, which its post-processor writes before each text."""
    from tokenizers import Tokenizer, models, normalizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = ["<unk>", "<s>", "</s>", "▁", *"abcdefghijklmnopqrstuvwxyzYA.?\n"]
    backend = Tokenizer(models.Unigram([(piece, -float(index)) for index, piece in enumerate(pieces)], unk_id=0))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    added = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in added])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def prepare(tokenizer, rows, *, end_ids=(), pad_id=None):
    return prepare_vocabulary(tokenizer, rows, "llm", end_ids=end_ids, pad_id=pad_id)


def make_language_model(rows, *, tied=True, family="qwen2", pad=None):
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"num_key_value_heads": 2} if family != "phi" else {}
    config = CONFIG_MAPPING[family](vocab_size=rows, tie_word_embeddings=tied, pad_token_id=pad, **sizes)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for tensor in model.get_output_embeddings().parameters():
            tensor.normal_()
    return model.eval()


def test_a_whole_vocabulary_stays_as_it_is():
    tokenizer = make_tokenizer()
    before = tokenizer.backend_tokenizer.to_str()
    vocabulary = prepare(tokenizer, 261, end_ids=[258])
    assert tokenizer.backend_tokenizer.to_str() == before
    assert (vocabulary.rows, vocabulary.new_ids, vocabulary.end_ids, vocabulary.changes) == (261, (), (258,), ())


@pytest.mark.parametrize(("padding", "free", "rows"), [(0, 0, 261), (1, 1, 261), (2, 2, 261), (40, 2, 299)])
def test_visual_tokens_take_free_rows_first(padding, free, rows):
    vocabulary = prepare(make_tokenizer(CHATML), 259 + padding)
    assert vocabulary.tokenizer.convert_tokens_to_ids(VISUAL) == [259, 260] == list(vocabulary.new_ids)
    assert (vocabulary.rows, vocabulary.trained_rows) == (rows, 259)
    said = f"<|image_pad|> (259), <|video_pad|> (260); {free} take free rows of the model, {2 - free} rows are added"
    assert any(said in change for change in vocabulary.changes)


def test_only_the_video_token_is_missing():
    vocabulary = prepare(make_tokenizer([*CHATML, VISUAL[0]]), 260)
    assert (vocabulary.new_ids, vocabulary.rows) == ((260,), 261)


def test_special_tokens_that_are_ordinary_text():
    """What a GGUF file's tokenizer is: the tokens have ids, and become the letters' ids."""
    tokenizer = make_tokenizer([], ordinary=[*CHATML, *VISUAL, "<|fim_pad|>"], eos_token=None, pad_token=None)
    assert len(tokenizer("<|image_pad|>")["input_ids"]) == 13
    vocabulary = prepare(tokenizer, 262)
    assert [tokenizer(token)["input_ids"] for token in VISUAL] == [[259], [260]]
    assert tokenizer.decode([257, 259, 261, 64], skip_special_tokens=True) == tokenizer.decode([64])
    assert (vocabulary.rows, vocabulary.new_ids) == (262, ())
    assert "special again, at their own ids: <|endoftext|>, <|im_start|>" in vocabulary.changes[0]


def test_added_tokens_that_are_not_special():
    """Turns and pictures must be left out of an answer's text; other tokens are not special on purpose (Qwen's)."""
    tokenizer = make_tokenizer(["<|endoftext|>"], added=[*CHATML[1:], *VISUAL, "<|fim_pad|>"], eos_token=None)
    assert "<|im_end|>" in tokenizer.decode([258], skip_special_tokens=True)
    vocabulary = prepare(tokenizer, 262)
    assert tokenizer.decode([257, 258, 259, 260], skip_special_tokens=True) == ""
    assert tokenizer.decode([261], skip_special_tokens=True) == "<|fim_pad|>"
    assert vocabulary.changes[0] == "special again, at their own ids: <|im_start|>, <|im_end|>, " + ", ".join(VISUAL)


def test_what_is_mended_is_in_the_files(tmp_path):
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    prepare(make_tokenizer([], ordinary=CHATML, eos_token=None, pad_token=None), 259).tokenizer.save_pretrained(
        tmp_path
    )
    alone = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))  # what the engines read
    assert alone.encode("<|im_end|><|image_pad|>").ids == [258, 259]
    assert alone.decode([258, 259]) == ""
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert (loaded.eos_token, loaded.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert {*CHATML, *VISUAL} <= set(loaded.all_special_tokens)


@pytest.mark.parametrize(
    ("names", "pad_id", "pad"),
    [
        ({}, None, "<|endoftext|>"),
        ({"pad_token": None}, None, "<|endoftext|>"),
        ({"pad_token": None}, 258, "<|im_end|>"),  # the model's own word
        ({"pad_token": None}, 70, "<|endoftext|>"),  # a byte is no padding token
        ({"pad_token": None}, 259, "<|endoftext|>"),  # padding would count as pictures
        ({"pad_token": "<|image_pad|>"}, None, "<|endoftext|>"),
        ({"pad_token": "<|im_end|>"}, None, "<|im_end|>"),
    ],
)
def test_the_padding_token(names, pad_id, pad):
    vocabulary = prepare(make_tokenizer(**names), 261, pad_id=pad_id)
    assert vocabulary.tokenizer.pad_token == pad
    said = any("the padding token is" in change for change in vocabulary.changes)
    assert said == (names.get("pad_token", "") in (None, "<|image_pad|>"))


def test_without_a_usual_padding_token_the_end_pads():
    assert prepare(make_tokenizer([*CHATML[1:], *VISUAL], pad_token=None), 260).tokenizer.pad_token == "<|im_end|>"


@pytest.mark.parametrize(
    ("named", "end_ids", "ends"),
    [
        ("<|im_end|>", [], (258,)),
        ("<|im_start|>", [257], (258,)),  # SmolLM2's GGUF; a turn's beginning is no end
        ("<|endoftext|>", [256], (258, 256)),  # a base model's
        ("<|im_end|>", [258, 256], (258, 256)),
        (None, [2], (258,)),  # a configuration's default, which is a letter here
    ],
)
def test_answers_end_where_turns_end(named, end_ids, ends):
    vocabulary = prepare(make_tokenizer(eos_token=named), 261, end_ids=end_ids)
    assert (vocabulary.tokenizer.eos_token, vocabulary.end_ids) == ("<|im_end|>", ends)
    assert any("the end token" in change for change in vocabulary.changes) == (named != "<|im_end|>")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (SMOLLM, "system line 'You are a helpful assistant.'; its family's is 'You are Smol'"),
        (SMOLLM.replace("You are Smol", "You are a helpful assistant."), None),
        (CHAT_TEMPLATE, None),
        (None, None),
        ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}", "none by default"),
        ("<s>" + SMOLLM, "begins with '<s>', which is left out"),
        ("{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}", "is not ChatML"),
        ("{{ raise_exception('no') }}", "cannot be used"),
        ("{% for", "cannot be used"),
    ],
)
def test_the_familys_own_template(template, said):
    vocabulary = prepare(make_tokenizer(chat_template=template), 261)
    assert any(said in change for change in vocabulary.changes) if said else vocabulary.changes == ()
    question = [{"role": "user", "content": "What?"}]
    rendered = vocabulary.tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
    assert rendered == render([("user", "What?")], add_generation_prompt=True)


def test_a_llama_tokenizer_with_a_first_token():
    tokenizer = make_llama_tokenizer()
    rows = len(tokenizer)
    vocabulary = prepare(tokenizer, rows, end_ids=[2])
    assert list(vocabulary.new_ids) == [rows, rows + 1]
    assert tokenizer.pad_token == "<unk>"
    assert vocabulary.end_ids == (tokenizer.convert_tokens_to_ids("<|im_end|>"), 2)
    assert tokenizer("<|image_pad|>a", add_special_tokens=False)["input_ids"] == [rows, 4]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["qwen2", "llama", "phi"])
@pytest.mark.parametrize("padding", [0, 1, 30])
def test_embedding_and_head_grow_with_the_tokenizer(tied, family, padding):
    rows = 259 + padding
    model = make_language_model(rows, tied=tied, family=family)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ids = torch.arange(259)[None]
    logits = model(ids).logits
    vocabulary = prepare(make_tokenizer(CHATML), rows, end_ids=[256])
    grow_vocabulary(model, vocabulary)
    assert model.config.vocab_size == vocabulary.rows == max(261, rows)
    assert (model.config.pad_token_id, model.config.eos_token_id) == (256, [258, 256])
    assert (model.generation_config.pad_token_id, model.generation_config.eos_token_id) == (256, [258, 256])
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert embedding.shape == head.shape == (vocabulary.rows, 32)
    assert (embedding is head) == tied
    for name, old in before.items():
        new = model.state_dict()[name]
        assert torch.equal(new[:259], old[:259]), name
        if len(new) > len(old) or (padding and len(old) == rows):
            assert torch.allclose(new[259], old[:259].mean(0), atol=1e-6) and torch.equal(new[259], new[260]), name
    after = model(ids).logits
    torch.testing.assert_close(after[..., :259], logits[..., :259])
    torch.testing.assert_close(after[..., 259], logits[..., :259].mean(-1))  # as likely as the average token


def test_rows_that_exist_are_not_touched():
    model = make_language_model(261)
    before = model.get_input_embeddings().weight.clone()
    grow_vocabulary(model, prepare(make_tokenizer(), 261))
    assert torch.equal(model.get_input_embeddings().weight, before)
    assert model.config.eos_token_id == 258


def test_tokens_that_were_added_by_hand():
    """The tokenizer was grown and saved, the model was not: each id would lie beyond the embedding."""
    vocabulary = prepare(make_tokenizer([*CHATML, *VISUAL, "<pad>"], pad_token="<pad>"), 259, pad_id=261)
    assert (vocabulary.rows, vocabulary.trained_rows, vocabulary.new_ids) == (262, 259, (259, 260, 261))
    model = make_language_model(259)
    grow_vocabulary(model, vocabulary)
    assert torch.isfinite(model(torch.tensor([[259, 260, 261]])).logits).all()
    assert model.config.pad_token_id == 261


@pytest.mark.parametrize(
    ("special", "rows", "message"),
    [
        ([*CHATML, *VISUAL, "<mine>"], 261, r"has tokens for which the model has no row(.|\n)*'<mine>' \(261\)"),
        ([*CHATML, *VISUAL], 200, r"61 of them(.|\n)*below vocab_size 200(.|\n)*another model's"),
        ([*CHATML, *VISUAL], 152_000, r"far fewer tokens than the model has rows(.|\n)*261 tokens, vocab_size 152000"),
    ],
)
def test_another_models_tokenizer_is_refused(special, rows, message):
    with pytest.raises(CheckpointError, match=message):
        prepare(make_tokenizer(special, eos_token=None, pad_token=None), rows)


def test_a_vocabulary_may_be_padded_as_published_ones_are():
    assert prepare(make_tokenizer(), 261 + 1024).rows == 1285
    with pytest.raises(CheckpointError, match="far fewer"):
        prepare(make_tokenizer(), 261 + 1025)


def test_a_token_that_is_not_one_id_is_refused():
    """Recognised as a word of its own alone: behind another word the tokens would be letters."""
    tokenizer = make_tokenizer(CHATML)
    alone = AddedToken("<|image_pad|>", special=True, normalized=False, single_word=True)
    tokenizer.add_special_tokens({"additional_special_tokens": [alone]})
    with pytest.raises(CheckpointError, match=r"does not give <\|image_pad\|> an id of its own"):
        prepare(tokenizer, 260)


def test_two_tokens_of_one_id_are_refused():
    """The next free id is counted, not looked up: in a vocabulary with a hole it is the last token's."""
    tokenizer = make_tokenizer(CHATML)
    stored = json.loads(tokenizer.backend_tokenizer.to_str())
    words = stored["model"]["vocab"]
    words[next(word for word, index in words.items() if index == 7)] = 259
    backend = type(tokenizer.backend_tokenizer).from_str(json.dumps(stored))
    with pytest.raises(CheckpointError, match=r"does not give <\|image_pad\|> an id of its own(.|\n)*has its id too"):
        prepare(type(tokenizer)(tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>"), 260)


def test_a_tokenizer_without_a_fast_form_is_refused():
    from transformers import ByT5Tokenizer

    with pytest.raises(CheckpointError, match=r"has no fast form(.|\n)*ByT5Tokenizer(.|\n)*tokenizer\.json"):
        prepare(ByT5Tokenizer(), 384)
