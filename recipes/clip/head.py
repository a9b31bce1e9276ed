"""Stage 6: an edition's region head goes on, with more scenes than its first training had. The trunk stays.

A colour that is told rightly for every thing that training paints so, and wrongly for a thing that it never paints so,
was learned with the thing. Scenes of two and three things, nearly all recoloured (`recipes.pictograms.scenes
--colourful`), joined anew in every batch, show each thing in many colours; each scene is set against statements that
name another colour. So that the edition's texts keep their meaning,

    a statement encoder is first fitted to the text tower's own vectors of statements, and is held near them
    pictures stay where the edition puts them, also in another's style, and photographs are left alone

    python -m recipes.clip.head --model src/bahumukha/starter/clip --pictures maps/pictures --photos maps/photos \\
        --scenes maps/scenes maps/colourful --validation maps/validation --minutes 30 --out runs/head
    python -m recipes.clip.export --run runs/head … --out edition
    python -m recipes.clip.widen --model edition --head runs/head …
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bahumukha.data.scene_captions import Statement, say
from bahumukha.data.scenes import SceneObject
from bahumukha.errors import UsageError
from bahumukha.models.clip import ImageTower
from bahumukha.models.contrastive import contrastive_loss
from bahumukha.models.regions import RegionHead, colour_channels
from bahumukha.train.checkpoints import write_whole
from bahumukha.train.loop import LoopConfig, train
from bahumukha.zoo.onnx import OnnxClip
from bahumukha.zoo.pytorch import load_clip
from recipes.clip.image_side import scene_scores
from recipes.clip.look import vocabulary
from recipes.clip.pictures import PictureSet
from recipes.clip.shown import ShownScenes, in_anothers_style
from recipes.clip.statements import (
    STATEMENTS,
    StatementEncoder,
    StatementPlaces,
    falsified,
    held_out,
    in_other_colours,
    slip,
)
from recipes.clip.train import FINAL

FITTED = "fitted.pt"
"""File of a run: where statements belonged before training, which is where the text tower has them."""


@dataclass(frozen=True)
class Weights:
    """How many of each kind stand in a batch, and what each loss weighs.

    wrong: false statements about a scene beside those that only name another colour of one thing.
    """

    picture: int = 64
    scene: int = 192
    photo: int = 16
    wrong: int = 6
    scale: float = 25.0
    slip: float = 1.0
    stay: float = 10.0
    silence: float = 4.0
    anchor: float = 2.0


# --- statements where the text tower has them


def other_colours(said: Statement, rng: np.random.Generator) -> list[Statement]:
    """One thing of a statement in all other basic colours that training may show it in; none if none has a colour."""
    coloured = [i for i, each in enumerate(said.objects) if each.colour]
    if not coloured:
        return []
    others = in_other_colours(said, coloured[rng.integers(len(coloured))])
    return [each for each in others if not held_out(each)]


def false_ones(said: Statement, rng: np.random.Generator, most: int, things: Sequence[SceneObject]) -> list[Statement]:
    """One thing in other colours, and up to `most` statements that are wrong in anything."""
    colours = other_colours(said, rng)
    return colours + [each for each in falsified(said, rng, most, things) if each not in colours]


def fitted_statements(model: OnnxClip, shown: ShownScenes, *, count: int, steps: int) -> StatementPlaces:
    """A statement encoder that says what the text tower says of `count` statements in English, true and false."""
    rng = np.random.default_rng(3)
    kinds, styles = vocabulary(shown.scenes)
    said: list[Statement] = []
    while len(said) < count:
        true = shown.said(rng)
        colours = other_colours(true, rng)
        three = [colours[i] for i in rng.permutation(len(colours))[:3]]
        said += [true, *three, *falsified(true, rng, 2, shown.things)]
    texts = [str(say(each, rng)) for each in said]  # in English there is a wording for each
    rows = [model.encode_texts(texts[start : start + 256]) for start in range(0, len(texts), 256)]
    targets = torch.from_numpy(np.concatenate(rows))
    torch.manual_seed(0)
    encoder = StatementEncoder(len(kinds), len(styles), targets.shape[1])
    told = StatementPlaces(encoder, kinds, styles)
    ids = told.ids(said)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for step in range(steps):
        some = torch.from_numpy(rng.integers(len(ids), size=512))
        loss = 1 - (F.normalize(encoder(ids[some]), dim=1) * targets[some]).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 250 == 0 or step + 1 == steps:
            print(f"statements: step {step}, 1 - cosine {loss.item():.4f}", flush=True)
    return told


# --- training


class Trained(nn.Module):
    """The head, and the statement encoder."""

    def __init__(self, head: RegionHead, statements: StatementEncoder):
        super().__init__()
        self.head, self.statements = head, statements


class Objective:
    """Batches of cached features, and their losses."""

    def __init__(
        self, head: RegionHead, project: Callable[[Tensor], Tensor], told: StatementPlaces,
        pictures: PictureSet, scenes: ShownScenes, photos: PictureSet, weights: Weights,
    ):  # fmt: skip
        self.model, self.project, self.told = Trained(head, told.encoder).requires_grad_(True), project, told
        self.pictures, self.scenes, self.photos, self.weights = pictures, scenes, photos, weights
        self.before = copy.deepcopy(self.model).eval().requires_grad_(False)

    def batches(self, seed: int) -> Iterator[dict[str, Tensor]]:
        """P pictures, then S scenes, then V views of photographs, and what is said of the scenes.

        features (P + S + V, width), tokens (P + S + V, h, w, channels); said (S + W, 4, 5): the true statements, then
        W false ones; of, place (W,): the scene of each of those, and which of that scene's it is, from 1.
        """
        rng = np.random.default_rng(seed)
        w = self.weights
        while True:
            features, tokens = self.pictures.maps(rng.integers(len(self.pictures), size=w.picture).tolist())
            tokens = in_anothers_style(tokens, tokens.shape[-1] - colour_channels(self.model.head.levels), rng)
            scenes = [self.scenes.draw(rng) for _ in range(w.scene)]
            photos = self.photos.maps(rng.integers(len(self.photos), size=w.photo).tolist())
            true = [each.said for each in scenes]
            wrong = [false_ones(each, rng, w.wrong, self.scenes.things) for each in true]
            yield {
                "features": torch.from_numpy(np.concatenate([features, [s.feature for s in scenes], photos[0]])),
                "tokens": torch.from_numpy(np.concatenate([tokens, [s.tokens for s in scenes], photos[1]])),
                "said": self.told.ids([*true, *(each for own in wrong for each in own)]),
                "of": torch.tensor([i for i, own in enumerate(wrong) for _ in own]),
                "place": torch.tensor([k for own in wrong for k in range(1, len(own) + 1)]),
            }

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Batch -> losses by name."""
        w = self.weights
        with torch.no_grad():
            pooled = F.normalize(self.project(batch["features"]), dim=1)
            old = self.before.head(batch["tokens"][: w.picture])
            were = F.normalize(pooled[: w.picture] + old, dim=1)
            meant = F.normalize(self.before.statements(batch["said"]), dim=1)
        moved = self.model.head(batch["tokens"])
        images = F.normalize(pooled + moved, dim=1)
        said = F.normalize(self.model.statements(batch["said"]), dim=1)
        losses = self._composed(images[w.picture : w.picture + w.scene], said, batch["of"], batch["place"])
        losses["stay"] = 1 - (images[: w.picture] * were).sum(1).mean()
        losses["silence"] = moved[w.picture + w.scene :].square().sum(1).mean()
        losses["anchor"] = 1 - (said * meant).sum(1).mean()
        weights = {"scene": 1.0} | {name: getattr(w, name) for name in ("slip", "stay", "silence", "anchor")}
        return {"loss": torch.stack([weights[name] * loss for name, loss in losses.items()]).sum(), **losses}

    def _composed(self, images: Tensor, said: Tensor, of: Tensor, place: Tensor) -> dict[str, Tensor]:
        """images (S, dim), said (S + W, dim), of norm 1; a scene competes for its statement with the other scenes, and
        its statement with the false ones about it."""
        scale, (true, false) = self.weights.scale, said.float().split([len(images), len(of)])
        with torch.autocast(images.device.type, enabled=False):  # in bfloat16 a wrong colour is a rounding away
            images = images.float()
            among = contrastive_loss(images, true, torch.tensor(scale))
            own, others = scale * (images * true).sum(1), scale * (images[of] * false).sum(1)
        return {"scene": among, "slip": slip(own, others, of, place)}


def first_places(args: argparse.Namespace, scenes: ShownScenes) -> StatementPlaces:
    """Where the text tower has statements: as an earlier run that this one goes on from fitted them, or fitted now.

    Raises UsageError when those were fitted to other things or styles than the scenes show.
    """
    known = [args.out] if args.resume else args.init[:1]
    if not known:
        return fitted_statements(OnnxClip(args.model), scenes, count=args.statements, steps=args.statement_steps)
    told = StatementPlaces.read(known[0] / FITTED)
    if (told.kinds, told.styles) != vocabulary(scenes.scenes):
        raise UsageError(f"{known[0] / FITTED} knows other things or styles than --scenes show; fit them anew")
    return told


def mean_of(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of the weights of several runs from one start, often better than each (Wortsman et al. 2022)."""
    return {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}


def options(arguments: list[str] | None) -> argparse.Namespace:
    """Those of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in ("model", "pictures", "photos", "validation"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--scenes", type=Path, nargs="+", required=True)
    parser.add_argument("--statements", type=int, default=80_000, help="read by the text tower for the encoder")
    parser.add_argument("--statement-steps", type=int, default=2500)
    parser.add_argument("--joined", type=float, default=0.2, help="part of the scenes that are two joined")
    parser.add_argument("--threes", type=float, default=0.5, help="part of the others that are of three things")
    parser.add_argument("--scale", type=float, default=Weights.scale, help="of cosines in the losses of scenes")
    parser.add_argument("--init", type=Path, nargs="+", default=[], help="runs of this stage to go on from, their mean")
    parser.add_argument("--minutes", type=float, default=30, help="0: write the mean of --init as it is")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0, help="of the batches")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(arguments)
    if not args.minutes > 0 and not args.init:
        parser.error("--minutes 0 writes the mean of --init, and no run is given there")
    return args


def main(arguments: list[str] | None = None) -> None:
    """Train within the time given; `--out/final.pt` holds the whole Clip."""
    args = options(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    clip = load_clip(args.model)
    image = clip.image
    if not isinstance(image, ImageTower) or image.head is None:
        raise UsageError(f"--model {args.model} has no region head that could go on")
    scenes = ShownScenes([PictureSet.read(folder, "train") for folder in args.scenes], args.joined, args.threes)
    told = first_places(args, scenes)
    told.write(args.out / FITTED)
    pictures, photos = PictureSet.read(args.pictures, "train"), PictureSet.read(args.photos, "train")
    objective = Objective(image.head, image.project, told, pictures, scenes, photos, Weights(scale=args.scale))
    model = objective.model
    earlier = [torch.load(run / FINAL, weights_only=True) for run in args.init]
    if earlier:
        model.load_state_dict(mean_of([run["going"] for run in earlier]))
    validation = PictureSet.read(args.validation)

    def validate(_: nn.Module) -> dict[str, float]:
        return scene_scores(image, told, validation)

    steps = max((run["step"] for run in earlier), default=0)
    print(validate(model.eval()), flush=True)
    if args.minutes:
        loop = LoopConfig(
            steps=10**9,
            minutes=args.minutes,
            learning_rate=args.rate,
            log_every=25,
            optimizer="muon",
            validate_every=200,
        )
        batches = objective.batches(args.seed)
        for report in train(model, batches, objective, loop, args.out, args.resume, validate=validate):
            print(report, flush=True)
        steps += torch.load(args.out / "checkpoint.pt", weights_only=True)["step"]
    told.write(args.out / STATEMENTS)
    write_whole(args.out / FINAL, {"model": clip.state_dict(), "going": model.state_dict(), "step": steps})


if __name__ == "__main__":
    main()
