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

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

TILE = 16
"""Side of a tile in pixels."""
CHUNK = 2048
"""Pairs of a tile and a stroke that are drawn at once: half a million numbers in each of twenty tensors, 40 MB."""
PIECES = 12
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
    rows, columns = (-(-side // TILE) for side in size)
    line = flatten_curves(points)
    meets = _meetings(line.detach(), widths.detach() / 2 + softness, rows, columns)
    ground = torch.tensor(paper, device=points.device)
    painted, order = [], []
    for tiles, strokes in _chunks(meets):
        corners = TILE * torch.stack([tiles % columns, tiles // columns], dim=1).to(line)
        nearest = _nearest_pieces(line.detach(), strokes, corners)
        painted.append(
            checkpoint(
                _paint_tiles, line, widths, colours, ground, strokes, corners, nearest, softness,
                use_reentrant=False, preserve_rng_state=False,
            )
        )  # fmt: skip
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
    sizes = counts[order].tolist()
    start = 0
    while start < len(sizes):
        end = start + 1
        while end < len(sizes) and (end + 1 - start) * sizes[end] <= CHUNK and end - start < CHUNK:
            end += 1
        tiles = order[start:end]
        most = max(1, sizes[end - 1])
        strokes = (meets[tiles] * numbers).topk(min(most, meets.shape[1]), dim=1).values - 1
        yield tiles, strokes
        start = end


def _pixels(corners: Tensor) -> tuple[Tensor, Tensor]:
    """x and y of the pixels' centres, each (C, 1, TILE²), row after row."""
    steps = torch.arange(TILE, device=corners.device) + 0.5
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    return corners[:, 0, None, None] + x.flatten(), corners[:, 1, None, None] + y.flatten()


@torch.no_grad()
def _nearest_pieces(line: Tensor, strokes: Tensor, corners: Tensor) -> Tensor:
    """The number of the nearest piece, uint8 (C, M, TILE²)."""
    x, y = _pixels(corners)
    ends = line[strokes.clamp_min(0)]  # (C, M, K + 1, 2)
    best = x.new_full((*strokes.shape, TILE * TILE), torch.inf)
    nearest = torch.zeros(best.shape, dtype=torch.uint8, device=best.device)
    for k in range(line.shape[1] - 1):
        ax, ay = ends[:, :, k, :1], ends[:, :, k, 1:]
        dx, dy = ends[:, :, k + 1, :1] - ax, ends[:, :, k + 1, 1:] - ay
        length = (dx.square() + dy.square()).clamp_min(1e-9)
        rx, ry = x - ax, y - ay
        t = torch.addcmul(rx * (dx / length), ry, dy / length).clamp_(0, 1)
        distance = rx.addcmul_(t, -dx).square_().add_(ry.addcmul_(t, -dy).square_())
        nearest.masked_fill_(distance < best, k)
        best = torch.minimum(best, distance)
    return nearest


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
    x, y = _pixels(corners)
    present, strokes = strokes >= 0, strokes.clamp_min(0)
    # All look-ups are embeddings: their gradient is summed in the same order every time, that of indexing is not.
    styles = F.embedding(strokes, torch.cat([widths[:, None], colours], dim=1))  # (C, M, 5)
    start = strokes[..., None] * line.shape[1] + nearest
    table = line.flatten(0, 1)
    a, b = F.embedding(start, table), F.embedding(start + 1, table)  # (C, M, TILE², 2)
    ax, ay = a.unbind(-1)
    dx, dy = (b - a).unbind(-1)
    with torch.no_grad():
        length = (dx.square() + dy.square()).clamp_min(1e-9)
        t = (((x - ax) * dx + (y - ay) * dy) / length).clamp_(0, 1)
    distance = ((x - ax - t * dx).square() + (y - ay - t * dy).square() + 1e-9).sqrt()  # a root has no slope at 0
    inside = (0.5 + (styles[..., :1] / 2 - distance) / (2 * softness)).clamp(0, 1)
    opacity = MOST * styles[..., 4:] * present[..., None]
    alpha = opacity * inside.square() * (3 - 2 * inside)  # (C, M, TILE²)
    passed = torch.log1p(-alpha)
    through = passed.cumsum(1)  # logarithm of what a pixel still shows below each stroke
    seen = alpha * (through - passed).exp()
    return torch.einsum("cmp,cmk->ckp", seen, styles[..., 1:4]) + paper[:, None] * through[:, -1:].exp()
