"""Training unCLIP's decoder from a config file: captioned pictures in, a model folder out.

    run = DecoderRun(read_config(DecoderTraining, Path("decoder.toml")), Path("runs/mine"))
    for report in run.reports(): print(report)
    run.export()                                # runs/mine/model, for `zoo.unclip.load_decoder`

A step sees small pictures and their embeddings, which are made once (`data.embedded`), and captions; with a codec the
pictures become latents in the step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from bahumukha.data.embedded import Embedded, PictureBatch, PictureBatches
from bahumukha.data.wording import plainly_said
from bahumukha.errors import UsageError
from bahumukha.generate.diffusion import SAMPLERS, Guidance, PictureNoise, guided, times_of
from bahumukha.generate.priors import PriorSampling, rows_of, sample_embeddings
from bahumukha.generate.sketch import left_of_sketch
from bahumukha.images import save_image, to_uint8
from bahumukha.models.denoiser import Condition, Denoiser, DenoiserConfig, flow_loss, velocity_errors
from bahumukha.models.spaces import Latents, Pixels, Space, as_pictures
from bahumukha.models.text import TextFeatures
from bahumukha.models.vqgan import Codec
from bahumukha.nn.draws import Draws
from bahumukha.sheets import contact_sheet
from bahumukha.train import processes
from bahumukha.train.runs import SHEETS, FolderRun, listed
from bahumukha.train.unclip import EmbeddedPart, check_sight, to_fit
from bahumukha.train.unclip_config import DecoderTraining, SheetConfig, Start
from bahumukha.zoo.codecs import load_codec
from bahumukha.zoo.folder import lasting
from bahumukha.zoo.pytorch import TextReader
from bahumukha.zoo.unclip import AnyPrior, load_decoder, load_prior, save_decoder

AT_ONCE = 64
IMAGINED = PriorSampling(steps=1, guidance=1.0, tries=1)
"""How a prior is asked in training: for the mean of what a caption may mean, in one call."""
SEED = 1
"""Of which pictures are judged: the same for every seed of a run."""
JUDGED_AT = (0.15, 0.35, 0.55, 0.75, 0.95)
"""The t whose errors are validated."""


class DecoderRun(FolderRun):
    """See above."""

    KIND = "decoder"
    model: Denoiser

    def __init__(
        self,
        config: DecoderTraining,
        out: Path,
        *,
        resume: bool = False,
        device: torch.device | None = None,
        advance: Callable[[int], None] = lambda pictures: None,
    ):
        """As `train.prior.PriorRun`."""
        super().__init__(config, out, resume, device)
        self.config = config
        part = EmbeddedPart(config.pictures, out, advance)
        self.sight, self.read = part.sight, TextReader.load(config.pictures.clip, device=str(self.device))
        self.prior = self._prior()
        self.copier = self._copier()
        self.codec = ""
        self.space: Space = Pixels()
        stored = self.resumed() if resume else self._started()  # what is wrong with it, before all is embedded
        self.sources = part.of(config.data)
        judged = part.of(config.validation.sources) if config.validation else []
        torch.manual_seed(config.optimisation.seed)
        self.model = self.trained(stored or self._fresh())  # type: ignore[assignment]
        self.batches = PictureBatches(
            self.sources,
            [source.weight for source in config.data],
            config.batch.size,
            config.captions,
            drop_text=config.batch.drop_text,
            drop_embedding=config.batch.drop_embedding,
            seed=config.optimisation.seed,
            rank=processes.rank(),
            parts=processes.count(),
        )
        self.validation = self._validation(judged)

    def losses(self, batch: PictureBatch) -> dict[str, Tensor]:
        """See `models.denoiser.flow_loss`."""
        assert batch.pixels is not None
        text = self.read(batch.texts) if self.model.config.text_width else None
        drops, draws = (batch.without_embedding.to(self.device), batch.without_text.to(self.device)), self.draws(batch)
        embeddings = batch.embeddings.to(self.device)
        if self.prior is not None and text is not None:
            embeddings = self._imagined(self.prior, embeddings, text, drops, draws, batch.number)
        condition = Condition(embeddings, text, *drops)
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):  # codes as the codec itself has them
            pictures = as_pictures(batch.pixels).to(self.device)
            x = self.space.encode(pictures).float()
            under = None if self.copier is None else self._on_the_way(self.copier, pictures, x, draws)
        return flow_loss(self.model, x, condition, self.config.times, draws, under)

    def _on_the_way(self, codec: Codec, pictures: Tensor, x: Tensor, draws: Draws) -> Callable[[Tensor], Tensor]:
        """What `flow_loss` sees under the noise: x, in some of the rows with what is left of the codec's copy there."""
        least, most = self.config.sketches.noise
        random = draws.uniform(len(x), x, 2)
        wanted, begun = random[:, 0] < self.config.sketches.share, least + (most - least) * random[:, 1]
        copy, rows = x.clone(), wanted.nonzero()[:, 0]
        if len(rows):
            copy[rows] = self.space.encode(codec(pictures[rows])[0].clamp(-1, 1)).float()

        def under(t: Tensor) -> Tensor:
            left = torch.where(wanted & (t < begun), left_of_sketch(t, begun), 0.0)
            return torch.lerp(x, copy, left.view(-1, 1, 1, 1))

        return under

    def _imagined(
        self,
        prior: AnyPrior,
        embeddings: Tensor,
        text: TextFeatures,
        drops: tuple[Tensor, Tensor],
        draws: Draws,
        seed: int,
    ) -> Tensor:
        """Embeddings (B, dim), some of them as the prior imagines the caption: what is drawn from in the end."""
        wanted = draws.uniform(len(embeddings), embeddings) < self.config.imagined.share
        rows = (wanted & ~drops[0] & ~drops[1]).nonzero()[:, 0]
        if not len(rows):
            return embeddings
        made = sample_embeddings(prior, rows_of(text, rows), count=len(rows), sampling=IMAGINED, seed=seed)
        return embeddings.index_copy(0, rows, made.to(embeddings))

    def save(self, folder: Path, name: str, steps: int) -> None:
        """Of kind `decoder`."""
        storage = self.config.output.storage
        save_decoder(self.model, folder, name=name, sight=self.sight, codec=self.codec, steps=steps, weights=storage)

    def told(self) -> tuple[str, str]:
        """For the card."""
        counts, size = list(map(len, self.batches.pictures)), self.config.pictures.size
        purpose = f"Pictures of {size} px from CLIP embeddings, trained on {sum(counts)} captioned pictures."
        return purpose, listed(self.config.data, counts)

    def more(self) -> dict[str, Any]:
        """Whose latents are drawn."""
        return {"codec": self.codec}

    def _prior(self) -> AnyPrior | None:
        """Whose embeddings are seen besides those of pictures."""
        if not self.config.imagined.prior:
            return None
        loaded = load_prior(self.config.imagined.prior)
        if loaded.sight.fingerprint != self.sight.fingerprint:
            raise UsageError(
                f"imagined.prior: {self.config.imagined.prior} was trained with {loaded.sight.clip} of other weights"
                " than pictures.clip has; take a prior of that one"
            )
        return loaded.model.to(self.device)

    def _copier(self) -> Codec | None:
        """Whose copies stand for sketches."""
        if not self.config.sketches.codec:
            return None
        codec = load_codec(self.config.sketches.codec)
        _check_size(self.config.pictures.size, codec.downsampling)
        return codec.to(self.device)

    def _started(self) -> nn.Module | None:
        """The network to go on from, if there is one."""
        start = self.config.model
        if not isinstance(start, Start):
            return None
        loaded = load_decoder(start.init)
        check_sight(start, loaded.sight, self.sight)
        self._draw(loaded.codec)
        self.steps_before = loaded.steps
        size, model = self.config.pictures.size, loaded.model
        _check_size(size, self.space.downsampling * model.config.patch)
        model.config = replace(model.config, grid=size // self.space.downsampling)  # what it draws from now on
        return model

    def _fresh(self) -> nn.Module:
        sizes, size = self.config.model, self.config.pictures.size
        assert not isinstance(sizes, Start)
        self._draw(sizes.codec and lasting(sizes.codec))
        _check_size(size, self.space.downsampling * sizes.patch)
        grid, dim, width = size // self.space.downsampling, self.sources[0].dim, self.read.tower.config.width
        model = Denoiser(sizes.sized(channels=self.space.channels, grid=grid, dim=dim, text_width=width))
        model.standard.fit(torch.cat([source.embeddings(numbers) for source, numbers in to_fit(self.sources)]))
        return model

    def built(self, architecture: dict[str, Any]) -> nn.Module:
        """See `FolderRun`."""
        self._draw(self.stored["codec"])
        return Denoiser(DenoiserConfig.from_dict(architecture))

    def _draw(self, codec: str) -> None:
        """In this codec's latents; "" for pixels."""
        self.codec = codec
        self.space = Latents(load_codec(codec).to(self.device)) if codec else Pixels()

    def _validation(self, judged: list[Embedded]) -> DecoderValidation | None:
        """On its own pictures; else a sheet of some that are trained on; None where neither is asked for."""
        if not judged and not self.config.sheet.pictures:
            return None
        mix, most = self.config.captions.languages, self.config.validation.most if self.config.validation else 0
        shown = self.config.sheet.pictures
        parts = [plain_condition(each, mix, max(most, shown)) for each in judged or self.sources[:1]]
        x = torch.cat([pixels for pixels, _, _ in parts])
        embeddings = torch.cat([each for _, each, _ in parts])
        texts = [text for _, _, each in parts for text in each]
        return DecoderValidation(self, x, embeddings, texts, self.config.sheet, scored=bool(judged))


class DecoderValidation:
    """`validate` of `train.loop`, and a sheet a call: pictures beside what is drawn of their embeddings.

    error      mean squared error of the velocity at fixed t, always under the same noise
    told       how much larger it is without embedding and caption; near 0 is a decoder that does not look at them
    """

    def __init__(
        self, run: DecoderRun, pixels: Tensor, embeddings: Tensor, texts: list[str], sheet: SheetConfig, scored: bool
    ):
        """pixels: uint8 (n, size, size, 3). scored: False for sheets alone."""
        self.run, self.pixels, self.embeddings, self.texts = run, pixels, embeddings, texts
        self.sheet_config, self.scored = sheet, scored

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Scores of the model, which is in eval mode."""
        assert isinstance(model, Denoiser)
        if self.sheet_config.pictures and processes.rank() == 0:
            save_image(self.sheet(model), self.run.out / SHEETS / f"{self.run.taken:07d}.png")
        return self.scores(model) if self.scored else {}

    def condition(self, rows: slice) -> Condition:
        """Of some of the pictures."""
        text: TextFeatures | None = None
        if self.run.model.config.text_width:
            text = self.run.read(self.texts[rows])
        return Condition(self.embeddings[rows].to(self.run.device), text)

    @torch.no_grad()
    def scores(self, model: Denoiser) -> dict[str, float]:
        """Over all pictures."""
        totals = np.zeros(2)
        for start in range(0, len(self.pixels), AT_ONCE):
            rows = slice(start, start + AT_ONCE)
            x = self.run.space.encode(as_pictures(self.pixels[rows]).to(self.run.device)).float()
            noise = PictureNoise(start, len(x), x.shape[1:], x.device)()
            for which, condition in enumerate((self.condition(rows), Condition())):
                errors = [
                    velocity_errors(model, x, noise, x.new_full((len(x),), t), condition).sum() for t in JUDGED_AT
                ]
                totals[which] += float(torch.stack(errors).mean())
        error, without = totals / len(self.pixels)
        return {"error": float(error), "told": float(without - error)}

    @torch.no_grad()
    def sheet(self, model: Denoiser) -> Image.Image:
        """Pairs, the picture at the left."""
        s, rows = self.sheet_config, slice(0, self.sheet_config.pictures)
        condition, texts = self.condition(rows), self.texts[rows]
        drawn = self.run.space.decode(
            drawn_with(model, condition, len(texts), (model.config.grid, model.config.grid), s, self.run.device)
        )
        both = torch.cat([as_pictures(self.pixels[rows]), drawn.float().cpu()], dim=3).permute(0, 2, 3, 1).numpy()
        pairs = [Image.fromarray(each) for each in to_uint8(both, low=-1.0)]
        return contact_sheet(list(zip(pairs, texts, strict=True)), columns=4, tile=max(128, pairs[0].width))


def drawn_with(
    model: Denoiser, condition: Condition, count: int, grid: tuple[int, int], s: SheetConfig, device: torch.device
) -> Tensor:
    """What a sheet shows, (count, channels, *grid)."""

    def under(said: Condition) -> Callable[[Tensor, float], Tensor]:
        return lambda x, t: model.clean(x, torch.full((len(x),), t, device=device), said)

    null = Condition(given=condition.given, given_noise=condition.given_noise)
    denoise = guided(under(condition), under(null), Guidance(s.guidance))
    noise = PictureNoise(s.seed, count, (model.config.channels, *grid), device)
    *_, last = SAMPLERS[s.sampler](denoise, noise(), times_of(s.steps), noise)
    return last.x


def plain_condition(embedded: Embedded, mix: Mapping[str, float], most: int) -> tuple[Tensor, Tensor, list[str]]:
    """Pixels, embeddings and captions of the plain views of at most `most` pictures, always the same ones."""
    chosen = np.sort(np.random.default_rng(SEED).permutation(embedded.readable)[:most])
    pixels = torch.stack([embedded.pixels(int(i), 0) for i in chosen])
    texts = [plainly_said(embedded.captions(int(i)), embedded.about(int(i)), mix) for i in chosen]
    return pixels, embedded.embeddings(chosen), texts


def _check_size(size: int, step: int) -> None:
    if size % step:
        raise UsageError(f"pictures.size: {size} is not a multiple of {step}, the pixels that a token stands for")
