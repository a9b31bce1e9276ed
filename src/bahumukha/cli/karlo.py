"""The work of `bahu generate --with unclip` where the model is a Karlo."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bahumukha.cli.candidates import LAST_ONLY, encoder
from bahumukha.errors import ModelError
from bahumukha.generate.candidates import check_style
from bahumukha.generate.guided_config import seed_number
from bahumukha.generate.karlo import generate
from bahumukha.generate.karlo_config import KarloConfig
from bahumukha.protocols import Step
from bahumukha.runtime import thread_count
from bahumukha.zoo.karlo import Karlo, folder_of


class KarloArtist:
    """See `candidates.Artist`. Raises ModelError, UsageError where the model cannot do what is asked."""

    system = "unclip"

    def __init__(self, config: KarloConfig):
        torch.set_num_threads(thread_count())
        folder = folder_of(config.model)
        assert folder is not None, "settings are a Karlo's where the model is one"
        self.config, self.karlo = config, Karlo(folder)
        check_style(config.style, (), config.model)
        self.ranking = encoder(config.ranking) if config.ranking else None

    @property
    def named(self) -> dict[str, str]:
        """Models that take part."""
        ranking = {} if self.ranking is None else {self.ranking.name: self.ranking.fingerprint}
        return {self.config.model: "karlo"} | ranking

    def steps(self, first: int, count: int, films: bool) -> Iterator[Step]:
        """A step is one of the decoder's, then of the networks that enlarge."""
        seed, every = seed_number(self.config.seed, first), 1 if films else LAST_ONLY
        sampling = self.config.sampling
        return generate(self.karlo, self.config.caption, count=count, sampling=sampling, seed=seed, every=every)


def refuse(model: str) -> None:
    """Raises ModelError where the model is a Karlo, for commands that begin with a picture."""
    if folder_of(model) is not None:
        raise ModelError(
            f"{model}: a Karlo draws sentences (bahu generate --with unclip); it has no network that looks at pictures,"
            " as this command does"
        )
