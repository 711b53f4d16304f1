"""64 tokens of the FP32 decoder against PyTorch's generate, on 20 prompts of 1 to 3 pictures (Qwen2.5-0.5B's shape).

    python benchmarks/decoder_models.py --folder DIR --precisions fp32
    python benchmarks/decoder_parity.py --folder DIR [--prompts 0:20]

A picture is 144 random visual embeddings, at a random place among 30 random tokens. Each prompt is answered greedily
by both, and the first ``--sampled`` also by sampling (temperature 0.8, top-p 0.95, one seed). Where the tokens part,
the lead of PyTorch's token in standard deviations of the logits is recorded: below rounding, either token is right.
Results of several runs are joined in the file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from decoder_models import TOKENS_PER_IMAGE, machine, open_decoder_at

RESULTS = Path(__file__).resolve().parent / "results" / "decoder_parity.json"
TEXT, NEW_TOKENS = 30, 64
WAYS = {"greedy": {"do_sample": False}, "sampled": {"do_sample": True, "temperature": 0.8, "top_p": 0.95, "top_k": 0}}


def main() -> None:
    from transformers import Qwen2ForCausalLM

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--prompts", default="0:20")
    parser.add_argument("--sampled", type=int, default=6)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    model = Qwen2ForCausalLM.from_pretrained(arguments.folder / "pytorch", dtype=torch.float32).eval()
    decoder = open_decoder_at(arguments.folder / "fp32")
    rows = json.loads(arguments.output.read_text())["prompts"] if arguments.output.exists() else {}
    for number in range(*map(int, arguments.prompts.split(":"))):
        rows[str(number)] = compare(model, decoder, number, list(WAYS)[: 1 + (number < arguments.sampled)])
        print(number, json.dumps(rows[str(number)]), flush=True)
        summary = {
            "compared": {way: sum(way in row for row in rows.values()) for way in WAYS},
            "equal": {way: sum(row[way]["equal"] for row in rows.values() if way in row) for way in WAYS},
        }
        document = machine() | {"new_tokens": NEW_TOKENS, "text_tokens": TEXT, **summary, "prompts": rows}
        arguments.output.write_text(json.dumps(document, indent=1) + "\n")


@torch.inference_mode()
def compare(model, decoder, number: int, ways: list[str]) -> dict:
    images, ids, embeds = prompt(model, number)
    row = {"images": images}
    for way in ways:
        options = WAYS[way]
        tokens, logits = answer(model, ids, embeds, number, options)
        exported, exported_logits = answer(decoder, ids, embeds, number, options)
        row[way] = {"equal": tokens == exported}
        if tokens != exported:
            at = next(index for index, pair in enumerate(zip(tokens, exported, strict=False)) if pair[0] != pair[1])
            best = logits[at].topk(2).values
            row[way] |= {"parted_at": at, "lead": float((best[0] - best[1]) / logits[at].std())}
        if way == "greedy":
            same = next(
                (i for i, pair in enumerate(zip(tokens, exported, strict=False)) if pair[0] != pair[1]), len(tokens)
            )
            row["max_logit_error"] = float((logits[:same] - exported_logits[:same]).abs().max())
            row["distinct_tokens"] = len(set(tokens))
    return row


def prompt(model, number: int) -> tuple[int, torch.Tensor, torch.Tensor]:
    """Images, ids ``[1, T]`` and embeddings ``[1, T, D]``: pictures at random places among the text."""
    generator = torch.Generator().manual_seed(1000 + number)
    images = 1 + number % 3
    table = model.get_input_embeddings()
    text = torch.randint(0, 150_000, (TEXT,), generator=generator)
    places = sorted(torch.randint(0, TEXT, (images,), generator=generator).tolist())
    ids, embeds, start = [], [], 0
    for place in [*places, TEXT]:
        ids.append(text[start:place])
        embeds.append(table(text[start:place]))
        if len(embeds) < 2 * images + 1:
            ids.append(torch.zeros(TOKENS_PER_IMAGE, dtype=torch.long))
            noise = torch.randn(TOKENS_PER_IMAGE, table.embedding_dim, generator=generator)
            embeds.append(noise * table.weight.std())
        start = place
    return images, torch.cat(ids)[None], torch.cat(embeds)[None]


def answer(model, ids, embeds, seed: int, options: dict) -> tuple[list[int], torch.Tensor]:
    """New tokens and their logits ``[tokens, V]``."""
    torch.manual_seed(seed)
    output = model.generate(
        input_ids=ids,
        inputs_embeds=embeds,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS,
        return_dict_in_generate=True,
        output_logits=True,
        **options,
    )
    return output.sequences[0, ids.shape[1] :].tolist(), torch.cat(output.logits)


if __name__ == "__main__":
    main()
