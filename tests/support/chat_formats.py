"""Tokenizers of several kinds, and chat templates that write what published ones write, for tests of chat formats."""

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

PARTS = "{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% else %}"
"""What a template of typed parts begins with; a picture's text and :data:`END_PARTS` follow."""
END_PARTS = "{% endif %}{% endfor %}"

TEMPLATES = {
    # Qwen2.5's, for plain texts
    "qwen": (
        "{% if messages[0].role != 'system' %}<|im_start|>system\n"
        "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n{% endif %}"
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    # LLaVA-OneVision's: a space behind the role, pictures in its line, and an earlier answer behind another header
    "llava-onevision": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + ' ' }}"
        "{% for part in m.content if part.type == 'image' %}{{ '<image>' }}{% endfor %}"
        "{% for part in m.content if part.type == 'text' %}{% if m.role == 'assistant' %}"
        "{% generation %}{{ '\n' + part.text }}{% endgeneration %}{% else %}{{ '\n' + part.text }}{% endif %}"
        "{% endfor %}{{ '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    # LLaVA-1.5's: Vicuna's words, no special token at all
    "llava-1.5": (
        "{% for m in messages %}{% if m.role != 'system' %}{{ m.role.upper() + ': ' }}{% endif %}"
        "{% for part in m.content if part.type == 'image' %}{{ '<image>\n' }}{% endfor %}"
        "{% for part in m.content if part.type == 'text' %}{{ part.text + ' ' }}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
    ),
    # Vicuna's own: a system line before the first question, and </s> behind each answer
    "vicuna": (
        "{% if messages[0].role != 'system' %}{{ 'A chat between a user and an assistant. ' }}{% endif %}"
        "{% for m in messages %}{% if m.role == 'system' %}{{ m.content + ' ' }}"
        "{% elif m.role == 'user' %}{{ 'USER: ' + m.content + ' ' }}"
        "{% else %}{{ 'ASSISTANT: ' + m.content + eos_token }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
    ),
    # LLaVA-NeXT's with Mistral: instructions in brackets, nothing before an answer
    "llava-next-mistral": (
        "{% for m in messages %}{% if m.role == 'system' %}{{ '<<SYS>>\n' + m.content[0].text + '\n<</SYS>>\n\n' }}"
        "{% elif m.role == 'user' %}{{ '[INST] ' }}"
        "{% for part in m.content if part.type == 'image' %}{{ '<image>\n' }}{% endfor %}"
        "{% for part in m.content if part.type == 'text' %}{{ part.text }}{% endfor %}{{ ' [/INST]' }}"
        "{% else %}{{ ' ' + m.content[0].text + '</s> ' }}{% endif %}{% endfor %}"
    ),
    # Llama 2's: the system line inside the first question, words stripped
    "llama-2": (
        "{% set first = messages[0].role == 'system' %}{{ bos_token }}"
        "{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' }}"
        "{% if first and loop.index0 == 1 %}{{ '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' }}{% endif %}"
        "{{ m.content | trim }}{{ ' [/INST]' }}"
        "{% elif m.role == 'assistant' %}{{ ' ' + m.content.strip() + ' </s>' }}{% endif %}{% endfor %}"
    ),
    # Llama 3's: a first token, headers of tokens, words stripped
    "llama-3": (
        "{{ bos_token }}{% for m in messages %}"
        "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}"
        "{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
    # InternVL's: ChatML without a default system line, its own image token
    "internvl": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
        + PARTS
        + "{{ '<IMG_CONTEXT>\n' }}"
        + END_PARTS
        + "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    # Gemma's: no system role, another name for the assistant
    "gemma": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}"
        "{% endif %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n'"
        " + m.content | trim + '<end_of_turn>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
    ),
}
"""Chat templates by name. They write what the published templates write, in other words."""


def named_tokens(bos, eos, *special, around=None) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes with these special tokens; ``around`` is what it puts around a text, as ``<s> $A``."""
    alphabet = {token: index for index, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _with_special(tokenizer, bos, eos, special, around)


def _with_special(tokenizer, bos, eos, special, around=None) -> PreTrainedTokenizerFast:
    names = [token for token in (bos, eos, *special) if token is not None]
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    if around is not None:
        ids = [(name, tokenizer.token_to_id(name)) for name in names]
        tokenizer.post_processor = processors.TemplateProcessing(single=around, special_tokens=ids)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, pad_token=eos, clean_up_tokenization_spaces=False
    )
