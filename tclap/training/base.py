"""The two phases that make a base model.

1. **Warm-up** of the text head on captions alone. "A before B" and "B after A" mean the same; a
   text tower that has to learn this from audio stays on an order-blind plateau (loss log 2 per
   inversion pair, 2-way accuracy 50 %).
2. **Base training** with CLAP's own loss on single sounds and "X and Y": nothing in it tells order.

:mod:`tclap.training.post_pretraining` is the third phase, the one this project is about.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tclap.data.batches import BASE_MIX, Batch, SegmentBank, base_batch, composite_batch
from tclap.data.captions import event_ids
from tclap.losses import clip_loss
from tclap.models.base import AudioTextModel
from tclap.training.batch_embedding import BatchEmbedder, Embed
from tclap.training.distributed import Processes
from tclap.training.features import TextFeatures
from tclap.training.loop import optimise, order_metrics
from tclap.training.schedule import Schedule
from tclap.training.text_loss import TextOnlyLoss

# RNG streams of this phase; those of post-pretraining are 2 to 4.
BASE_ITEMS, VALIDATION_ITEMS, DROPOUT = 0, 1, 5


def warm_up_text(
    text_loss: TextOnlyLoss,
    schedule: Schedule,
    *,
    batch: int,
    checkpoint: Path | None = None,
    processes: Processes | None = None,
) -> pd.DataFrame:
    """Teach the text head what the words for order mean, from captions alone.

    It is little work, which the main one of several ``processes`` does for all. Returns the history.
    """

    def losses(step: int) -> dict[str, Tensor]:
        if processes is not None and not processes.is_main:
            return {"loss": torch.zeros(())}
        terms = text_loss.losses(step, batch)
        return {"loss": sum(terms.values(), torch.zeros(()))} | terms

    def validate() -> dict[str, float]:
        return {"validation_accuracy": text_loss.accuracy()}

    head = text_loss.model.text_head
    return optimise(
        head.parameters(),
        losses,
        schedule,
        "text warm-up",
        module=head,
        validate=validate,
        checkpoint=checkpoint,
        processes=processes,
    )


def train_base(
    model: AudioTextModel,
    text: TextFeatures,
    bank: SegmentBank,
    validation: SegmentBank,
    validation_pairs: pd.DataFrame,
    schedule: Schedule,
    *,
    batch: int,
    seed: int,
    mix: Mapping[str, float] = BASE_MIX,
    embedding: BatchEmbedder | None = None,
    checkpoint: Path | None = None,
) -> pd.DataFrame:
    """Train the audio tower and the text head with CLAP's own loss on base-type items, mixed as ``mix`` says.

    Validation is on 256 base-type items and on ``validation_pairs``, of the bank ``validation``. The model
    ends with the weights of the lowest validation loss. Returns the history, one row per step.
    """
    embedding = embedding or BatchEmbedder()
    processes, device = embedding.processes, model.log_scale.device
    to_log = model.audio_trunk.mel.log
    rng = np.random.default_rng([seed, VALIDATION_ITEMS])
    check = base_batch(validation, 256, to_log, rng, augment=False, mix=mix)
    order = composite_batch(validation, validation_pairs, to_log, None)

    def embed(items: Batch) -> Embed:
        def of(rows: np.ndarray) -> tuple[Tensor, Tensor]:
            audio = model.embed_features(model.audio_trunk.from_log_mel(items.log_mel[rows].to(device)))
            return audio, model.embed_tokens(text([items.captions[r] for r in rows]))

        return of

    def ids_of(items: Batch) -> Tensor:
        return torch.from_numpy(event_ids(items.events)).to(device)

    def losses(step: int) -> dict[str, Tensor]:
        model.train()
        items = base_batch(bank, batch, to_log, np.random.default_rng([seed, BASE_ITEMS, step]), mix=mix)
        seeds = (seed, DROPOUT, step)
        audio, words = embedding.embed_local(embed(items), np.arange(batch), device, seeds)
        ids = ids_of(items)[processes.local_slice(batch)]
        loss = clip_loss(*processes.global_batch(audio, words, model.logit_scale, ids, batch))
        return {"loss": loss, "logit_scale": model.logit_scale}

    def validate() -> dict[str, float]:
        model.eval()
        sounds, words = embedding.embed_all(embed(check), np.arange(len(check.captions)), device)
        loss = clip_loss(sounds, words, model.logit_scale, ids_of(check))
        both = embedding.embed_all(embed(order), np.arange(len(order.captions)), device)
        metrics = order_metrics(*(side.unflatten(0, (3, -1)) for side in both))
        return {"validation_loss": float(loss)} | metrics

    history = optimise(
        [*model.audio_trunk.parameters(), *model.head_parameters()],
        losses,
        schedule,
        "base training",
        module=model,
        validate=validate,
        after_step=model.clamp_scale,
        checkpoint=checkpoint,
        processes=processes,
    )
    model.eval()
    return history
