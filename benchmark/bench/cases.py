"""All cases: what the suite promises to be fast at. No torch is imported here, so that they can be listed at once.

Where the same thing is asked of a CPU and of a GPU there are two cases. The ratios asked for are those that the
suite set itself; a row without one is for information.
"""

from __future__ import annotations

from collections.abc import Iterable

from benchmark.bench.case import Case, Peer
from benchmark.errors import unknown

_JELLY = ("spikingjelly",)

_NEURON = (
    Case(
        "neuron/forward",
        "LIF over (4, 4, 48, 64, 64), float32, no gradient",
        "sides.neuron:forward",
        (
            Peer("snntorch.Leaky, stepped", "sides.neuron:snntorch_forward", 30, agreement=0),
            Peer(
                "SpikingJelly, torch back-end", "sides.neuron:spikingjelly_forward", needs=_JELLY, agreement=0
            ),
            Peer("copy of as many bytes", "sides.neuron:copy_forward"),
        ),
    ),
    Case(
        "neuron/training",
        "LIF over (4, 4, 48, 64, 64), float32, forward and backward",
        "sides.neuron:training",
        (
            Peer("snntorch.Leaky, stepped (reset detached)", "sides.neuron:snntorch_training", 5),
            Peer(
                "SpikingJelly, torch back-end",
                "sides.neuron:spikingjelly_training",
                needs=_JELLY,
                agreement=1e-6,
            ),
            Peer("copy of as many bytes", "sides.neuron:copy_training"),
        ),
    ),
    Case(
        "neuron/forward-gpu",
        "LIF over (4, 16, 96, 128, 128), float32, no gradient",
        "sides.neuron:forward",
        (
            Peer("copy of as many bytes", "sides.neuron:copy_forward", 0.8),
            Peer("SpikingJelly, CuPy back-end", "sides.neuron:cupy_forward", 1, (*_JELLY, "cupy")),
            Peer(
                "SpikingJelly, as it chooses (Triton)",
                "sides.neuron:spikingjelly_forward",
                1,
                (*_JELLY, "triton"),
            ),
        ),
        device="cuda",
    ),
    Case(
        "neuron/training-gpu",
        "LIF over (4, 16, 96, 128, 128), float32, forward and backward",
        "sides.neuron:training",
        (
            Peer("copy of as many bytes", "sides.neuron:copy_training", 0.8),
            Peer("SpikingJelly, CuPy back-end", "sides.neuron:cupy_training", 1, (*_JELLY, "cupy")),
            Peer(
                "SpikingJelly, as it chooses (Triton)",
                "sides.neuron:spikingjelly_training",
                1,
                (*_JELLY, "triton"),
            ),
        ),
        device="cuda",
    ),
)

_STEP = "ESDNet, one step of training: dim 48, T 4, batch 12, 64×64"
_TRAINING = (
    Case(
        "train/esdnet",
        f"{_STEP}, float32",
        "sides.esdnet:step",
        (Peer("on SpikingJelly's neurons", "sides.esdnet:peer_step", 1.6, _JELLY, agreement=1e-4),),
        memory=float("inf"),
        seconds=240,
    ),
    Case(
        "train/esdnet-gpu",
        f"{_STEP}, TF32",
        "sides.esdnet:step_tf32",
        (Peer("CuPy back-end", "sides.esdnet:peer_step_tf32", 3, (*_JELLY, "cupy"), agreement=1e-4),),
        device="cuda",
        memory=0.5,
    ),
    Case(
        "train/esdnet-bf16-gpu",
        f"{_STEP}, bfloat16, the peer in TF32",
        "sides.esdnet:step_bf16",
        (Peer("CuPy back-end", "sides.esdnet:peer_step_tf32", 5, (*_JELLY, "cupy")),),
        device="cuda",
        memory=0.5,
    ),
)

_TILES = "tiles of 80 that overlap by 8, float32"


def _restoring(size: str, label: str, slow: bool) -> tuple[Case, Case]:
    what = f"ESDNet restores {label}: {_TILES}"
    loop = "the authors' loop, SpikingJelly"
    return (
        Case(
            f"restore/{size}",
            what,
            f"sides.esdnet:restore_{size}",
            (Peer(loop, f"sides.esdnet:peer_restore_{size}", 2, _JELLY, agreement=1 / 255),),
            seconds=120,
            warmup=1,
            slow=slow,
        ),
        Case(
            f"restore/{size}-gpu",
            what,
            f"sides.esdnet:restore_{size}",
            (
                Peer(
                    f"{loop}, CuPy",
                    f"sides.esdnet:peer_restore_{size}",
                    4,
                    (*_JELLY, "cupy"),
                    agreement=1 / 255,
                ),
            ),
            device="cuda",
        ),
    )


_RESTORING = (
    *_restoring("256", "256×256", False),
    *_restoring("512", "512×512", False),
    *_restoring("4k", "a frame of 3840×2160", True),
)

_DATA = (
    Case(
        "data/crops",
        "random pairs of crops of 64×64 from 481×321 pictures, batches of 12",
        "sides.data:crops",
        (Peer("both PNGs decoded for each crop", "sides.data:authors_crops", 50, work=12),),
        unit="crops/s",
        work=1200,
        profiler="python",
    ),
    Case(
        "data/cache",
        "the cache of 96 pairs of 481×321 is built; 0.5 means that decoding is half of it",
        "sides.data:build",
        (
            Peer("decoding alone, on all cores", "sides.data:decode", 0.5),
            Peer("decoding alone, on one core", "sides.data:decode_on_one_core"),
        ),
        profiler="python",
    ),
    Case(
        "data/feeds-gpu",
        "12 crops by one process; asked is that training with them takes longer",
        "sides.data:one_batch",
        (Peer("ESDNet's step in bfloat16", "sides.esdnet:step_bf16", 1),),
        device="cuda",
        profiler="python",
    ),
)

_METRICS = (
    Case(
        "metrics/files",
        "PSNR-Y and SSIM-Y of 200 pairs of 481×321 PNGs",
        "sides.metrics:files",
        (Peer("ESDNet's evaluation.py without LPIPS", "sides.metrics:authors_files", 5, ("cv2",), 50, 1e-8),),
        unit="pairs/s",
        work=200,
        profiler="python",
    ),
    Case(
        "metrics/memory",
        "the same of decoded pictures",
        "sides.metrics:decoded",
        (
            Peer(
                "ESDNet's evaluation.py without LPIPS", "sides.metrics:authors_decoded", 5, ("cv2",), 20, 1e-8
            ),
            Peer("scikit-image", "sides.metrics:skimage_decoded", work=20, agreement=1e-8),
        ),
        unit="pairs/s",
        work=20,
    ),
    Case(
        "metrics/ssim-loss",
        "SSIM loss, batch 12, 64×64, forward and backward",
        "sides.metrics:loss",
        (
            Peer("torchmetrics.functional", "sides.metrics:torchmetrics_loss", 2),
            Peer("the authors' window of 11×11", "sides.metrics:authors_loss", 2, agreement=1e-5),
        ),
    ),
    Case(
        "metrics/ssim-loss-gpu",
        "SSIM loss, batch 12, 64×64, forward and backward",
        "sides.metrics:loss",
        (
            Peer("torchmetrics.functional", "sides.metrics:torchmetrics_loss", 2),
            Peer("the authors' window of 11×11", "sides.metrics:authors_loss", 2, agreement=1e-5),
        ),
        device="cuda",
    ),
)

_START = (
    Case("start/help", "derain --help", "sides.shell:help_text", limit=1, profiler="python"),
    Case(
        "start/restore",
        "derain restore, ESDNet, one picture of 128×128",
        "sides.shell:restore_one",
        limit=15,
        profiler="python",
    ),
)

_ONNX = ("onnx", "onnxscript", "onnxruntime")
_EXPORTED = tuple(
    Case(
        f"export/{name}",
        f"{name}-general restores a picture of 256×256, by torch",
        f"sides.exported:{name}",
        (
            Peer(
                "onnxruntime, from the file of derain export",
                f"sides.exported:{name}_onnx",
                needs=_ONNX,
                agreement=agreement,
            ),
        ),
    )
    # a neuron at its threshold fires or not by the last bit
    for name, agreement in (("nafnet", 1e-4), ("esdnet", None))
)

CASES: tuple[Case, ...] = (*_NEURON, *_TRAINING, *_RESTORING, *_DATA, *_METRICS, *_START, *_EXPORTED)

STUDIES = {
    "scaling": "time, memory and energy of ESDNet's training step against T, width, picture size and batch",
    "reproduction": "step time of every network by the paper's recipe, and the hours that Table 1 takes",
}
"""What the bench does besides the cases."""


def parts(study: str) -> list[str]:
    """What a study can be measured in: the networks of a reproduction, the axes of scaling."""
    from benchmark import catalog

    return list(catalog.networks()) if study == "reproduction" else ["T", "width", "size", "batch"]


def choose(words: Iterable[str]) -> tuple[list[Case], dict[str, list[str]]]:
    """The cases, and the studies with their parts, that some words name. None of them: all.

    A word is a case ("neuron/forward"), a group of them ("neuron"), a study ("scaling") or a part of one ("scaling/T").

    Raises:
        UserError: a word names nothing; the nearest name is given.
    """
    wanted = list(words)
    groups = {case.name.partition("/")[0] for case in CASES}
    known = {study: parts(study) for study in STUDIES}
    names = [
        *groups,
        *STUDIES,
        *(c.name for c in CASES),
        *(f"{s}/{p}" for s, ps in known.items() for p in ps),
    ]
    for word in wanted:
        if word not in names:
            raise unknown("case", word, names)
    if not wanted:
        return list(CASES), known
    cases = [c for c in CASES if c.name in wanted or c.name.partition("/")[0] in wanted]
    chosen = {s: [p for p in ps if s in wanted or f"{s}/{p}" in wanted] for s, ps in known.items()}
    return cases, {s: ps for s, ps in chosen.items() if ps}
