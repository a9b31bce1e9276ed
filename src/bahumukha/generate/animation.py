"""Paintings that follow one another, each started from the one before: the frames of a video.

*Over frames* (`animation.frames`): frame k starts from  s θ_(k-1) + (1 - s) E(frame k),  θ the parameters of the last
painting, E the drawer's encoding and s the smoothing. What the last frame was painted into stays where the new one does
not speak against it, so the painting does not flicker. What a painting adds then piles up to 1 / (1 - s) times that of
one frame; the first frame gets that many times the steps, so that the video does not begin paler than it goes on.

*Under a camera* (`camera.frames`): frame k starts from the last painting, moved.

    for step in animate(config, [TorchClip()]): show(step.images)        a step a frame

A story runs over the whole video. A run that is stopped goes on after the last frame that was finished.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bahumukha.errors import UsageError
from bahumukha.generate.camera import CameraConfig
from bahumukha.generate.drawers import Drawer
from bahumukha.generate.frames import AnimationConfig, Frames
from bahumukha.generate.guided import Encoder, Painting, check_loading, new_drawer
from bahumukha.generate.guided_config import GuidedConfig, seed_number
from bahumukha.generate.prompts import parse_story
from bahumukha.generate.starts import fill, pixels
from bahumukha.generate.states import read_state, write_state
from bahumukha.protocols import ImageCodec, ImageTextEncoder, Step


def animate(
    config: GuidedConfig,
    encoders: Sequence[Encoder],
    drawer: Drawer | None = None,
    *,
    codec: ImageCodec | None = None,
) -> Iterator[Step]:
    """Paint all frames; a step each, with the finished painting and its last losses. Arguments as `guided.paint`."""
    animation = Animation(config, encoders, drawer, codec=codec)
    while not animation.is_over:
        painting = animation.next_painting()
        (step,) = painting.steps(every=painting.config.steps)
        animation.keep(painting)
        yield Step(animation.done - 1, animation.total, step.images, step.losses)


class Animation:
    """Frames that are being painted: all that the next one needs.

    Whoever runs it takes `next_painting`, runs it to its end, and gives it back to `keep`.
    """

    def __init__(
        self,
        config: GuidedConfig,
        encoders: Sequence[Encoder],
        drawer: Drawer | None = None,
        *,
        codec: ImageCodec | None = None,
    ):
        """Raises UsageError for settings of a single picture, frames that are missing, and what `Painting` refuses."""
        if not config.is_sequence:
            raise UsageError("there are no frames; set animation.frames to a folder or a video, or camera.frames")
        self.config, self.encoders = config, [SameWords(encoder) for encoder in encoders]
        self.drawer = drawer or new_drawer(config, codec)
        check_loading(self.drawer)
        self.story = parse_story(config.prompt, config.fade)
        folder = config.animation.frames
        self.frames = None if folder is None else Frames(folder, config.animation.every)
        self.total = config.camera.frames if self.frames is None else self.frames.count
        self.done = 0
        """Frames that are finished."""
        self.scores: list[float] = []
        """Of the finished frames, as `Painting.score`."""
        self._last: dict[str, Tensor] = {}
        """The drawer's variables at the end of the last frame."""
        self._pictures: Iterator[Image.Image] | None = None

    @property
    def is_over(self) -> bool:
        """All frames are finished."""
        return self.done >= self.total

    @property
    def rate(self) -> Fraction | None:
        """Frames a second of the video that is painted over, if there is one."""
        return None if self.frames is None else self.frames.rate

    @property
    def steps_left(self) -> int:
        """Of all frames that are not finished."""
        return sum(self._steps(frame) for frame in range(self.done, self.total))

    def next_painting(self) -> Painting:
        """The painting of the next frame, at its start; to be asked for once a frame. Raises ImageError, UsageError."""
        frame = self.done
        if self._last:
            self.drawer.load_state_dict(self._last)
        if self.frames is not None:
            self._pictures = self._pictures or self.frames.pictures(frame)
            self._start_over(next(self._pictures))
        elif frame:
            self._move()
        config = self.config
        # Under a still camera the same cutouts at every frame would see the same places; over frames they keep what
        # is alike alike.
        seed = config.seed if self.frames is not None or not frame else seed_number(config.seed, frame)
        painted = replace(
            config,
            prompt=" | ".join(map(str, self.story.at(frame / max(1, self.total - 1)))),
            seed=seed,
            steps=self._steps(frame),
            start=config.start if not frame else replace(config.start, picture=None, noise="none", colour=""),
            animation=AnimationConfig(),
            camera=CameraConfig(),
        )
        return Painting(painted, self.encoders, self.drawer)

    def keep(self, painting: Painting) -> None:
        """The painting of this frame is finished; what comes next starts from it."""
        with painting.at_rest() as drawer:
            self._last = drawer.state_dict()
        self.scores.append(painting.score())
        self.done += 1

    def _steps(self, frame: int) -> int:
        if self.frames is None:
            return self.config.camera.steps if frame else self.config.steps
        return self.config.steps if frame else round(self.config.steps / (1 - self.config.animation.smoothing))

    def _start_over(self, picture: Image.Image) -> None:
        """The drawer at the mean of the last painting and this picture, by `smoothing`."""
        width, height = self.config.size
        self.drawer.load_picture(pixels(fill(picture, (height, width))))
        if self._last:
            encoded, share = self.drawer.state_dict(), self.config.animation.smoothing
            self.drawer.load_state_dict({k: torch.lerp(encoded[k], self._last[k], share) for k in encoded})

    def _move(self) -> None:
        """The drawer at the last painting as the camera now sees it."""
        with torch.no_grad():
            self.drawer.load_picture(self.config.camera.moved(self.drawer.render()[:1], self.done))

    # --- stopping and going on --------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write all that is needed to go on after the last finished frame. Raises BahumukhaError."""
        state = {"done": self.done, "last": self._last, "scores": self.scores}
        write_state(path, self.config, self._fingerprints, state)

    def load(self, path: Path) -> None:
        """Go on from what `save` wrote, with the same settings and encoders. Raises ModelError."""
        state = read_state(path, self.config, self._fingerprints)
        self.done, self._last, self.scores = state["done"], state["last"], state["scores"]

    @property
    def _fingerprints(self) -> list[str]:
        return [encoder.fingerprint for encoder in self.encoders]


class SameWords(ImageTextEncoder):
    """An encoder that is asked for the same texts again at every frame, and embeds them once.

    A call is remembered whole: texts that are embedded beside others may differ in their last bits.
    """

    def __init__(self, encoder: Encoder):
        self._encoder = encoder
        self.name, self.fingerprint, self.dim = encoder.name, encoder.fingerprint, encoder.dim
        self.logit_scale = encoder.logit_scale
        self.templates = getattr(encoder, "templates", None)
        self._known: dict[tuple[str, ...], np.ndarray] = {}

    def __getattr__(self, name: str) -> Any:
        """What else an encoder may have: `guide_pixels`, `smallest_side`."""
        if name == "_encoder":  # not set yet, as while it is copied
            raise AttributeError(name)
        return getattr(self._encoder, name)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """As `ImageTextEncoder`."""
        if tuple(texts) not in self._known:
            self._known[tuple(texts)] = self._encoder.encode_texts(texts)
        return self._known[tuple(texts)].copy()

    def encode_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """As `ImageTextEncoder`."""
        return self._encoder.encode_images(images)

    def encode_pixels(self, x: Tensor, size: int | None = None, crop: bool = True) -> Tensor:
        """As `guided.Encoder`."""
        return self._encoder.encode_pixels(x, size, crop)
