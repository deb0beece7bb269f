"""A transformer whose attention grows linearly: within windows over all views, and to a pooled view of the frame."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from neuropbr_core.borders import continue_border
from neuropbr_core.contracts import Fusion
from neuropbr_core.errors import ExportError
from neuropbr_fusion.attention import (
    Attention,
    Block,
    mean_over_views,
    require_heads_divide,
    start_like_timm,
    visibility_bias,
)
from neuropbr_fusion.visibility import blank_unseen, is_seen
from neuropbr_fusion.window import Options

_LEAST_SHARE = 1e-6
"""Smallest visible share of a cell to divide by; a smaller one counts as none."""


class Windows(NamedTuple):
    """How the pixels of a frame are cut into windows of equal sides.

    Attributes:
        views: Views of a sample.
        height: Height of the frame in pixels.
        width: Width of the frame in pixels.
        rows: Windows along the height.
        columns: Windows along the width.
        window_height: Height of a window in pixels; where the windows exceed the frame, they are filled with zeros.
        window_width: Width of a window in pixels.
    """

    views: int
    height: int
    width: int
    rows: int
    columns: int
    window_height: int
    window_width: int

    @classmethod
    def of(cls, views: int, height: int, width: int, largest: int) -> "Windows":
        """Cut a frame into as few windows as have at most `largest` pixels along a side."""
        rows = math.ceil(height / largest)
        columns = math.ceil(width / largest)
        # Equal windows exceed the frame by less than a pixel each; windows of side `largest` would fill almost three
        # quarters with zeros where a frame is one pixel larger than a window.
        return cls(views, height, width, rows, columns, math.ceil(height / rows), math.ceil(width / columns))

    @property
    def below(self) -> int:
        """Rows of zeros below the frame."""
        return self.rows * self.window_height - self.height

    @property
    def beside(self) -> int:
        """Columns of zeros to the right of the frame."""
        return self.columns * self.window_width - self.width

    @property
    def exceed(self) -> bool:
        """Whether there are zeros beyond the frame."""
        return self.below > 0 or self.beside > 0

    def cut(self, tokens: Float[Tensor, "B P D"]) -> Float[Tensor, "N T D"]:
        """Bring the tokens of all views that share a window together."""
        batch, _, dim = tokens.shape
        frames = tokens.reshape(batch * self.views, self.height, self.width, dim)
        if self.exceed:
            frames = F.pad(frames, (0, 0, 0, self.beside, 0, self.below))
        # Two exchanges of four axes each, in place of one of seven: mobile accelerators take four.
        strips = frames.reshape(-1, self.window_height, self.columns, self.window_width * dim).transpose(1, 2)
        inside = self.window_height * self.window_width
        by_window = strips.reshape(batch, self.views, self.rows * self.columns, inside * dim).transpose(1, 2)
        return by_window.reshape(-1, self.views * inside, dim)

    def join(self, windows: Float[Tensor, "N T D"]) -> Float[Tensor, "B P D"]:
        """Undo `cut`."""
        dim = windows.shape[2]
        inside = self.window_height * self.window_width
        by_view = windows.reshape(-1, self.rows * self.columns, self.views, inside * dim).transpose(1, 2)
        strips = by_view.reshape(-1, self.columns, self.window_height, self.window_width * dim).transpose(1, 2)
        frames = strips.reshape(-1, self.rows * self.window_height, self.columns * self.window_width, dim)
        if self.exceed:
            frames = frames[:, : self.height, : self.width]
        return frames.reshape(-1, self.views * self.height * self.width, dim)


class Layout(NamedTuple):
    """Where the tokens of a call are, and which of them are seen; computed once for all blocks.

    Attributes:
        windows: How the frame is cut.
        visible: Share of each token that its view sees, in [0, 1], and exactly 0 where it sees nothing; None when all
            is visible.
        bias: Bias of the scores within windows; None when nothing is hidden and no window exceeds the frame.
    """

    windows: Windows
    visible: Float[Tensor, "B T 1"] | None
    bias: Float[Tensor, "N 1 1 K"] | None

    @classmethod
    def of(cls, windows: Windows, latents: Float[Tensor, "B V C h w"], visible: Tensor | None) -> "Layout":
        """Prepare what all blocks need.

        Args:
            windows: How the frame is cut.
            latents: Latents of the call.
            visible: Share of each latent pixel that the view sees `(B, V, 1, h, w)`; None when it is 1 everywhere.
        """
        counted = None
        if visible is not None:
            shares = visible.flatten(1).unsqueeze(2)
            counted = shares.masked_fill(~is_seen(shares), 0)
        if counted is None and not windows.exceed:
            # No bias at all, so that PyTorch may choose flash attention.
            return cls(windows, None, None)
        keys = counted
        if keys is None:
            keys = torch.ones_like(latents[:, :, 0]).flatten(1).unsqueeze(2)
        # The zeros beyond the frame count as invisible.
        return cls(windows, counted, visibility_bias(windows.cut(keys).squeeze(2)))


class WindowAttention(Attention):
    """Attention of each token to all tokens of all views in its window.

    Source: Chu et al. 2021, "Twins", section 3.2 (locally-grouped self-attention; here a group spans the views too).
    """

    def forward(self, tokens: Float[Tensor, "B T D"], layout: Layout) -> Float[Tensor, "B T D"]:  # type: ignore[override]
        """Gather within windows.

        Args:
            tokens: Normalised tokens of all views.
            layout: Where they are.

        Returns:
            What each token gathered, projected.
        """
        windows = layout.windows
        # Projected before they are cut, so that zeros beyond the frame cost little.
        query = windows.cut(self.query(tokens))
        key = windows.cut(self.key(tokens))
        value = windows.cut(self.value(tokens))
        # Projected before they are joined: where attention is computed operator by operator, its result is in another
        # order in memory, which programs of ExecuTorch cannot reshape.
        mixed = self.out(self.mix(query, key, value, layout.bias))
        result: Tensor = self.dropout(windows.join(mixed))
        return result


class PooledAttention(Attention):
    """Attention of each token to the whole frame of every view, averaged to a small grid.

    The grid has the same number of cells whatever the size of the frame, so the cost is linear in pixels.

    Source: Wang et al. 2022, "PVT v2", section 3.1 (linear spatial-reduction attention: average pooling to a fixed
    size, then normalisation). A cell averages what is visible, and counts as much as is visible of it.

    Args:
        dim: Width of the tokens.
        heads: Attention heads; divides `dim`.
        dropout: Dropout of the output projection.
        attention_dropout: Dropout of the attention weights.
        pooled: Cells along a side of the grid.
    """

    def __init__(self, dim: int, heads: int, dropout: float, attention_dropout: float, pooled: int) -> None:
        super().__init__(dim, heads, dropout, attention_dropout)
        self.pooled = pooled
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Float[Tensor, "B T D"], layout: Layout) -> Float[Tensor, "B T D"]:  # type: ignore[override]
        """Gather from the pooled frames.

        Args:
            tokens: Normalised tokens of all views.
            layout: Where they are.

        Returns:
            What each token gathered, projected.
        """
        bias = None
        if layout.visible is None:
            cells = self._pool(tokens, layout.windows)
        else:
            seen = self._pool(layout.visible, layout.windows)
            cells = self._pool(tokens * layout.visible, layout.windows) / seen.clamp_min(_LEAST_SHARE)
            bias = visibility_bias(seen.squeeze(2))
        cells = self.norm(cells)
        result: Tensor = self.dropout(self.out(self.mix(self.query(tokens), self.key(cells), self.value(cells), bias)))
        return result

    def _pool(self, tokens: Float[Tensor, "B T D"], windows: Windows) -> Float[Tensor, "B K D"]:
        """Average over the cells of a grid on each view."""
        batch, _, dim = tokens.shape
        down = cell_shares(windows.height, self.pooled, tokens)
        across = cell_shares(windows.width, self.pooled, tokens)
        # One axis after the other, as products of matrices, which every runtime has. In half precision they add up in
        # float32.
        strips = down @ tokens.reshape(batch * windows.views, windows.height, windows.width * dim)
        cells = across @ strips.reshape(-1, windows.width, dim)
        return cells.reshape(batch, -1, dim)


def cell_shares(pixels: int, cells: int, like: Tensor) -> Float[Tensor, "cells pixels"]:
    """Compute the share of each pixel in the mean over each of equal cells along an axis.

    A cell's border may cut a pixel, which then counts in both cells with its part; so any number of pixels suits any
    number of cells, fewer included.

    Args:
        pixels: Pixels along the axis.
        cells: Cells along the axis.
        like: A tensor of the device and dtype of the result.

    Returns:
        Shares in [0, 1] that add up to 1 over the pixels of each cell.
    """
    left = torch.arange(pixels, device=like.device, dtype=torch.float32)
    start = torch.arange(cells, device=like.device, dtype=torch.float32)[:, None] * (pixels / cells)
    overlap = torch.minimum(left + 1, start + pixels / cells) - torch.maximum(left, start)
    return (overlap.clamp_min(0) * (cells / pixels)).to(like.dtype)


class PositionEncoding(nn.Module):
    """Tells tokens where they are among their neighbours, by a depthwise convolution that is added to them.

    It also carries features across the borders of windows. Attention alone does not know where in a window a token is.

    Source: Chu et al. 2023, "Conditional Positional Encodings for Vision Transformers", section 3.3 (PEG). The frame
    is continued at its border in place of zeros, so that crops and whole frames look alike.

    Args:
        dim: Width of the tokens.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.near = nn.Conv2d(dim, dim, 3, groups=dim)

    def forward(self, tokens: Float[Tensor, "B T D"], layout: Layout) -> Float[Tensor, "B T D"]:
        """Add what is around each token.

        Args:
            tokens: Tokens of all views.
            layout: Where they are.

        Returns:
            The tokens; those of unseen pixels stay as they are, and do not reach their neighbours.
        """
        given = tokens
        if layout.visible is not None:
            seen = (layout.visible > 0).to(tokens.dtype)
            given = tokens * seen
        windows = layout.windows
        frames = given.reshape(-1, windows.height, windows.width, tokens.shape[2]).permute(0, 3, 1, 2)
        near: Tensor = self.near(continue_border(frames, 1)).permute(0, 2, 3, 1).reshape(tokens.shape)
        if layout.visible is not None:
            near = near * seen
        return tokens + near


class WindowTransformer(Fusion):
    """Lets pixels of all views attend to each other within windows and to the pooled frame, then averages over views.

    Blocks alternate: in one, each token attends to the tokens of all views in its window; in the next, to a small grid
    of means over the whole frame of each view. A convolution before each block with windows tells tokens where they
    are. The number of pairs of tokens is thus a constant for each token, and the cost is linear in pixels.

    The order of views cannot matter. Where a view sees nothing, its token is blanked, no other token attends to it, and
    it has no weight in the mean. A pixel that no view sees is filled from what its tokens gather elsewhere.

    Sources:

    - Chu et al. 2021, "Twins: Revisiting the Design of Spatial Attention in Vision Transformers", section 3.2
      (Twins-SVT: windows and a global exchange in turn). Their exchange takes one token for each window, and so grows
      with the square of the pixels.
    - Wang et al. 2022, "PVT v2: Improved Baselines with Pyramid Vision Transformer", section 3.1 (pooled to a fixed
      size).
    - Chu et al. 2023, "Conditional Positional Encodings for Vision Transformers", section 3.3.

    Args:
        options: The recipe's options.
        in_channels: Channels of the latents.

    Raises:
        ModelError: `heads` does not divide `dim`.
    """

    def __init__(self, options: Options, in_channels: int) -> None:
        super().__init__()
        dim = options.dim
        require_heads_divide("window", options.heads, dim)
        self.out_channels = dim
        self.window = options.window
        self.project = nn.Linear(in_channels, dim)
        self.positions = nn.ModuleList()
        self.blocks = nn.ModuleList()
        shared = (dim, options.heads, options.dropout, options.attention_dropout)
        for index in range(options.depth):
            attention: Attention
            if index % 2 == 0:
                attention = WindowAttention(*shared)
                self.positions.append(PositionEncoding(dim))
            else:
                attention = PooledAttention(*shared, options.pooled)
            # Huang et al. 2016, section 3: the probability of skipping grows linearly, up to `drop_path` at the end.
            drop_path = options.drop_path * (index + 1) / options.depth
            self.blocks.append(Block(attention, dim, options.mlp_ratio, options.dropout, drop_path))
        self.norm = nn.LayerNorm(dim)
        start_like_timm(self)

    def forward(
        self, latents: Float[Tensor, "B V C h w"], visible: Float[Tensor, "B V 1 h w"] | None = None
    ) -> Float[Tensor, "B out h w"]:
        """Fuse latents.

        Args:
            latents: Latents of any number of views.
            visible: Share of each latent pixel that the view sees, in [0, 1]; None when it is 1 everywhere.

        Returns:
            The fused latent.

        Raises:
            ExportError: It is exported for any size.
        """
        _require_one_size(latents)
        batch = latents.shape[0]
        # Numbers, also while the block is traced.
        views = int(latents.shape[1])
        height = int(latents.shape[3])
        width = int(latents.shape[4])
        layout = Layout.of(Windows.of(views, height, width, self.window), latents, visible)
        flat = latents.flatten(3)
        if visible is not None:
            flat = blank_unseen(flat, visible.flatten(3))
        # Views outermost, then rows.
        tokens = self.project(flat.transpose(2, 3).flatten(1, 2))
        for index, block in enumerate(self.blocks):
            if index % 2 == 0:
                tokens = self.positions[index // 2](tokens, layout)
            tokens = block(tokens, layout)
        tokens = self.norm(tokens).reshape(batch, views, height * width, -1)
        return mean_over_views(tokens, visible).transpose(1, 2).reshape(batch, -1, height, width)


def _require_one_size(latents: Tensor) -> None:
    # torch.export itself would search for a minute for what the cut into windows means for any size.
    extents: list[object] = [latents.shape[3], latents.shape[4]]
    if torch.compiler.is_exporting() and any(isinstance(extent, torch.SymInt) for extent in extents):
        raise ExportError(
            "size: open: the fusion block `window` cuts the frame for one size; write size: fixed, and export once for "
            "each `resolution`"
        )
