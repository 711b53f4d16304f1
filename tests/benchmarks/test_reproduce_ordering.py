"""The small-scale study at a few steps: equal starts, equal batches, resumption, and the verdict's arithmetic."""

import json

import pytest
import reproduce_ordering
import torch
from ordering import reader
from ordering.arms import ARMS, Arm, ArmTraining, loudness, new_arm, stages_of
from ordering.pages import LETTERS, PER_PAGE, draw_pages
from ordering.pretraining import cell_of_patch, loss_in_words, new_decoder, new_reader, pretrain_decoder
from ordering.reader import FIRST_LETTER, IMAGE, PAD, batch_of
from ordering.verdict import retained_share, rows_of, verdict

from laco_training.counted_positions import keep_counted_positions
from laco_training.data import IGNORED
from laco_training.parameter_groups import parameters_by_group

STEPS = [word for part in reproduce_ordering.STEPS for word in (f"--{part.replace('_', '-')}-steps", "2")]
SLOW = Arm("laco", "1/4", "exploratory", slow_merge=True)


@pytest.fixture(autouse=True, scope="module")
def few_pages():
    """One thread, and few test pages."""
    threads, pages = torch.get_num_threads(), reader._TEST_PAGES
    torch.set_num_threads(1)
    reader._TEST_PAGES = 8
    yield
    torch.set_num_threads(threads)
    reader._TEST_PAGES = pages


@pytest.fixture(scope="module")
def full_token_model():
    torch.manual_seed(0)
    return new_reader()


@pytest.fixture
def run(tmp_path):
    def run(*options, output="study"):
        return reproduce_ordering.main(
            ["run", "--seeds", "0", "--output", str(tmp_path / output), *STEPS, *map(str, options)]
        )

    return run


def test_pages_depend_on_their_key_alone():
    pixels, letters = draw_pages(3, 0, 10, 7)
    again, other = draw_pages(3, 0, 10, 7), draw_pages(3, 0, 10, 8)
    assert torch.equal(pixels, again[0]) and torch.equal(letters, again[1])
    assert not torch.equal(letters, other[1])
    assert pixels.shape == (3, 3, 112, 112) and letters.shape == (3, PER_PAGE)
    assert letters.min() >= 0 and letters.max() < len(LETTERS)


def test_a_letter_counts_and_its_cell_does_not():
    pixels, letters = draw_pages(2, 0)
    batch = batch_of(pixels, letters, 16)
    assert (batch["input_ids"][:, :16] == IMAGE).all() and not (batch["input_ids"] == PAD).any()
    assert batch["labels"][:, 17::2].sub(FIRST_LETTER).equal(letters)
    assert (batch["labels"][:, :16] == IGNORED).all() and (batch["labels"][:, 16::2] == IGNORED).all()
    assert len(keep_counted_positions(batch["labels"])["logits_to_keep"]) == PER_PAGE


def test_arms_differ_in_the_merge_alone(full_token_model):
    arms = [new_arm(full_token_model, arm, seed=3) for arm in ARMS]
    assert {model.config.compression["method"] for model in arms} == {
        "laco", "pixel_shuffle", "ldpv2", "token_packer", "average_pool", "laco_misaligned"
    }  # fmt: skip
    assert {model.vision_model.block for model in arms} == {1, 2, 3, 6, 12}
    first = parameters_by_group(arms[0])
    for model in arms:
        assert model.tokens_per_image == 16
        groups = parameters_by_group(model)
        for name in ("encoder", "projector", "language_model"):
            assert all(torch.equal(a, b) for a, b in zip(groups[name], first[name], strict=True))
    assert torch.equal(first["projector"][0], next(full_token_model.projector.parameters()))
    for name, part in (("projector", "projector"), ("encoder", "vision_model.encoder")):
        assert first[name][0] is not next(full_token_model.get_submodule(part).parameters())


def test_a_scaled_start_speaks_as_loud_as_the_encoder(full_token_model):
    arm = next(arm for arm in ARMS if arm.scaled)
    model = new_arm(full_token_model, arm, seed=3)
    before, after = loudness(model, seed=4)
    assert after == pytest.approx(before, rel=0.2)
    fresh = new_arm(full_token_model, Arm("pixel_shuffle", "1/4", "compressors"), seed=3)
    assert loudness(fresh, seed=4)[1] < 0.5 * after


def test_the_decoder_is_taught_both_token_counts(full_token_model):
    """The loss in words falls for one token a patch and for one a cell."""
    encoder = full_token_model.vision_model.encoder
    letters = draw_pages(16, 8)[1]
    losses = []
    for decoder in (new_decoder(), pretrain_decoder(encoder, 0, 40)):
        with torch.no_grad():
            losses.append([loss_in_words(decoder, letters, n, torch.Generator().manual_seed(0)) for n in (64, 16)])
    assert max(losses[1]) < 0.5 * min(losses[0])


def test_the_cells_of_patches():
    assert cell_of_patch().view(8, 8)[:3].tolist() == [[0, 0, 1, 1, 2, 2, 3, 3]] * 2 + [[4, 4, 5, 5, 6, 6, 7, 7]]


def test_what_the_stages_train(full_token_model, tmp_path):
    arm = ARMS[0]
    training = ArmTraining(new_arm(full_token_model, arm, 0), stages_of(arm, 1, 1), 0, tmp_path / "arm.pt")
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    assert {g["name"]: g["initial_lr"] for g in training.optimizer.param_groups} == {
        "compressor": 1e-3,
        "projector": 1e-3,
    }
    steps = [0]

    def stop():
        steps[0] += 1
        return steps[0] < 1

    assert not training.run(1, stop)
    changed = {name for name, value in training.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {n for n in before if ".compressors." in n or n.startswith("projector.")}
    assert training.run(1, lambda: True)
    rates = {g["name"]: g["initial_lr"] for g in training.optimizer.param_groups}
    assert rates == {"encoder": 2e-5, "compressor": 1e-4, "projector": 1e-4, "language_model": 1e-4}
    assert [(point["stage"], point["step"]) for point in training.curve] == [("1", 1), ("2", 1)]


def test_budgets_and_slow_merges():
    longer = next(arm for arm in ARMS if arm.budget == 4)
    assert [stage.steps for stage in stages_of(longer, 10, 20)] == [40, 80]
    first, second = stages_of(SLOW, 10, 20)
    assert first.rates == {"compressor": 2e-5, "projector": 1e-3}
    assert second.rates["compressor"] == second.rates["encoder"] == 2e-5
    assert len({arm.file for arm in ARMS}) == len({arm.name for arm in ARMS}) == len(ARMS) == 16


def test_a_stopped_run_goes_on_as_if_it_had_not_been(run, tmp_path, capsys):
    arms = ("--arms", "laco-1_4", "average_pool-1_4")
    assert run(*arms, output="whole") == 0
    for _ in range(6):  # each time one step of an arm
        assert run(*arms, "--stop-after", "0", output="sliced") == 0
    assert "run the same command again" in capsys.readouterr().out
    assert run(*arms, output="sliced") == 0
    for name in ("laco-1_4", "average_pool-1_4"):
        whole, sliced = (
            json.loads((tmp_path / o / "seed-0" / f"{name}.json").read_text()) for o in ("whole", "sliced")
        )
        for key in ("accuracy", "shuffled", "curve", "last_loss", "steps"):
            assert whole[key] == sliced[key], key
    assert not list((tmp_path / "sliced" / "seed-0").glob("*_4.pt"))
    finished = (tmp_path / "whole" / "seed-0" / "laco-1_4.json").stat().st_mtime_ns
    assert run(*arms, output="whole") == 0
    assert (tmp_path / "whole" / "seed-0" / "laco-1_4.json").stat().st_mtime_ns == finished
    with pytest.raises(SystemExit, match=r"other settings: steps(.|\n)*choose another --output"):
        run("--stage-1-steps", "3", output="whole")
    settings = tmp_path / "whole" / "seed-0" / "settings.json"
    stored = json.loads(settings.read_text())
    settings.write_text(json.dumps({**stored, "pages": {**stored["pages"], "noise": 0.3}}))
    with pytest.raises(SystemExit, match=r"pages \{'noise': 0\.3"):
        run(*arms, output="whole")
    settings.write_text(json.dumps({"seed": stored["seed"], "steps": stored["steps"]}))  # as the first studies have it
    assert run(*arms, output="whole") == 0
    assert json.loads(settings.read_text()) == stored
    assert reproduce_ordering.main(["report", "--output", str(tmp_path / "whole"), "--results", str(tmp_path)]) == 0
    written = json.loads((tmp_path / "reproduce_ordering.json").read_text())
    assert {row["name"] for row in written["rows"]} == {"laco@1/4", "average_pool@1/4"}
    assert set(written["loudness"]["0"]) == {"laco", "pixel_shuffle", "ldpv2", "token_packer"}
    assert all(entry["holds"] is None for entry in written["verdict"][:-2])
    assert [entry["holds"] for entry in written["verdict"][-2:]] == [False, False]  # the reader, and one seed alone
    assert "cannot be said yet" in (tmp_path / "reproduce_ordering.md").read_text()
    for name in ("reproduce_ordering.png", "reproduce_ordering_pages.png"):
        assert (tmp_path / name).stat().st_size > 1000


AS_IN_THE_PAPER = {
    "laco@1": 0.90, "laco@1/2": 0.85, "laco@1/4": 0.80, "laco@1/6": 0.60, "laco@1/12": 0.62,
    "pixel_shuffle@1/4": 0.30, "ldpv2@1/4": 0.25, "token_packer@1/4": 0.28,
}  # fmt: skip


def results(changes=None, seeds=(0, 1, 2), noise=0.004):
    """Records of three seeds that scatter by ``noise``."""
    values = {**AS_IN_THE_PAPER, **(changes or {})}
    curve = [{"stage": "1", "step": 2, "accuracy": 0.2}, {"stage": "2", "step": 2, "accuracy": 0.5}]
    return {
        seed: {
            name: {"accuracy": value + noise * (seed - 1) * (-1) ** place, "shuffled": 0.05, "curve": curve}
            for place, (name, value) in enumerate(values.items())
        }
        for seed in seeds
    }


def test_the_retained_share():
    record = results(noise=0)[0]
    assert retained_share(record, "laco@1") == 1
    assert retained_share(record, "laco@1/4") == pytest.approx(0.75 / 0.85)
    row = next(row for row in rows_of(results()) if row.name == "laco@1/4")
    assert (row.seeds, row.accuracy, row.after_stage_1) == (3, pytest.approx(0.80), 0.2)
    assert row.accuracy_error == pytest.approx(0.004 / 3**0.5)


def test_an_exploratory_arm_does_not_move_the_floor():
    record = results(noise=0)[0]
    before = retained_share(record, "laco@1/4")
    record["laco@1/4, slow merge"] = {**record["laco@1/4"], "shuffled": 0.5}
    assert retained_share(record, "laco@1/4") == before


READERS = {0: 0.95, 1: 0.97, 2: 0.90}


def test_the_papers_figures_hold():
    assert all(holds for _, holds in verdict(results(), READERS))


def test_a_reader_that_does_not_read_refuses_the_verdict():
    failing = [criterion for criterion, holds in verdict(results(), {**READERS, 1: 0.89}) if not holds]
    assert failing == ["every full-token reader reads at least 90%"]


@pytest.mark.parametrize(
    ("changes", "options", "failing"),
    [
        ({"laco@1/4": 0.55}, {}, "R(laco@1/4) is at least 0.7"),
        ({"token_packer@1/4": 0.70}, {}, "R(token_packer@1/4) is at most half"),
        ({"laco@1/12": 0.81}, {}, "the order of the depths"),
        ({"laco@1/2": 0.91}, {}, "the order of the depths"),
        ({"pixel_shuffle@1/4": 0.78}, {"noise": 0.2}, "above pixel_shuffle@1/4 by more than three standard errors"),
        ({}, {"seeds": (0, 1)}, "at least 3 seeds"),
    ],
)
def test_each_criterion_can_fail(changes, options, failing):
    criteria = dict(verdict(results(changes, **options), READERS))
    assert next(holds for criterion, holds in criteria.items() if failing in criterion) is False


def test_one_seed_says_nothing_of_standard_errors():
    criteria = verdict(results(seeds=(0,)), READERS)
    assert all(holds is None for criterion, holds in criteria if "standard errors" in criterion)
    assert rows_of(results(seeds=(0,)))[0].accuracy_error is None
