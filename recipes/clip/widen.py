"""Stage 5: a perceptron beside the text tower's projection. Both learn; the tower below them and all pictures stay.

After stage 4 what is wrong with a text is mostly that a linear map of 320 numbers cannot put thousands of names where
they belong and leave everything else where it is. `models.text.TextTower` with `projection_hidden` can. As the tower is
locked, each text passes through it once:

    name, a name       English names of pictures, which belong where those are (`recipes.clip.lit.learn_places`)
    kept               words of WordNet, translations and phrases that stay where the edition has them
    shown, everyday    names of what photographs show, in all languages, which stay as well
    class              the 1,000 classes and the kinds above them, as an evaluation asks for them: so do these
    told               statements about scenes, true ones and false ones

The hidden layer begins at random over whitened states; ridge regression sets both maps that end in the shared space;
some minutes of gradient descent on cached states then train all of it, with the losses of stage 4.

    python -m recipes.clip.widen --model src/bahumukha/starter/clip --hidden 2560 --steps 800 --out runs/wide
        (and the options of recipes.clip.lit)
    python -m recipes.clip.export --run runs/wide --image-of src/bahumukha/starter/clip …
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from bahumukha.data.imagenet import class_names
from bahumukha.data.scene_captions import Statement, plainly, say
from bahumukha.data.scenes import Scene, SceneObject
from bahumukha.evaluate.everyday import everyday_things
from bahumukha.models.clip import Clip
from bahumukha.models.contrastive import contrastive_loss
from bahumukha.models.text import TextTower
from bahumukha.train.loop import LoopConfig, train
from recipes.clip.export import TEMPLATES
from recipes.clip.image_side import nearly
from recipes.clip.lit import Prepared, held_out_style, parser, prepare
from recipes.clip.statements import STATEMENTS, StatementPlaces, falsified, held_out, slip
from recipes.clip.texts import in_parts
from recipes.clip.train import FINAL, LIMIT, solved, told_of

KEPT_DRAWS = 40
"""Batches of stage 4 whose kept texts take part."""


@dataclass(frozen=True)
class Weights:
    """Of the ridge regression, of the losses, and how many of each kind stand in a batch."""

    solve: dict[str, float] = field(
        default_factory=lambda: {
            "name": 12.0,
            "a name": 1.0,
            "kept": 0.3,
            "shown": 30.0,
            "everyday": 60.0,
            "class": 6.0,
            "told": 2.0,
        }
    )
    loss: dict[str, float] = field(
        default_factory=lambda: {"name": 8.0, "a name": 1.0, "kept": 3.0, "shown": 10.0, "everyday": 12.0, "class": 8.0}
    )
    count: dict[str, int] = field(
        default_factory=lambda: {"name": 512, "a name": 128, "kept": 256, "shown": 256, "everyday": 128, "class": 256}
    )
    told: int = 128
    slip: float = 0.5
    scene: float = 0.25
    stay: float = 2.0
    scale: float = 25.0


class Projection(nn.Module):
    """What is trained: both parts of a text tower's projection."""

    def __init__(self, tower: TextTower):
        super().__init__()
        assert tower.projection_mlp is not None
        self.linear, self.mlp, self.project = tower.projection, tower.projection_mlp, tower.project

    def features(self, states: Tensor) -> Tensor:
        """States (N, width) -> (N, width + hidden): what the two last maps are linear in."""
        return torch.cat([states, self.mlp.hidden(states)], 1)

    def forward(self, states: Tensor) -> Tensor:
        """States (N, width) -> (N, dim), rows of norm 1."""
        return F.normalize(self.project(states), dim=1)

    def begin(self, states: Tensor, seed: int = 0) -> None:
        """Random hidden units over whitened states, none of which says anything yet."""
        generator = torch.Generator().manual_seed(seed)
        mean = states.mean(0)
        spread, axes = torch.linalg.eigh((states - mean).T @ (states - mean) / len(states))
        whitened = axes / (spread + 1e-3 * spread.max()).sqrt()  # (width, width)
        inner = self.mlp.inner
        with torch.no_grad():
            draws = torch.randn(inner.out_features, inner.in_features, generator=generator) / inner.in_features**0.5
            inner.weight.copy_(draws @ whitened.T)
            inner.bias.copy_(0.5 * torch.randn(inner.out_features, generator=generator) - inner.weight @ mean)
            self.mlp.outer.weight.zero_()

    @torch.no_grad()
    def solve(
        self, states: Sequence[Tensor], targets: Sequence[Tensor], weights: Sequence[float], ridge: float
    ) -> None:
        """Set the last maps by ridge regression from states (N, width) of each kind to its targets (N, dim)."""
        matrix = solved([self.features(each) for each in states], targets, weights, ridge)
        linear, outer = matrix.split([self.linear.in_features, self.mlp.inner.out_features], 1)
        self.linear.weight.copy_(linear)
        self.mlp.outer.weight.copy_(outer)


@dataclass(frozen=True)
class Told:
    """Statements: their texts, what these say, and groups of a scene's row and texts about it, a true one before the
    false."""

    texts: list[str]
    said: list[Statement]
    groups: list[tuple[int, list[int]]]

    @classmethod
    def of(
        cls, scenes: Sequence[Scene], things: Sequence[SceneObject], rng: np.random.Generator, wrong: int = 5
    ) -> Told:
        """Of each scene what it nearly is (`recipes.clip.image_side`), and something in free words and any language.

        A group is worded alike, so that only what is said differs. None says what the held-out scenes show."""
        number: dict[str, int] = {}
        meant: list[Statement] = []
        groups: list[tuple[int, list[int]]] = []

        def add(scene: int, statements: Sequence[Statement], language: str) -> None:
            wording = int(rng.integers(2**32))
            texts = [say(each, np.random.default_rng(wording), language) for each in statements]
            own = []
            for text, statement in zip(texts, statements, strict=True):
                if text is None:
                    continue
                if text not in number:
                    number[text] = len(meant)
                    meant.append(statement)
                own.append(number[text])
            if texts[0] is not None and len(own) > 1:
                groups.append((scene, own))

        for i, scene in enumerate(scenes):
            plain = plainly(scene)
            for _, others in nearly(plain):
                false = [each for each in others if not held_out(each)]
                add(i, [plain, *false], "en")
            said, language = told_of(scene, rng)
            add(i, [said, *falsified(said, rng, wrong, things)], language)
        return cls(list(number), meant, groups)


def held_texts(ready: Prepared) -> dict[str, list[str]]:
    """Texts of each kind but `told`, each once."""
    rng = np.random.default_rng(5)
    names = [own["en"][0] for own in ready.texts.names.captions]
    captions = ready.texts.captions
    kept = [text for _ in range(KEPT_DRAWS) for text in ready.texts.kept(rng)]
    everyday = [name for thing in everyday_things() for name in thing.names.values()]
    asked = dict.fromkeys([*(name for _, name in class_names()), *(noun.word for noun in captions.coarse_nouns)])
    return {
        "name": names,
        "a name": [f"a {name}" for name in names],
        "kept": list(dict.fromkeys(kept)),
        "shown": list(dict.fromkeys(ready.texts.shown)),
        "everyday": list(dict.fromkeys(everyday)),
        "class": [template.format(word) for word in asked for template in TEMPLATES],
    }


class Objective:
    """Batches of cached states, and their losses."""

    def __init__(
        self,
        projection: Projection,
        states: dict[str, Tensor],
        places: dict[str, Tensor],
        groups: Sequence[tuple[int, list[int]]],
        scenes: Tensor,
        weights: Weights,
    ):
        self.projection, self.states, self.places = projection, states, places
        self.groups, self.scenes, self.weights = groups, scenes, weights

    def batches(self, seed: int) -> Iterator[dict[str, Tensor]]:
        """Rows of each kind; of `told` the texts of some groups, the group of each, its place there, and the scenes."""
        rng = np.random.default_rng(seed)
        while True:
            batch = {
                kind: torch.from_numpy(rng.integers(len(self.states[kind]), size=count))
                for kind, count in self.weights.count.items()
            }
            drawn = [self.groups[i] for i in rng.integers(len(self.groups), size=self.weights.told)]
            batch["told"] = torch.tensor([text for _, texts in drawn for text in texts])
            batch["of"] = torch.tensor([i for i, (_, texts) in enumerate(drawn) for _ in texts])
            batch["place"] = torch.tensor([i for _, texts in drawn for i in range(len(texts))])
            batch["scenes"] = torch.tensor([scene for scene, _ in drawn])
            yield batch

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Batch -> losses by name."""
        w = self.weights
        losses = {}
        for kind in w.count:
            rows = batch[kind]
            losses[kind] = 1 - (self.projection(self.states[kind][rows]) * self.places[kind][rows]).sum(1).mean()
        loss = torch.stack([w.loss[kind] * value for kind, value in losses.items()]).sum()
        told = self._told(batch)
        loss = loss + w.slip * told["slip"] + w.scene * told["scene"] + w.stay * told["stay"]
        return {"loss": loss, **losses, **told}

    def _told(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """A scene finds its true statement among the false ones about it, and among other scenes'."""
        of, place = batch["of"], batch["place"]
        texts = self.projection(self.states["told"][batch["told"]])
        seen = self.scenes[batch["scenes"]]
        scores = self.weights.scale * (texts * seen[of]).sum(1)
        return {
            "slip": slip(scores[place == 0], scores[place > 0], of[place > 0], place[place > 0]),
            "scene": contrastive_loss(seen, texts[place == 0], torch.tensor(self.weights.scale)),
            "stay": 1 - (texts * self.places["told"][batch["told"]]).sum(1).mean(),
        }


def cached_states(tower: TextTower, tokenizer: Tokenizer, texts: Sequence[str], folder: Path) -> Tensor:
    """Pooled states of texts, (N, width); kept in `folder` for the same texts and tower."""
    digest = hashlib.sha256("\n".join(texts).encode())
    digest.update(tower.norm.weight.detach().numpy().tobytes())
    file = folder / f"states-{digest.hexdigest()[:16]}.npy"
    if not file.exists():
        aside = file.with_suffix(".part.npy")
        np.save(aside, in_parts(tower.pooled, tokenizer, texts, LIMIT).numpy())
        aside.rename(file)
    return torch.from_numpy(np.load(file))


def widened(model: Clip, hidden: int) -> Clip:
    """The same Clip with a perceptron of `hidden` units in its text tower, at random weights."""
    wide = Clip(replace(model.config, text=replace(model.config.text, projection_hidden=hidden)))
    wide.load_state_dict(model.state_dict(), strict=False)
    return wide.eval()


def main() -> None:
    """Train; `--out/final.pt` holds the whole Clip, as stage 4's does."""
    options = parser(__doc__ or "")
    options.add_argument("--hidden", type=int, default=2560, help="units of the hidden layer")
    options.add_argument("--ridge", type=float, default=20.0)
    options.add_argument("--steps", type=int, default=800)
    options.add_argument("--rate", type=float, default=1.5e-3)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--head", type=Path, help="run of recipes.clip.head, whose statements are where theirs belong")
    args = options.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    ready = prepare(args)
    edition, weights = ready.model.text, Weights()
    told = Told.of(ready.texts.scenes, ready.texts.things, np.random.default_rng(11))
    said = held_texts(ready) | {"told": told.texts}
    print({kind: len(texts) for kind, texts in said.items()}, flush=True)
    states = {kind: cached_states(edition, ready.tokenizer, texts, args.out) for kind, texts in said.items()}
    places = {kind: F.normalize(edition.project(x), dim=1).detach() for kind, x in states.items()}
    if args.head:
        places["told"] = StatementPlaces.read(args.head / STATEMENTS).encode(told.said)
    names = ready.places.clone()
    everyday = set(said["everyday"])
    stays = torch.tensor([name in everyday for name in said["name"]])
    names[stays] = places["name"][stays]
    places |= {"name": names, "a name": names}

    model = widened(ready.model, args.hidden).requires_grad_(False)
    projection = Projection(model.text).requires_grad_(True)
    some = {kind: slice(None, None, 10 if kind == "told" else 1) for kind in states}
    projection.begin(torch.cat([states[kind][rows] for kind, rows in some.items()]), args.seed)
    kinds = list(states)
    projection.solve(
        [states[kind][some[kind]] for kind in kinds],
        [places[kind][some[kind]] for kind in kinds],
        [weights.solve[kind] for kind in kinds],
        args.ridge,
    )
    objective = Objective(projection, states, places, told.groups, ready.scenes.rows, weights)
    style = ready.pictures.split("held-out-style")

    def validate(_: nn.Module) -> dict[str, float]:
        return held_out_style(model.text, ready.tokenizer, style)

    print(validate(projection), flush=True)
    loop = LoopConfig(
        steps=args.steps,
        learning_rate=args.rate,
        weight_decay=0.0,
        warmup_steps=30,
        clip_norm=0.0,
        log_every=100,
        validate_every=200,
        precision="float32",
    )
    for report in train(projection, objective.batches(args.seed), objective, loop, args.out, validate=validate):
        print(report, flush=True)
    torch.save({"model": model.state_dict(), "step": args.steps}, args.out / FINAL)


if __name__ == "__main__":
    main()
