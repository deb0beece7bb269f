"""A training step with a critic: ours against a straightforward implementation of the same networks, side by side.

    python benchmarks/step.py --json step.json

The straightforward step is written as many training scripts are: the encoder sees the views one by one, the generator
predicts a second time for the critic, which judges true and predicted maps apart, every loss is computed by itself
(SSIM by an 11×11 depthwise convolution) and read with `.item()`, statistics over views are operators with PyTorch's
derivatives, and the optimisers are those that PyTorch gives. Both
steps train networks of the same recipe and the same start weights on the same batch. They take turns, and each round
gives one ratio.

Without `--no-overhead`, it then trains on rendered captures and shows where the time of an epoch goes: the networks and
losses; what loads and prepares batches; and logs, checks, averages and everything else.
"""

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neuropbr_core.contracts import Encoder
from neuropbr_core.data.batches.prepare import Prepared
from neuropbr_core.data.synthesis.render import synthesize
from neuropbr_core.maps import MAP_NAMES, MAPS, NORMAL
from neuropbr_core.model import Generator, ModelSpec, build_generator, merge
from neuropbr_core.recipe import load_recipe
from neuropbr_core.recipe.sections import Recipe, Synthesize
from neuropbr_core.runs.run import run
from neuropbr_core.training.lightning import Fabric
from neuropbr_core.training.loop.feed import Feed
from neuropbr_core.training.loop.objective import Objective
from neuropbr_core.training.loop.step import Stepper, make_stepper
from neuropbr_core.training.loop.trainer import Trainer
from neuropbr_losses.fused.measures import Job, Measure, gaussian_taps
from neuropbr_losses.fused.reference import evaluate_plainly

RECIPE = "neuropbr:quickstart"
NETWORKS = (
    "data.synthesize=null",
    "data.val_materials=[]",
    "data.crop_size=null",
    "model.encoder={use: resnet, variant: resnet18, pretrained: false}",
    "model.fusion={use: vit, dim: 128, heads: 4, depth: 2}",
    "model.decoder={channels: [128, 64, 32, 16], head_channels: 16, norm: none}",
    "model.view_conditioning=none",
    "model.ratio_images=false",
    "model.reflectance_profile=false",
    "model.albedo=direct",
    "data.alignment=none",
    "losses={l1: {}, ssim: {weight: 0.3}, normal: {weight: 0.5}, gan: {weight: 0.05, layers: 3, width: 32}, bce: null}",
    "training.device=cpu",
    "training.ema=null",
)
"""A small teacher with the parts of the large ones: residual network, cross-view transformer, U-Net decoder, critic."""

TARGET_SPEED = 1.6
TARGET_OVERHEAD = 0.05


def make_recipe(size: int, batch: int) -> Recipe:
    """The recipe of the comparison."""
    sizes = (f"data.image_size={size}", f"data.output_size={size}", f"training.batch_size={batch}")
    return load_recipe(RECIPE, [*NETWORKS, *sizes])


def make_batch(size: int, batch: int, views: int = 3) -> Prepared:
    """Random photos that see everything, and random maps."""
    random = torch.Generator().manual_seed(0)
    targets = {}
    for name, spec in MAPS.items():
        low, high = spec.value_range
        values = torch.rand(batch, spec.channels, size, size, generator=random) * (high - low) + low
        if name == NORMAL.name:
            values = F.normalize(values, dim=1)
        targets[name] = values
    return Prepared(
        ids=["sample"] * batch,
        materials=["material"] * batch,
        views=torch.rand(batch, views, 3, size, size, generator=random),
        visible=torch.ones(batch, views, 1, size, size),
        targets=targets,
        crop_to_texture=torch.eye(3).repeat(batch, 1, 1),
        valid=torch.ones(batch, 1, size, size),
    )


class OneByOne(Encoder):
    """An encoder that sees the views of a batch one after the other."""

    def __init__(self, encoder: Encoder, views: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.views = views
        self.channels = encoder.channels
        self.strides = encoder.strides

    def forward(self, images: Tensor) -> list[Tensor]:
        """Encode images `(B·V, C, H, W)`."""
        by_view = []
        for view in images.view(-1, self.views, *images.shape[1:]).unbind(dim=1):
            by_view.append(self.encoder(view))
        levels = []
        for level in zip(*by_view, strict=True):
            levels.append(torch.stack(level, dim=1).flatten(0, 1))
        return levels


class Straightforward:
    """A training step as it is often written.

    Args:
        generator: The networks.
        critic: The critic.
        recipe: Weights of the losses.
    """

    def __init__(self, generator: Generator, critic: nn.Module, recipe: Recipe) -> None:
        generator.encoder = OneByOne(generator.encoder, 3)
        self.generator = generator.train()
        self.critic = critic.train()
        self.weights = {name: part.entry.weight for name, part in recipe.losses.items()}
        self.optimizer = torch.optim.AdamW(generator.parameters(), lr=1e-4)
        self.critic_optimizer = torch.optim.AdamW(critic.parameters(), lr=1e-4)
        self.logs: dict[str, float] = {}

    def step(self, batch: Prepared) -> None:
        """Update the critic, and then the generator."""
        with torch.no_grad():
            fake = joined(self.generator(batch.views, batch.visible).maps)
        real = joined(batch.targets)
        self.critic_optimizer.zero_grad()
        of_real = F.relu(1 - self.critic(real)).mean()
        of_fake = F.relu(1 + self.critic(fake)).mean()
        torch.autograd.backward(of_real + of_fake)
        nn.utils.clip_grad_norm_(self.critic.parameters(), 1.0)
        self.critic_optimizer.step()
        self.logs |= {"real": of_real.item(), "fake": of_fake.item()}

        self.optimizer.zero_grad()
        maps = self.generator(batch.views, batch.visible).maps
        total = self.weights["gan"] * -self.critic(joined(maps)).mean()
        measures = [Measure("l1", name) for name in MAP_NAMES]
        measures += [Measure("ssim", "albedo", gaussian_taps(11, 1.5)), Measure("cosine", "normal")]
        for measure in measures:
            # One by one, each with an intermediate tensor for every operator.
            value = evaluate_plainly(maps, batch.targets, batch.valid, Job.of([measure]))[0]
            name = {"cosine": "normal"}.get(measure.kind, measure.kind)
            total = total + self.weights[name] * value
            self.logs[f"{measure.kind}/{measure.map}"] = value.item()
        total.backward()
        nn.utils.clip_grad_norm_(self.generator.parameters(), 1.0)
        self.optimizer.step()
        self.logs["total"] = total.item()


def joined(maps: dict[str, Tensor]) -> Tensor:
    """All maps in [-1, 1], as the critic sees them."""
    scaled = []
    for name in MAP_NAMES:
        low, high = MAPS[name].value_range
        scaled.append((maps[name] - low) * (2 / (high - low)) - 1)
    return torch.cat(scaled, dim=1)


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Time both steps in turns."""
    recipe = make_recipe(options.size, options.batch)
    batch = make_batch(options.size, options.batch)
    torch.manual_seed(0)
    generator = build_generator(ModelSpec.from_recipe(recipe))
    objective = Objective.from_recipe(recipe, generator.feature_channels)
    critic = next(term.critic for term in objective.terms if term.critic is not None)
    plain = Straightforward(copy.deepcopy(generator), copy.deepcopy(critic), recipe)
    stepper = make_stepper(Fabric(accelerator="cpu", devices=1), recipe, generator.train(), objective)
    times: dict[str, list[float]] = {"straightforward": [], "ours": []}
    for turn in range(options.rounds + 1):
        start = time.perf_counter()
        with mock.patch.object(merge.Statistics, "apply", merge.statistics_by_operators):
            plain.step(batch)
        middle = time.perf_counter()
        stepper.step([batch], [1.0], epoch=0)
        end = time.perf_counter()
        if turn:  # the first turn warms up
            times["straightforward"].append(middle - start)
            times["ours"].append(end - middle)
    ratios = [slow / fast for slow, fast in zip(*times.values(), strict=True)]
    low, middle_ratio, high = statistics.quantiles(ratios, n=4)
    return {"speed": middle_ratio, "speed_quartiles": [low, high], "seconds": statistics.median(times["ours"])}


@contextmanager
def clock() -> Iterator[dict[str, float]]:
    """Context in which a run's seconds are added up from its second epoch on: the first one packs images.

    `steps` are those of networks, losses and optimisers, `batches` those of waiting for batches and preparing them, and
    `epochs` those of all steps with everything around them; validation and checkpoints are not counted.
    """
    seconds = dict.fromkeys(("steps", "batches", "epochs"), 0.0)
    step = Stepper.step
    prepare = Feed._prepared  # noqa: SLF001 - no other place separates batches from steps
    train = Trainer._train_epoch  # noqa: SLF001

    def timed_step(stepper: Stepper, *arguments: Any, **named: Any) -> Any:
        # A step asks for its batches itself, so that their time is taken off.
        before = seconds["batches"]
        start = time.perf_counter()
        result = step(stepper, *arguments, **named)
        seconds["steps"] += time.perf_counter() - start - (seconds["batches"] - before)
        return result

    def timed_batches(feed: Feed, *arguments: Any) -> Iterator[Prepared]:
        batches = prepare(feed, *arguments)
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            seconds["batches"] += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    def timed_epoch(trainer: Trainer, epoch: int) -> Any:
        if epoch == 1:
            seconds.update(dict.fromkeys(seconds, 0.0))
        start = time.perf_counter()
        summary = train(trainer, epoch)
        seconds["epochs"] += time.perf_counter() - start
        return summary

    with (
        mock.patch.object(Stepper, "step", timed_step),
        mock.patch.object(Feed, "_prepared", timed_batches),
        mock.patch.object(Trainer, "_train_epoch", timed_epoch),
    ):
        yield seconds


def overhead(options: argparse.Namespace) -> dict[str, float]:
    """Train the quickstart's networks on a few captures; shares of an epoch's time."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        captures = root / "captures"
        synthesize(Synthesize("neuropbr:examples/materials", samples=8, size=128, seed=1), captures)
        overrides = (
            "data.synthesize=null",
            f"data.root={captures}",
            "data.image_size=128",
            "data.output_size=128",
            "training.epochs=4",
            "training.validate_every_n_epochs=4",
            "training.log_images_every_n_epochs=4",
            "training.log_every_n_steps=10",
            "training.device=cpu",
            "data.num_workers=0",
            f"data.repeats={options.repeats}",
            f"training.runs_dir={root / 'runs'}",
            "export.torchscript=null",
            "observers={journal: {}, tensorboard: {}}",
        )
        with clock() as seconds:
            run(load_recipe(RECIPE, overrides), run_name="overhead")
    whole = seconds["epochs"]
    steps = seconds["steps"] / whole
    batches = seconds["batches"] / whole
    return {"steps": steps, "batches": batches, "rest": 1 - steps - batches}


def main() -> None:
    """Run the benchmark as the command line says."""
    parser = argparse.ArgumentParser(description="A training step against a straightforward implementation.")
    parser.add_argument("--size", type=int, default=128, help="side of views and maps in pixels")
    parser.add_argument("--batch", type=int, default=2, help="samples in a batch")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds, at least 2")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument(
        "--repeats", type=int, default=16, help="crops of each capture in an epoch of the overhead's run"
    )
    parser.add_argument("--no-overhead", action="store_true", help="do not measure where an epoch's time goes")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds must be at least 2: a spread needs two values")
    torch.set_num_threads(options.threads)
    result: dict[str, Any] = {"step": compare(options)}
    row = result["step"]
    low, high = row["speed_quartiles"]
    print(f"step: {row['speed']:.2f} × straightforward (middle half {low:.2f} to {high:.2f}), target {TARGET_SPEED}")
    if not options.no_overhead:
        result["overhead"] = overhead(options)
        for name, share in result["overhead"].items():
            print(f"{name:8} {share:6.1%} of an epoch")
        around = 1 - result["overhead"]["steps"]
        print(f"around the networks: {around:.1%}, target at most {TARGET_OVERHEAD:.0%}")
    if options.json:
        facts = {key: getattr(options, key) for key in ("size", "batch", "rounds", "threads", "repeats")}
        options.json.write_text(json.dumps({**facts, "torch": torch.__version__, **result}, indent=2) + "\n")


if __name__ == "__main__":
    main()
