"""Who may look at whom: DALL-E 1's patterns, drawn out, and the text before them."""

from __future__ import annotations

import pytest
import torch

from bahumukha.nn.masks import PATTERNS, picture_mask, stream_mask


def drawn(mask: torch.Tensor) -> list[str]:
    return ["".join("x" if seen else "." for seen in row) for row in mask.tolist()]


def test_row_is_figure_11_of_the_paper() -> None:
    """A grid of 4 x 4: itself and four before it, the last of which stands right above."""
    mask = picture_mask("row", (4, 4), 3)
    assert mask.sum(1).tolist() == [1, 2, 3, 4] + [5] * 12
    assert drawn(mask[[9]]) == [".....xxxxx......"]


def test_the_patterns_of_one_token() -> None:
    """The one in row 2, column 1 of 4 x 4."""
    seen = {pattern: drawn(picture_mask(pattern, (4, 4), 3)[9].view(4, 4)) for pattern in PATTERNS}
    assert seen == {
        "full": ["xxxx", "xxxx", "xx..", "...."],
        "row": ["....", ".xxx", "xx..", "...."],
        "column": [".x..", ".x..", ".x..", "...."],
        "convolutional": ["....", "xxx.", "xx..", "...."],
    }


def test_the_convolution_ends_at_the_edge() -> None:
    mask = picture_mask("convolutional", (3, 4), 3)
    assert drawn(mask[8].view(3, 4)) == ["....", "xx..", "x..."], "nothing of the row's other end"
    assert torch.equal(picture_mask("convolutional", (3, 4), 11), picture_mask("full", (3, 4), 1))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_nobody_sees_what_comes_after_and_all_see_the_text(pattern: str) -> None:
    picture = picture_mask(pattern, (3, 4), 3)  # type: ignore[arg-type]
    assert not picture.triu(1).any() and picture.diagonal().all()
    shown = torch.tensor([[True, True, False], [True, True, True]])
    mask = stream_mask(shown, picture)
    assert mask.shape == (2, 1, 15, 15) and not mask.triu(1).any() and mask.diagonal(dim1=-2, dim2=-1).all()
    assert torch.equal(mask[0, 0, 3:, :3], shown[:1].expand(12, -1)) and mask[1, 0, 3:, :3].all()
    assert torch.equal(mask[0, 0, 3:, 3:], picture)
    assert not mask[:, :, :3, 3:].any(), "text never sees the picture"
    assert drawn(mask[0, 0, :3, :3]) == ["x..", "xx.", "xxx"]
    assert drawn(stream_mask(torch.tensor([[False, True]]), picture)[0, 0, :2, :2]) == ["x.", ".x"]
