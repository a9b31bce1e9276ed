"""Drawing around what is given further on: several tries a picture, kept as they fit it (a particle filter; Gordon et
al. 1993).

Tokens are drawn in reading order, so a model does not see what is given below or to the right of the one it draws. Of
all the ways to fill the open places, those should come with the probability

    p(open | given)  ~  prod over open t of p(s_t | s_0 … s_{t - 1})  prod over given t of p(s_t | s_0 … s_{t - 1})

A try draws the open places by the first product and passes over the given ones, each of which it weighs by its factor
of the second: how well what is given follows from what was drawn. At the end of a row tries that fit badly give way to
copies of those that fit well. With more tries the result comes as near to p(open | given) as one likes; with one it is
what the model draws without looking ahead. The given places stay to the token either way. (Guidance, temperature and
the like shape the first product; the weights are those of the guided logits alone.)

It works best where the weighing comes early: the right half is told row by row, and a try that fails is replaced there.
Of a given bottom nothing is known until all above is drawn, so there the best of the tries is all there is.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from bahumukha.generate.tokens import OPEN, Windows
from bahumukha.nn.sampling import Sampling, draw, probabilities

LEAST_EVEN = 0.5
"""Tries are chosen anew once they are worth fewer than this share of as many equal ones."""


def needs_tries(ids: Tensor) -> bool:
    """Whether anything given comes after something open, in any of the grids (B, rows, columns)."""
    open_ = (ids == OPEN).flatten(1)
    return bool((open_.cummax(1).values & ~open_).any())


@torch.no_grad()
def weighed_rows(
    windows: Windows, ids: Tensor, sampling: Sampling, random: Tensor, choices: Tensor, tries: int
) -> Iterator[Tensor]:
    """Draw what is OPEN in ids (B, rows, columns) -> after each row the ids of the try that fits best so far, each
    picture's; at the end of one drawn by how well they fit. What was shown may change while tries give way.

    random: (B * tries, rows, columns) in [0, 1), those of a picture's tries together. choices: (B, rows), for choosing.
    """
    windows.model.eval()
    count = len(ids)
    ids = ids.repeat_interleave(tries, dim=0)
    open_ = ids == OPEN
    weight = torch.zeros(count, tries, dtype=torch.float64, device=ids.device)
    first = torch.arange(count, device=ids.device)[:, None] * tries
    begun = False
    for row in range(ids.shape[1]):
        for column in range(ids.shape[2]):
            here = open_[:, row, column]
            begun = begun or bool(here.any())
            if not begun:
                continue  # all tries are equal so far
            logits = windows.logits(ids, row, column)
            drawn = draw(probabilities(logits, sampling), random[:, row, column])
            ids[:, row, column] = drawn.where(here, ids[:, row, column])
            fit = logits.double().log_softmax(-1).gather(1, ids[:, row, column, None])[:, 0]
            weight += fit.masked_fill(here, 0).view(count, tries)
        share = weight.softmax(1)
        if row == ids.shape[1] - 1:
            best = chosen(share, choices[:, row], 1)
        else:
            best = share.argmax(1, keepdim=True)
            uneven = 1 / share.square().sum(1) < LEAST_EVEN * tries
            if uneven.any():
                anew = chosen(share, choices[:, row], tries)
                kept = torch.where(uneven[:, None], anew, torch.arange(tries, device=ids.device))
                best = torch.where(uneven[:, None], torch.zeros_like(best), best)
                weight = weight.masked_fill(uneven[:, None], 0)
                places = (first + kept).flatten()
                ids = ids[places]
                windows.reorder(places)
        yield ids[(first + best)[:, 0]]


def chosen(share: Tensor, uniform: Tensor, count: int) -> Tensor:
    """`count` places each by their share, as evenly as can be (systematic resampling): (B, count) from (B, n) and one
    number (B,) in [0, 1) a row."""
    below = share.cumsum(1)
    total = below[:, -1:]
    at = (torch.arange(count, device=share.device) + uniform[:, None]) / count * total
    at = torch.minimum(at, total.nextafter(torch.zeros_like(total)))  # never one whose share is 0
    return (below[:, None, :] <= at[:, :, None]).sum(-1)
