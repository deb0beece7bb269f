"""Operations that move values without changing them."""

import torch
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.errors import ExportError
from neuropbr_exporters.coreml.evaluator.arguments import Arguments
from neuropbr_exporters.coreml.evaluator.registry import operator


@operator("reshape")
def reshape(a: Arguments) -> Tensor:
    """The same values in the extents that the program declares."""
    return a.tensor("x").reshape(a.shape)


@operator("expand_dims")
def expand_dims(a: Arguments) -> Tensor:
    """New axes of extent 1."""
    return a.tensor("x").reshape(a.shape)


@operator("squeeze")
def squeeze(a: Arguments) -> Tensor:
    """Axes of extent 1 removed."""
    return a.tensor("x").reshape(a.shape)


@operator("transpose")
def transpose(a: Arguments) -> Tensor:
    """Axes in the order of `perm`."""
    return a.tensor("x").permute(a.integers("perm"))


@operator("concat")
def concat(a: Arguments) -> Tensor:
    """Joined along an axis that is there; interleaved, value by value of that axis."""
    values, axis = a.tensors("values"), a.integer("axis")
    if not a.flag("interleave"):
        return torch.cat(values, axis)
    return torch.stack(values, axis % values[0].dim() + 1).reshape(a.shape)


@operator("stack")
def stack(a: Arguments) -> Tensor:
    """Joined along a new axis."""
    return torch.stack(a.tensors("values"), a.integer("axis"))


@operator("split")
def split(a: Arguments) -> tuple[Tensor, ...]:
    """Parts along `axis`, of the extents that the program declares."""
    axis = a.integer("axis")
    return torch.split(a.tensor("x"), [output.shape[axis] for output in a.outputs], axis)


@operator("tile")
def tile(a: Arguments) -> Tensor:
    """Repeated along each axis."""
    return a.tensor("x").repeat(a.integers("reps"))


@operator("fill")
def fill(a: Arguments) -> Tensor:
    """One value everywhere."""
    return a.tensor("value").expand(a.shape).clone()


@operator("fill_like")
def fill_like(a: Arguments) -> Tensor:
    """One value everywhere, in the extents of another tensor."""
    return a.tensor("value").expand(a.shape).clone()


@operator("reverse")
def reverse(a: Arguments) -> Tensor:
    """Order turned around along axes."""
    x = a.tensor("x")
    return x.flip(a.integers("axes", list(range(x.dim()))))


@operator("slice_by_index")
def slice_by_index(a: Arguments) -> Tensor:
    """x[begin:end:stride] on each axis; masks open an end or pick one index."""
    x = a.tensor("x")
    none = [0] * x.dim()
    begin, end, stride = a.integers("begin"), a.integers("end"), a.integers("stride", [1] * x.dim())
    masks = (a.integers(name, none) for name in ("begin_mask", "end_mask", "squeeze_mask"))
    for axis, (first, last, one) in enumerate(zip(*masks, strict=True)):
        every = range(x.shape[axis])
        bounds = slice(None if first else begin[axis], None if last else end[axis], stride[axis])
        x = x.index_select(axis, torch.tensor([every[begin[axis]]] if one else list(every[bounds])))
    return x.reshape(a.shape)


@operator("slice_by_size")
def slice_by_size(a: Arguments) -> Tensor:
    """As many values as the program declares on each axis, from `begin` on."""
    x = a.tensor("x")
    for axis, (start, extent) in enumerate(zip(a.integers("begin"), a.shape, strict=True)):
        x = x.narrow(axis, start, extent)
    return x


@operator("pad")
def pad(a: Arguments) -> Tensor:
    """Padding of the last axes, before and after each, by a constant, by reflection or by the border."""
    x, given, mode = a.tensor("x"), a.integers("pad"), a.text("mode", "constant")
    if mode not in {"constant", "reflect", "replicate"}:
        raise ExportError(f"the reference evaluator does not know pad with mode {mode}")
    pairs = list(zip(given[::2], given[1::2], strict=True))
    while len(pairs) > 1 and pairs[0] == (0, 0):  # torch reflects the last axes only
        pairs.pop(0)
    order = [side for pair in reversed(pairs) for side in pair]
    return F.pad(x, order, mode, a.number("constant_val", 0.0) if mode == "constant" else None)
