"""The suite's modules in the hands of a user of Lightning: any Trainer, any checkpoint, LightningCLI."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
import yaml
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import esdnet
from benchmark import RainDataModule, RestorationModule, catalog, create_model
from benchmark.errors import Diverged, UserError
from benchmark.metrics import psnr_y
from benchmark.spec import resolve
from esdnet import ESDNetModule

SMALL = {"stages": 1, "channels": 4, "residual_blocks": 1}
TINY = {
    "dim": 4,
    "encoder_blocks": [1, 1, 1],
    "bottleneck_blocks": 0,
    "decoder_blocks": [1, 1],
    "time_steps": 2,
}


def _trainer(folder: Path, **more: object) -> pl.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return pl.Trainer(accelerator="cpu", default_root_dir=folder, **{**quiet, **more})  # type: ignore[arg-type]


def _data(**more: object) -> RainDataModule:
    return RainDataModule("embedded-light", patch=16, batch=2, steps_per_epoch=3, **more)  # type: ignore[arg-type]


def test_fit_test_and_predict(tmp_path: Path) -> None:
    module = RestorationModule("prenet", SMALL, lr=2e-3, warmup=1)
    trainer = _trainer(tmp_path, max_epochs=2, enable_checkpointing=False)
    before = {k: v.clone() for k, v in module.network.state_dict().items()}
    trainer.fit(module, datamodule=_data(validation=0.1))
    assert trainer.global_step == 6 and module.total_steps == 6 and module.steps_per_epoch == 3
    assert any(not torch.equal(v, before[k]) for k, v in module.network.state_dict().items())
    assert trainer.callback_metrics["validation/psnr_y"] > 5
    (measured,) = trainer.test(module, datamodule=_data(), verbose=False)
    restored = trainer.predict(module, datamodule=_data())
    assert restored is not None and len(restored) == 13
    pairs = list(_data().test_dataloader())
    own = [psnr_y(r, p["target"]).item() for r, p in zip(restored, pairs, strict=True)]
    assert measured["test/psnr_y"] == pytest.approx(sum(own) / len(own), abs=1e-3)


def test_a_validation_restores_in_the_tiles_of_the_test(tmp_path: Path, monkeypatch) -> None:
    sizes = set()
    module = ESDNetModule(**TINY)
    assert module.tiling == catalog.network("esdnet").tile
    forward = type(module.network).forward

    def seen(self: nn.Module, rainy: torch.Tensor) -> torch.Tensor:
        sizes.add(tuple(rainy.shape[-2:]))
        return forward(self, rainy)

    monkeypatch.setattr(type(module.network), "forward", seen)
    _trainer(tmp_path).validate(module, datamodule=_data(validation=0.05), verbose=False)
    assert {max(size) for size in sizes} == {80}


def test_its_own_checkpoint_comes_back_with_its_arguments(tmp_path: Path) -> None:
    module = RestorationModule("prenet", SMALL, optimizer="adamw", lr=3e-4, tile=32, overlap=4)
    trainer = _trainer(tmp_path, max_steps=2)
    trainer.fit(module, datamodule=_data())
    trainer.save_checkpoint(tmp_path / "mine.ckpt")
    again = RestorationModule.load_from_checkpoint(tmp_path / "mine.ckpt")
    assert again.hparams == module.hparams and again.tiling == (32, 4)
    assert all(torch.equal(v, module.network.state_dict()[k]) for k, v in again.network.state_dict().items())
    assert RestorationModule.load_from_checkpoint(tmp_path / "mine.ckpt", lr=1.0).recipe.optimizer.lr == 1.0
    resumed = _trainer(tmp_path, max_steps=4)
    resumed.fit(again, datamodule=_data(), ckpt_path=tmp_path / "mine.ckpt")
    assert resumed.global_step == 4


def test_every_kind_of_checkpoint_of_the_suite_is_read(tmp_path: Path, monkeypatch) -> None:
    from benchmark.run.execute import execute

    monkeypatch.chdir(tmp_path)
    words = [
        "model=esdnet",
        "data=embedded-light",
        "recipe.steps=1",
        "recipe.batch=1",
        "recipe.patch=16",
        "logger=csv",
    ]
    words += [f"model.{k}={v}" for k, v in TINY.items()]
    config = resolve([*words, "recipe.optimizer.lr=0.5", "evaluation.tile=whole"])
    execute(config)
    (folder,) = (tmp_path / "runs").glob("*/*")
    expected = RestorationModule.load_from_checkpoint(folder)
    assert expected.tiling == (None, 8) and (folder / "weights.safetensors").is_file()
    for path in [folder / "weights.safetensors", *sorted((folder / "checkpoints").glob("*.ckpt"))]:
        for cls in (RestorationModule, ESDNetModule):
            module = cls.load_from_checkpoint(path)
            assert all(
                torch.equal(v, expected.network.state_dict()[k])
                for k, v in module.network.state_dict().items()
            )
    trained = RestorationModule.load_from_checkpoint(folder / "checkpoints" / "last.ckpt")
    assert trained.recipe.optimizer.lr == 0.5 and trained.tiling[0] is None
    assert expected.hparams == trained.hparams, "weights have it from the settings beside them"
    settings, beside = folder / "config.yaml", (folder / "config.yaml").read_text()
    settings.write_text(beside.replace("seed: 0", "seed: 1"))
    other = RestorationModule.load_from_checkpoint(folder)
    assert other.hparams["lr"] == 1e-3 and other.tiling == (80, 8), "of another run"
    settings.write_text("recipe: {")
    with pytest.raises(UserError, match=r"config\.yaml: not the settings of a run"):
        RestorationModule.load_from_checkpoint(folder)
    torch.save(create_model("prenet", **SMALL).state_dict(), tmp_path / "theirs.pth")
    with pytest.raises(UserError, match="does not say of which network it is: give network="):
        RestorationModule.load_from_checkpoint(tmp_path / "theirs.pth")
    theirs = RestorationModule.load_from_checkpoint(tmp_path / "theirs.pth", network="prenet", options=SMALL)
    assert type(theirs.network).__name__ == "PReNet"
    with pytest.raises(UserError, match="not of esdnet"):
        ESDNetModule.load_from_checkpoint(tmp_path / "theirs.pth", network="prenet", options=SMALL)


def test_a_network_of_the_users_own(tmp_path: Path) -> None:
    class Mine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, rainy: torch.Tensor) -> torch.Tensor:
            return rainy + self.last(rainy)

    module = RestorationModule(Mine(), loss="l1")
    trainer = _trainer(tmp_path, max_steps=2)
    trainer.fit(module, datamodule=_data())
    trainer.save_checkpoint(tmp_path / "mine.ckpt")
    with pytest.raises(UserError, match=r"a network of your own \(Mine\): give network="):
        RestorationModule.load_from_checkpoint(tmp_path / "mine.ckpt")
    again = RestorationModule.load_from_checkpoint(tmp_path / "mine.ckpt", network=Mine())
    assert torch.equal(again.network.last.weight, module.network.last.weight) and again.recipe.loss == "l1"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"network": "prenett"}, "did you mean 'prenet'"),
        ({"network": "prenet", "options": {"stagez": 1}}, "stages"),
        ({"loss": "sim"}, "did you mean 'ssim'"),
        ({"optimizer": "adamm"}, "did you mean 'adam'"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"lr": 0.0}, "^lr=0.0: must be greater than 0"),
        ({"betas": (2.0, 3.0)}, r"^betas=\[2.0, 3.0\]: two numbers"),
        ({"schedule": "step"}, "^schedule=step needs every"),
        ({"schedule": "multistep"}, "^schedule=multistep needs milestones"),
        ({"tile": "wholee"}, "did you mean 'whole'"),
        ({"tile": 0}, "tile 0: tiles must be at least 16 pixels"),
        ({"tile": 13}, "tile 13: tiles must be at least 16 pixels"),
        ({"tile": 32, "overlap": 64}, "overlap 64"),
        ({"network": nn.Identity(), "tile": -4}, "tile -4"),
    ],
)
def test_a_mistake_is_answered_by_the_nearest(arguments: dict, said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        RestorationModule(**arguments)
    assert "recipe." not in str(refused.value), "the module has no such setting"


@pytest.mark.parametrize(("tile", "pixels"), [("whole", None), ("80", 80), (None, None), (48, 48)])
def test_tiles_are_given_as_on_the_command_line(tile: int | str | None, pixels: int | None) -> None:
    assert RestorationModule("prenet", SMALL, tile=tile).tiling == (pixels, 8)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of `ESDNetModule`."""
    folder = tmp_path_factory.mktemp("kept")
    trainer = _trainer(folder, max_steps=0)
    trainer.strategy.connect(ESDNetModule(**TINY, lr=2e-3))
    trainer.save_checkpoint(folder / "kept.ckpt")
    return folder / "kept.ckpt"


def test_esdnets_module_has_its_own_arguments(kept: Path, tmp_path: Path) -> None:
    module = ESDNetModule.load_from_checkpoint(kept)
    assert module.hparams["dim"] == 4 and module.hparams["beta"] == 0.5 and module.hparams["lr"] == 2e-3
    assert {"network", "options"}.isdisjoint(module.hparams)
    assert ESDNetModule(**module.hparams).hparams == module.hparams
    changed = ESDNetModule.load_from_checkpoint(kept, beta=0.25, lr=1e-4, tile="whole")
    assert (changed.hparams["beta"], changed.hparams["lr"], changed.tiling[0]) == (0.25, 1e-4, None)
    general = RestorationModule.load_from_checkpoint(kept)
    assert general.hparams["lr"] == 2e-3 and general.hparams["options"]["dim"] == 4
    # as they were kept before: the arguments of RestorationModule
    checkpoint = torch.load(kept, weights_only=True)
    checkpoint["hyper_parameters"] = dict(general.hparams)
    torch.save(checkpoint, tmp_path / "before.ckpt")
    assert ESDNetModule.load_from_checkpoint(tmp_path / "before.ckpt").hparams == module.hparams


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"lrr": 1.0}, "unknown argument 'lrr': did you mean 'lr'"),
        ({"time_step": 3}, "did you mean 'time_steps'"),
        ({"strict": False}, "strict=False: all weights fit"),
        ({"hparams_file": "h.yaml"}, r"hparams_file=h\.yaml"),
        ({"map_location": {"cuda:0": "cpu"}}, "such as cpu or cuda:0"),
        ({"map_location": lambda storage, place: storage}, "such as cpu or cuda:0"),
        ({"map_location": "cpuu"}, "map_location=cpuu"),
    ],
)
def test_what_loading_does_not_take_is_told_in_a_line(kept: Path, arguments: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        ESDNetModule.load_from_checkpoint(kept, **arguments)


def test_what_a_trainer_passes_is_taken(kept: Path) -> None:
    ESDNetModule.load_from_checkpoint(kept, map_location="cpu", hparams_file=None, strict=None)


def test_pictures_without_names_are_restored(tmp_path: Path) -> None:
    pictures = DataLoader(TensorDataset(torch.rand(2, 3, 20, 24)))
    restored = _trainer(tmp_path).predict(RestorationModule("prenet", SMALL), pictures)
    assert restored is not None and [tuple(r.shape) for r in restored] == [(1, 3, 20, 24)] * 2
    with pytest.raises(UserError, match="a batch to predict is"):
        RestorationModule("prenet", SMALL).predict_step({"picture": torch.rand(1, 3, 20, 24)}, 0)


def test_a_mistake_of_esdnets_is_answered_too() -> None:
    with pytest.raises(UserError, match="time_steps"):
        ESDNetModule(time_step=2)


def test_an_endless_training_has_no_cosine(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, max_epochs=-1)
    with pytest.raises(UserError, match="max_epochs or max_steps"):
        trainer.fit(RestorationModule("prenet", SMALL), datamodule=_data())


def test_esdnet_is_usable_without_the_suite(tmp_path: Path) -> None:
    (tmp_path / "esdnet").symlink_to(Path(esdnet.__file__).parent)
    code = (
        "import sys; sys.path[:] = [p for p in sys.path if 'h' not in p or 'site-packages' in p or 'lib' in p]\n"
        f"sys.path.insert(0, {str(tmp_path)!r}); sys.modules['benchmark'] = None\n"
        "from esdnet import ESDNet; ESDNet(dim=4)\n"
        "try:\n    from esdnet import ESDNetModule\nexcept ImportError as e: assert 'derain' in str(e), e\n"
        "else: raise SystemExit('imported')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def _settings(module: str, **data: object) -> dict[str, dict]:
    trainer = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "limit_test_batches": 1}
    network = TINY if module == "ESDNetModule" else {"network": "prenet", "options": SMALL}
    return {
        "trainer": {"max_steps": 2, **trainer},
        "model": {**network, "lr": 2e-3},
        "data": {"dataset": "embedded-light", "patch": 16, "batch": 2, "steps_per_epoch": 2, **data},
    }


@pytest.mark.parametrize("module", [ESDNetModule, RestorationModule])
def test_lightning_cli_drives_both_from_a_yaml(
    tmp_path: Path, module: type, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("jsonargparse")
    from pytorch_lightning.cli import LightningCLI

    (tmp_path / "c.yaml").write_text(yaml.safe_dump(_settings(module.__name__)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["cli.py"])

    def run(*words: str) -> str:
        args = [*words, "--config", "c.yaml"]
        LightningCLI(
            module, RainDataModule, save_config_callback=None, seed_everything_default=False, args=args
        )
        return capsys.readouterr().out

    run("fit")
    (kept,) = tmp_path.rglob("*.ckpt")
    assert RestorationModule.load_from_checkpoint(kept).hparams["lr"] == 2e-3
    assert "test/psnr_y" in run("test", "--ckpt_path", str(kept))


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("model", {"network": "prenett"}, "unknown network 'prenett': did you mean 'prenet'?"),
        ("model", {"netwrk": "prenet"}, "unknown option 'model.netwrk': did you mean 'model.network'"),
        ("model", {"options": {"stagez": 1}}, "did you mean 'stages'"),
        ("model", {"lr": "much"}, 'Parser key "model.lr"'),
        ("data", {"dataset": "rain200h"}, "dataset 'rain200h' needs root=FOLDER"),
        ("data", {"dataset": "rain200h", "root": "/no/such"}, "root=/no/such: no such folder"),
        ("data", {"dataset": "rain201h"}, "did you mean 'rain200h'"),
        ("data", {"augmentation": "flip"}, "did you mean 'flips'"),
        ("data", {"batch": 0}, "batch must be at least 1"),
        ("trainer", {"max_stepz": 1}, "did you mean 'trainer.max_steps'"),
    ],
)
def test_a_mistake_in_a_yaml_is_a_line_and_a_status(
    part: str, change: dict, said: str, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("jsonargparse")
    from benchmark import DerainCLI

    settings = _settings("RestorationModule")
    settings[part] |= change
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["cli.py"])
    with pytest.raises(SystemExit) as ended:
        DerainCLI(
            save_config_callback=None, seed_everything_default=False, args=["fit", "--config", "c.yaml"]
        )
    (line,) = [told for told in capsys.readouterr().err.splitlines() if told.startswith("cli.py: ")]
    assert ended.value.code == 2 and said in line and "recipe." not in line and "data.root" not in line


def test_a_yaml_needs_no_script(monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("jsonargparse")
    monkeypatch.setattr(sys, "argv", ["benchmark/lightning_cli.py", "fit", "--config", "none.yaml"])
    monkeypatch.delitem(sys.modules, "benchmark.lightning_cli", raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("benchmark.lightning_cli", run_name="__main__")
    told = capsys.readouterr().err
    assert ended.value.code == 2 and told.startswith("lightning_cli.py: ") and told.count("\n") == 1
    assert "none.yaml" in told


def test_a_training_that_diverged_names_what_its_user_gave(tmp_path: Path) -> None:
    module = RestorationModule("prenet", SMALL, lr=1e3)
    with torch.no_grad():
        next(module.parameters()).fill_(float("nan"))
    with pytest.raises(Diverged, match="try a lower lr, or the Trainer's gradient_clip_val=1"):
        _trainer(tmp_path, max_steps=1).fit(module, datamodule=_data())
