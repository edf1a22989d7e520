"""Builds a network from its authors' own code. Run aside, in a process of its own: their modules are called `utils`.

    python authors.py NETWORK CODE '{"option": value}' start OUT.json   statistics of a fresh network's parameters
    python authors.py NETWORK CODE '{"option": value}' restore X.pt Y.pt   what it makes of an input

CODE is a folder of clones by name (`ESDNet`, `PReNet`, …). `restore` reads {"x": (1, 3, H, W) in [0, 1], "gain": …}
and writes {"y": restored image, "state": state_dict, "trained": names of its parameters}. Nothing of theirs is
changed: what they import without need for the network is replaced by empty modules, and `.cuda()` stays on the
processor.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.machinery
import importlib.util
import json
import math
import os
import sys
import types
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SEEDS = range(8)

Restore = Callable[[Tensor], Tensor]
Built = tuple[Callable[[], nn.Module], Callable[[nn.Module], Restore]]

# imported by scripts of theirs, but not needed by the networks
UNNEEDED = ("cv2", "thop", "torchsummary", "skimage", "torchvision.datasets", "cupy", "h5py", "lmdb", "tqdm")


class Empty(types.ModuleType):
    """A module whose every attribute is a class that does nothing."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def stub(name: str) -> None:
    """Put an empty module in the place of one."""
    found = sys.modules[name] = Empty(name)
    found.__spec__ = importlib.machinery.ModuleSpec(name, None)


def without(*names: str) -> None:
    """Replace modules that are not installed."""
    for name in names:
        try:
            found = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            found = None
        if found is None:
            stub(name)


def module(folder: Path, name: str) -> Any:
    """A module of theirs, with its folder in front on the path."""
    sys.path.insert(0, str(folder))
    return importlib.import_module(name)


def rescan(code: Path, options: dict[str, Any]) -> Built:
    made = module(code / "RESCAN/config", "model")
    # their pictures are in the order blue, green, red, and the network gives rain
    return made.RESCAN, lambda net: lambda x: x - net(x.flip(1))[-1].flip(1)


def prenet(code: Path, options: dict[str, Any]) -> Built:
    made = module(code / "PReNet", "networks")
    return lambda: made.PReNet(6, use_GPU=False), lambda net: lambda x: net(x)[0]


def rcdnet(code: Path, options: dict[str, Any]) -> Built:
    folder = code / "RCDNet/RCDNet_code/for_syn/src"
    os.chdir(folder)  # it reads its kernels from there
    package = types.ModuleType("model")
    package.__path__ = [str(folder / "model")]  # its __init__ is a trainer
    sys.modules["model"] = package
    stub("model.common")
    made = module(folder, "model.rcdnet")
    settings = types.SimpleNamespace(stage=17, num_M=32, num_Z=32, T=4)
    return lambda: made.Mainnet(settings), lambda net: lambda x: net(255 * x)[1][-1] / 255


def mprnet(code: Path, options: dict[str, Any]) -> Built:
    return module(code / "MPRNet/Deraining", "MPRNet").MPRNet, lambda net: lambda x: net(x)[0]


def efficientderain(code: Path, options: dict[str, Any]) -> Built:
    made = module(code / "efficientderain", "network")

    def build() -> nn.Module:
        net = made.KPN(kernel_size=[options.get("kernel_size", 5)])
        made.weights_init(net, init_type="xavier", init_gain=0.02)  # as train.py calls it
        return net

    return build, lambda net: lambda x: net(x, x)


def nafnet(code: Path, options: dict[str, Any]) -> Built:
    folder = code / "NAFNet"
    for name in ("basicsr", "basicsr.models", "basicsr.models.archs"):
        package = types.ModuleType(name)
        package.__path__ = [str(folder / name.replace(".", "/"))]  # their __init__ import all they have
        sys.modules[name] = package
    stub("basicsr.utils")
    made = module(folder, "basicsr.models.archs.NAFNet_arch")
    blocks = {"enc_blk_nums": [2, 2, 4, 8], "middle_blk_num": 12, "dec_blk_nums": [2, 2, 2, 2]}
    return lambda: made.NAFNet(img_channel=3, width=32, **blocks), lambda net: net


def sfnet(code: Path, options: dict[str, Any]) -> Built:
    made = module(code / "SFNet/Image_deraining", "models.SFNet")
    return made.build_net, lambda net: lambda x: net(x)[-1]


def drt(code: Path, options: dict[str, Any]) -> Built:
    timm = importlib.import_module("timm.layers")
    sys.modules.setdefault("timm.models.layers", timm)  # its name in the timm of that time
    blocks = module(code / "DRT", "transformer_block")
    notebook = json.loads((code / "DRT/DRT.ipynb").read_text(encoding="utf-8"))
    scope: dict[str, Any] = {
        "torch": torch,
        "nn": nn,
        "transforms": importlib.import_module("torchvision.transforms"),
        "trunc_normal_": timm.trunc_normal_,
        **{name: getattr(blocks, name) for name in ("TransformerBlock", "PatchEmbed", "PatchUnEmbed")},
    }
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] != "code" or "(nn.Module)" not in text:
            continue
        classes = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
        exec(compile(ast.Module(classes, []), "DRT.ipynb", "exec"), scope)
    side = options.get("side", 56)
    return lambda: scope["DeepRecursiveTransformer"](96, (side, side), 1, 3, 6), lambda net: net


def elformer(code: Path, options: dict[str, Any]) -> Built:
    return module(code / "Magic-ELF", "ALformer").ALformer, lambda net: lambda x: net(x)[0]


def hpcnet(code: Path, options: dict[str, Any]) -> Built:
    return module(code / "HPCNet_code", "HPCNet").HPCNet, lambda net: lambda x: net(x)[0]


def _spiking(code: Path) -> Any:
    """SpikingJelly as VLIF's authors ship it: the version of that time, for all three."""
    sys.path.insert(0, str(code / "VLIF"))
    return importlib.import_module("spikingjelly.activation_based.functional")


def _stepped(functional: Any) -> Callable[[nn.Module], Restore]:
    def run(net: nn.Module) -> Restore:
        functional.set_step_mode(net, step_mode="m")
        functional.set_backend(net, backend="torch")

        def restore(x: Tensor) -> Tensor:
            functional.reset_net(net)
            return net(x)

        return restore

    return run


def _sizes(options: dict[str, Any]) -> dict[str, Any]:
    encoder = [*options.get("encoder_blocks", [4, 4, 8]), 0]
    low = options.get("bottleneck_blocks", 2)
    # their lists have an entry for a fourth level, which is not there; the lowest blocks are the decoder's third
    decoder = [*reversed(options.get("decoder_blocks", [2, 2])), low, 0]
    return {"dim": options.get("dim", 48), "en_num_blocks": encoder, "de_num_blocks": decoder, "T": 4}


def esdnet(code: Path, options: dict[str, Any]) -> Built:
    functional = _spiking(code)
    stub("torchinfo")
    without(*UNNEEDED)
    made = module(code / "ESDNet", "model")
    return lambda: made.ESDNet(**_sizes(options)), _stepped(functional)


def spikerain(code: Path, options: dict[str, Any]) -> Built:
    functional = _spiking(code)
    made = module(code / "SpikeRain", "model.spikeRain")
    return lambda: made.SpikeRain(**_sizes(options)), _stepped(functional)


def vlif(code: Path, options: dict[str, Any]) -> Built:
    functional = _spiking(code)
    made = module(code / "VLIF", "model")
    return lambda: made.VLIFNet(**_sizes(options), use_refinement=options.get("refinement", False)), _stepped(
        functional
    )


NETWORKS: dict[str, Callable[[Path, dict[str, Any]], Built]] = {
    f.__name__: f
    for f in (
        rescan,
        prenet,
        rcdnet,
        mprnet,
        efficientderain,
        nafnet,
        sfnet,
        drt,
        elformer,
        hpcnet,
        esdnet,
        spikerain,
        vlif,
    )
}


def without_slips(values: Tensor) -> Tensor:
    """Without the draw in a million that trunc_normal_ rounds to its bound, a hundred deviations out."""
    return values[(values - values.mean()).abs() <= 30 * values.std(correction=0)]


def described(values: Tensor) -> list[float]:
    """Number of values, mean, standard deviation, least, greatest, kurtosis (3 for normal, 1.8 for uniform ones)."""
    values = without_slips(values.double().flatten())
    mean, deviation = values.mean(), values.std(correction=0)
    if values.max() == values.min():
        deviation = torch.zeros(())
    kurtosis = ((values - mean) ** 4).mean() / deviation**4 if deviation > 0 else 0.0
    figures = (mean, deviation, values.min(), values.max(), kurtosis)
    return [values.numel(), *(float(f"{float(v):.4g}") for v in figures)]


def start(build: Callable[[], nn.Module]) -> dict[str, list[float]]:
    """For every parameter its statistics over fresh networks of SEEDS."""
    drawn: dict[str, list[Tensor]] = {}
    for seed in SEEDS:
        torch.manual_seed(seed)
        for name, parameter in build().named_parameters():
            drawn.setdefault(name, []).append(parameter.detach().clone().flatten())
    return {name: described(torch.cat(values)) for name, values in drawn.items()}


def drawn_weights(net: nn.Module, gain: float) -> dict[str, Tensor]:
    """Weights by which every part of a network matters, from the keys' names alone."""
    found = {}
    for key, value in net.state_dict().items():
        if not value.is_floating_point():
            found[key] = value
            continue
        generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
        noise = torch.randn(value.shape, generator=generator)
        leaf = key.rsplit(".", 1)[-1]
        if leaf == "running_var":
            found[key] = 0.5 + noise.abs()
        elif value.ndim > 1:
            found[key] = gain * noise / math.sqrt(value[0].numel())
        else:
            found[key] = (1.0 if leaf in ("weight", "gamma") else 0.0) + 0.1 * noise
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    for word in ("network", "code", "options", "task"):
        parser.add_argument(word)
    parser.add_argument("files", nargs="+", type=Path)
    given = parser.parse_args()
    given.files = [path.resolve() for path in given.files]
    torch.Tensor.cuda = nn.Module.cuda = lambda self, *_, **__: self  # type: ignore[method-assign, assignment]
    without(*UNNEEDED)
    sys.dont_write_bytecode = True
    build, run = NETWORKS[given.network](Path(given.code).resolve(), json.loads(given.options))
    if given.task == "start":
        given.files[0].write_text(json.dumps(start(build)))
        return
    asked = torch.load(given.files[0], weights_only=True)
    net = build().eval()
    for parameter in net.parameters():
        parameter.data = parameter.data.clone()  # RCDNet's thresholds are one number seen many times
    net.load_state_dict(drawn_weights(net, asked["gain"]))
    with torch.no_grad():
        y = run(net)(asked["x"])
    trained = [name for name, _ in net.named_parameters()]
    torch.save({"y": y, "state": dict(net.state_dict()), "trained": trained}, given.files[1])


if __name__ == "__main__":
    main()
