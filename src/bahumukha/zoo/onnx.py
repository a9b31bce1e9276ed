"""CLIP on ONNX Runtime: pictures and sentences to unit vectors on every core, without PyTorch.

ONNX Runtime's own threads share one picture badly (a convolution net has many small layers, each ends with a
wait) and stand idle while pictures are decoded. So each worker thread here does everything for its own few
pictures: decode, preprocess, and run the tower on that one thread. All three release Python's lock.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from operator import length_hint
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from bahumukha.errors import BahumukhaError, ModelError
from bahumukha.runtime import thread_count
from bahumukha.zoo.folder import IMAGE_TOWER, TEXT_TOWER, TOKENIZER, fingerprint, read_config
from bahumukha.zoo.tokenizer import TextTokenizer

if TYPE_CHECKING:
    import onnxruntime
    from PIL import Image

T = TypeVar("T")
R = TypeVar("R")

IMAGE_BATCH = 2
"""Pictures a run. CPU time a picture at 1, 2, 4, 8 a run: EfficientNet-Lite2 at 260 px 27, 28, 29, 32 ms."""
TRANSFORMER_BATCH = 8
"""The same for a Vision Transformer, whose large matrices are then read from memory less often: ViT-B/32 at 1, 2, 4,
8, 16 a run, two workers: 109, 99, 95, 91, 92 ms."""
TEXT_BATCH = 32
LOOK_AHEAD = 3
"""Batches that a worker may be ahead of the consumer, so that one huge picture does not stop the others."""


class OnnxClip:
    """The `ImageTextEncoder` of a model folder. Towers are loaded when first used. Thread-safe."""

    def __init__(self, folder: str | Path, *, name: str | None = None, threads: int | None = None) -> None:
        """`threads` worker threads; None takes all cores, or BAHUMUKHA_THREADS. Raises ModelError."""
        self.folder = Path(folder)
        config = read_config(self.folder)
        self.name = name or config.name
        self.fingerprint = config.fingerprint or fingerprint(self.folder)
        self.dim = config.dim
        self.logit_scale = config.logit_scale
        self.templates = config.templates
        self.preprocess = config.preprocess
        self.context_length = config.context_length
        self.threads = thread_count(threads)
        image = config.architecture.get("image")
        self._most_a_run = TRANSFORMER_BATCH if isinstance(image, dict) and "patch" in image else IMAGE_BATCH
        self._image_tower = _Tower(self.folder / IMAGE_TOWER, "pixels", self.dim)
        self._text_tower = _Tower(self.folder / TEXT_TOWER, "ids", self.dim)
        self._tokenizer = TextTokenizer(self.folder / TOKENIZER, self.context_length)

    def __repr__(self) -> str:
        return f"OnnxClip({self.name!r}, dim={self.dim}, threads={self.threads})"

    def encode_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Pictures as `images.open_image` gives them (RGB) -> float32 (N, dim), rows of norm 1."""
        embeddings = np.empty((len(images), self.dim), np.float32)
        for row, (_, embedding) in enumerate(self.encode_each(images, lambda image: image)):
            assert not isinstance(embedding, BahumukhaError), "nothing was loaded, so no load can fail"
            embeddings[row] = embedding
        return embeddings

    def encode_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """Preprocessed pixels float32 (N, 3, size, size) -> float32 (N, dim), rows of norm 1."""
        size = self._pictures_a_run(len(pixels))
        parts = [pixels[start : start + size] for start in range(0, len(pixels), size)]
        rows = in_order(lambda part, stop: self._image_tower({"pixels": part}), parts, self.threads)
        return np.concatenate([np.empty((0, self.dim), np.float32), *rows])

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Sentences -> float32 (N, dim), rows of norm 1. Too long ones are cut at the context length."""
        if isinstance(texts, str):
            raise TypeError("encode_texts takes a list of texts, not one text")
        embeddings = np.empty((len(texts), self.dim), np.float32)
        tokens = self._tokenizer(texts)
        # Neighbours of similar length leave little padding to compute.
        by_length = sorted(range(len(tokens)), key=lambda row: len(tokens[row]))

        def encode(rows: list[int], stop: threading.Event) -> np.ndarray:
            ids, mask = self._tokenizer.pad([tokens[row] for row in rows])
            return self._text_tower({"ids": ids, "mask": mask})

        batches = list(_batches(by_length, TEXT_BATCH))
        # One sentence, as a search has, is not worth a pool of threads.
        threads = in_order(encode, batches, self.threads) if len(batches) > 1 else None
        parts = threads or (encode(rows, threading.Event()) for rows in batches)
        for rows, part in zip(batches, parts, strict=True):
            embeddings[rows] = part
        return embeddings

    def encode_each(
        self, items: Iterable[T], load: Callable[[T], Image.Image]
    ) -> Generator[tuple[T, np.ndarray | BahumukhaError], None, None]:
        """Load and encode many pictures; see `ImageTextEncoder.encode_each`.

        Closing the iterator early (or Ctrl-C) ends the workers after the picture each is at.
        """

        def encode(batch: list[T], stop: threading.Event) -> list[tuple[T, np.ndarray | BahumukhaError]]:
            loaded: list[np.ndarray | BahumukhaError] = []
            for item in batch:
                if stop.is_set():
                    return []
                try:
                    image = load(item)
                except BahumukhaError as error:
                    loaded.append(error)
                else:
                    loaded.append(self.preprocess(image))
            pixels = [each for each in loaded if not isinstance(each, BahumukhaError)]
            rows = iter(self._image_tower({"pixels": np.stack(pixels)}) if pixels else ())
            return [
                (item, each if isinstance(each, BahumukhaError) else next(rows))
                for item, each in zip(batch, loaded, strict=True)
            ]

        size = self._pictures_a_run(length_hint(items, self.threads * TRANSFORMER_BATCH))
        with closing(in_order(encode, _batches(items, size), self.threads)) as parts:
            for part in parts:
                yield from part

    def _pictures_a_run(self, count: int) -> int:
        """How many of `count` pictures a worker takes at a time: of few, not so many that other workers get none."""
        return max(IMAGE_BATCH, min(self._most_a_run, -(-count // self.threads)))


class _Tower:
    """One ONNX graph whose output is (B, dim); opened on the first call, then called from any thread."""

    def __init__(self, path: Path, main_input: str, dim: int) -> None:
        self.path, self.main_input, self.dim = path, main_input, dim
        self._lock = threading.Lock()
        self._session: onnxruntime.InferenceSession | None = None
        self._inputs: frozenset[str] = frozenset()

    def __call__(self, feeds: dict[str, np.ndarray]) -> np.ndarray:
        """Inputs by name, of which the graph takes those it has -> float32 (B, dim), rows of norm 1."""
        session = self._open()
        try:
            (embeddings,) = session.run(["embeddings"], {k: v for k, v in feeds.items() if k in self._inputs})
        except Exception as error:  # ONNX Runtime's exceptions share no base class; only its own code runs here
            raise ModelError(f"{self.path}: ONNX Runtime cannot run it ({_first_line(error)})") from error
        expected = (len(feeds[self.main_input]), self.dim)
        if embeddings.shape != expected:
            raise ModelError(f"{self.path}: made embeddings of shape {embeddings.shape}, expected {expected}")
        norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
        if not np.all(np.isfinite(norms)) or not np.all(norms > 0):
            raise ModelError(f"{self.path}: made embeddings that are zero or not finite; the weights are damaged")
        return (embeddings / norms).astype(np.float32, copy=False)

    def _open(self) -> onnxruntime.InferenceSession:
        with self._lock:
            if self._session is None:
                session = _open_session(self.path)
                self._inputs = frozenset(i.name for i in session.get_inputs())
                if self.main_input not in self._inputs:
                    raise ModelError(f"{self.path}: has no input {self.main_input!r}, only {sorted(self._inputs)}")
                if "embeddings" not in (o.name for o in session.get_outputs()):
                    raise ModelError(f"{self.path}: has no output 'embeddings'")
                self._session = session
            return self._session


def _open_session(path: Path) -> onnxruntime.InferenceSession:
    if not path.is_file():
        raise ModelError(f"{path}: missing; this model folder has no such tower for ONNX Runtime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the workers are the threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3  # errors only
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class; only its own code runs here
        raise ModelError(f"{path}: ONNX Runtime cannot load it ({_first_line(error)})") from error


def in_order(work: Callable[[T, threading.Event], R], items: Iterable[T], workers: int) -> Generator[R, None, None]:
    """`work(item, stop)` for each of `items` on `workers` threads -> results in the order of `items`.

    `items` is drawn from in the caller's thread, at most LOOK_AHEAD items a worker ahead of the consumer. An
    exception of `work` is raised at its place in the order. When the consumer goes away, `stop` is set, which
    long work should look at, and the workers are joined.
    """
    stop = threading.Event()
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="bahumukha")
    try:
        for item in items:
            waiting.append(pool.submit(work, item, stop))
            if len(waiting) >= LOOK_AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
