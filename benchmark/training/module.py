"""The LightningModule that trains every network: loss, optimiser and logging around a pure network."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from benchmark.errors import Diverged
from benchmark.metrics.meters import PSNRY, SSIMY
from benchmark.models import faults_of
from benchmark.restoration.tiling import restore
from benchmark.spec import RecipeSpec
from benchmark.training.losses import Loss, get_loss, on_all_outputs
from benchmark.training.schedules import learning_rate_factor


class Restoration(pl.LightningModule):
    """Trains one network by one recipe.

    Args:
        network: maps a rainy image (N, 3, H, W) in [0, 1] to the restored one.
        recipe: loss, optimiser and schedule.
        total_steps: optimiser steps of the whole training.
        steps_per_epoch: optimiser steps of an epoch, for schedules that count epochs.
        description: plain data that checkpoints carry under "derain", so that a file says what it is.
        tiling: tile (None: whole pictures) and overlap in pixels, with which the network will be tested.
    """

    remedy = "a lower recipe.optimizer.lr or recipe.gradient_clip=1"  # for a training that diverged

    def __init__(
        self,
        network: nn.Module,
        recipe: RecipeSpec,
        total_steps: int,
        steps_per_epoch: int,
        description: dict[str, Any],
        tiling: tuple[int | None, int] = (None, 8),
    ) -> None:
        super().__init__()
        self.network: Any = network
        self.recipe = recipe
        self.total_steps = total_steps
        self.steps_per_epoch = steps_per_epoch
        self.description = description
        self.tiling = tiling
        self.loss: Loss = get_loss(recipe.loss, network)
        # a loss on the restored image alone needs no more than it: cheaper for networks with costly side outputs
        self.all_outputs = on_all_outputs(recipe.loss) and hasattr(network, "training_outputs")
        self.psnr, self.ssim = PSNRY(), SSIMY()

    def forward(self, rainy: Tensor) -> Tensor:
        """The restored image."""
        return self.network(rainy)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The recipe's loss on one batch of crops.

        Raises:
            Diverged: the loss is not a finite number.
        """
        rainy, target = batch["rainy"], batch["target"]
        price: Tensor | float = 0.0
        with faults_of(self.network, "training it"):
            if self.all_outputs:
                outputs = self.network.training_outputs(rainy)
            elif getattr(self.network, "rate_weight", 0.0):
                restored, price = self.network.restored_at_a_price(rainy)
                outputs = [restored]
            else:
                outputs = [self.network(rainy)]
            loss = self.loss([o.float() for o in outputs], rainy, target) + price
        if not torch.isfinite(loss):
            raise Diverged(
                f"diverged at step {self.global_step}: the loss is {loss.item()}; the last checkpoint is kept "
                f"(try {self.remedy})"
            )
        self.log("train/loss", loss, prog_bar=True)
        self.log("train/learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])
        return loss

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """The gradients."""
        with faults_of(self.network, "its backward"):
            super().backward(loss, *args, **kwargs)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """PSNR-Y and SSIM-Y of held-out training images, restored as the test will restore: tiles, full precision."""
        self.measure(batch, "validation")

    def restored(self, rainy: Tensor) -> Tensor:
        """Pictures (N, 3, H, W) as a test restores them, in full precision."""
        with torch.autocast(self.device.type, enabled=False):
            return restore(self.network, rainy, *self.tiling)

    def measure(self, batch: dict[str, Any], stage: str) -> None:
        """Log PSNR-Y (dB) and SSIM-Y of a batch under the name of the stage."""
        restored = self.restored(batch["rainy"])
        self.psnr(restored, batch["target"])
        self.ssim(restored, batch["target"])
        on: Any = {"on_epoch": True, "on_step": False, "batch_size": len(restored)}
        self.log(f"{stage}/psnr_y", self.psnr, prog_bar=True, **on)
        self.log(f"{stage}/ssim_y", self.ssim, **on)

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser, its rate set before every step."""
        settings = self.recipe.optimizer
        cls = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.name]
        parameters = list(self.network.parameters())
        # one kernel for all parameters; under a gradient scaler it does not go together with clipping
        fused = not self.recipe.gradient_clip and all(parameter.is_cuda for parameter in parameters)
        optimizer = cls(
            parameters,
            lr=settings.lr,
            betas=(settings.betas[0], settings.betas[1]),
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            fused=fused or None,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: learning_rate_factor(self.recipe, step, self.total_steps, self.steps_per_epoch),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the weights are of, and the random state that exact resumption needs.

        Raises:
            Diverged: a weight is not finite; the checkpoint before, which is good, stays as it is.
        """
        bad = [k for k, v in checkpoint["state_dict"].items() if not torch.isfinite(v).all()]
        if bad:
            raise Diverged(
                f"diverged at step {self.global_step}: {bad[0]} is not finite; the last good checkpoint is kept "
                f"(try {self.remedy})"
            )
        checkpoint["derain"] = self.description
        numpy_state: Any = np.random.get_state()  # noqa: NPY002
        python_state = random.getstate()
        checkpoint["random"] = {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "numpy": [
                str(numpy_state[0]),
                torch.from_numpy(numpy_state[1].astype(np.int64)),
                *numpy_state[2:],
            ],
            "python": [list(python_state[1]), python_state[2]],
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the random state back, where the file has one."""
        state = checkpoint.get("random")
        if state is None:
            return
        torch.set_rng_state(state["torch"])
        if torch.cuda.is_available() and state["cuda"]:
            torch.cuda.set_rng_state_all(state["cuda"])
        name, keys, position, has_gauss, cached = state["numpy"]
        np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
        random.setstate((3, tuple(state["python"][0]), state["python"][1]))
