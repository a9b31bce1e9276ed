"""Curves -> pixels, differentiable and in bounded memory, in plain PyTorch.

A stroke of width w covers a pixel at distance d from its curve by

    a = opacity · smoothstep(1/2 + (w/2 - d) / 2s)

which falls from 1 to 0 over the 2s pixels about its edge: there, and only there, the picture says where the stroke
should go (Li et al. 2020, "Differentiable Vector Graphics Rasterization for Editing and Learning" sample that edge;
CLIPDraw, Frans et al. 2021, draws with it). Strokes lie over each other in their order:

    pixel = Σ_i c_i a_i Π_{j above i} (1 - a_j)  +  paper Π_j (1 - a_j)

A curve is drawn as straight pieces. d is the distance to the nearest of them; which one it is, and where on it the
nearest point lies, is searched without gradients, since a minimum's place adds nothing to the gradient of the minimum.
The picture is cut into tiles, each with the strokes that reach it, and tiles are drawn a few at a time and drawn again
for the gradient, so that memory does not grow with the number of strokes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

TILE = 8
"""Side of a tile in pixels."""
CHUNK = 4096
"""Pairs of a tile and a stroke that are drawn at once: a quarter of a million numbers in each of twenty tensors."""
PIECES = 10
"""Straight pieces of a cubic curve, at most 255 a stroke."""
MOST = 0.9995
"""Of coverage: an eighth of a grey level short of 1, below which a product of logarithms stays finite."""


def paint_strokes(
    points: Tensor,
    widths: Tensor,
    colours: Tensor,
    size: tuple[int, int],
    paper: tuple[float, float, float] = (1.0, 1.0, 1.0),
    softness: float = 1.0,
) -> Tensor:
    """Strokes, the first lowest, on paper -> a picture (3, H, W) in [0, 1], differentiable in all three tensors.

    points (N, 3 C + 1, 2): control points (x, y) of C cubic Bézier curves end to end, in pixels from the upper left
    corner; widths (N,) in pixels; colours (N, 4) in [0, 1], the last one opacity; size (H, W). `softness` is s above.
    Ends and corners are round.
    """
    if not len(points):
        return torch.tensor(paper, dtype=points.dtype, device=points.device)[:, None, None].repeat(1, *size)
    rows, columns = (-(-side // TILE) for side in size)
    line = flatten_curves(points)
    meets = _meetings(line.detach(), widths.detach() / 2 + softness, rows, columns)
    ground = torch.tensor(paper, dtype=points.dtype, device=points.device)
    painted, order = [], []
    for tiles, strokes in _chunks(meets):
        corners = TILE * torch.stack([tiles % columns, tiles // columns], dim=1).to(line)
        nearest = _nearest_pieces(_ends(line.detach(), strokes, corners))
        painted.append(_Tiles.apply(line, widths, colours, ground, strokes, corners, nearest, softness))
        order.append(tiles)
    picture = torch.cat(painted)[torch.cat(order).argsort()]  # (tiles, 3, TILE²), row after row
    picture = picture.view(rows, columns, 3, TILE, TILE).permute(2, 0, 3, 1, 4).reshape(3, rows * TILE, columns * TILE)
    return picture[:, : size[0], : size[1]]


def flatten_curves(points: Tensor) -> Tensor:
    """Control points (N, 3 C + 1, 2) of cubic Bézier curves -> points on them (N, PIECES C + 1, 2)."""
    t = torch.linspace(0, 1, PIECES + 1, dtype=points.dtype, device=points.device)[:, None]
    weights = torch.cat([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], dim=1)  # Bernstein
    curves = points.unfold(1, 4, 3)  # (N, C, 2, 4)
    on_curves = torch.einsum("ncxk,tk->nctx", curves, weights)
    return torch.cat([on_curves[:, :1, 0], on_curves[:, :, 1:].flatten(1, 2)], dim=1)


def _meetings(line: Tensor, reach: Tensor, rows: int, columns: int) -> Tensor:
    """Which strokes reach which tiles, bool (tiles, N): where the box about a piece, widened by `reach`, meets it."""
    low = torch.minimum(line[:, :-1], line[:, 1:]) - reach[:, None, None]  # (N, K, 2)
    high = torch.maximum(line[:, :-1], line[:, 1:]) + reach[:, None, None]

    def spans(axis: int, tiles: int) -> Tensor:
        """(N, K, tiles)."""
        edges = TILE * torch.arange(tiles, device=line.device)
        return (low[..., axis, None] < edges + TILE) & (high[..., axis, None] > edges)

    both = spans(1, rows).transpose(1, 2).float() @ spans(0, columns).float()  # (N, rows, columns): pieces that meet
    return (both > 0).flatten(1).T


def _chunks(meets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Tiles (C,) with their strokes (C, M), uppermost first and filled up with -1; C M at most `CHUNK` if C > 1."""
    counts = meets.sum(1)
    order = counts.argsort(stable=True)  # tiles with about as many strokes are drawn together
    numbers = torch.arange(1, meets.shape[1] + 1, device=meets.device)
    sizes = [max(1, size) for size in counts[order].tolist()]
    start = 0
    while start < len(sizes):
        most = max(sizes[start] + 1, sizes[start] * 5 // 4)  # so that little has to be filled up
        end = start + 1
        while end < len(sizes) and sizes[end] <= most and (end + 1 - start) * sizes[end] <= CHUNK:
            end += 1
        tiles = order[start:end]
        yield tiles, (meets[tiles] * numbers).topk(sizes[end - 1], dim=1).values - 1
        start = end


def _pixels(like: Tensor) -> Tensor:
    """Centres of a tile's pixels, (TILE², 2), row after row, from the tile's corner."""
    steps = torch.arange(TILE, device=like.device, dtype=like.dtype) + 0.5
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)


@torch.no_grad()
def _nearest_pieces(ends: Tensor) -> Tensor:
    """Ends of pieces from their tiles' corners (C, M, K + 1, 2) -> number of the nearest, uint8 (C, M, TILE²).

    With r from a piece's start to the pixel, e along the piece and t = r·e / |e|² in [0, 1] once clamped, the squared
    distance is |r|² + |e|² t (t - 2 r·e / |e|²): two small matrix products a piece, of which p·p is left out.
    """
    pixels = _pixels(ends).T
    best = ends.new_full((*ends.shape[:2], TILE * TILE), torch.inf)
    nearest = torch.zeros(best.shape, dtype=torch.uint8, device=best.device)
    for k in range(ends.shape[2] - 1):
        start = ends[:, :, k]
        along = ends[:, :, k + 1] - start
        length = along.square().sum(-1, keepdim=True).clamp_min(1e-9)
        slope = along / length
        place = (slope @ pixels).sub_((start * slope).sum(-1, keepdim=True))
        clamped = place.clamp(0, 1)
        distance = (-2 * start @ pixels).add_(start.square().sum(-1, keepdim=True))
        distance.addcmul_(clamped.mul_(clamped.sub(place, alpha=2)), length)
        nearest.masked_fill_(distance < best, k)
        torch.minimum(best, distance, out=best)
    return nearest


class _Tiles(torch.autograd.Function):
    """`_paint_tiles`, of which only the arguments are kept: it is computed anew for its gradient.

    PyTorch's own `checkpoint` does the same, and imports its compiler first: 1.4 s and 150 MB.
    """

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        *tensors, ctx.softness = arguments
        ctx.save_for_backward(*tensors)
        return _paint_tiles(*arguments)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        line, widths, colours, *rest = ctx.saved_tensors
        with torch.enable_grad():
            leaves = [tensor.detach().requires_grad_() for tensor in (line, widths, colours)]
            arguments: list[Any] = [*leaves, *rest, ctx.softness]
            painted = _paint_tiles(*arguments)
        found = torch.autograd.grad(painted, leaves, gradients)
        return *found, *[None] * (len(arguments) - len(leaves))


def _paint_tiles(
    line: Tensor,
    widths: Tensor,
    colours: Tensor,
    paper: Tensor,
    strokes: Tensor,
    corners: Tensor,
    nearest: Tensor,
    softness: float,
) -> Tensor:
    """(C, 3, TILE²)."""
    styles = _look_up(torch.cat([widths[:, None], colours], dim=1), strokes)  # (C, M, 5)
    ends = _ends(line, strokes, corners)
    pieces = nearest.long()
    ax, ay = (ends[:, :, :-1, axis].gather(2, pieces) for axis in (0, 1))  # (C, M, TILE²)
    along = ends[:, :, 1:] - ends[:, :, :-1]
    dx, dy = (along[..., axis].gather(2, pieces) for axis in (0, 1))
    x, y = _pixels(line).T
    rx, ry = x - ax, y - ay
    with torch.no_grad():
        t = ((rx * dx + ry * dy) / (dx.square() + dy.square()).clamp_min(1e-9)).clamp_(0, 1)
    distance = ((rx - t * dx).square() + (ry - t * dy).square() + 1e-9).sqrt()  # a root has no slope at 0
    inside = (0.5 + (styles[..., :1] / 2 - distance) / (2 * softness)).clamp(0, 1)
    opacity = MOST * styles[..., 4:] * (strokes >= 0)[..., None]
    alpha = opacity * inside.square() * (3 - 2 * inside)
    passed = torch.log1p(-alpha)
    through = passed.cumsum(1)  # logarithm of what a pixel still shows below each stroke
    seen = alpha * (through - passed).exp()
    return torch.einsum("cmp,cmk->ckp", seen, styles[..., 1:4]) + paper[:, None] * through[:, -1:].exp()


def _ends(line: Tensor, strokes: Tensor, corners: Tensor) -> Tensor:
    """The strokes' points as seen from the corners of their tiles, (C, M, K + 1, 2)."""
    return _look_up(line.flatten(1), strokes).unflatten(2, line.shape[1:]) - corners[:, None, None]


def _look_up(table: Tensor, strokes: Tensor) -> Tensor:
    """Rows of strokes. An embedding sums its gradient in the same order every time, as indexing does not."""
    return F.embedding(strokes.clamp_min(0), table)
