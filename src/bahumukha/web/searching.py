"""Search as a page asks it: while one types, and page after page of one ranking.

The matrix of embeddings and the encoder stay loaded. A ranking is made once and kept for a while: what lies further
down is only read off, so that scrolling through 100,000 pictures asks the encoder nothing.
"""

from __future__ import annotations

import secrets
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from bahumukha.classify import shortest_side
from bahumukha.search.places import ranker
from bahumukha.search.query import combined, sentence
from bahumukha.search.ranking import MatrixRanker, Ranker, Ranking
from bahumukha.search.records import Store
from bahumukha.search.store import Ledger
from bahumukha.search.vectors import Vectors, load_vectors
from bahumukha.search.where import Condition, compile_where
from bahumukha.web.errors import NotFound
from bahumukha.web.library import Library, Shown

if TYPE_CHECKING:
    from PIL import Image

    from bahumukha.protocols import ImageTextEncoder

V = TypeVar("V")

KEPT_SECONDS = 60.0
"""A ranking; metadata that a filter looks at may change without the embeddings."""
KEPT_RANKINGS, KEPT_TEXTS, KEPT_UPLOADS, KEPT_SCOPES = 16, 512, 200, 8


@dataclass(frozen=True)
class Part:
    """One term of a search, of weight below 0 where it is not wanted: a sentence, a picture here, or an upload."""

    weight: float
    text: str | None = None
    picture: int | None = None
    upload: str | None = None


@dataclass(frozen=True)
class Wish:
    """What is looked for."""

    parts: tuple[Part, ...]
    where: str | None = None
    cutoff: str | float | None = None
    """`auto`, the lowest cosine to show, or None."""


@dataclass(frozen=True)
class Found:
    """A part of a ranking: how many there are in all, and pictures with their cosines in [-1, 1]."""

    total: int
    pictures: list[tuple[Shown, float]]


class Kept(Generic[V]):
    """The last values used, at most `most` of them, none older than `seconds`."""

    def __init__(self, most: int, seconds: float = float("inf")) -> None:
        self.most, self.seconds = most, seconds
        self._values: OrderedDict[Hashable, tuple[float, V]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> V | None:
        with self._lock:
            made, value = self._values.get(key, (0.0, None))
            if value is None or time.monotonic() - made > self.seconds:
                return None
            self._values.move_to_end(key)
            return value

    def put(self, key: Hashable, value: V) -> V:
        with self._lock:
            self._values[key] = (time.monotonic(), value)
            self._values.move_to_end(key)
            while len(self._values) > self.most:
                self._values.popitem(last=False)
        return value


class SettledRanker(MatrixRanker):
    """Ranks a ledger for many threads: what was once restricted to a filter is kept, with its float32 copy made."""

    def __init__(self) -> None:
        super().__init__(approximate_above=sys.maxsize)  # a page tells how many there are, and goes on to the last
        self._lock = threading.Lock()
        self._scopes: Kept[Vectors] = Kept(KEPT_SCOPES, KEPT_SECONDS)

    def vectors(self, ledger: Ledger) -> Vectors:
        if self._kept is None or self._kept.state != ledger.state:
            with self._lock:
                if self._kept is None or self._kept.state != ledger.state:
                    self._kept = _settled(load_vectors(ledger))
        return self._kept

    def satisfying(self, ledger: Ledger, condition: Condition | None) -> Vectors:
        vectors = self.vectors(ledger)
        sql, values = condition or ("TRUE", [])
        key = (vectors.state, sql, tuple(values))
        scope = self._scopes.get(key)
        if scope is None:
            restricted = super().satisfying(ledger, condition)
            scope = self._scopes.put(key, restricted if restricted is vectors else _settled(restricted))
        return scope


class Searcher:
    """Answers wishes about one library. Every method may be called from any thread."""

    def __init__(self, library: Library, encoder: ImageTextEncoder | None = None) -> None:
        """encoder: by default the one that the ledger was made with, loaded when it is first needed."""
        self.library = library
        self._encoder = encoder
        place = library.config.place
        self._ranker: Ranker = SettledRanker() if isinstance(place, Path) else ranker(place)
        self._lock = threading.RLock()
        self._turn = threading.Lock()
        """One ranking at a time: a matrix product uses all cores, and forty at once slow each other down for good."""
        self._texts: Kept[np.ndarray] = Kept(KEPT_TEXTS)
        self._uploads: Kept[np.ndarray] = Kept(KEPT_UPLOADS)
        self._rankings: Kept[Ranking] = Kept(KEPT_RANKINGS, KEPT_SECONDS)

    @property
    def encoder(self) -> ImageTextEncoder:
        """Raises ModelError."""
        with self._lock:
            if self._encoder is None:
                from bahumukha import zoo

                self._encoder = zoo.load(self.library.config.model or self._ledgers_model())
            return self._encoder

    def _ledgers_model(self) -> str | None:
        if not self.library.exists:
            return None
        with self.library.ledger() as ledger:
            return ledger.model

    def warm_up(self) -> None:
        """Load what the first search needs."""
        self.encoder.encode_texts(["a picture"])
        if self.library.exists:
            with self.library.ledger() as ledger:
                self._require_model(ledger)
                if isinstance(self._ranker, SettledRanker) and isinstance(ledger, Ledger):
                    self._ranker.vectors(ledger)

    # --- asking -----------------------------------------------------------------------------------------------

    def search(self, wish: Wish, offset: int, limit: int) -> Found:
        """Raises UsageError, NotFound for a picture or an upload that is not there, ModelMismatch."""
        if wish.where:
            compile_where(wish.where)  # a mistake in it is told even before anything is indexed
        if not self.library.exists:
            return Found(0, [])
        with self._turn, self.library.ledger() as ledger:
            ranking = self._ranking(ledger, wish)
            total = ranking.total(ledger)
            ids, scores = ranking.part(ledger, offset, limit)
            of = dict(zip(ids, scores, strict=True))
            rows = self.library.rows(ledger, ids)
        # A row of float16 may be a little longer than 1, and its cosine with itself with it.
        return Found(total, [(row, min(max(of[row.id], -1.0), 1.0)) for row in rows])

    def upload(self, image: Image.Image) -> str:
        """Look at a picture and remember how it looks; -> its name, for a while. The picture itself is not kept."""
        name = secrets.token_hex(8)
        self._uploads.put(name, self.encoder.encode_images([image])[0])
        return name

    @property
    def side(self) -> int | None:
        """Pixels of the shortest side that the encoder looks at, for `open_image(at_least=…)`."""
        return shortest_side(self.encoder)

    # --- parts ------------------------------------------------------------------------------------------------

    def _ranking(self, ledger: Store, wish: Wish) -> Ranking:
        self._require_model(ledger)
        key = (ledger.state, wish)
        ranking = self._rankings.get(key)
        if ranking is None:
            query = self._query(ledger, wish.parts)
            condition = compile_where(wish.where) if wish.where else ("TRUE", [])
            # One that looks for pictures like this one knows this one.
            themselves = [part.picture for part in wish.parts if part.picture is not None]
            scope = self.library.scope(ledger, condition)
            ranking = self._rankings.put(key, self._ranker.rank(ledger, query, scope, wish.cutoff, themselves))
        return ranking

    def _require_model(self, ledger: Store) -> None:
        encoder = self.encoder
        ledger.require_model(encoder.name, encoder.fingerprint)

    def _query(self, ledger: Store, parts: Sequence[Part]) -> np.ndarray:
        texts = [sentence(part.text) for part in parts if part.text is not None]
        known = dict(zip(texts, self._text_vectors(texts), strict=True))
        rows = []
        for part in parts:
            if part.text is not None:
                rows.append(known[sentence(part.text)])
            elif part.picture is not None:
                rows.append(self._of_picture(ledger, part.picture))
            else:
                rows.append(self._of_upload(str(part.upload)))
        return combined(np.array(rows), np.array([part.weight for part in parts]))

    def _text_vectors(self, texts: Sequence[str]) -> list[np.ndarray]:
        found = [self._texts.get(text) for text in texts]
        new = [text for text, vector in zip(texts, found, strict=True) if vector is None]
        made = iter(self.encoder.encode_texts(new)) if new else iter(())
        return [self._texts.put(text, next(made)) if v is None else v for text, v in zip(texts, found, strict=True)]

    def _of_picture(self, ledger: Store, id: int) -> np.ndarray:
        shown = self.library.picture(id)
        rows = ledger.select("SELECT embedding FROM files WHERE id = ? AND embedding IS NOT NULL", (shown.id,))
        if not rows:
            raise NotFound(f"there is no picture {id}")
        vector = np.frombuffer(rows[0][0], "<f2").astype(np.float32)
        return vector / np.linalg.norm(vector)

    def _of_upload(self, name: str) -> np.ndarray:
        vector = self._uploads.get(name)
        if vector is None:
            raise NotFound("that picture was sent too long ago; send it again")
        return vector


def _settled(vectors: Vectors) -> Vectors:
    """With its float32 copy made: it comes with the second question, and is not to be made by two threads at once."""
    if len(vectors):
        nothing = np.zeros(vectors.matrix.shape[1], np.float32)
        for _ in range(2):
            vectors.scores(nothing)
    return vectors
