"""DALL-E 1: a sentence and a picture as one stream of tokens (Ramesh et al. 2021, "Zero-Shot Text-to-Image
Generation").

    p(t, s) = prod_i p(t_i | t_0 … t_{i - 1})  prod_j p(s_j | t, s_0 … s_{j - 1})      t: tokens of the text, s: codes

The stream is the text, one learned vector that says where the picture begins, and the codes of a grid, row by row. Text
stands at learned places, the picture at rows and columns from 1; text is at row 0 and column 0, as is the beginning.
Each kind of token has its own head, so that logits of the other kind are never computed.

**Padding.** Each place of the text has a learned token of its own that stands there when no word does. A text is
padded with these to the next multiple of `padded_to`, by its own length alone, and the picture sees them; what lies
beyond is hidden from everything. So a batch may be cut to its longest padded text and no number changes: training does
not pay for places that nobody fills, and a caption means the same alone and beside longer ones. With `padded_to` =
`text_length` all the padding is seen, as in the paper; with 1 none is. The null caption is padding only, `padded_to`
tokens of it, which are always seen: what guidance compares with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bahumukha.nn.attention import init_transformer
from bahumukha.nn.causal import Cache, CausalBlock, SideBySide
from bahumukha.nn.masks import PATTERNS, Pattern, picture_mask, stream_mask
from bahumukha.nn.rotary import grid_positions, rotation
from bahumukha.nn.sizes import check_least, check_transformer

Positions = Literal["rotary2d", "learned"]
TEXT_WEIGHT = 1 / 8
"""Of the text's loss; the picture's has the rest. The paper's: words are learned on the side."""


@dataclass(frozen=True)
class DalleConfig:
    """Sizes of the transformer. The paper's: 16,384 words in 256 places, 8,192 codes in a grid of 32 x 32, 64 layers of
    62 heads of 64, and the patterns of `paper_attention`."""

    vocabulary: int
    """Text tokens of the tokenizer, the special ones included."""
    codes: int
    """Of the codec's codebook."""
    grid: tuple[int, int] = (8, 8)
    """Rows and columns it is trained on; larger ones are sampled in windows of this size."""
    text_length: int = 32
    """Most tokens of a text, the special ones included."""
    pad: int = 0
    """Text token that stands for no word; its place's own padding token is taken for it."""
    padded_to: int = 8
    """Padding is seen up to the next multiple of this; see above."""
    width: int = 320
    layers: int = 8
    heads: int = 5
    mlp_ratio: float = 4.0
    attention: tuple[Pattern, ...] = ("full",)
    """Of the layers, from the first; taken from the start again where there are more layers (`nn.masks`)."""
    kernel: int = 11
    """Side of what the convolutional pattern sees, odd."""
    positions: Positions = "rotary2d"
    """Of the picture's tokens: rotations by row and column, or a learned vector for each row and each column."""
    qk_norm: bool = True
    """Keeps the logits of attention bounded (`nn.causal`)."""
    dropout: float = 0.0
    """Of the embeddings and of what each block adds, in training."""
    tells_text: bool = True
    """Whether it has a head for words: the paper's learns them on the side. To draw, none is needed."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", tuple(self.grid))  # lists from JSON
        object.__setattr__(self, "attention", tuple(self.attention))
        if len(self.grid) != 2 or min(self.grid) < 2:
            raise ValueError(f"grid is {list(self.grid)}; it takes two whole numbers, rows and columns, of at least 2")
        check_least(self, vocabulary=2, codes=2, text_length=2)
        check_transformer(self, turned=True)
        if not 0 <= self.pad < self.vocabulary:
            raise ValueError(f"pad is {self.pad}; it must be a text token, 0 to {self.vocabulary - 1}")
        if not 1 <= self.padded_to <= self.text_length:
            raise ValueError(f"padded_to is {self.padded_to}; it takes 1 to text_length, {self.text_length}")
        if not self.attention or not set(self.attention) <= set(PATTERNS) or len(self.attention) > self.layers:
            raise ValueError(
                f"attention is {list(self.attention)}; it takes 1 to {self.layers} of {', '.join(PATTERNS)}"
            )
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel}; it must be an odd number of at least 1")
        if self.positions not in get_args(Positions):
            raise ValueError(f"positions is {self.positions!r}; it must be one of {', '.join(get_args(Positions))}")

    def to_dict(self) -> dict[str, Any]:
        """As stored under `architecture` in a model folder's `config.json`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DalleConfig:
        """Inverse of `to_dict`. Raises TypeError for unknown fields and ValueError for values out of range."""
        return cls(**values)


def paper_attention(layers: int) -> tuple[Pattern, ...]:
    """The paper's patterns: of four layers the second looks along columns, the others along rows; the last one's is
    convolutional."""
    along: tuple[Pattern, ...] = ("row", "column", "row", "row")
    return (*(along[layer % 4] for layer in range(layers - 1)), "convolutional")


class StreamCache(Cache):
    """Keys and values of a stream, and who of it may look at whom."""

    prefix = 0
    """Tokens before the picture's first."""
    masks: Mapping[Pattern, Tensor | None] = {}
    """By pattern, of the whole stream."""
    patterns: tuple[Pattern, ...] = ("full",)
    """Of the layers, over and over."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """As `Cache` does, by the layer's own mask."""
        whole = self.masks.get(self.patterns[layer % len(self.patterns)])
        end = self.length + q.shape[2]
        return super().attend(layer, q, k, v, None if whole is None else whole[:, :, self.length : end, :end])

    def reorder(self, places: Tensor) -> None:
        """As `Cache` does, with the masks."""
        super().reorder(places)
        self.masks = {key: None if mask is None else mask[places] for key, mask in self.masks.items()}


class Prefix(NamedTuple):
    """What stands before the pictures of a batch."""

    x: Tensor
    """(B, P, width): the texts, cut to the longest padded one, and the beginning of the picture."""
    masks: dict[Pattern, Tensor | None]
    """By pattern, of prefix and whole grid: bool (B, 1, P + n, P + n); None for all that stand before."""


class Dalle(nn.Module):
    """Texts and codes -> logits of each given all before it.

    Texts are int64 (B, T), T <= `text_length`, `pad` where no word is; codes int64 (B, n), the first n of a grid, row
    by row. `forward` and `dalle_loss` are for training: all tokens at once. `extend` is for sampling: a few tokens
    after those in a cache.
    """

    turns: Tensor

    def __init__(self, config: DalleConfig):
        super().__init__()
        self.config = config
        width = config.width
        self.words = nn.Embedding(config.vocabulary, width)
        self.places = nn.Parameter(torch.zeros(config.text_length, width))
        self.padding = nn.Parameter(torch.zeros(config.text_length, width))
        self.beginning = nn.Parameter(torch.zeros(1, width))
        self.embedding = nn.Embedding(config.codes, width)
        if config.positions == "learned":
            self.rows, self.columns = (nn.Parameter(torch.zeros(side, width)) for side in config.grid)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            CausalBlock(width, config.heads, config.mlp_ratio, config.dropout, config.qk_norm)
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.text_head = nn.Linear(width, config.vocabulary, bias=False) if config.tells_text else None
        self.head = nn.Linear(width, config.codes, bias=False)
        places = torch.cat([torch.zeros(config.text_length + 1, 2), 1 + grid_positions(*config.grid)])
        turns = rotation(places, width // config.heads)
        self.register_buffer("turns", torch.view_as_real(turns), persistent=False)  # as .to(dtype) takes it
        for pattern in set(config.attention):
            mask = picture_mask(pattern, config.grid, config.kernel)
            self.register_buffer(f"{pattern}_mask", mask, persistent=False)
        init_transformer(self, config.layers)

    @property
    def tokens(self) -> int:
        """Of a grid: rows times columns."""
        return self.config.grid[0] * self.config.grid[1]

    def unconditional(self, texts: Tensor) -> Tensor:
        """As many null captions: guidance's other half, and what a dropped caption becomes in training."""
        return torch.full_like(texts, self.config.pad)

    def forward(self, texts: Tensor, ids: Tensor, *, with_text: bool = True) -> tuple[Tensor | None, Tensor]:
        """-> logits of the text (B, L - 1, vocabulary), [:, i] is of texts[:, i + 1]; of the codes (B, n, codes).

        L: places of the longest padded text of the batch (`cut`). Without `with_text`, or a head for it, the first is
        None, at no cost. Raises ValueError for texts that are too long.
        """
        text, picture = self.hidden(texts, ids)
        words = self.text_head(text[:, :-1]) if with_text and self.text_head is not None else None
        return words, self.head(picture)

    def hidden(self, texts: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """What the heads read: of the cut texts (B, L, width), of the codes (B, n, width), [:, j] to tell ids[:, j]."""
        prefix = self._prefix(texts)
        x = torch.cat([prefix.x, self._embedded(ids[:, :-1], 0)], dim=1)
        length, before = x.shape[1], prefix.x.shape[1]
        masks = {key: None if mask is None else mask[:, :, :length, :length] for key, mask in prefix.masks.items()}
        hidden = self.norm(self._through(x, self._turn(0, length, before), masks=masks))
        first = before - 1  # the beginning of the picture tells its first code
        return hidden[:, :first], hidden[:, first:]

    def cut(self, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Texts (B, T) -> (B, L), cut or filled to the longest padded one, and bool (B, L): which places are seen."""
        c = self.config
        if texts.dim() != 2 or texts.shape[1] > c.text_length:
            raise ValueError(f"texts of shape {tuple(texts.shape)}; (batch, at most {c.text_length}) is needed")
        at = torch.arange(c.text_length, device=texts.device)
        lengths = ((texts != c.pad) * (at[: texts.shape[1]] + 1)).amax(1, keepdim=True)
        padded = ((lengths + c.padded_to - 1) // c.padded_to * c.padded_to).clamp(c.padded_to, c.text_length)
        longest = int(padded.max())
        texts = F.pad(texts, (0, longest - texts.shape[1]), value=c.pad)  # a negative width cuts
        return texts, at[:longest] < padded

    def new_cache(self, batch: int) -> StreamCache:
        """An empty cache for texts and pictures of the trained grid. The last token is never looked back at."""
        c = self.config
        most = c.text_length + self.tokens  # with the beginning, without the last code
        cache = StreamCache(c.layers, batch, c.heads, most, c.width // c.heads, self.head.weight)
        cache.patterns = c.attention
        return cache

    def extend(self, cache: StreamCache, ids: Tensor, texts: Tensor | None = None) -> Tensor:
        """Ids int64 (B, n), the codes after those in the cache -> logits (B, codes) of the one that comes next.

        An empty cache takes in the texts first (None for null captions), and n may be 0; `texts` count only then. Texts
        that occur several times are computed once.
        """
        return self.extend_all([cache], [ids], texts)[0]

    def extend_all(
        self, caches: Sequence[StreamCache], ids: Sequence[Tensor], texts: Tensor | None = None
    ) -> list[Tensor]:
        """As `extend`, several caches and their codes in one go: a token's time goes into reading weights."""
        last: list[Tensor | None] = [None] * len(caches)
        for i, (cache, new) in enumerate(zip(caches, ids, strict=True)):
            if cache.length and not new.shape[1]:
                raise ValueError("no tokens were given to a cache that holds some; what comes next was said before")
            if not cache.length:
                nothing = new.new_full((len(new), 1), self.config.pad)
                last[i] = self._begin(cache, nothing if texts is None else texts)[:, -1]
        going = [i for i, new in enumerate(ids) if new.shape[1]]
        if going:
            counts = [ids[i].shape[1] for i in going]
            beside = SideBySide([caches[i] for i in going], counts)
            x = torch.cat([self._embedded(ids[i], caches[i].length - caches[i].prefix) for i in going], dim=1)
            turns = [
                self._turn(caches[i].length, count, caches[i].prefix) for i, count in zip(going, counts, strict=True)
            ]
            turned = [turn for turn in turns if turn is not None]
            hidden = self._through(x, torch.cat(turned) if turned else None, beside=beside)
            beside.grow()
            for i, part in zip(going, hidden.split(counts, dim=1), strict=True):
                last[i] = part[:, -1]
        together = torch.stack([each for each in last if each is not None], dim=1)
        return list(self.head(self.norm(together)).unbind(1))

    def _begin(self, cache: StreamCache, texts: Tensor) -> Tensor:
        """Take the texts into an empty cache -> what the last block gives, (B, P, width)."""
        different, of = texts.unique(dim=0, return_inverse=True)
        prefix = self._prefix(different)
        length = prefix.x.shape[1]
        once = self.new_cache(len(different))
        once.masks = prefix.masks
        hidden = self._through(prefix.x, self._turn(0, length, length), beside=once)
        cache.keys[:, :, :, :length] = once.keys[:, of, :, :length]
        cache.values[:, :, :, :length] = once.values[:, of, :, :length]
        cache.prefix = cache.length = length
        cache.masks = {key: None if mask is None else mask[of] for key, mask in prefix.masks.items()}
        return hidden[of]

    def _prefix(self, texts: Tensor) -> Prefix:
        texts, seen = self.cut(texts)
        length = texts.shape[1]
        is_word = (texts != self.config.pad)[:, :, None]
        text = torch.where(is_word, self.words(texts) + self.places[:length], self.padding[:length])
        x = torch.cat([text, self.beginning.expand(len(texts), 1, -1)], dim=1)
        shown = F.pad(seen, (0, 1), value=True)
        masks: dict[Pattern, Tensor | None] = {}
        for pattern in set(self.config.attention):
            hides = pattern != "full" or not bool(seen.all())
            masks[pattern] = stream_mask(shown, self.get_buffer(f"{pattern}_mask")) if hides else None
        return Prefix(x, masks)

    def _embedded(self, ids: Tensor, first: int) -> Tensor:
        """Codes that stand at places `first` and after of the grid -> (B, n, width)."""
        x = self.embedding(ids)
        if self.config.positions == "learned":
            x = x + (self.rows[:, None] + self.columns).flatten(0, 1)[first : first + ids.shape[1]]
        return x

    def _turn(self, start: int, count: int, prefix: int) -> Tensor | None:
        """Of so many places of a stream, of which the first `prefix` are no codes; None where positions are learned."""
        if self.config.positions != "rotary2d":
            return None
        first = self.config.text_length + 1 - prefix + start  # places of the text that are not there come before
        return torch.view_as_complex(self.turns.float())[first : first + count]

    def _through(
        self,
        x: Tensor,
        turn: Tensor | None,
        *,
        masks: Mapping[Pattern, Tensor | None] | None = None,
        beside: Cache | SideBySide | None = None,
    ) -> Tensor:
        """x (B, L, width), its places turned so -> what the last block gives. Caches have masks of their own."""
        x = self.dropout(x)
        for layer, block in enumerate(self.blocks):
            mask = None if masks is None else masks[self.config.attention[layer % len(self.config.attention)]]
            x = block(x, turn, beside, layer, mask)
        return x


def dalle_loss(
    model: Dalle,
    texts: Tensor,
    ids: Tensor,
    text_weight: float = TEXT_WEIGHT,
    average: Callable[[Tensor], Tensor] = lambda count: count,
    read: Tensor | None = None,
) -> dict[str, Tensor]:
    """Mean cross-entropies in nats: `text` of a word after the first, `picture` of a code; `loss`, their weighted sum.

    texts (B, T), ids (B, rows x columns). Padding is no word and is not asked for; the text's head computes the words
    only. With a `text_weight` of 0 it computes nothing. average: of a number over the processes that share the batch,
    whose words all count alike, however many of them one process has. read: codes that the network sees of the picture
    in place of those that it is to tell. Raises ValueError for a weight above 0 where the model has no text head.
    """
    text, picture = model.hidden(texts, ids if read is None else read)
    of_picture = F.cross_entropy(model.head(picture).flatten(0, 1).float(), ids.flatten())
    if not text_weight:
        return {"loss": of_picture, "picture": of_picture}
    if model.text_head is None:
        raise ValueError("the model has no head for words (tells_text is false), so the text's weight must be 0")
    wanted = model.cut(texts)[0][:, 1:]
    words = wanted != model.config.pad
    logits = model.text_head(text[:, :-1][words]).float()
    of_text = F.cross_entropy(logits, wanted[words], reduction="sum") / average(words.sum().float()).clamp(min=1)
    loss = text_weight * of_text + (1 - text_weight) * of_picture
    return {"loss": loss, "text": of_text, "picture": of_picture}
