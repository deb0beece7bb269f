"""Operators that move values without changing them: extents and axes, joining and cutting, choice by index."""

import torch
from torch import Tensor
from torch.nn import functional as F

from neuropbr_core.errors import ExportError
from neuropbr_exporters.coreml.evaluator.program import Arguments, last_axis_first, operator


@operator("reshape")
def reshape(a: Arguments) -> Tensor:
    """The same values in the extents that the program declares."""
    # The declared extents, because the argument may hold -1 (to be inferred) and 0 (to be kept).
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
    """Joined along an existing axis, one tensor after another or, interleaved, one value of each in turn."""
    values = a.tensors("values")
    axis = a.integer("axis")
    if not a.flag("interleave"):
        return torch.cat(values, axis)
    # As a new axis behind the joined one, the list's order varies fastest.
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
    unset = [0] * x.dim()
    begin = a.integers("begin")
    end = a.integers("end")
    stride = a.integers("stride", [1] * x.dim())
    open_begin = a.integers("begin_mask", unset)
    open_end = a.integers("end_mask", unset)
    single = a.integers("squeeze_mask", unset)
    for axis in range(x.dim()):
        # Slicing a range gives Python's meaning of negative bounds and strides, which tensors do not take.
        places = range(x.shape[axis])
        if single[axis]:
            chosen = [places[begin[axis]]]
        else:
            start: int | None = begin[axis]
            stop: int | None = end[axis]
            if open_begin[axis]:
                start = None
            if open_end[axis]:
                stop = None
            chosen = list(places[start : stop : stride[axis]])
        x = x.index_select(axis, torch.tensor(chosen))
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
    x = a.tensor("x")
    sides = a.integers("pad")
    mode = a.text("mode", "constant")
    if mode not in {"constant", "reflect", "replicate"}:
        raise ExportError(f"the reference evaluator does not know pad with mode {mode}")
    # MIL may name axes that get no padding; torch reflects the last axes only, and refuses to be given others.
    while len(sides) > 2 and sides[:2] == [0, 0]:
        sides = sides[2:]
    value = None
    if mode == "constant":
        value = a.number("constant_val", 0.0)
    return F.pad(x, last_axis_first(sides), mode, value)


@operator("select")
def select(a: Arguments) -> Tensor:
    """`a` where `cond` holds, else `b`."""
    return torch.where(a.tensor("cond").bool(), a.tensor("a"), a.tensor("b"))


@operator("gather_along_axis")
def gather_along_axis(a: Arguments) -> Tensor:
    """Values at `indices` along `axis`; negative indices count from the end."""
    x = a.tensor("x")
    axis = a.integer("axis", 0)
    indices = a.tensor("indices").long()
    return x.gather(axis, indices % x.shape[axis])


@operator("gather")
def gather(a: Arguments) -> Tensor:
    """Slices of `x` at `indices` along `axis`."""
    x = a.tensor("x")
    axis = a.integer("axis", 0) % x.dim()
    indices = a.tensor("indices").long()
    # The remainder turns negative indices, which count from the end, into positive ones. `index_select` takes a vector,
    # so the extents of the indices are put back afterwards.
    slices = x.index_select(axis, (indices % x.shape[axis]).reshape(-1))
    return slices.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


@operator("argsort")
def argsort(a: Arguments) -> Tensor:
    """Indices that sort along `axis`."""
    # `ascending` is False where it is left out: Core ML sorts downwards by default.
    return a.tensor("x").argsort(dim=a.integer("axis", -1), descending=not a.flag("ascending"), stable=True)


@operator("topk")
def topk(a: Arguments) -> tuple[Tensor, Tensor]:
    """The k largest (or smallest) along `axis`, sorted, and their indices."""
    values, indices = a.tensor("x").topk(
        a.integer("k", 1), dim=a.integer("axis", -1), largest=not a.flag("ascending"), sorted=a.flag("sort", True)
    )
    return values, indices
