from dataclasses import replace

from laco_engines.plan.space import Candidate, space_of

from .tables import model


def test_every_way_to_run_a_model():
    models = [model("one", batches=(1, 5)), model("two")]
    found = space_of(models, pictures=6, threads=(1, 2))
    assert [(each.model.name, each.batch, each.threads) for each in found] == [
        ("one", 1, 1), ("one", 1, 2), ("one", 5, 1), ("one", 5, 2), ("two", 1, 1), ("two", 1, 2),
    ]  # fmt: skip


def test_a_graph_for_more_pictures_than_there_are_is_left_out():
    assert [each.batch for each in space_of([model("one", batches=(1, 5))], pictures=4, threads=(1,))] == [1]
    assert [each.batch for each in space_of([model("one", batches=(5,))], pictures=4, threads=(1,))] == [5]


def test_a_question_runs_the_graphs_of_the_candidate_alone():
    whole = model("one", batches=(1, 2, 5))
    candidate = Candidate(whole, 5, 1, tiles=7)
    assert candidate.runs == [5, 1, 1]
    assert [graph.batch for graph in candidate.bundle.manifest.vision.graphs] == [1, 5]
    assert Candidate(whole, 2, 1, tiles=7).runs == [2, 2, 2, 1]
    assert Candidate(whole, 1, 1, tiles=1).vision_sha256 == Candidate(whole, 5, 2, tiles=1).vision_sha256
    assert Candidate(whole, 1, 1, tiles=5).vision_sha256 != Candidate(whole, 5, 1, tiles=5).vision_sha256


def test_a_vocabulary_is_what_can_be_said():
    whole = model("one")
    reduced = replace(whole.bundle.manifest.decoder, vocabulary={"rows": 6})
    bundle = replace(whole.bundle, manifest=replace(whole.bundle.manifest, decoder=reduced))
    assert (whole.vocabulary, replace(whole, bundle=bundle).vocabulary) == (10, 6)


def test_models_with_the_same_language_model_share_it():
    one, two, other = model("one"), model("two"), model("one", llm="fp32")
    assert one.decoder_sha256 == two.decoder_sha256 != other.decoder_sha256
    assert len({one.answers_sha256, two.answers_sha256, other.answers_sha256}) == 3
