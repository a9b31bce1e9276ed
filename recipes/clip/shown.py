"""Scenes as stage 2 sees them, from cached features: as they were composed, in a mirror, and two of them joined.

Some ten thousand scenes are soon learned by heart, and then a colour is known with its thing and not seen on it. What
is cached are maps of places, so more scenes can be had without the trunk: a map in the mirror, a map turned upside down
(each thing in it still upright), and the left part of one scene beside the right part of another, cut where neither
thing is (cf. CutMix, Yun et al. 2019). A map's border still knows a little of what was beyond the cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from bahumukha.data.scene_captions import Statement, plainly, stated
from bahumukha.data.scenes import OPPOSITE, RELATIONS, Scene, SceneObject
from bahumukha.errors import UsageError
from recipes.clip.pictures import PictureSet
from recipes.clip.statements import held_out, mirrored
from recipes.clip.trunk import PREPROCESS

CELLS = PREPROCESS.size / 32
"""Of a map's tokens, along one side of a picture."""
AXES = {0: "above", 1: "left of"}
"""Axis of a map (h, w, channels) -> how a thing in its first part stands to one in its second."""


class Half(NamedTuple):
    """A scene whose one thing is wholly before (or behind) a cut, and where the cut may be at the nearest."""

    scene: int
    thing: SceneObject
    cut: int


class Shown(NamedTuple):
    """A scene's pooled feature (width,), its tokens (h, w, channels), and a true statement."""

    feature: np.ndarray
    tokens: np.ndarray
    said: Statement


def capsized(said: Statement) -> Statement:
    """What is true of the picture when above and below are exchanged."""
    if said.arrangement in ("above", "below"):
        return replace(said, arrangement=OPPOSITE[said.arrangement])
    return replace(said, objects=said.objects[::-1]) if said.arrangement == "column" else said


def halves(scenes: Sequence[Scene]) -> dict[int, tuple[list[Half], list[Half]]]:
    """Axis -> things that stand before a cut, and things that stand behind one."""
    found: dict[int, tuple[list[Half], list[Half]]] = {axis: ([], []) for axis in AXES}
    for i, scene in enumerate(scenes):
        if scene.arrangement not in RELATIONS:
            continue
        axis = 0 if scene.arrangement in ("above", "below") else 1
        first, second = scene.objects if scene.arrangement in AXES.values() else scene.objects[::-1]
        end = max(spot[1 - axis] + spot[2] / 2 for spot in first.spots)
        begin = min(spot[1 - axis] - spot[2] / 2 for spot in second.spots)
        found[axis][0].append(Half(i, first, math.ceil(end * CELLS)))
        found[axis][1].append(Half(i, second, math.floor(begin * CELLS)))
    return found


class ShownScenes:
    """Draws scenes. `joined` is the part that are two scenes joined, `threes` the part of the others that are of three
    kinds of things (None: as they come)."""

    def __init__(self, sets: Sequence[PictureSet], joined: float = 0.5, threes: float | None = None):
        self.at = [(part, i) for part in sets for i in range(len(part))]
        self.scenes = [Scene.from_record(r["scene"]) for part in sets for r in part.records]
        self.mirrors = np.array([not held_out(mirrored(plainly(scene))) for scene in self.scenes])
        self.capsizes = np.array([not held_out(capsized(plainly(scene))) for scene in self.scenes])
        self.joined, self.threes = joined, threes
        number = np.array([len(scene.objects) for scene in self.scenes])
        self.of_three, self.of_fewer = np.flatnonzero(number == 3), np.flatnonzero(number < 3)
        of = len(self.of_three), len(self.of_fewer)
        if threes is not None and not (0 <= threes <= 1 and (of[0] or threes == 0) and (of[1] or threes == 1)):
            raise UsageError(
                f"threes is {threes}, a part of 0 to 1, and there are {of[0]} scenes of three, {of[1]} others"
            )
        self.halves = {
            axis: (first, {cut: [s for s in second if s.cut >= cut] for cut in range(1, int(CELLS) + 1)})
            for axis, (first, second) in halves(self.scenes).items()
        }
        self.things = [each for scene in self.scenes[:4000] for each in scene.objects]

    def draw(self, rng: np.random.Generator) -> Shown:
        """One of either kind."""
        if rng.random() < self.joined and (shown := self._join(rng)) is not None:
            return shown
        return self._turned(rng)

    def said(self, rng: np.random.Generator) -> Statement:
        """Something true about one of the scenes, as it was composed."""
        return _told(self.scenes[self._any(rng)], rng)

    def _any(self, rng: np.random.Generator) -> int:
        if self.threes is None:
            return int(rng.integers(len(self.scenes)))
        some = self.of_three if rng.random() < self.threes else self.of_fewer
        return int(some[rng.integers(len(some))])

    def _maps(self, scene: int) -> tuple[np.ndarray, np.ndarray]:
        part, i = self.at[scene]
        features, tokens = part.maps([i])
        return features[0], tokens[0]

    def _turned(self, rng: np.random.Generator) -> Shown:
        i = self._any(rng)
        feature, tokens = self._maps(i)
        said = _told(self.scenes[i], rng)
        if self.mirrors[i] and rng.random() < 0.5:
            tokens, said = tokens[:, ::-1], mirrored(said)
        if self.capsizes[i] and rng.random() < 0.5:
            tokens, said = tokens[::-1], capsized(said)
        return Shown(feature, tokens, said)

    def _join(self, rng: np.random.Generator) -> Shown | None:
        axis = int(rng.integers(2))
        firsts, seconds = self.halves[axis]
        if not firsts:
            return None
        first = firsts[rng.integers(len(firsts))]
        fits = seconds.get(max(first.cut, 1), [])
        if not fits:
            return None
        second = fits[rng.integers(len(fits))]
        said = _beside(first.thing, second.thing, AXES[axis], rng)
        if first.thing.key == second.thing.key or held_out(said):
            return None
        cut = int(rng.integers(max(first.cut, 1), second.cut + 1))
        (feature, tokens), (other_feature, other_tokens) = self._maps(first.scene), self._maps(second.scene)
        before, _ = np.split(tokens, [cut], axis)
        _, behind = np.split(other_tokens, [cut], axis)
        share = min(1.0, cut / CELLS)
        return Shown(share * feature + (1 - share) * other_feature, np.concatenate([before, behind], axis), said)


def _told(scene: Scene, rng: np.random.Generator) -> Statement:
    """Plainly two times of five, so that what evaluations ask is often seen."""
    return plainly(scene) if rng.random() < 0.4 else stated(scene, rng)


def _beside(first: SceneObject, second: SceneObject, arrangement: str, rng: np.random.Generator) -> Statement:
    """What is true of two things, told from either; now and then without a colour, or without how they stand."""
    things = tuple(
        replace(each, size="medium", colour=each.colour if rng.random() < 0.9 else None) for each in (first, second)
    )
    told = arrangement if rng.random() < 0.9 else ""
    if rng.random() < 0.5:
        return Statement(things[::-1], OPPOSITE.get(told, ""))
    return Statement(things, told)


def in_anothers_style(tokens: np.ndarray, deep: int, rng: np.random.Generator, chance: float = 0.5) -> np.ndarray:
    """Maps (B, h, w, channels), some with part of another's mean and deviation in each of the first `deep` channels.

    What a channel's mean and deviation over a picture tell is mostly how it was drawn, so a name has to be known in
    styles that no picture has (MixStyle, Zhou et al. 2021, whose Beta(0.1, 0.1) says how much is the other's).
    """
    maps = tokens[..., :deep].astype(np.float32)
    mean = maps.mean((1, 2), keepdims=True)
    deviation = maps.std((1, 2), keepdims=True) + 1e-4
    other = rng.permutation(len(maps))
    own = rng.beta(0.1, 0.1, len(maps)).astype(np.float32)
    own = np.where(rng.random(len(maps)) < chance, own, 1)[:, None, None, None]
    mixed = (maps - mean) / deviation * (own * deviation + (1 - own) * deviation[other])
    mixed += own * mean + (1 - own) * mean[other]
    return np.concatenate([mixed.astype(tokens.dtype), tokens[..., deep:]], -1)
