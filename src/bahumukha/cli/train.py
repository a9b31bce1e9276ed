"""`bahu train`: train a model on one's own pictures, one command a kind of model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

if TYPE_CHECKING:
    import torch

    from bahumukha.train.loop import Report

EXAMPLES = """
Examples:

  bahu train clip clip.toml --out runs/mine

  bahu train clip clip.toml --init starter/clip --set optimisation.steps=500

  bahu train clip --resume runs/mine

  torchrun --nproc-per-node 2 --max-restarts 3 -m bahumukha train clip clip.toml

With --max-restarts a run of which a process died goes on from its last checkpoint.

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
bahu generate --with dalle --set model=OUT/model.
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


@dataclass(frozen=True)
class Kind:
    """A kind of model that can be trained, and where its work is; nothing of that is imported for `--help`."""

    run: tuple[str, str]
    """Module of `bahumukha.train`, and the class of its runs."""
    settings: tuple[str, str]
    """Module of `bahumukha.train`, and the dataclass of its config."""
    help: str
    examples: str
    making: str | None = None
    """What the bar says while pictures are made ready, where a run does that first."""


EXACTLY = "Ctrl-C writes a checkpoint; --resume goes on exactly where it was."
KINDS = {
    "clip": Kind(
        ("clip", "ClipRun"),
        ("clip_config", "ClipTraining"),
        f"Train a CLIP on pictures with captions: from nothing, from another model, or further.\n\n{EXACTLY}",
        EXAMPLES,
    ),
    "vqgan": Kind(
        ("vqgan", "VqganRun"),
        ("vqgan_config", "VqganTraining"),
        "Train a picture codec (VQGAN) on pictures, which need no captions: from nothing, from another model, or "
        f"further.\n\n{EXACTLY}",
        VQGAN_EXAMPLES,
    ),
    "dalle": Kind(
        ("dalle", "DalleRun"),
        ("dalle_config", "DalleTraining"),
        "Train DALL-E 1, which draws a sentence as codes of a codec: from nothing, from another model, or further."
        f"\n\nThe pictures are encoded first, once. {EXACTLY}",
        DALLE_EXAMPLES,
        "encoding pictures",
    ),
    "prior": Kind(
        ("prior", "PriorRun"),
        ("unclip_config", "PriorTraining"),
        "Train unCLIP's prior, which tells the embedding of a picture from its caption.\n\nThe pictures are embedded "
        f"first, once. {EXACTLY}",
        PRIOR_EXAMPLES,
        "embedding pictures",
    ),
    "decoder": Kind(
        ("decoder", "DecoderRun"),
        ("unclip_config", "DecoderTraining"),
        "Train unCLIP's decoder, which draws the picture of an embedding, in pixels or in a codec's latents.\n\nThe "
        f"pictures are embedded first, once. {EXACTLY}",
        DECODER_EXAMPLES,
        "embedding pictures",
    ),
    "upsampler": Kind(
        ("upsampler", "UpsamplerRun"),
        ("unclip_config", "UpsamplerTraining"),
        f"Train unCLIP's upsampler, which makes pictures larger; it needs no captions.\n\n{EXACTLY}",
        UPSAMPLER_EXAMPLES,
    ),
}


def register(app: typer.Typer) -> None:
    """Add `bahu train …`."""
    group = typer.Typer(help="Train a model on your own pictures.", no_args_is_help=True)
    for name, kind in KINDS.items():
        group.command(name, help=kind.help, epilog=kind.examples)(_command(name, kind))
    app.add_typer(group, name="train")


def _command(name: str, kind: Kind) -> Callable[..., None]:
    """The command of one kind; all of them take the same options."""

    def train(
        config: Config = None,
        set_: Overrides = None,
        resume: Resume = None,
        init: Init = None,
        out: Out = None,
        json: Json = False,
    ) -> None:
        run, training = (_found(*named) for named in (kind.run, kind.settings))
        settings, folder = _settings(training, name, config, set_ or [], resume, init, out)
        begin = run if kind.making is None else _with_bar(kind.making, run)
        resuming = resume is not None or _begun(folder)
        steps = settings.optimisation.steps
        _train(lambda device: begin(settings, folder, resume=resuming, device=device), steps, json)

    return train


def _found(module: str, name: str) -> Any:
    return getattr(import_module(f"bahumukha.train.{module}"), name)


def _begun(folder: Path) -> bool:
    """Whether a launcher that starts processes again finds its own run in the folder."""
    from bahumukha.train import processes
    from bahumukha.train.checkpoints import LAST

    return processes.restarts() and (folder / LAST).exists()


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
    from bahumukha.train import processes

    def begin(*given: Any, **options: Any) -> Run:
        if processes.rank() != 0:
            return run(*given, **options)
        with progress(None, what) as advance:
            return run(*given, **options, advance=advance)

    return begin


def _settings(
    training: type[Any],
    kind: str,
    config: Path | None,
    overrides: list[str],
    resume: Path | None,
    init: str | None,
    out: Path | None,
) -> tuple[Any, Path]:
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
