"""Embedding on the machines of a Ray cluster, as one streaming pipeline of Ray Data.

    parts of the plan -> read: packs become pictures with their bytes -> encode: actors, one core each -> this process

Plain files and objects are read by the actors themselves; of a pack the pictures pass through Ray's object store in
small blocks, so that one large shard keeps all actors busy. What is in flight is bounded by Ray Data: it reads no
further ahead than its share of the object store holds. A reader or actor that dies is started again and its block done
again; nothing was written but by this process, which sees each block once.

The machines need the same version of this package, the model under the same name, and the same paths or URLs.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from bahumukha.errors import BahumukhaError, ModelMismatch, PictureIndexError, UsageError
from bahumukha.search.engines import Outcome, embed
from bahumukha.search.packed import Pack, unpacked
from bahumukha.search.reading import Work

if TYPE_CHECKING:
    from bahumukha.protocols import ImageTextEncoder

FILES_A_PART = 16
"""Files that go to an actor together; a shard or a table is a part of its own."""
PICTURES_A_BATCH = 16
"""What a killed actor does again, at least; at most a block of them."""
BLOCK_BYTES = 4 << 20
MOST_BLOCKS = 2_000
ENCODE_CORES, READ_CORES = 0.9, 0.1
"""Of one core; together one, so that on any number of cores readers find room beside the actors."""

Batch = dict[str, np.ndarray]
"""One column, `item`, of pickled objects: our own, between our own processes."""


class RayEngine:
    """The `Engine` on a Ray cluster; one on this machine where no address is given."""

    def __init__(self, address: str | None = None, *, workers: int | None = None) -> None:
        """address: HOST:PORT of the cluster's head, or `auto`. A cluster that this process is connected to is used as
        it is. workers: actors, each of one core; None takes as many as there are cores.

        Raises UsageError where Ray is not installed; nothing is started yet.
        """
        self.address, self.workers = address, workers
        self._ray = _imported()

    def __call__(
        self, encoder: ImageTextEncoder, todo: Sequence[Work | Pack], known: Mapping[bytes, int]
    ) -> Generator[Outcome, None, None]:
        """See `Engine`. Raises PictureIndexError when the cluster cannot be reached or is lost."""
        with self._cluster(), _quiet():
            results = self._pipeline(encoder, todo, known).iter_batches(batch_size=None, prefetch_batches=1)
            try:
                for batch in results:
                    for item in batch["item"]:
                        outcome = pickle.loads(item)
                        if isinstance(outcome, BahumukhaError):  # of the model, not of a picture
                            raise outcome
                        yield outcome
            except self._ray.exceptions.RayError as error:
                raise PictureIndexError(f"Ray gave up: {_last_line(error)}; what was finished is kept") from error
            finally:
                if hasattr(results, "close"):
                    results.close()

    def _pipeline(self, encoder: ImageTextEncoder, todo: Sequence[Work | Pack], known: Mapping[bytes, int]) -> Any:
        from ray import data

        parts = [{"item": pickle.dumps(part)} for part in _parts(todo)]
        cores = int(self._ray.cluster_resources().get("CPU", 1))
        size: dict[str, Any] = {"size": self.workers} if self.workers else {"min_size": 1, "max_size": max(1, cores)}
        read = data.from_items(parts, override_num_blocks=min(len(parts), MOST_BLOCKS)).map_batches(
            _read, batch_size=1, num_cpus=READ_CORES
        )
        return read.map_batches(
            _Encode,
            fn_constructor_args=(_shipped(encoder), encoder.name, encoder.fingerprint, dict(known)),
            batch_size=PICTURES_A_BATCH,
            num_cpus=ENCODE_CORES,
            compute=data.ActorPoolStrategy(**size),
        )

    @contextmanager
    def _cluster(self) -> Iterator[None]:
        ray = self._ray
        if ray.is_initialized():
            yield
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what goes wrong is raised as well
        logging.getLogger("ray").setLevel(logging.ERROR)
        settings: dict[str, Any] = {"include_dashboard": False} if self.address is None else {"address": self.address}
        try:
            ray.init(**settings, log_to_driver=False, logging_level="ERROR", configure_logging=False)
        except Exception as error:  # Ray raises plain ones; only its own code runs here
            place = f"--address {self.address}" if self.address else "Ray on this machine"
            raise PictureIndexError(f"{place}: cannot be reached or started: {_last_line(error)}") from error
        try:
            yield
        finally:
            ray.shutdown()


class _Encode:
    """An actor: has the model open, and turns pictures into embeddings on one core."""

    def __init__(
        self, encoder: ImageTextEncoder | None, name: str, fingerprint: str, known: Mapping[bytes, int]
    ) -> None:
        self._encoder, self._name, self._fingerprint, self._known = encoder, name, fingerprint, known

    def __call__(self, batch: Batch) -> Batch:
        try:
            outcomes: list[Any] = list(embed(self._opened(), map(pickle.loads, batch["item"]), self._known))
        except BahumukhaError as error:
            outcomes = [error]
        return _batch(outcomes)

    def _opened(self) -> ImageTextEncoder:
        if self._encoder is None:
            from bahumukha import zoo

            encoder = zoo.load(self._name, threads=1)
            if encoder.fingerprint != self._fingerprint:
                raise ModelMismatch(
                    f"{self._name} on {os.uname().nodename} is not the model that the index is made with (fingerprint "
                    f"{encoder.fingerprint[:12]}, not {self._fingerprint[:12]}); install the same on every machine"
                )
            self._encoder = encoder
        return self._encoder


def _read(batch: Batch) -> Iterator[Batch]:
    """A part's pictures, a few at a time, as a generator: a shard is never whole in memory."""
    waiting, size = [], 0
    for part in batch["item"]:
        for work in unpacked(pickle.loads(part)):
            waiting.append(work)
            size += len(getattr(work, "data", None) or b"")
            if len(waiting) >= PICTURES_A_BATCH or size >= BLOCK_BYTES:
                yield _batch(waiting)
                waiting, size = [], 0
    if waiting:
        yield _batch(waiting)


def _batch(items: Sequence[Any]) -> Batch:
    column = np.empty(len(items), object)
    column[:] = [pickle.dumps(item) for item in items]
    return {"item": column}


def _parts(todo: Sequence[Work | Pack]) -> Iterator[list[Work | Pack]]:
    files = [each for each in todo if isinstance(each, Work)]
    for start in range(0, len(files), FILES_A_PART):
        yield [*files[start : start + FILES_A_PART]]
    for each in todo:
        if isinstance(each, Pack):
            yield [each]


def _shipped(encoder: ImageTextEncoder) -> ImageTextEncoder | None:
    """The encoder itself, if it can travel; a model's folder is opened by each actor, under the model's name."""
    from bahumukha.zoo.onnx import OnnxClip

    return None if isinstance(encoder, OnnxClip) else encoder


@contextmanager
def _quiet() -> Iterator[None]:
    """Small blocks, and nothing of Ray Data's own on the terminal, for the pipelines made inside."""
    from ray.data import DataContext

    context = DataContext.get_current()
    settings = {
        "target_max_block_size": BLOCK_BYTES,
        "target_min_block_size": 0,
        "enable_progress_bars": False,
        "print_on_execution_start": False,
    }
    before = {name: getattr(context, name) for name in settings if hasattr(context, name)}
    logger = logging.getLogger("ray.data")
    level = logger.level
    for name in before:
        setattr(context, name, settings[name])
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            setattr(context, name, value)


def _imported() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UsageError("--engine ray takes Ray Data; pip install 'bahumukha[scale]'") from error
    return ray


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
