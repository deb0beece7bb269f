"""What a long run on many GPUs would cost, on paper: counted operations and bytes over figures that you state.

    python benchmarks/scale.py [--recipe neuropbr:teacher_default] [--materials 4000] [--gpus 64] …

Nothing is trained. Operations and parameters are counted on the recipe's own networks without values (as by `neuropbr
recipe cost`); bytes follow from the formats of packs and checkpoints. What the hardware does is assumed: change the
options to your machines. The defaults are those of NVIDIA's data sheet of the H100 SXM (989 TFLOP/s dense in
bfloat16) and of InfiniBand NDR (50 GB/s for each GPU).
"""

import argparse
from dataclasses import dataclass

from neuropbr_core.maps import MAPS
from neuropbr_core.model.cost import Cost, cost
from neuropbr_core.recipe import load_recipe
from neuropbr_core.recipe.sections import Recipe

UTILISATIONS = (0.25, 0.35, 0.5)
"""Shares of the peak that a run may reach; none was measured for these networks."""

_FORWARD_AND_BACKWARD = 3
"""A backward pass computes two products, for inputs and for weights, where the forward pass computes one."""

_STATE_BYTES = 12
"""Bytes for each parameter in a checkpoint without a weight average: the weight and Adam's two moments in float32."""


@dataclass(frozen=True)
class Plan:
    """A run on paper.

    Attributes:
        recipe: The recipe.
        counted: Its networks' cost for one sample.
        samples: Samples in an epoch.
        epochs: Epochs.
        gpus: GPUs.
        gpus_per_machine: GPUs that share one machine's disks.
        batch: Samples of a step on each GPU.
        peak: FLOP/s of one GPU.
        link: Bytes a second between GPUs of different machines, for each GPU.
        disk: Bytes a second that a machine writes.
    """

    recipe: Recipe
    counted: Cost
    samples: int
    epochs: int
    gpus: int
    gpus_per_machine: int
    batch: int
    peak: float
    link: float
    disk: float

    @property
    def sample_flops(self) -> float:
        """Operations of training on one sample, with the forward passes that checkpointing repeats."""
        repeated = 0
        for part in self.counted.parts:
            if part.name in self.recipe.training.activation_checkpointing:
                repeated += part.flops
        return float(_FORWARD_AND_BACKWARD * self.counted.total.flops + repeated)

    @property
    def gradient_bytes(self) -> int:
        """Bytes of all gradients in float32."""
        return 4 * self.counted.total.parameters

    @property
    def exchange_seconds(self) -> float:
        """Time of a ring all-reduce, which sends and receives nearly everything twice (Patarasuk and Yuan 2009)."""
        return 2 * (self.gpus - 1) / self.gpus * self.gradient_bytes / self.link

    @property
    def stored_bytes(self) -> int:
        """Bytes of one sample in a pack: views and maps as 8-bit pixels."""
        data = self.recipe.data
        view = 3 * (data.view_size or data.image_size) ** 2
        channels = sum(spec.channels for spec in MAPS.values())
        return data.views * view + channels * data.output_size**2

    def step_seconds(self, utilisation: float) -> float:
        """Time of the computation of a step."""
        return self.batch * self.sample_flops / (self.peak * utilisation)

    def epoch_seconds(self, utilisation: float) -> float:
        """Time of an epoch in which no exchange is hidden behind computation: the worst case."""
        steps = self.samples / (self.gpus * self.batch)
        return steps * (self.step_seconds(utilisation) + self.exchange_seconds)


def describe(plan: Plan) -> list[str]:
    """The tables, as lines of Markdown."""
    machines = -(-plan.gpus // plan.gpus_per_machine)
    state = _STATE_BYTES * plan.counted.total.parameters
    lines = [
        "| quantity | value |",
        "| --- | --- |",
        f"| parameters | {plan.counted.total.parameters / 1e6:.0f} million |",
        f"| operations of training on a sample | {plan.sample_flops / 1e12:,.0f} TFLOP |",
        f"| samples of an epoch | {plan.samples:,} |",
        f"| gradients of a step | {plan.gradient_bytes / 1e9:.2f} GB, exchanged in {plan.exchange_seconds:.3f} s |",
        f"| a checkpoint | {state / 1e9:.1f} GB, {state / plan.disk:.0f} s to write |",
        f"| a sample in the pack | {plan.stored_bytes / 1e6:.0f} MB |",
        f"| the pack | {plan.samples * plan.stored_bytes / 1e12:.2f} TB |",
        "",
        "| share of the peak | step | exchange / step | epoch | run | GPU-hours | read by each machine |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for utilisation in UTILISATIONS:
        step = plan.step_seconds(utilisation)
        epoch = plan.epoch_seconds(utilisation)
        run = epoch * plan.epochs
        read = plan.samples * plan.stored_bytes / epoch / machines
        cells = (
            f"{utilisation:.0%}",
            f"{step:.2f} s",
            f"{plan.exchange_seconds / step:.1%}",
            f"{epoch / 60:.0f} min",
            f"{run / 3600:.0f} h",
            f"{run / 3600 * plan.gpus:,.0f}",
            f"{read / 1e9:.2f} GB/s",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="neuropbr:teacher_default")
    parser.add_argument("--materials", type=int, default=4000)
    parser.add_argument("--captures", type=int, default=10, help="captures of each material")
    parser.add_argument("--epochs", type=int, help="default: the recipe's")
    parser.add_argument("--gpus", type=int, default=64)
    parser.add_argument("--gpus-per-machine", type=int, default=8)
    parser.add_argument("--batch", type=int, default=1, help="samples of a step on each GPU")
    parser.add_argument("--peak", type=float, default=989, metavar="TFLOP/s", help="of one GPU, dense, in bfloat16")
    parser.add_argument("--link", type=float, default=50, metavar="GB/s", help="between machines, for each GPU")
    parser.add_argument("--disk", type=float, default=2, metavar="GB/s", help="that a machine writes")
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe)
    plan = Plan(
        recipe=recipe,
        counted=cost(recipe),
        samples=arguments.materials * arguments.captures,
        epochs=arguments.epochs or recipe.training.epochs,
        gpus=arguments.gpus,
        gpus_per_machine=arguments.gpus_per_machine,
        batch=arguments.batch,
        peak=arguments.peak * 1e12,
        link=arguments.link * 1e9,
        disk=arguments.disk * 1e9,
    )
    print("\n".join(describe(plan)))


if __name__ == "__main__":
    main()
