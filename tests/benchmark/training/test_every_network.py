"""Every network learns: 30 steps on embedded crops lower the loss, by the uniform recipe and by its authors' own."""

from __future__ import annotations

import pytest
import torch

from benchmark import catalog, create_model
from benchmark.config import resolve
from benchmark.data import RainDataModule
from benchmark.training.module import Restoration

STEPS = 30


@pytest.mark.parametrize("recipe", ["paper", "authors"])
@pytest.mark.parametrize("name", catalog.networks())
def test_thirty_steps_lower_the_loss(name: str, recipe: str) -> None:
    entry = catalog.network(name)
    config = resolve([f"model={name}", "data=embedded-heavy", f"recipe={recipe}"]).recipe
    network = create_model(name, **entry.embedded).train()
    module = Restoration(network, config, total_steps=STEPS, steps_per_epoch=STEPS, description={})
    patch = max(32, entry.size_multiple)
    data = RainDataModule("embedded-heavy", patch=patch, batch=2, augmentation=config.augmentation)
    data.setup("fit")
    batches = iter(data.train_dataloader())
    optimizer = module.configure_optimizers()["optimizer"]
    first = next(batches)

    def loss(batch: dict) -> torch.Tensor:
        rainy, target = batch["rainy"], batch["target"]
        outputs = network.training_outputs(rainy) if module.all_outputs else [network(rainy)]
        return module.loss(outputs, rainy, target)

    # on the same crops before and after, as the network stands in training
    with torch.no_grad():
        before = loss(first).item()
    batch = first
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(batch).backward()
        if config.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
        optimizer.step()
        batch = next(batches)
    with torch.no_grad():
        after = loss(first).item()
    assert after < before
