"""What the scores of ``benchmarks/real_weights`` say of features whose answers are known."""

import numpy as np
import pytest
from real_weights.feature_scores import FeatureJudge, LinearProbe, nearest, picture_vector, share_kept, token_cosines

KINDS = ("animal", "food", "plant")
TOKENS, CHANNELS = 4, 24


def features_of(count: int, seed: int) -> tuple[list[np.ndarray], list[str]]:
    """Pictures of three kinds, each kind around a direction of its own."""
    random = np.random.default_rng(seed)
    kinds = [KINDS[index % 3] for index in range(count)]
    centres = np.eye(3, CHANNELS) * 3
    return [
        (centres[KINDS.index(kind)] + random.standard_normal((1, TOKENS, CHANNELS))).astype(np.float32)
        for kind in kinds
    ], kinds


@pytest.fixture(scope="module")
def judge():
    training, training_kinds = features_of(90, 0)
    held_out, kinds = features_of(30, 1)
    return FeatureJudge(
        np.stack([picture_vector(each) for each in training]), training_kinds, held_out, kinds
    ), held_out


def test_the_same_features_lose_nothing(judge):
    judge, held_out = judge
    scores = judge.scores(held_out)
    assert scores.worst_token_cosine == pytest.approx(1, abs=1e-12)  # float64
    assert (scores.points, scores.neighbours_kept, scores.training_neighbours_kept) == (0, 1, 1)
    assert scores.right_kinds == judge.fp32_right_kinds >= 28  # of 30; a third by chance
    assert scores.same_kinds == 30


def test_noise_costs_every_score(judge):
    judge, held_out = judge
    random = np.random.default_rng(2)
    scores = judge.scores([each + 4 * random.standard_normal(each.shape).astype(np.float32) for each in held_out])
    assert scores.worst_token_cosine < scores.worst_picture_cosine < scores.mean_cosine + 0.3 < 1
    assert scores.points > 30 and scores.mean_relative_error > 1
    assert scores.neighbours_kept < 0.7 and scores.training_neighbours_kept < 0.7
    assert scores.right_kinds < judge.fp32_right_kinds


def test_a_lost_scale_costs_points_and_no_cosine(judge):
    judge, held_out = judge
    scores = judge.scores([np.float32(0.9) * each for each in held_out])
    assert scores.worst_picture_cosine == pytest.approx(1, abs=1e-6)
    assert scores.points == pytest.approx(10, abs=1e-3) and scores.worst_norm_ratio == pytest.approx(0.9, abs=1e-5)


def test_one_wrong_token_is_the_worst(judge):
    judge, held_out = judge
    wrong = [each.copy() for each in held_out]
    wrong[7][0, 2] *= -1
    scores = judge.scores(wrong)
    assert scores.worst_token_cosine == pytest.approx(-1, abs=1e-12)
    assert scores.worst_picture_cosine < 1 - 0.1


def test_the_probe_does_not_read_labels_that_are_noise():
    features, kinds = features_of(90, 0)
    vectors = np.stack([picture_vector(each) for each in features])
    shuffled = np.random.default_rng(3).permutation(kinds)
    assert LinearProbe(vectors, kinds).mistakes_left_out < 10
    assert LinearProbe(vectors, shuffled).mistakes_left_out > 40  # 60 by chance


def test_the_probes_left_out_mistakes_are_those_of_leaving_out():
    """The closed form against 30 probes, each trained without the picture that it is asked about."""
    features, kinds = features_of(30, 4)
    vectors = np.stack([picture_vector(each) for each in features])
    mistakes = 0
    for index, kind in enumerate(kinds):
        rest = np.arange(30) != index
        probe = LinearProbe(vectors[rest], [kinds[i] for i in np.flatnonzero(rest)])
        mistakes += int(probe.kinds(vectors[[index]])[0] != kind)
    assert abs(LinearProbe(vectors, kinds).mistakes_left_out - mistakes) <= 3  # each probe chose its penalty anew


def test_neighbours_by_hand():
    gallery = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [-1.0, 0.0], [0.7, 0.7], [0.1, 1.0], [1.0, -0.1]])
    assert nearest(gallery[:1], gallery, apart_from_itself=False)[0, 0] == 0
    assert set(nearest(gallery, gallery, apart_from_itself=True)[0]) == {1, 6, 4, 5, 2}
    assert share_kept(np.array([[1, 2, 3, 4]]), np.array([[4, 9, 1, 8]])) == 0.5


def test_token_cosines_by_hand():
    expected = np.array([[[3.0, 4.0], [1.0, 0.0]]])
    actual = np.array([[[6.0, 8.0], [0.0, 2.0]]])
    assert token_cosines(expected, actual).tolist() == [1.0, 0.0]
