"""Prompts with pictures, whose ids and embeddings stand where they should; a shift by one is told."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from laco_export.chat_format import ChatFormat, RoleFormat
from laco_export.errors import ExportError
from laco_export.exporter.witnesses import placed_tokens
from laco_export.exporter.witnesses.placed_tokens import check_placed_tokens
from laco_export.models import LacoForConditionalGeneration
from laco_export.models.written_template import chat_template_of


@pytest.mark.parametrize("options", [{}, {"tiling": None}, {"method": None}, {"grid": (5, 5), "tiling": None}], ids=str)
def test_prompts_are_what_is_written_out(make_tiled, options):
    model, processor = make_tiled(**options)
    features = model.get_image_features
    checks = check_placed_tokens(model, processor)
    assert [check.cases for check in checks] == [3, 3]
    assert all(check.max_abs == 0 for check in checks)
    assert model.get_image_features == features
    assert not model.language_model._forward_pre_hooks


def rolled_placing(self, input_ids, inputs_embeds, images, place=LacoForConditionalGeneration._place_images):
    return place(self, input_ids, inputs_embeds, list(torch.cat(images).roll(1, 0).split([len(i) for i in images])))


def pictures_exchanged(self, input_ids, inputs_embeds, images, place=LacoForConditionalGeneration._place_images):
    return place(self, input_ids, inputs_embeds, images[::-1])


@pytest.mark.parametrize("fault", [rolled_placing, pictures_exchanged])
def test_visual_tokens_in_other_places_are_told(make_tiled, monkeypatch, fault):
    monkeypatch.setattr(LacoForConditionalGeneration, "_place_images", fault)
    with pytest.raises(ExportError, match="the language model's inputs are not those of") as refusal:
        check_placed_tokens(*make_tiled())
    assert "picture" in refusal.value.given


def test_embedding_rows_off_by_one_are_told(make_tiled):
    model, processor = make_tiled()
    embedding = model.get_input_embeddings()
    embedding.register_forward_hook(lambda module, ids, rows: torch.nn.functional.embedding(ids[0] - 1, module.weight))
    with pytest.raises(ExportError, match="the language model's inputs"):
        check_placed_tokens(model, processor)


@pytest.mark.parametrize("fault", ["<|im_end|>", "<|im_start|>", "helpful", "assistant\n"])
def test_another_conversation_is_told(make_tiled, monkeypatch, fault):
    render = placed_tokens.render
    monkeypatch.setattr(
        placed_tokens, "render", lambda *turns, **options: render(*turns, **options).replace(fault, "?")
    )
    with pytest.raises(ExportError, match="token ids are not those of the conversation's text written out"):
        check_placed_tokens(*make_tiled())


VICUNA = ChatFormat(
    system=RoleFormat("", " "),
    user=RoleFormat("USER: ", " "),
    assistant=RoleFormat("ASSISTANT: ", " "),
    generation_header="ASSISTANT:",
    default_system="A chat.",
    begin="<|endoftext|>",
    image_before="<|vision_start|>",
)


def with_format(make_tiled, chat_format, written):
    """A model whose processor has ``chat_format`` and the template of ``written``."""
    model, processor = make_tiled()
    processor.chat_format, processor.chat_template = chat_format, chat_template_of(written)
    return model, processor


def test_another_format_is_what_its_template_writes(make_tiled):
    ids, _ = check_placed_tokens(*with_format(make_tiled, VICUNA, VICUNA))
    assert (ids.max_abs, ids.cases, ids.by) == (0, 3, "the conversation's text as its chat template writes it")


@pytest.mark.parametrize(
    "fault",
    [
        {"default_system": "A talk."},
        {"begin": ""},
        {"generation_header": "ASSISTANT: "},
        {"picture_line_end": " "},
        {"words_before": " "},
        {"user": RoleFormat("USER: ", "\n")},
    ],
    ids=str,
)
def test_a_format_that_is_not_its_templates_is_told(make_tiled, fault):
    with pytest.raises(ExportError, match="token ids are not those of the conversation's text as its chat template"):
        check_placed_tokens(*with_format(make_tiled, replace(VICUNA, **fault), VICUNA))


def test_a_picture_behind_the_question_is_told(make_tiled, monkeypatch):
    turn = placed_tokens.question_turn
    monkeypatch.setattr(
        placed_tokens,
        "question_turn",
        lambda question, count: turn(f"{question}\n" + "<image>" * count, count),
    )
    with pytest.raises(ExportError, match="token ids") as refusal:
        check_placed_tokens(*make_tiled())
    assert "about one picture" in refusal.value.given or "alone" in refusal.value.given


def test_one_image_token_too_many_is_told(make_tiled, monkeypatch):
    from laco_export.models import processing

    expand = processing.expand_image_tokens
    monkeypatch.setattr(
        processing, "expand_image_tokens", lambda text, counts, *rest: expand(text, np.asarray(counts) + 1, *rest)
    )
    with pytest.raises(ExportError, match="token ids"):
        check_placed_tokens(*make_tiled())
