"""What is sampled from is what transformers' warpers leave, and the samples have that distribution."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import GenerationConfig, GenerationMixin

from laco_engines.generation.options import GenerationOptions
from laco_engines.generation.sampling import SamplingParameters, TokenChooser, distribution

SEEDS, TOKENS = 250, 20
ERROR_RATE = 1e-6
"""Of a right sampler that is taken for a wrong one, in each case. The seeds are fixed: it happens never or always."""

CASES = [
    {"temperature": 1.0, "top_k": 0},
    {"temperature": 0.6, "top_k": 7},
    {"temperature": 1.3, "top_k": 0, "top_p": 0.7},
    {"temperature": 1.0, "top_k": 20, "top_p": 0.9, "min_p": 0.05},
    {"temperature": 0.9, "top_k": 0, "min_p": 0.2},
    {"temperature": 1.1, "top_k": 0, "typical_p": 0.6},
]


def random_logits(seed, size):
    return (3 * np.random.default_rng(seed).standard_normal(size)).astype(np.float32)


def warped(logits, fields):
    """Probabilities ``[V]`` behind transformers' own warpers."""
    config = GenerationConfig(do_sample=True, **fields)
    config._eos_token_tensor = None
    warpers = GenerationMixin()._get_logits_processor(config, input_ids_seq_length=1)
    return warpers(torch.zeros(1, 1, dtype=torch.long), torch.from_numpy(logits)[None])[0].softmax(-1).numpy()


@pytest.mark.parametrize("fields", CASES, ids=str)
@pytest.mark.parametrize("size", [40, 5000])
def test_what_is_sampled_from_is_what_transformers_leaves(fields, size):
    for seed in range(10):
        logits = random_logits(seed, size)
        logits[3] = logits[5]  # level ones stay or go together
        logits[7] = -np.inf  # which a logits processor may have forbidden
        tokens, probabilities = distribution(logits, SamplingParameters(**fields))
        actual = np.zeros(size)
        actual[tokens] = probabilities
        np.testing.assert_allclose(actual, warped(logits, fields), atol=2e-6)
        assert len(np.unique(tokens)) == len(tokens)


def test_ten_thousand_level_logits_are_all_sampled_from():
    """Top-p's first look holds 1024 of them, which is too few."""
    tokens, probabilities = distribution(np.zeros(10_000, np.float32), SamplingParameters(1.0, top_k=0, top_p=0.49995))
    assert len(tokens) == 5000
    np.testing.assert_allclose(probabilities, 1 / 5000)


@pytest.mark.parametrize("fields", CASES, ids=str)
def test_samples_have_the_distribution(fields):
    """Pearson's chi-square against transformers' probabilities, 5,000 samples."""
    logits, parameters = random_logits(0, 30), SamplingParameters(**fields)
    counts = np.zeros(30)
    for seed in range(SEEDS):
        chooser = TokenChooser(parameters, np.zeros(1, np.int64), 30, seed)
        for _ in range(TOKENS):
            counts[chooser.choose(logits)] += 1
    expected = SEEDS * TOKENS * warped(logits, fields)
    assert not counts[expected == 0].any()
    rare = expected < 5  # chi-square's approximation needs five of each: the rare ones are one class
    observed, awaited = ([*sums[~rare], sums[rare].sum()] for sums in (counts, expected))
    observed, awaited = (np.array(sums)[np.array(awaited) > 0] for sums in (observed, awaited))
    statistic = float(((observed - awaited) ** 2 / awaited).sum())
    freedom = torch.tensor((len(awaited) - 1) / 2, dtype=torch.float64)
    p_value = float(torch.special.gammaincc(freedom, torch.tensor(statistic / 2, dtype=torch.float64)))
    assert p_value > ERROR_RATE


def test_a_seed_repeats_and_another_does_not():
    logits, parameters = random_logits(1, 200), SamplingParameters(1.0, top_k=0)
    runs = [
        [chooser.choose(logits) for _ in range(20)]
        for chooser in (TokenChooser(parameters, np.zeros(1, np.int64), 200, seed) for seed in (5, 5, 6))
    ]
    assert runs[0] == runs[1] != runs[2]


def test_the_repetition_penalty_counts_the_prompt_and_the_answer():
    chooser = TokenChooser(SamplingParameters(repetition_penalty=2.0), np.array([0, 3]), 5, None)
    logits = np.array([4.0, 3.0, 2.5, -1.0, 0.0], np.float32)
    first = logits.copy()
    chooser.penalise(first)
    assert first.tolist() == [2.0, 3.0, 2.5, -2.0, 0.0]
    assert chooser.choose(first) == 1
    chooser.penalise(logits)
    assert logits.tolist() == [2.0, 1.5, 2.5, -2.0, 0.0]


def test_options_go_before_the_checkpoint_and_that_before_the_defaults():
    checkpoint = {"do_sample": True, "temperature": 3.0, "top_k": 9, "min_p": 0.3, "repetition_penalty": 1.2}
    sampled = SamplingParameters.merged(GenerationOptions(temperature=0.5, top_k=2), checkpoint)
    assert sampled == SamplingParameters(0.5, top_k=2, min_p=0.3, repetition_penalty=1.2)
    greedy = SamplingParameters.merged(GenerationOptions(), {})
    assert (greedy.temperature, greedy.top_k, greedy.repetition_penalty) == (0.0, 50, 1.0)


def test_a_token_without_probability_is_never_drawn():
    """The largest random number times the sum may reach the last of the sums, which is rounded otherwise."""
    logits = np.full(1000, -np.inf, np.float32)
    logits[[3, 500]] = [0.5, 1.0]
    chooser = TokenChooser(SamplingParameters(1.0, top_k=0), np.zeros(1, np.int64), 1000, 0)
    chooser._random = SimpleNamespace(random=lambda: 1.0)
    assert chooser.choose(logits) == 500
