"""`bahu train`: train a model on one's own pictures, one command a kind of model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import typer

if TYPE_CHECKING:
    import torch

    from bahumukha.train.loop import Report

T = TypeVar("T")

EXAMPLES = """
Examples:

  bahu train clip clip.toml --out runs/mine

  bahu train clip clip.toml --init starter/clip --set optimisation.steps=500

  bahu train clip --resume runs/mine

  torchrun --nproc-per-node 2 -m bahumukha train clip clip.toml

The result stands in OUT/model, ready for bahu classify --model OUT/model.
"""
VQGAN_EXAMPLES = """
Examples:

  bahu train vqgan vqgan.toml --out runs/codec

  bahu train vqgan vqgan.toml --init starter/vqgan --set optimisation.steps=500

  bahu train vqgan --resume runs/codec

Sheets of pictures beside their reconstructions come to OUT/reconstructions, the result to OUT/model.
"""
DALLE_EXAMPLES = """
Examples:

  bahu train dalle dalle.toml --out runs/drawings

  bahu train dalle dalle.toml --init starter/dalle --set optimisation.steps=500

  bahu train dalle --resume runs/drawings

Sheets of pictures of the config's prompts come to OUT/samples, the result to OUT/model, ready for
bahu generate --with dalle --model OUT/model.
"""
PRIOR_EXAMPLES = """
Examples:

  bahu train prior prior.toml --out runs/prior

  bahu train prior --resume runs/prior

Embeddings of all pictures are made first, once; the result comes to OUT/model.
"""
DECODER_EXAMPLES = """
Examples:

  bahu train decoder decoder.toml --out runs/decoder

  bahu train decoder decoder.toml --set model.codec=starter/vqgan --set model.patch=1

  bahu train decoder --resume runs/decoder

Sheets of pictures beside what is drawn of their embeddings come to OUT/samples, the result to OUT/model.
"""
UPSAMPLER_EXAMPLES = """
Examples:

  bahu train upsampler upsampler.toml --out runs/upsampler

  bahu train upsampler upsampler.toml --set pictures.size=256 --set pictures.factor=4

  bahu train upsampler --resume runs/upsampler

Sheets of small pictures, what is made of them and the true ones come to OUT/samples, the result to OUT/model.
"""

Config = Annotated[
    Path | None,
    typer.Argument(metavar="CONFIG", help="TOML file that says what to train on and how; not needed to resume."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override an option, as optimisation.steps=500. Repeatable."),
]
Resume = Annotated[Path | None, typer.Option(metavar="DIR", help="Go on with the run in this folder.")]
Init = Annotated[str | None, typer.Option(metavar="MODEL", help="Start from this model's weights.")]
Out = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Folder of the run (default: runs/ and the config's name).")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line: the reports, then the model.")]


class Run(Protocol):
    """A training run of some kind of model, in its folder."""

    def reports(self) -> Iterator[Report]:
        """Train."""
        ...

    def export(self) -> Path:
        """Write the model; returns its folder."""
        ...


def register(app: typer.Typer) -> None:
    """Add `bahu train …`."""
    group = typer.Typer(help="Train a model on your own pictures.", no_args_is_help=True)
    group.command("clip", epilog=EXAMPLES)(train_clip)
    group.command("vqgan", epilog=VQGAN_EXAMPLES)(train_vqgan)
    group.command("dalle", epilog=DALLE_EXAMPLES)(train_dalle)
    group.command("prior", epilog=PRIOR_EXAMPLES)(train_prior)
    group.command("decoder", epilog=DECODER_EXAMPLES)(train_decoder)
    group.command("upsampler", epilog=UPSAMPLER_EXAMPLES)(train_upsampler)
    app.add_typer(group, name="train")


def train_clip(
    config: Config = None,
    set_: Overrides = None,
    resume: Resume = None,
    init: Init = None,
    out: Out = None,
    json: Json = False,
) -> None:
    """Train a CLIP on pictures with captions: from nothing, from another model, or further.

    Ctrl-C writes a checkpoint; --resume goes on exactly where it was.
    """
    from bahumukha.train.clip import KIND, ClipRun
    from bahumukha.train.clip_config import ClipTraining

    settings, folder = _settings(ClipTraining, KIND, config, set_ or [], resume, init, out)
    steps = settings.optimisation.steps
    _train(lambda device: ClipRun(settings, folder, resume=resume is not None, device=device), steps, json)


def train_vqgan(
    config: Config = None,
    set_: Overrides = None,
    resume: Resume = None,
    init: Init = None,
    out: Out = None,
    json: Json = False,
) -> None:
    """Train a picture codec (VQGAN) on pictures, which need no captions: from nothing, from another model, or further.

    Ctrl-C writes a checkpoint; --resume goes on exactly where it was.
    """
    from bahumukha.train.vqgan import KIND, VqganRun
    from bahumukha.train.vqgan_config import VqganTraining

    settings, folder = _settings(VqganTraining, KIND, config, set_ or [], resume, init, out)
    steps = settings.optimisation.steps
    _train(lambda device: VqganRun(settings, folder, resume=resume is not None, device=device), steps, json)


def train_dalle(
    config: Config = None,
    set_: Overrides = None,
    resume: Resume = None,
    init: Init = None,
    out: Out = None,
    json: Json = False,
) -> None:
    """Train DALL-E 1, which draws a sentence as codes of a codec: from nothing, from another model, or further.

    The pictures are encoded first, once. Ctrl-C writes a checkpoint; --resume goes on exactly where it was.
    """
    from bahumukha.train.dalle import KIND, DalleRun
    from bahumukha.train.dalle_config import DalleTraining

    settings, folder = _settings(DalleTraining, KIND, config, set_ or [], resume, init, out)
    with_bar = _with_bar("encoding pictures", DalleRun)
    steps = settings.optimisation.steps
    _train(lambda device: with_bar(settings, folder, resume=resume is not None, device=device), steps, json)


def train_prior(
    config: Config = None,
    set_: Overrides = None,
    resume: Resume = None,
    init: Init = None,
    out: Out = None,
    json: Json = False,
) -> None:
    """Train unCLIP's prior, which tells the embedding of a picture from its caption.

    The pictures are embedded first, once. Ctrl-C writes a checkpoint; --resume goes on exactly where it was.
    """
    from bahumukha.train.prior import PriorRun
    from bahumukha.train.unclip_config import PriorTraining

    settings, folder = _settings(PriorTraining, PriorRun.KIND, config, set_ or [], resume, init, out)
    with_bar = _with_bar("embedding pictures", PriorRun)
    steps = settings.optimisation.steps
    _train(lambda device: with_bar(settings, folder, resume=resume is not None, device=device), steps, json)


def train_decoder(
    config: Config = None,
    set_: Overrides = None,
    resume: Resume = None,
    init: Init = None,
    out: Out = None,
    json: Json = False,
) -> None:
    """Train unCLIP's decoder, which draws the picture of an embedding, in pixels or in a codec's latents.

    The pictures are embedded first, once. Ctrl-C writes a checkpoint; --resume goes on exactly where it was.
    """
    from bahumukha.train.decoder import DecoderRun
    from bahumukha.train.unclip_config import DecoderTraining

    settings, folder = _settings(DecoderTraining, DecoderRun.KIND, config, set_ or [], resume, init, out)
    with_bar = _with_bar("embedding pictures", DecoderRun)
    steps = settings.optimisation.steps
    _train(lambda device: with_bar(settings, folder, resume=resume is not None, device=device), steps, json)


def train_upsampler(
    config: Config = None,
    set_: Overrides = None,
    resume: Resume = None,
    init: Init = None,
    out: Out = None,
    json: Json = False,
) -> None:
    """Train unCLIP's upsampler, which makes pictures larger; it needs no captions.

    Ctrl-C writes a checkpoint; --resume goes on exactly where it was.
    """
    from bahumukha.train.unclip_config import UpsamplerTraining
    from bahumukha.train.upsampler import UpsamplerRun

    settings, folder = _settings(UpsamplerTraining, UpsamplerRun.KIND, config, set_ or [], resume, init, out)
    steps = settings.optimisation.steps
    _train(lambda device: UpsamplerRun(settings, folder, resume=resume is not None, device=device), steps, json)


def _train(begin: Callable[[torch.device], Run], steps: int, json: bool) -> None:
    """Run it, report, export; `begin` makes the run on the device of this process."""
    import torch

    from bahumukha.cli.output import print_json
    from bahumukha.runtime import thread_count
    from bahumukha.train import processes

    with processes.joined() as device:
        torch.set_num_threads(max(1, thread_count() // processes.count()))
        first = processes.rank() == 0
        run = begin(device)
        with _bar(steps if first else 0) as moved_to:
            for report in run.reports():
                moved_to(report.step)
                if first:
                    print_json(_as_dict(report)) if json else print(report, flush=True)
        model = run.export()
        if first:
            print_json({"model": str(model)}) if json else print(f"model: {model}")


def _with_bar(what: str, run: Callable[..., Run]) -> Callable[..., Run]:
    """The same run, which tells of its pictures while it begins."""
    from bahumukha.cli.output import progress

    def begin(*given: Any, **options: Any) -> Run:
        with progress(None, what) as advance:
            return run(*given, **options, advance=advance)

    return begin


def _settings(
    training: type[T],
    kind: str,
    config: Path | None,
    overrides: list[str],
    resume: Path | None,
    init: str | None,
    out: Path | None,
) -> tuple[T, Path]:
    """The checked settings of this kind, and the folder of the run. Raises UsageError."""
    from bahumukha.errors import UsageError
    from bahumukha.train.checkpoints import RUN, read_run
    from bahumukha.train.config import from_table, overridden, read_table

    if resume is not None:
        if init is not None or (out is not None and out != resume):
            raise UsageError("--resume goes on in its own folder with its own weights; leave out --init and --out")
        stored, run = read_run(resume, kind)["config"], resume / RUN
    elif config is None:
        raise UsageError("no CONFIG; give a TOML file, or --resume DIR to go on with a run")
    table, file = (read_table(config), config) if config is not None else (stored, run)
    if init is not None:
        table["model"] = {"init": init}
    settings = from_table(training, overridden(table, overrides), str(file), file.parent)
    return settings, resume or out or Path("runs") / file.stem


def _as_dict(report: Report) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(report)


@contextmanager
def _bar(steps: int) -> Iterator[Any]:
    """Yields `moved_to(step)`; a bar of no steps, as of the processes after the first, is none.

    None either when the reports go to a file or a pipe: rich would send what is printed to the terminal instead.
    """
    import sys

    from bahumukha.cli.output import progress

    if not steps or not sys.stdout.isatty():
        yield lambda step: None
        return
    at = 0
    with progress(steps, "training") as advance:

        def moved_to(step: int) -> None:
            nonlocal at
            advance(step - at)
            at = step

        yield moved_to
