"""Every network learns: 30 steps on embedded crops lower the loss, by the uniform recipe and by its authors' own."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from benchmark import catalog, create_model, load_checkpoint
from benchmark.data import RainDataModule
from benchmark.spec import RecipeSpec, resolve
from benchmark.training.module import Restoration

STEPS = 30


@pytest.mark.parametrize("recipe", ["paper", "authors"])
@pytest.mark.parametrize("name", catalog.networks())
def test_thirty_steps_lower_the_loss(name: str, recipe: str) -> None:
    entry = catalog.network(name)
    if recipe == "authors" and not entry.published:
        pytest.skip("a design of this suite has no authors' recipe")
    config = resolve([f"model={name}", "data=embedded", f"recipe={recipe}"]).recipe
    torch.manual_seed(0)
    network = create_model(name, **entry.embedded).train()
    # epochs of 3 steps: the first of a warm-up may have a rate of 0
    module = Restoration(network, config, total_steps=10 * STEPS, steps_per_epoch=3, description={})
    patch = max(32, entry.size_multiple)
    data = RainDataModule("embedded", patch=patch, batch=2, augmentation=config.augmentation)
    data.setup("fit")
    batches = iter(data.train_dataloader())
    configured = module.configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    first = [next(batches) for _ in range(4)]

    def loss(batch: dict) -> torch.Tensor:
        rainy, target = batch["rainy"], batch["target"]
        outputs = network.training_outputs(rainy) if module.all_outputs else [network(rainy)]
        return module.loss(outputs, rainy, target)

    # on the same crops before and after, as the network stands in training
    with torch.no_grad():
        before = sum(loss(batch).item() for batch in first)
    batch = first[0]
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(batch).backward()
        if config.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
        optimizer.step()
        scheduler.step()
        batch = next(batches)
    with torch.no_grad():
        after = sum(loss(batch).item() for batch in first)
    assert after < before


@pytest.mark.parametrize("name", catalog.networks())
def test_a_lightning_checkpoint_gives_the_weights_back(name: str, tmp_path: Path) -> None:
    entry = catalog.network(name)
    network = create_model(name, **entry.embedded)
    module = Restoration(network, RecipeSpec(), total_steps=1, steps_per_epoch=1, description={})
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False
    )
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "last.ckpt", weights_only=False)
    torch.manual_seed(1)
    again = create_model(name, **entry.embedded)
    load_checkpoint(again, tmp_path / "last.ckpt")
    expected = network.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in again.state_dict().items())
