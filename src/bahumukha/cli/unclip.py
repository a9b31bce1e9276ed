"""The work of `bahu generate --with unclip`: candidates drawn from embeddings of the sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bahumukha.cli.candidates import LAST_ONLY, Artist, check_options, encoder, table_of, typed
from bahumukha.cli.candidates import draw_pictures as draw_candidates
from bahumukha.cli.karlo import KarloArtist, refuse
from bahumukha.errors import UsageError
from bahumukha.generate.candidates import check_style
from bahumukha.generate.guided_config import seed_number
from bahumukha.generate.karlo_config import KarloConfig
from bahumukha.generate.unclip import Size, Unclip, generate
from bahumukha.generate.unclip_config import NetworksConfig, SentenceConfig, UnclipConfig
from bahumukha.protocols import Step
from bahumukha.runtime import thread_count
from bahumukha.train.config import from_table
from bahumukha.zoo.karlo import folder_of

if TYPE_CHECKING:
    from bahumukha.protocols import ImageTextEncoder

SYSTEM = "unclip"
"""As `--with` names it."""


# --- settings ---------------------------------------------------------------------------------------------


def settings(given: dict[str, Any], config: Path | None, overrides: Sequence[str]) -> UnclipConfig | KarloConfig:
    """File < options < --set, checked, as the model has them. Raises UsageError naming the option or the file."""
    given = with_steps(typed(given))
    plain = {name: value for name, value in given.items() if name != "style"}
    check_options(UnclipConfig, plain, {"prompt": "PROMPT", "pictures": "-n", "decoder": "--steps"}, {"prompt": "a"})
    table, file, base = table_of(given, config, overrides, SYSTEM, "generate")
    if "prompt" not in table:
        raise UsageError("no PROMPT; say what to show, as bahu generate 'a red fox in the snow' --with unclip")
    if folder_of(str(table.get("model", ""))) is not None:
        return from_table(KarloConfig, table, file, base)
    return from_table(UnclipConfig, table, file, base)


def with_steps(given: dict[str, Any]) -> dict[str, Any]:
    """`--steps` is the decoder's."""
    rest = {name: value for name, value in given.items() if name != "steps"}
    return rest | ({"decoder": {"steps": given["steps"]}} if "steps" in given else {})


# --- drawing ----------------------------------------------------------------------------------------------


def draw_pictures(
    config: UnclipConfig | KarloConfig, out: Path, video: Path | None, as_json: bool, command: str
) -> None:
    """See `candidates.draw_pictures`."""
    draw_candidates(lambda: artist(config), out, video, as_json, command)


def artist(config: UnclipConfig | KarloConfig) -> Artist:
    """What draws. Raises ModelError, UsageError."""
    return KarloArtist(config) if isinstance(config, KarloConfig) else UnclipArtist(config)


class UnclipArtist:
    """See `candidates.Artist`. Raises ModelError, UsageError where the models cannot do what is asked."""

    system = SYSTEM

    def __init__(self, config: UnclipConfig):
        self.config, self.unclip = config, opened(config)
        check_style(config.style, self.unclip.loaded.prior.styles, config.model)
        self.size = size_before(self.unclip, config)
        self.ranking = ranked_by(self.unclip, config.ranking)

    @property
    def named(self) -> dict[str, str]:
        """Models that take part."""
        ranking = {} if self.ranking is None else {self.ranking.name: self.ranking.fingerprint}
        return named(self.unclip, self.config) | ranking

    def steps(self, first: int, count: int, films: bool) -> Iterator[Step]:
        """A step is one of the decoder's, then of the upsampler's."""
        common: dict[str, Any] = {"count": count, "seed": seed_number(self.config.seed, first), "size": self.size}
        common |= {"sampling": self.config.sampling, "every": 1 if films else LAST_ONLY}
        return generate(self.unclip, self.config.caption, **common)


def opened(config: NetworksConfig) -> Unclip:
    """The networks, of one CLIP; PyTorch takes all the threads it may. Raises ModelError."""
    torch.set_num_threads(thread_count())
    refuse(config.model)
    return _unclip(config.model, config.prior_model)


@cache
def _unclip(name: str, prior: str) -> Unclip:
    from bahumukha.zoo.unclip import load_prior, load_unclip, together

    loaded = load_unclip(name)
    if prior:
        loaded = together(loaded.name, load_prior(prior), loaded.decoder, loaded.upsampler, loaded.sketch)
    return Unclip.of(loaded)


def ranked_by(unclip: Unclip, name: str) -> ImageTextEncoder | None:
    """The CLIP called `name`, which may be the model's own; None for "". Raises ModelError."""
    if name == unclip.encoder.name:
        return unclip.encoder
    return encoder(name) if name else None


def factor_of(unclip: Unclip, config: NetworksConfig) -> int:
    """Times as large as the decoder's are the pictures that are saved."""
    upsampler = unclip.loaded.upsampler
    return upsampler.factor if config.upsample and upsampler is not None else 1


def size_before(unclip: Unclip, config: UnclipConfig) -> Size | None:
    """Of what the decoder draws, for pictures of the size that is asked. Raises UsageError."""
    if config.size is None:
        return None
    factor = factor_of(unclip, config)
    least, (width, height) = factor * unclip.step, config.size
    if width % least or height % least:
        raise UsageError(f"size: {width}x{height} was given; it takes multiples of {least} from {least} up")
    return width // factor, height // factor


def named(unclip: Unclip, config: NetworksConfig) -> dict[str, str]:
    """Models that take part: how many steps their networks have seen."""
    loaded = unclip.loaded
    steps = {"prior": loaded.prior.steps, "decoder": loaded.decoder.steps}
    steps |= {"upsampler": loaded.upsampler.steps} if loaded.upsampler is not None and config.upsample else {}
    sketcher = unclip.sketcher if isinstance(config, SentenceConfig) and config.sketched else None
    steps |= {"sketch": sketcher.dalle.steps} if sketcher is not None else {}
    told = {config.model: ", ".join(f"{part} {count} steps" for part, count in steps.items())}
    told |= {config.prior_model: "prior"} if config.prior_model else {}
    return told | {loaded.decoder.sight.clip: loaded.decoder.sight.fingerprint}
