"""A student and its teacher as one module: what is shared, what is trained, and what is compared."""

import copy

import pytest
import torch

from laco_export.errors import ConfigError
from laco_export.models.merging import merge_inside
from laco_training.distillation.losses import feature_errors, token_cosines
from laco_training.distillation.pair import Distillation, LossWeights
from laco_training.distillation.pooling import average_boundary, average_windows

GROUPS = ("compressor", "encoder")


def pixels(model, count=2):
    height, width = model.vision_model.spec.image_size(model.config.vision_config)
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def stir(model):
    """Move a student away from averages, so that no order of merge and pooling is like another."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.vision_model.compressors.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


@pytest.mark.parametrize("kind", ["aimv2", "internvit"])
@pytest.mark.parametrize("at", ["1/2", "1", "1/4+3/4"])
def test_the_losses_are_those_of_the_two_whole_models(make_pair, kind, at):
    """Running the shared blocks once changes nothing: the models run by themselves give the same."""
    teacher, student = make_pair(at, kind)
    stir(student)
    images = pixels(teacher)
    values = Distillation(teacher, student, GROUPS, LossWeights(cosine=0.5))(images)
    with torch.no_grad():
        ratios = (2, 2) if "+" in at else (2,)
        expected = average_windows(teacher.get_image_features(images), teacher.token_grid, ratios)
        features = student.get_image_features(images)
    error, cosine = feature_errors(features, expected).mean(), token_cosines(features, expected).mean()
    torch.testing.assert_close(values["relative_error"].detach(), error)
    torch.testing.assert_close(values["cosine"].detach(), cosine)
    torch.testing.assert_close(values["loss"].detach(), error + 0.5 * (1 - cosine))


def test_one_pass_of_the_teacher_serves_depths_of_different_tokens(make_pair):
    teacher, student = make_pair(["1/2", "1/4+3/4"])
    stir(student)
    distillation = Distillation(teacher, student, GROUPS)
    images = pixels(teacher)
    targets = distillation.targets(images)
    for at, ratios in (("1/2", (2,)), ("1/4+3/4", (2, 2))):
        student.set_depth(at)
        with torch.no_grad():
            expected = average_windows(teacher.get_image_features(images), teacher.token_grid, ratios)
            torch.testing.assert_close(distillation.feature_targets(targets), expected)
            features = distillation.features(targets.shared)
            torch.testing.assert_close(features, student.get_image_features(images))
        assert features.shape[1] == expected.shape[1] == {"1/2": 9, "1/4+3/4": 4}[at]


def test_a_teacher_with_a_window_outside_is_compared_one_to_one(make_pair):
    teacher, student = make_pair("1/2", "internvit", (4, 4), projector={"norm": True, "window": 2})
    assert teacher.token_grid == student.token_grid == (2, 2)
    images = pixels(teacher)
    values = Distillation(teacher, student, GROUPS)(images)
    with torch.no_grad():
        expected = feature_errors(student.get_image_features(images), teacher.get_image_features(images)).mean()
    torch.testing.assert_close(values["relative_error"].detach(), expected)


@pytest.mark.parametrize("at", ["1/4", "1/4+3/4"])
def test_blocks_are_compared_with_the_teachers_pooled_blocks(make_pair, at):
    teacher, student = make_pair(at, "internvit")
    stir(student)
    images = pixels(teacher)
    values = Distillation(teacher, student, GROUPS, LossWeights(blocks=1.0))(images)
    of_teacher, of_student = {}, {}
    with torch.no_grad():
        teacher.vision_model(images, of_teacher.__setitem__)
        student.vision_model(images, of_student.__setitem__)
    ratios = {"encoder.layernorm": (2, 2)} | {f"encoder.encoder.layer.{n}": (2,) * (1 + (n == 3)) for n in (1, 2, 3)}
    errors = []
    for name, hidden_states in of_student.items():
        if name in of_teacher and name not in ("embeddings", "encoder.encoder.layer.0"):
            windows = (2,) if at == "1/4" else ratios[name]
            errors.append(feature_errors(hidden_states, average_boundary(of_teacher[name], 1, (5, 5), windows)).mean())
    assert len(errors) == 4  # three blocks and the norm
    torch.testing.assert_close(values["block_error"].detach(), torch.stack(errors).mean())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_student_approaches_and_the_teacher_stays(make_pair, precision):
    teacher, student = make_pair(["1/2", "1"])
    distillation = Distillation(teacher, student, GROUPS).train()
    images = pixels(teacher, 4)
    before = distillation.targets(images).features
    start = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in distillation.parameters() if p.requires_grad], lr=2e-3)
    losses = []
    for step in range(40):
        student.vision_model.path = student.vision_model.compression.paths[step % 2]
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            values = distillation(images)
        optimizer.zero_grad()
        values["loss"].backward()
        optimizer.step()
        losses.append(values["loss"].item())
    assert losses[-2] < 0.6 * losses[0] and losses[-1] < 0.6 * losses[1]
    assert torch.equal(distillation.targets(images).features, before)
    moved = {
        name for name, tensor in student.state_dict().items() if name in start and not torch.equal(tensor, start[name])
    }
    blocks = "vision_model.encoder.encoder.layers"
    assert all(name.startswith((f"{blocks}.2.", f"{blocks}.3.", "vision_model.encoder.rms_norm.")) for name in moved)
    assert f"{blocks}.2.attention.q_proj.weight" in moved


def test_shared_parts_stand_in_memory_once(make_pair):
    teacher, student = make_pair()
    distillation = Distillation(teacher, student, GROUPS)
    own = {parameter.data_ptr() for parameter in distillation.parameters()}
    copies = {p.data_ptr(): p.numel() for p in distillation.teacher.parameters() if p.data_ptr() not in own}
    trained_blocks = [p for name, p in distillation.named_parameters() if p.requires_grad and ".encoder." in name]
    assert sum(copies.values()) == sum(parameter.numel() for parameter in trained_blocks) > 0
    assert not any(name.startswith("language_model") for name, _ in distillation.named_parameters())


def test_the_merge_can_be_trained_alone(make_pair):
    distillation = Distillation(*make_pair(), GROUPS)
    everything = {name for name, p in distillation.named_parameters() if p.requires_grad}
    distillation.hold_to_merge(True)
    assert all(".compressors." in name for name, p in distillation.named_parameters() if p.requires_grad)
    distillation.hold_to_merge(False)
    assert {name for name, p in distillation.named_parameters() if p.requires_grad} == everything


def test_its_state_is_what_is_trained(make_pair):
    distillation = Distillation(*make_pair(), GROUPS)
    other = Distillation(*make_pair(), GROUPS)
    stir(distillation.student)
    state = distillation.state_dict()
    assert state.keys() <= distillation.student.state_dict().keys()
    other.load_state_dict(copy.deepcopy(state))
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, state[name])
    with pytest.raises(RuntimeError, match="not those that are trained"):
        other.load_state_dict({name: state[name] for name in list(state)[1:]})


def test_nothing_frozen_drops_out(make_pair):
    teacher, student = make_pair()
    for block in teacher.vision_model.encoder.encoder.layers:
        block.attention.dropout = 0.5
    distillation = Distillation(teacher, student, GROUPS).train()
    images = pixels(teacher)
    assert torch.equal(distillation.targets(images).features, distillation.targets(images).features)
    assert not torch.equal(*(distillation(images)["loss"] for _ in range(2)))  # the trained blocks do


def test_a_students_own_tower_must_be_its_teachers(make_pair, make_tiny_model):
    """As loaded from two folders: the same shapes, other weights in a block that would run for both."""
    _, student = make_pair()
    other = make_tiny_model(blocks=4, grid=(5, 5), method=None)
    assert Distillation(other, student, GROUPS).shared_blocks == 2
    other = copy.deepcopy(other)
    with torch.no_grad():
        other.vision_model.encoder.encoder.layers[1].attention.q_proj.weight[0, 0] += 1
    with pytest.raises(ConfigError, match=r"different towers before the merge(.|\n)*layers\.1\.attention\.q_proj"):
        Distillation(other, student, GROUPS)


def test_a_student_that_was_taught_before_goes_on(make_pair):
    """Its later blocks are its own, the teacher's are the teacher's."""
    teacher, _ = make_pair()
    images = pixels(teacher)
    expected = teacher.get_image_features(images).detach()
    taught = merge_inside(copy.deepcopy(teacher), "1/2")
    with torch.no_grad():
        taught.vision_model.encoder.encoder.layers[3].attention.q_proj.weight.add_(0.1)
    distillation = Distillation(teacher, taught, GROUPS)
    assert torch.equal(distillation.targets(images).features, expected)
    torch.testing.assert_close(
        distillation.features(distillation.targets(images).shared), taught.get_image_features(images)
    )
