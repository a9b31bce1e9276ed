"""Pictures a second in training: our loop beside open_clip's own, on the same towers, weights and batches.

Both train in float32 with AdamW, a cosine schedule and gradients cut at norm 1, on preprocessed tensors in memory, so
that what is compared is the step: towers, loss, backward pass, update, bookkeeping.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.timing import line, seconds

BATCH, STEPS, ROUNDS = 64, 8, 5
SIZE, PATCH, WIDTH, HEADS, IMAGE_LAYERS, TEXT_LAYERS = 64, 8, 192, 3, 6, 4
VOCABULARY, CONTEXT, DIM = 8000, 32, 128


def clip(photos: Path | None = None) -> None:
    """ViT of 6 layers at 64 px and a text tower of 4 layers, both 192 wide, batch 64."""
    import torch

    from bahumukha import runtime

    torch.set_num_threads(runtime.thread_count(None))
    ours, theirs = _models()
    batches = _batches()
    losses: dict[str, float] = {}
    peer = _open_clips_epoch(theirs, batches)
    fast, slow = seconds(lambda: losses.update(ours=_our_steps(ours, batches)), lambda: peer(losses), rounds=ROUNDS)
    pictures = BATCH * STEPS
    line(f"open_clip_train.train_one_epoch, batch {BATCH}", pictures / slow, "pictures/s")
    line(f"bahumukha.train.loop, batch {BATCH}", pictures / fast, "pictures/s", pictures / slow)
    print(f"  loss after {(ROUNDS + 1) * STEPS} steps: open_clip {losses['open_clip']:.3f}, ours {losses['ours']:.3f}")


def _models() -> tuple[Any, Any]:
    """Our CLIP and open_clip's with the same random weights; checked on one batch."""
    import torch
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    from bahumukha.models.clip import Clip, ClipConfig
    from bahumukha.models.text import TextTowerConfig
    from bahumukha.models.vit import ViTConfig
    from bahumukha.zoo.convert import keys, to_ours

    torch.manual_seed(0)
    text = TextTowerConfig(
        VOCABULARY, CONTEXT, WIDTH, TEXT_LAYERS, HEADS, attention="causal", pool="end", end_token=VOCABULARY - 1
    )
    config = ClipConfig(DIM, ViTConfig(SIZE, PATCH, WIDTH, IMAGE_LAYERS, HEADS), text)
    theirs = CLIP(
        DIM,
        CLIPVisionCfg(layers=IMAGE_LAYERS, width=WIDTH, head_width=WIDTH // HEADS, patch_size=PATCH, image_size=SIZE),
        CLIPTextCfg(context_length=CONTEXT, vocab_size=VOCABULARY, width=WIDTH, heads=HEADS, layers=TEXT_LAYERS),
        output_dict=True,
    )
    ours = Clip(config)
    ours.load_state_dict(to_ours(theirs.state_dict(), keys(config, "open_clip")))
    images, ids = _batches()[0]
    with torch.no_grad():
        a, b = ours.encode_image(images), theirs.encode_image(images)
        c, d = ours.encode_text(ids, torch.ones_like(ids)), theirs.encode_text(ids)
    assert torch.allclose(a, b, atol=1e-4) and torch.allclose(c, d, atol=1e-4), "the towers differ"
    return ours, theirs


def _batches() -> list[tuple[Any, Any]]:
    """Pixels (B, 3, S, S) and token ids (B, L) that end with the end token at different places."""
    import torch

    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(STEPS):
        images = torch.randn(BATCH, 3, SIZE, SIZE, generator=generator)
        ids = torch.randint(1, VOCABULARY - 1, (BATCH, CONTEXT), generator=generator)
        ends = torch.randint(4, CONTEXT, (BATCH, 1), generator=generator)
        places = torch.arange(CONTEXT)
        ids = ids.where(places < ends, 0).where(places != ends, torch.tensor(VOCABULARY - 1))
        found.append((images, ids))
    return found


def _our_steps(model: Any, batches: list[tuple[Any, Any]]) -> float:
    """One pass over the batches with `train.loop`; returns the mean loss."""
    import torch

    from bahumukha.models.contrastive import contrastive_loss
    from bahumukha.train.loop import LoopConfig, train

    def step(batch: tuple[Any, Any]) -> dict[str, Any]:
        images, ids = batch
        pictures = model.encode_image(images, normalize=True)
        texts = model.encode_text(ids, torch.ones_like(ids), normalize=True)
        return {"loss": contrastive_loss(pictures, texts, model.logit_scale), "scale": model.logit_scale}

    def stream() -> Iterator[tuple[Any, Any]]:
        yield from batches

    config = LoopConfig(steps=STEPS, log_every=STEPS, learning_rate=5e-4, weight_decay=0.2, warmup_steps=2)
    with tempfile.TemporaryDirectory() as folder:
        for report in train(model, stream(), step, config, Path(folder)):
            loss = report.losses["loss"]
    return loss


def _open_clips_epoch(model: Any, batches: list[tuple[Any, Any]]) -> Callable[[dict[str, float]], None]:
    """open_clip's loop, its optimiser groups and schedule as its `main` sets them up."""
    import torch
    from open_clip.loss import ClipLoss
    from open_clip_train.scheduler import cosine_lr
    from open_clip_train.train import train_one_epoch

    logging.getLogger().setLevel(logging.WARNING)
    options = argparse.Namespace(
        device="cpu",
        precision="fp32",
        distill=False,
        accum_freq=1,
        skip_scheduler=False,
        grad_clip_norm=1.0,
        horovod=False,
        distributed=False,
        log_every_n_steps=STEPS,
        local_rank=0,
        rank=0,
        world_size=1,
        batch_size=BATCH,
        wandb=False,
    )

    class Loader(list):
        num_batches, num_samples = STEPS, STEPS * BATCH

    class Data:
        dataloader = Loader(batches)

        def set_epoch(self, epoch: int) -> None: ...

    spared = [p for n, p in model.named_parameters() if p.ndim < 2 or "bn" in n or "ln" in n or "bias" in n]
    decayed = [p for p in model.parameters() if not any(p is s for s in spared)]
    loss = ClipLoss()

    def epoch(losses: dict[str, float]) -> None:
        groups = [{"params": spared, "weight_decay": 0.0}, {"params": decayed, "weight_decay": 0.2}]
        optimizer = torch.optim.AdamW(groups, lr=5e-4, betas=(0.9, 0.98), eps=1e-6)
        scheduler = cosine_lr(optimizer, 5e-4, 2, STEPS)
        seen: list[torch.Tensor] = []

        def noted(**features: Any) -> dict[str, torch.Tensor]:
            found = loss(**features)
            seen.append(found["contrastive_loss"].detach())
            return found

        train_one_epoch(model, {"train": Data()}, noted, 0, optimizer, None, scheduler, None, options)
        losses["open_clip"] = float(torch.stack(seen).mean())

    return epoch
