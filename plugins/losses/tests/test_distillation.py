"""The distillation loss: softened maps, normals by angle, features."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.contracts import LossInput, LossSetup, Prediction
from neuropbr_core.errors import ModelError
from neuropbr_core.maps import MAP_NAMES
from neuropbr_core.testing.loss import LossSuite, example_loss_input
from neuropbr_losses.distillation import Options
from neuropbr_losses.distillation.loss import DistillationLoss, softened_divergence

SETUP = LossSetup(MAP_NAMES, 32)
FP16_MAX = 65504.0


class TestDistillation(LossSuite):
    use = "distillation"
    option_sets = ({}, {"temperature": 1.0, "alpha": 0.9}, {"albedo": 0.0, "normal_form": "angle"})
    teacher = True


class TestDistillationOfFeatures(LossSuite):
    use = "distillation"
    option_sets = ({"feature_weight": 0.5}, {"feature_weight": 1.0, "features": {"decoder1": "decoder0"}})
    teacher = True
    features = {"latent": 6, "decoder0": 4, "decoder1": 3}  # noqa: RUF012 - the suite's class variable
    teacher_features = {"latent": 8, "decoder0": 5}  # noqa: RUF012


def taught(student: dict[str, Tensor], teacher: dict[str, Tensor]) -> LossInput:
    """An input with these logits of single-channel maps."""
    x = example_loss_input(tuple(student), valid="all", teacher=True)
    maps = [{name: value.sigmoid() for name, value in logits.items()} for logits in (student, teacher)]
    valid = torch.ones_like(next(iter(student.values())))
    return replace(
        x, prediction=Prediction(maps[0], student, {}), teacher=Prediction(maps[1], teacher, {}), valid=valid
    )


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_is_the_divergence_of_softened_probabilities(temperature: float) -> None:
    """Against torch's own KL divergence of the two-class distributions, in float64."""
    student, teacher = (torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 3 for seed in (0, 1))
    p, q = (torch.sigmoid(each.double() / temperature) for each in (student, teacher))
    expected = sum(F.kl_div(found.log(), wanted, reduction="none") for found, wanted in ((p, q), (1 - p, 1 - q)))
    found = softened_divergence(student, teacher, temperature)
    torch.testing.assert_close(found.double(), temperature**2 * expected, rtol=1e-4, atol=2e-6)


def test_is_zero_where_both_agree_and_never_negative() -> None:
    logits = torch.linspace(-30, 30, 601).view(1, 1, 1, -1)
    assert softened_divergence(logits, logits, 2.0).abs().max() == 0
    other = logits.flip(-1) * 0.7
    assert softened_divergence(logits, other, 2.0).min() > -1e-5


def test_its_gradient_is_right() -> None:
    student, teacher = (torch.randn(1, 1, 3, 3, dtype=torch.float64) * 4 for _ in range(2))
    assert torch.autograd.gradcheck(lambda s: softened_divergence(s, teacher, 3.0), student.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("temperature", [1.0, 2.0, 20.0])
@pytest.mark.parametrize("size", [10.0, 100.0, 1e4, FP16_MAX])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_certain_teacher_still_teaches(sign: float, size: float, temperature: float, dtype: torch.dtype) -> None:
    """At teacher p → 1 (and → 0), with logits as half precision keeps them up to its largest, value and gradient are
    finite; a student that is wrong is pulled with a force between T/2 and T, however certain it is itself."""
    teacher = torch.full((1, 1, 1, 4), sign * size).clamp(-FP16_MAX, FP16_MAX).to(dtype).float()
    wrong = torch.tensor([0.0, -10.0, -size, -FP16_MAX]) * sign
    student = wrong.to(dtype).float().view(1, 1, 1, 4).requires_grad_()
    value = softened_divergence(student, teacher, temperature)
    value.sum().backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None
    assert value.isfinite().all()
    pull = -sign * student.grad
    distance = float(teacher.abs().max()) / temperature
    assert pull.max() <= temperature * 1.0001
    assert pull.min() >= temperature * min(0.49, 0.1 * distance)


def test_a_student_close_to_a_certain_teacher_is_still_pulled() -> None:
    """At p = 1 - 2e-9 float32 cannot tell p from 1; logits can."""
    student = torch.full((1, 1, 1, 1), 20.0, requires_grad=True)
    softened_divergence(student, torch.full((1, 1, 1, 1), FP16_MAX), 1.0).sum().backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None
    assert student.grad.item() == pytest.approx(-2.06e-9, rel=0.01)


def test_temperature_keeps_the_size_of_the_gradient() -> None:
    """Far above the logits, T² times the divergence is the squared difference of logits over 8, whatever T is."""
    student, teacher = torch.tensor(1.5).view(1, 1, 1, 1), torch.tensor(-0.5).view(1, 1, 1, 1)
    for temperature in (20.0, 50.0):
        assert softened_divergence(student, teacher, temperature).item() == pytest.approx(4 / 8, rel=5e-3)


def test_the_total_is_alpha_times_the_weighted_sum() -> None:
    student = {name: torch.full((1, 1, 4, 4), 1.0) for name in ("roughness", "metallic")}
    teacher = {name: torch.full((1, 1, 4, 4), value) for name, value in (("roughness", -1.0), ("metallic", 0.0))}
    options = Options(alpha=0.25, temperature=1.0, roughness=2.0, metallic=3.0)
    result = DistillationLoss(options, LossSetup(("roughness", "metallic"), 4))(taught(student, teacher))
    terms = {name: value.item() for name, value in result.terms.items()}
    assert set(terms) == {"roughness", "metallic"}
    q, p = torch.sigmoid(torch.tensor(-1.0)), torch.sigmoid(torch.tensor(1.0))
    assert terms["roughness"] == pytest.approx((q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()).item())
    assert result.total.item() == pytest.approx(0.25 * (2 * terms["roughness"] + 3 * terms["metallic"]))


def test_normals_are_compared_by_angle() -> None:
    def tilted(degrees: float) -> Prediction:
        slope = torch.tan(torch.deg2rad(torch.tensor(degrees)))
        slopes = torch.stack((slope.expand(4, 4), torch.zeros(4, 4)))[None]
        return Prediction({"normal": F.normalize(torch.cat((slopes, torch.ones(1, 1, 4, 4)), 1), dim=1)}, {}, {})

    x = replace(example_loss_input(("normal",), valid="all"), prediction=tilted(30), teacher=tilted(-15))
    x = replace(x, valid=torch.ones(1, 1, 4, 4))
    for form, expected in (("angle", torch.pi / 4), ("cosine", 1 - 0.5**0.5)):
        options = Options(alpha=1.0, normal_form=form)  # type: ignore[arg-type]
        assert DistillationLoss(options, LossSetup(("normal",), 4))(x).total.item() == pytest.approx(expected, rel=1e-4)


FEATURES = {"latent": 6, "decoder0": 4}
TEACHERS = {"latent": 8, "decoder0": 5, "decoder1": 3}


def feature_loss(**options: Any) -> DistillationLoss:
    torch.manual_seed(0)
    return DistillationLoss(Options(feature_weight=1.0, **options), LossSetup(MAP_NAMES, 32, FEATURES, TEACHERS))


def feature_input(**changes: Any) -> LossInput:
    return example_loss_input(teacher=True, features=FEATURES, teacher_features=TEACHERS, **changes)


def test_features_of_any_width_and_size_are_matched_by_name() -> None:
    loss, x = feature_loss(), feature_input()
    result = loss(x)
    assert {name for name in result.terms if name.startswith("feature")} == {"feature_latent", "feature_decoder0"}
    result.total.backward()
    gradients = [parameter.grad for parameter in loss.parameters()]
    assert len(gradients) == 4
    assert all(gradient is not None and bool(gradient.any()) for gradient in gradients)


def test_matching_features_can_be_learnt() -> None:
    """A teacher whose features are a linear image of the student's is matched by the 1×1 convolutions alone."""
    features_alone = {"albedo": 0.0, "roughness": 0.0, "metallic": 0.0, "normal": 0.0, "features": {"latent": "latent"}}
    loss, x = feature_loss(**features_alone), feature_input(valid="all")
    mix = torch.randn(8, 6, 1, 1, generator=torch.Generator().manual_seed(3))
    assert x.teacher is not None
    image = F.adaptive_avg_pool2d(F.conv2d(x.prediction.features["latent"], mix), 4)
    x = replace(x, teacher=x.teacher._replace(features={"latent": image}))
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        loss(x).total.backward()
        optimizer.step()
    assert loss(x).terms["feature_latent"] < 1e-3


def test_the_feature_term_does_not_depend_on_the_teachers_scale() -> None:
    loss, x = feature_loss(), feature_input()
    assert loss.features is not None
    for parameter in loss.features.parameters():
        torch.nn.init.zeros_(parameter)
    assert x.teacher is not None
    for scale in (1.0, 1000.0):
        features = {name: scale * value for name, value in x.teacher.features.items()}
        terms = loss(replace(x, teacher=x.teacher._replace(features=features))).terms
        assert terms["feature_latent"].item() == pytest.approx(1.0)


def test_features_where_nothing_is_valid_do_not_count() -> None:
    """Left half invalid: what the student's features are there changes nothing, and they get no gradient."""
    loss, x = feature_loss(), feature_input(valid="all")
    valid = torch.ones_like(x.valid)
    valid[..., :16] = 0
    student = {name: value.clone().requires_grad_() for name, value in x.prediction.features.items()}
    loss(replace(x, valid=valid, prediction=x.prediction._replace(features=student))).total.backward()
    for value in student.values():
        assert value.grad is not None
        assert not value.grad[..., : value.shape[-1] // 2].any()
        assert value.grad[..., value.shape[-1] // 2 :].any()


def test_it_claims_its_share() -> None:
    loss = DistillationLoss(Options(alpha=0.7), SETUP)
    assert loss.share == 0.7
    assert not loss.reconstruction


@pytest.mark.parametrize(
    ("options", "setup", "message"),
    [
        (
            Options(albedo=0, roughness=0, metallic=0, normal=0),
            SETUP,
            "nothing is left to compare: every predicted map has weight 0",
        ),
        (Options(feature_weight=1), SETUP, "features need a live teacher; set teacher.mode: online"),
        (
            Options(feature_weight=1, features={"latent": "decoder7"}),
            LossSetup(MAP_NAMES, 32, FEATURES, TEACHERS),
            "features: the teacher has no decoder7; it has latent, decoder0, decoder1",
        ),
        (
            Options(feature_weight=1, features={"bottleneck": "latent"}),
            LossSetup(MAP_NAMES, 32, FEATURES, TEACHERS),
            "features: the student has no bottleneck; it has latent, decoder0",
        ),
    ],
)
def test_what_cannot_work_is_refused(options: Options, setup: LossSetup, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        DistillationLoss(options, setup)


def test_without_a_teacher_it_says_so() -> None:
    with pytest.raises(ModelError, match="no teacher's prediction; add a section `teacher`"):
        DistillationLoss(Options(), SETUP)(example_loss_input())
