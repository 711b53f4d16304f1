"""A language model's folder is read, its vocabulary made ready, its weights grown; both real ones answer."""

import json

import pytest
import torch
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM

from laco_export.conversation import DEFAULT_SYSTEM, render
from laco_export.errors import CheckpointError
from laco_export.models.language_models import load_language_model, read_language_config, read_vocabulary
from laco_export.models.transformers_versions import rotary_parameters

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


@pytest.fixture
def folder(tmp_path):
    """A Llama model of 259 rows with a byte-level tokenizer of as many tokens, without image and padding tokens."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=259, bos_token_id=256, eos_token_id=258, **sizes))
    model.generation_config.eos_token_id = [258, 256]
    model.save_pretrained(tmp_path)
    vocabulary = {token: index for index, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocabulary, []))
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_start|>").save_pretrained(tmp_path)
    return tmp_path


def edit(path, **fields):
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_folder_is_read(folder):
    model, vocabulary = load_language_model(folder, None)
    assert (vocabulary.rows, vocabulary.new_ids, vocabulary.end_ids) == (261, (259, 260), (258, 256))
    assert model.config.vocab_size == model.get_output_embeddings().out_features == 261
    assert model.generation_config.eos_token_id == [258, 256]
    assert not model.training
    said = " | ".join(vocabulary.changes)
    assert "2 rows are added" in said
    assert "the end token is <|im_end|>; its tokenizer names <|im_start|>" in said
    assert "the padding token is <|endoftext|>; its tokenizer names none" in said


def test_the_files_are_left_alone(folder):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    load_language_model(folder, None)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_padding_token_beyond_the_rows(folder):
    """transformers cannot build this model: padding_idx must be within num_embeddings."""
    edit(folder / "config.json", pad_token_id=259)
    model, vocabulary = load_language_model(folder, None)
    assert model.config.pad_token_id == vocabulary.tokenizer.pad_token_id == 256


def test_the_plan_reads_no_weights(folder):
    (folder / "model.safetensors").unlink()
    assert read_vocabulary(folder, read_language_config(folder)).rows == 261


def test_quantised_weights_are_refused_with_what_to_do(folder):
    edit(folder / "config.json", quantization_config={"quant_method": "awq", "bits": 4, "group_size": 128})
    with pytest.raises(CheckpointError, match="holds quantised weights") as caught:
        load_language_model(folder, None)
    assert "awq" in caught.value.given
    assert "dequantize" in caught.value.todo


def test_a_tokenizer_that_is_missing(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"the tokenizer of .* is not there"):
        load_language_model(folder, None)


def test_a_tokenizer_that_cannot_be_read(folder):
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"the tokenizer of .* cannot be loaded"):
        load_language_model(folder, None)


@pytest.mark.parametrize("beside", [["config.json", "tokenizer.json"], []])
def test_a_gguf_file_alone_is_not_read(folder, tmp_path_factory, beside):
    """Of whatever family; with and without the files that publishers put beside it."""
    other = tmp_path_factory.mktemp("gguf")
    (other / "model-q4_k_m.gguf").write_bytes(b"GGUF")
    for name in beside:
        (other / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(CheckpointError) as refusal:
        load_language_model(other, None)
    assert "a GGUF file is not read" in refusal.value.todo


def test_another_models_tokenizer_is_refused_before_the_weights_are_read(folder):
    edit(folder / "config.json", vocab_size=152_000)
    with pytest.raises(CheckpointError, match="259 tokens, vocab_size 152000"):
        load_language_model(folder, None)


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "rows", "image", "pad", "ends"),
    [
        ("smollm2", 49154, 49152, 2, (2,)),
        ("qwen2.5-coder", 151936, 151655, 151643, (151645, 151643)),
    ],
)
def test_the_real_vocabularies(real_part, name, rows, image, pad, ends):
    folder = real_part(name)
    vocabulary = read_vocabulary(folder, read_language_config(folder))
    tokenizer = vocabulary.tokenizer
    assert (vocabulary.rows, tokenizer.convert_tokens_to_ids("<|image_pad|>")) == (rows, image)
    assert (tokenizer.pad_token_id, vocabulary.end_ids) == (pad, ends)
    assert any("its family's is 'You are" in change for change in vocabulary.changes)


@pytest.mark.real
@pytest.mark.parametrize("name", ["smollm2", "qwen2.5-coder"])
def test_the_real_tokenizers_are_mended(real_part, name, tmp_path):
    """As transformers leaves them of the GGUF file: special tokens are ordinary text, and none pads."""
    from transformers import AutoTokenizer

    whole = AutoTokenizer.from_pretrained(real_part(name))
    stored = json.loads((real_part(name) / "tokenizer.json").read_text())
    stored["model"]["vocab"] |= {token["content"]: token["id"] for token in stored["added_tokens"]}
    stored["added_tokens"] = []
    (tmp_path / "tokenizer.json").write_text(json.dumps(stored))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    (tmp_path / "config.json").write_bytes((real_part(name) / "config.json").read_bytes())
    prompt = render([("user", "What is the capital of France?")], add_generation_prompt=True)
    assert len(AutoTokenizer.from_pretrained(tmp_path)(prompt)["input_ids"]) > len(whole(prompt)["input_ids"])
    mended = read_vocabulary(tmp_path, read_language_config(tmp_path)).tokenizer
    assert mended(prompt)["input_ids"] == whole(prompt)["input_ids"]
    assert (
        mended.decode(mended(prompt)["input_ids"], skip_special_tokens=True)
        == "".join(
            f"{role}\n{text}\n"
            for role, text in [("system", DEFAULT_SYSTEM), ("user", "What is the capital of France?")]
        )
        + "assistant\n"
    )
    assert mended.pad_token_id == whole.pad_token_id and mended.eos_token == "<|im_end|>"


@pytest.mark.real
@pytest.mark.parametrize("swapped", [("smollm2", "qwen2.5-coder"), ("qwen2.5-coder", "smollm2")])
def test_the_real_tokenizers_are_not_each_others(real_part, swapped):
    weights, words = map(real_part, swapped)
    with pytest.raises(CheckpointError, match="the tokenizer may be another model's"):
        read_vocabulary(words, AutoConfig.from_pretrained(weights))


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", ["smollm2", "qwen2.5-coder"])
def test_a_real_model_that_grew_answers_as_before(real_part, name):
    """With LaCo's system line in place of the family's own."""
    model, vocabulary = load_language_model(real_part(name), torch.float32)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    options = {"add_generation_prompt": True, "return_tensors": "pt", "return_dict": True}
    prompt = vocabulary.tokenizer.apply_chat_template(question, **options)["input_ids"]
    answer = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=12, do_sample=False)
    assert "Paris" in vocabulary.tokenizer.decode(answer[0, prompt.shape[1] :], skip_special_tokens=True)
    assert answer[0, -1] == vocabulary.end_ids[0]  # it stops by itself


ROPE = {"rope_theta": 1_000_000.0, "rope_type": "default"}
YARN = {"rope_theta": 500_000.0, "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}


def saved_by_transformers_5(folder, rope, **fields):
    """The folder's config.json in transformers 5's form: no rope_theta and rope_scaling, but rope_parameters."""
    path = folder / "config.json"
    values = json.loads(path.read_text())
    for name in ("rope_theta", "rope_scaling"):
        values.pop(name, None)
    path.write_text(json.dumps({**values, "rope_parameters": rope, "transformers_version": "5.0.0", **fields}))


@pytest.mark.parametrize("rope", [ROPE, YARN])
def test_the_rotary_embedding_of_transformers_5_is_what_it_says(folder, rope):
    plain = load_language_model(folder, None)[0].base_model.rotary_emb.inv_freq.clone()
    saved_by_transformers_5(folder, rope)
    model, _ = load_language_model(folder, None)
    assert rotary_parameters(model.config) == rope
    # Computed here: frequency i of a head of 16 is base^(-i/8); YaRN leaves the highest and divides the lowest.
    frequencies = model.base_model.rotary_emb.inv_freq
    wanted = rope["rope_theta"] ** (-torch.arange(8) / 8)
    assert frequencies[0] == pytest.approx(wanted[0].item())
    assert frequencies[-1].item() == pytest.approx(wanted[-1].item() / rope.get("factor", 1), rel=1e-4)
    assert not torch.allclose(frequencies, plain)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"rope_parameters": {"full_attention": ROPE, "sliding_attention": ROPE}}, "rope_parameters"),
        ({"rope_parameters": {**ROPE, "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"rope_parameters": {**ROPE, "rope_type": "proportional"}}, "proportional"),
        ({"rope_parameters": {**YARN, "beta_medium": 3}}, "beta_medium"),
        ({"rope_parameters": ROPE, "rope_theta": 10_000.0}, "rope_theta"),
        ({"rope_parameters": "default"}, "rope_parameters"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0, "power": 3}}, "power"),
        ({"attention_sinks": 4}, "attention_sinks 4"),
        ({"use_qk_norm": True}, "use_qk_norm True"),
        ({"auto_map": {"AutoModelForCausalLM": "modeling_mine.Mine"}}, "auto_map"),
    ],
    ids=str,
)
def test_a_field_that_would_be_passed_over_is_refused_by_name(folder, fields, named):
    edit(folder / "config.json", **fields)
    with pytest.raises(CheckpointError, match=r"does not read|would not compute") as caught:
        read_language_config(folder)
    assert named in caught.value.given


def test_what_changes_nothing_is_let_pass(folder):
    edit(
        folder / "config.json", is_llama_config=True, rope_interleaved=False, unsloth_version="1", attention_sinks=None
    )
    edit(folder / "config.json", **{"transformers.js_config": {"dtype": "q4"}, "temperature": 0.6})
    assert read_language_config(folder).model_type == "llama"


def test_a_sliding_window_is_refused_where_it_would_be_used(folder):
    fields = {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 32, "max_window_layers": 1}
    values = json.loads((folder / "config.json").read_text())
    of_qwen = {
        name: value for name, value in values.items() if name not in ("attention_bias", "mlp_bias", "pretraining_tp")
    }
    (folder / "config.json").write_text(json.dumps({**of_qwen, **fields}))
    assert read_language_config(folder).layer_types == ["full_attention"]
    edit(folder / "config.json", max_window_layers=0)
    with pytest.raises(CheckpointError, match="sliding window"):
        read_language_config(folder)


@pytest.mark.parametrize("name", ["TokenizersBackend", "PreTrainedTokenizerFast"])
def test_a_tokenizer_that_transformers_5_saved(folder, name):
    before = load_language_model(folder, None)[1].tokenizer
    path = folder / "tokenizer_config.json"
    stated = json.loads(path.read_text())
    for field in ("added_tokens_decoder", "additional_special_tokens"):
        stated.pop(field, None)
    extra = ["<|endoftext|>"]
    path.write_text(
        json.dumps({**stated, "tokenizer_class": name, "extra_special_tokens": extra, "backend": "tokenizers"})
    )
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    tokenizer = load_language_model(folder, None)[1].tokenizer
    assert tokenizer.get_vocab() == before.get_vocab()
    assert "<|endoftext|>" in tokenizer.all_special_tokens
    text = "<|im_start|>user\nwhat is this?<|im_end|>"
    assert tokenizer.encode(text) == before.encode(text)


def test_a_generation_config_that_cannot_be_saved_is_read_as_it_was_meant(folder, tmp_path):
    stated = {"do_sample": False, "temperature": 0.6, "top_p": 0.9, "eos_token_id": 258, "stop_strings": ["\n"]}
    (folder / "generation_config.json").write_text(json.dumps({**stated, "repetition_penalty": 0.0}))
    model, vocabulary = load_language_model(folder, None)
    model.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    assert not {"temperature", "top_p", "stop_strings", "repetition_penalty"} & saved.keys()
    said = " | ".join(vocabulary.changes)
    assert "answers are greedy (do_sample false), so temperature 0.6, top_p 0.9 are left out" in said
    assert "stop_strings ['\\n']" in said and "repetition_penalty 0.0" in said
    (folder / "generation_config.json").write_text(json.dumps({**stated, "do_sample": True, "stop_strings": None}))
    model, _ = load_language_model(folder, None)
    assert (model.generation_config.temperature, model.generation_config.top_p) == (0.6, 0.9)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_pointers_of_git_lfs_are_told_as_such(folder, name):
    oid = "oid sha256:" + "0" * 64
    (folder / name).write_text(f"version https://git-lfs.github.com/spec/v1\n{oid}\nsize 4000000\n")
    with pytest.raises(CheckpointError, match="Git LFS's pointers") as caught:
        load_language_model(folder, None)
    assert name in caught.value.given and "git lfs pull" in caught.value.todo
