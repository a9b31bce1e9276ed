"""unCLIP on disk: a folder for each of its networks, and one that holds them together.

    FOLDER/config.json     {"format": 1, "kind": "unclip", "name": "starter/unclip",
                            "prior": "prior", "decoder": "decoder", "upsampler": "upsampler",
                            "sketch": "starter/dalle"}
    FOLDER/prior/          {"kind": "prior", "clip": "starter/clip", "fingerprint": "…", "network": "diffusion", …}
    FOLDER/decoder/        {"kind": "decoder", "clip": …, "fingerprint": …, "codec": "starter/vqgan", …}
    FOLDER/upsampler/      {"kind": "upsampler", "factor": 2, …}

Each part has `model.safetensors` and `architecture`, as other models do. A part is named by its folder inside FOLDER,
or as any model is; "upsampler" may be left out. "sketch" names a DALL-E whose pictures the decoder begins with
(`generate.sketch`), or is left out. `clip` names the CLIP whose embeddings a network was trained on and
`fingerprint` tells them from all others: those of prior and decoder must agree. `codec` is "" where pixels are drawn.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bahumukha.errors import ModelError
from bahumukha.models.denoiser import Denoiser, DenoiserConfig
from bahumukha.models.embedding_tokens import TokenPrior, TokenPriorConfig
from bahumukha.models.prior import DiffusionPrior, PriorConfig
from bahumukha.zoo.cards import Card, read_card
from bahumukha.zoo.dalle import KIND as DALLE
from bahumukha.zoo.folder import CARD, CONFIG, FORMAT, available, find, read_json
from bahumukha.zoo.tokens import read_kind, rebuilt, write_model

PRIOR, DECODER, UPSAMPLER, UNCLIP = "prior", "decoder", "upsampler", "unclip"
SKETCH = "sketch"
TRAINED = "model"
"""Where a training leaves its model, in the folder of the run."""
Storage = Literal["float16", "float32"]


@dataclass(frozen=True)
class Sight:
    """The CLIP that a network belongs to."""

    clip: str
    """Name or folder, as `zoo.load` takes it."""
    fingerprint: str
    """Of its weights."""


AnyPrior = DiffusionPrior | TokenPrior


@dataclass(frozen=True)
class LoadedPrior:
    """A prior of either kind: float32, in eval mode, frozen."""

    model: AnyPrior
    sight: Sight
    steps: int
    """Training steps the weights have seen."""
    styles: tuple[str, ...] = ()
    """Names of the styles that its captions said."""


@dataclass(frozen=True)
class LoadedDecoder:
    """A decoder: float32, in eval mode, frozen."""

    model: Denoiser
    sight: Sight
    codec: str
    """Whose latents it draws, as `zoo.codecs.load_codec` takes it; "" for pixels."""
    steps: int


@dataclass(frozen=True)
class LoadedUpsampler:
    """An upsampler: float32, in eval mode, frozen."""

    model: Denoiser
    factor: int
    """Larger side over smaller."""
    steps: int


@dataclass(frozen=True)
class LoadedUnclip:
    """All of it."""

    name: str
    prior: LoadedPrior
    decoder: LoadedDecoder
    upsampler: LoadedUpsampler | None
    sketch: str = ""
    """Name or folder of the DALL-E that draws what the decoder begins with; "" for none."""


# --- parts ------------------------------------------------------------------------------------------------


def load_prior(name: str | Path) -> LoadedPrior:
    """The prior called `name` or in a folder, or that of an unCLIP. Raises ModelError."""
    folder = _own(name, PRIOR)
    data = read_kind(folder, PRIOR, "captions become embeddings with")
    if data.get("network") == "tokens":
        model: Any = rebuilt(lambda values: TokenPrior(TokenPriorConfig.from_dict(values)), data, folder)
    elif data.get("network") == "diffusion":
        model = rebuilt(lambda values: DiffusionPrior(PriorConfig.from_dict(values)), data, folder)
    else:
        raise ModelError(f"{folder / CONFIG}: 'network' is {data.get('network')!r}; it must be 'diffusion' or 'tokens'")
    styles = data.get("styles", [])
    if not isinstance(styles, list) or not all(isinstance(each, str) and each for each in styles):
        raise ModelError(f"{folder / CONFIG}: 'styles' is {styles!r}; it must be a list of names, as [\"noto\"]")
    return LoadedPrior(model, _sight(data, folder), _steps(data, folder), tuple(styles))


def save_prior(
    model: AnyPrior,
    folder: Path,
    *,
    name: str,
    sight: Sight,
    steps: int,
    styles: Sequence[str] = (),
    weights: Storage = "float16",
) -> None:
    """Write `config.json` and `model.safetensors` into a folder, new or not; the model stays as it is."""
    network = "diffusion" if isinstance(model, DiffusionPrior) else "tokens"
    config = {"kind": PRIOR, "name": name, "clip": sight.clip, "fingerprint": sight.fingerprint, "network": network}
    config_rest = {"styles": list(styles), "architecture": model.config.to_dict(), "steps": steps}
    write_model(model, folder, config | config_rest, weights)


def load_decoder(name: str | Path) -> LoadedDecoder:
    """The decoder called `name` or in a folder, or that of an unCLIP. Raises ModelError."""
    folder = _own(name, DECODER)
    data = read_kind(folder, DECODER, "embeddings become pictures with")
    codec = data.get("codec", "")
    if not isinstance(codec, str):
        raise ModelError(f"{folder / CONFIG}: 'codec' is {codec!r}; it must name a codec, or be \"\" for pixels")
    model = rebuilt(lambda values: Denoiser(DenoiserConfig.from_dict(values)), data, folder)
    return LoadedDecoder(model, _sight(data, folder), codec, _steps(data, folder))


def save_decoder(
    model: Denoiser, folder: Path, *, name: str, sight: Sight, codec: str, steps: int, weights: Storage = "float16"
) -> None:
    """Write `config.json` and `model.safetensors` into a folder, new or not; the model stays as it is."""
    config: dict[str, Any] = {"kind": DECODER, "name": name, "clip": sight.clip, "fingerprint": sight.fingerprint}
    config |= {"codec": codec, "architecture": model.config.to_dict(), "steps": steps}
    write_model(model, folder, config, weights)


def load_upsampler(name: str | Path) -> LoadedUpsampler:
    """The upsampler called `name` or in a folder, or that of an unCLIP. Raises ModelError."""
    folder = _own(name, UPSAMPLER)
    data = read_kind(folder, UPSAMPLER, "pictures become larger with")
    factor = data.get("factor")
    if type(factor) is not int or factor < 2:
        raise ModelError(f"{folder / CONFIG}: 'factor' is {factor!r}; it must be a whole number of at least 2")
    model = rebuilt(lambda values: Denoiser(DenoiserConfig.from_dict(values)), data, folder)
    if model.config.given != 3 or model.config.channels != 3:
        raise ModelError(f"{folder / CONFIG}: 'architecture' takes no picture to enlarge; channels and given must be 3")
    return LoadedUpsampler(model, factor, _steps(data, folder))


def save_upsampler(
    model: Denoiser, folder: Path, *, name: str, factor: int, steps: int, weights: Storage = "float16"
) -> None:
    """Write `config.json` and `model.safetensors` into a folder, new or not; the model stays as it is."""
    config = {"kind": UPSAMPLER, "name": name, "factor": factor, "architecture": model.config.to_dict(), "steps": steps}
    write_model(model, folder, config, weights)


# --- all of them ------------------------------------------------------------------------------------------


def load_unclip(name: str | Path) -> LoadedUnclip:
    """The unCLIP called `name` (`starter/unclip`, one under the data folder) or in a folder. Raises ModelError."""
    folder = find(name)
    data = read_kind(folder, UNCLIP, "pictures of an embedding are drawn with")
    prior, decoder = load_prior(_part(folder, data, PRIOR)), load_decoder(_part(folder, data, DECODER))
    upsampler = load_upsampler(_part(folder, data, UPSAMPLER)) if data.get(UPSAMPLER) else None
    sketch = data.get(SKETCH, "")
    if not isinstance(sketch, str):
        raise ModelError(f"{folder / CONFIG}: {SKETCH!r} is {sketch!r}; it must name a DALL-E, or be left out")
    return together(str(data.get("name", folder.name)), prior, decoder, upsampler, sketch)


def together(
    name: str,
    prior: LoadedPrior,
    decoder: LoadedDecoder,
    upsampler: LoadedUpsampler | None = None,
    sketch: str = "",
) -> LoadedUnclip:
    """Parts that fit each other. Raises ModelError where prior and decoder are of different CLIPs."""
    check_one_clip(name, prior.sight, decoder.sight)
    return LoadedUnclip(name, prior, decoder, upsampler, sketch)


def check_one_clip(name: str, prior: Sight, decoder: Sight) -> None:
    """Raises ModelError where these are two."""
    if prior.fingerprint != decoder.fingerprint:
        raise ModelError(
            f"{name}: its prior was trained with {prior.clip}, its decoder with {decoder.clip} of other"
            " weights; take parts of one CLIP"
        )


def save_unclip(
    folder: Path, *, name: str, prior: Path, decoder: Path, upsampler: Path | None = None, sketch: str = ""
) -> None:
    """Put folders of parts together as one model, in a folder, new or empty; they are copied and stay as they are.
    sketch: name of a DALL-E, which is only named."""
    parts = {PRIOR: prior, DECODER: decoder} | ({UPSAMPLER: upsampler} if upsampler is not None else {})
    folder.mkdir(parents=True, exist_ok=True)
    for part, source in parts.items():
        shutil.copytree(source, folder / part)
    config = {"format": FORMAT, "kind": UNCLIP, "name": name} | {part: part for part in parts}
    text = json.dumps(config | ({SKETCH: sketch} if sketch else {}), indent=1)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def put_together(
    prior: str | Path,
    decoder: str | Path,
    upsampler: str | Path | None = None,
    *,
    sketch: str = "",
    name: str = UNCLIP,
    out: Path | None = None,
    replace: bool = False,
) -> Path:
    """Trained networks -> one model in a folder `out`, or called `name` among this user's models; returns its folder.

    Each is named as any model is, or by the folder of the run that trained it. They are copied, but for the DALL-E
    that sketches. Raises ModelError where one is of another kind, or prior and decoder belong to different CLIPs;
    UsageError for a name that cannot be.
    """
    from bahumukha.zoo.importing import aside, check_target, import_target  # brings public formats with it

    if out is None:
        target = import_target(name, replace)
    else:
        target = out
        check_target(target, replace)
    kinds = {PRIOR: prior, DECODER: decoder} | ({UPSAMPLER: upsampler} if upsampler is not None else {})
    folders = {part: _trained(given) for part, given in kinds.items()}
    data = {part: read_kind(folder, part, f"the {part} is") for part, folder in folders.items()}
    sights = {part: _sight(data[part], folders[part]) for part in (PRIOR, DECODER)}
    check_one_clip(name, sights[PRIOR], sights[DECODER])
    if sketch:
        drawn_by = _trained(sketch)
        read_kind(drawn_by, DALLE, "sketches are drawn with")
        sketch = sketch if sketch in available() else str(drawn_by.resolve())
    with aside(target) as folder:
        save_unclip(
            folder,
            name=name,
            prior=folders[PRIOR],
            decoder=folders[DECODER],
            upsampler=folders.get(UPSAMPLER),
            sketch=sketch,
        )
        (folder / CARD).write_text(_card(name, [read_card(each) for each in folders.values()]), encoding="utf-8")
    return target


def _trained(given: str | Path) -> Path:
    """The folder of a model, or of what a run in this folder left."""
    left = Path(given).expanduser() / TRAINED
    return left if (left / CONFIG).is_file() else find(given)


def _card(name: str, parts: Sequence[Card]) -> str:
    licences = " and ".join(dict.fromkeys(card.licence for card in parts))
    summary = "; ".join(card.summary.rstrip(".") for card in parts if card.summary)
    texts = "\n\n".join(f"## {card.kind}\n\n{card.text.replace(chr(10) + '#', chr(10) + '##')}" for card in parts)
    return f"---\nlicence: {licences}\nsummary: {summary or 'An unCLIP'}.\n---\n# {name}\n\n{texts}\n"


def _own(name: str | Path, part: str) -> Path:
    """The folder of a part, which is named itself, or by the unCLIP that it is of."""
    folder = find(name)
    data = read_json(folder)
    return find(_part(folder, data, part)) if data["kind"] == UNCLIP and data.get(part) else folder


def _part(folder: Path, data: Mapping[str, Any], part: str) -> str | Path:
    name = data.get(part)
    if not isinstance(name, str) or not name:
        raise ModelError(f"{folder / CONFIG}: {part!r} is {name!r}; it must name a folder in this one, or a model")
    return folder / name if (folder / name / CONFIG).is_file() else name


def _sight(data: Mapping[str, Any], folder: Path) -> Sight:
    for key in ("clip", "fingerprint"):
        if not isinstance(data.get(key), str) or not data[key]:
            raise ModelError(f"{folder / CONFIG}: {key!r} is {data.get(key)!r}; it must say which CLIP was trained on")
    return Sight(data["clip"], data["fingerprint"])


def _steps(data: Mapping[str, Any], folder: Path) -> int:
    steps = data.get("steps", 0)
    if type(steps) is not int or steps < 0:
        raise ModelError(f"{folder / CONFIG}: 'steps' is {steps!r}; it must be a whole number of at least 0")
    return steps
