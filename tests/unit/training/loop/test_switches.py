"""Memory and speed switches give the training that the plain path gives."""

from typing import Any

import pytest
import torch

from neuropbr_core.model import ModelSpec, build_generator, load_model, save_model
from neuropbr_core.recipe import load_recipe
from neuropbr_core.training.loop import switches
from neuropbr_core.training.loop.switches import apply_switches

CPU = torch.device("cpu")
SETTINGS = [
    "model.encoder={use: unet, channels: [8, 16], norm: batch}",
    "model.fusion={use: vit, dim: 16, heads: 2, depth: 1, dropout: 0.5, position: none}",
    "model.decoder={channels: [8], head_channels: 8, norm: batch}",
]


def train(*extra: str, steps: int = 2) -> tuple[Any, list[float], torch.Tensor]:
    """A generator after some steps, the losses on the way, and where the random generator is."""
    recipe = load_recipe("neuropbr:quickstart", [*SETTINGS, *extra])
    torch.manual_seed(0)
    generator = build_generator(ModelSpec.from_recipe(recipe))
    assert apply_switches(generator, recipe.training, CPU) == []
    optimizer = torch.optim.SGD(generator.parameters(), lr=0.1)
    views, directions = torch.rand(2, 2, 3, 16, 16), torch.rand(2, 2, 3, 16, 16)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        prediction = generator(views, None, directions)
        loss = torch.stack([value.square().mean() for value in prediction.maps.values()]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return generator, losses, torch.get_rng_state()


@pytest.mark.parametrize("parts", ["[encoder]", "[fusion]", "[encoder, fusion, decoder]"])
def test_recomputed_activations_change_nothing_batch_norm_and_dropout_included(parts: str) -> None:
    plain, losses, random = train()
    recomputed, same, after = train(f"training.activation_checkpointing={parts}")
    assert same == losses
    assert torch.equal(random, after)
    for name, value in plain.state_dict().items():
        assert torch.equal(recomputed.state_dict()[name], value), name


def test_recomputing_keeps_less() -> None:
    def kept(*extra: str) -> int:
        sizes: list[int] = []
        pack = torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t)
        with pack:
            train(*extra, steps=1)
        return sum(sizes)

    assert kept("training.activation_checkpointing=[encoder, fusion, decoder]") < 0.7 * kept()


def test_without_a_compiler_the_run_goes_on_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nmore")

    monkeypatch.setattr(switches.torch, "compile", broken)
    recipe = load_recipe("neuropbr:quickstart", [*SETTINGS, "training.compile=true"])
    generator = build_generator(ModelSpec.from_recipe(recipe))
    (line,) = apply_switches(generator, recipe.training, CPU)
    assert line == (
        "warning: training.compile: nothing can be compiled here, so the run goes on without "
        "(RuntimeError: InvalidCxxCompiler: No working C++ compiler found)"
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_generator_trains_alike_and_saves_clean_names(tmp_path: Any) -> None:
    dropless = "model.fusion={use: vit, dim: 16, heads: 2, depth: 1, dropout: 0, position: none}"
    plain, losses, _ = train(dropless)
    compiled, same, _ = train(dropless, "training.compile=true", "training.activation_checkpointing=[encoder]")
    assert same == pytest.approx(losses, rel=1e-4)
    assert list(compiled.state_dict()) == list(plain.state_dict())
    recipe = load_recipe("neuropbr:quickstart", [*SETTINGS, dropless])
    save_model(compiled, ModelSpec.from_recipe(recipe), tmp_path)
    loaded, _ = load_model(tmp_path)
    for name, value in compiled.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
