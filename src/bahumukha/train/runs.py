"""What trainings share that leave a model folder: a run in its folder, where it begins, what it leaves.

The run's folder holds what `train.loop` writes, `run.json` (the settings and the network that came of them) and, of
most, `samples/`, a sheet for each validation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bahumukha.data.encoded import Share
from bahumukha.data.pairs import SourceConfig
from bahumukha.errors import ModelError, UsageError
from bahumukha.nn.draws import Draws
from bahumukha.train import processes
from bahumukha.train.checkpoints import BEST, LAST, RUN, read_checkpoint, read_run, write_run, write_whole
from bahumukha.train.config import to_table
from bahumukha.train.dalle_config import Start
from bahumukha.train.loop import Report, Stateful, train
from bahumukha.zoo.folder import CARD

MODEL, SHEETS = "model", "samples"


class FolderRun(ABC):
    """One training run in its folder. Raises UsageError and ModelError, one line each, before the first step."""

    KIND: ClassVar[str]
    model: Any
    """The network, with its `config`."""
    batches: Any
    validation: Callable[[nn.Module], dict[str, float]] | None = None
    steps_before = 0
    """That the weights had seen before this run."""
    later: tuple[str, ...] = ()
    """Parameters that are locked at first; see `train.loop.train`."""
    trained_beside: Stateful | None = None
    """What else is trained and belongs into the checkpoint."""

    def __init__(self, config: Any, out: Path, resume: bool, device: torch.device | None):
        """config: a dataclass of settings with `model`, `batch`, `optimisation` and `output`."""
        self.settings, self.out, self.resume = config, out, resume
        self.device = device or torch.device("cpu")
        if (out / LAST).exists() and not resume:
            raise UsageError(f"{out}: holds a run already; go on with --resume {out}, or choose another --out")
        self.taken = 0
        """Steps, for the names of sheets."""
        self.stored: dict[str, Any] = read_run(out, self.KIND) if resume else {}

    @abstractmethod
    def losses(self, batch: Any) -> dict[str, Tensor]:
        """`step` of `train.loop`."""

    @abstractmethod
    def save(self, folder: Path, name: str, steps: int) -> None:
        """Write the model's folder."""

    @abstractmethod
    def told(self) -> tuple[str, str]:
        """What the card says: what the model is for, and the sources, a line each."""

    @abstractmethod
    def built(self, architecture: dict[str, Any]) -> nn.Module:
        """The network of a run that is resumed, without its weights. Raises KeyError, TypeError or ValueError."""

    def architecture(self) -> dict[str, Any]:
        """What `built` takes."""
        return self.model.config.to_dict()  # type: ignore[no-any-return]

    def more(self) -> dict[str, Any]:
        """What `run.json` needs besides the architecture to begin again."""
        return {}

    def beside(self) -> dict[str, str]:
        """Files of text that the run's folder needs besides, by name."""
        return {}

    def seen(self) -> str:
        """What the card says of a step."""
        return f"of {self.settings.batch.size} pictures"

    def made_of(self) -> str:
        """What the card says of the network beside the number of its weights, as ", 6000 words"."""
        return ""

    def before_step(self, step: int, progress: float) -> None:
        """See `train.loop.train`."""
        self.taken = step + 1

    def rates(self) -> Mapping[str, float] | None:
        """Factors of the learning rate by parameter; None where all have the same."""
        return None

    def reports(self) -> Iterator[Report]:
        """Train; see `train.loop.train`."""
        if processes.rank() == 0:
            self.out.mkdir(parents=True, exist_ok=True)
            for name, text in self.beside().items():
                write_whole(self.out / name, text)
            written = {"kind": self.KIND, "config": to_table(self.settings), "steps_before": self.steps_before}
            write_run(self.out, written | {"architecture": self.architecture()} | self.more())
        return train(
            self.model,
            self.batches,
            self.losses,
            self.settings.optimisation,
            self.out,
            self.resume,
            validate=self.validation,
            before_step=self.before_step,
            rates=self.rates(),
            later=self.later,
            beside=self.trained_beside,
        )

    def export(self) -> Path:
        """Write `out/model` (and its card) after the last report; returns it. Only the first process writes."""
        output, folder = self.settings.output, self.out / MODEL
        if processes.rank() != 0:
            return folder
        steps, score = read_checkpoint(self.out)["step"], None
        if output.weights == "best":
            best = read_checkpoint(self.out, BEST)
            self.model.load_state_dict(best["model"])
            steps, score = best["step"], best["score"]
        name = output.name or self.out.resolve().name
        self.save(folder, name, self.steps_before + steps)
        (folder / CARD).write_text(self._card(name, steps, score), encoding="utf-8")
        return folder

    def resumed(self) -> nn.Module:
        """The network of `run.json` without its weights, which the checkpoint holds. Raises ModelError."""
        try:
            self.steps_before = int(self.stored["steps_before"])
            return self.built(self.stored["architecture"])
        except (KeyError, TypeError, ValueError, ModelError) as error:  # a file that was edited by hand
            raise ModelError(f"{self.out / RUN}: damaged ({error})") from error

    def draws(self, batch: Any) -> Draws:
        """The random numbers of this process's part of a batch, which has a `number`."""
        seed = self.settings.optimisation.seed
        return Draws.of(seed, batch.number, self.device, processes.rank(), processes.count())

    def trained(self, model: nn.Module) -> nn.Module:
        """Ready to learn, on this run's device."""
        return model.train().requires_grad_(True).to(self.device)

    def _card(self, name: str, steps: int, score: float | None) -> str:
        c, (purpose, data) = self.settings, self.told()
        begun = f"from {c.model.init}" if isinstance(c.model, Start) else "from random weights"
        best = f"; {c.optimisation.best_score} {score:.4f}" if score is not None else ""
        weights = sum(p.numel() for p in self.model.parameters()) / 1e6
        return (
            f"---\nlicence: {c.output.licence}\nsummary: {purpose}\n---\n# {name}\n\nTrained with `bahu train "
            f"{self.KIND}` {begun}: {steps} steps {self.seen()}, {weights:.1f} M weights{self.made_of()}"
            f"{best}.\n\n## Data\n\n{data}\n"
        )


def our_share() -> Share:
    """This process's part in what a run makes of its pictures before the first step."""
    return Share(processes.rank(), processes.count(), processes.wait)


def listed(sources: Sequence[SourceConfig], counts: Sequence[int]) -> str:
    """A line for each source, without where it stands on this machine."""
    return "\n".join(
        f"- {count} pictures of `{each.path.parent.name}/{each.path.name}`, weight {each.weight:g}"
        if each.path.suffix
        else f"- {count} pictures of `{each.path.name}`, weight {each.weight:g}"
        for each, count in zip(sources, counts, strict=True)
    )
