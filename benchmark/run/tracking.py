"""What W&B shows of a run: the names of its figures, how they get there, and nothing that is nobody's business.

Offline without a key (`derain sync` uploads later). A run's id is the identity of its configuration, so that one that
goes on shows as one; under a W&B agent it is the agent's. Nothing that goes wrong here touches the run: it is said
once, and the record is complete without. Neither host, user, paths, source, packages nor output are sent.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.data.specs import dataset_spec
from benchmark.errors import UserError, WorkError, first_line, unknown
from benchmark.files import WEIGHTS, home, write_json
from benchmark.run.records import RECORD, Record, without_home
from benchmark.spec import RunSpec, settings_of

STEP = "trainer/global_step"
LOSS = "train/loss"
LEARNING_RATE = "train/learning_rate"
VALIDATION = ("validation/psnr_y", "validation/ssim_y")
SPIKE_RATES = "spike_rate/"  # and the level
SPIKE_HISTOGRAMS = "spike_rate_histogram/"  # and the level: how the rates of its channels are distributed
PICTURES = "pictures/"  # and the test set, and a number: rainy, restored, target side by side
SCORES = "scores"  # a row a test picture
VARIANT = "variant"
PARAMETERS = "cost/parameters"
ENERGY, ENERGY_PAPER = "cost/energy_full_uj", "cost/energy_paper_uj"
OPERATIONS, OPERATIONS_PAPER = "cost/operations_full", "cost/operations_paper"

PROJECT = "derain"
_ANSWER_SECONDS = 10.0  # for the server to answer before a run is logged offline
_INIT_SECONDS = 60.0  # for W&B to start
_FINISH_SECONDS = 120.0  # for what is left to upload; the rest is on disk for `derain sync`
_SHOWN = 3  # pictures a test set
_SMALL = 192  # pixels, the longer side of pictures in a table
_BINS = 32  # of a histogram of spike rates
# paths say nothing to others, and where a run's results lie is not what it is
_PRIVATE = ("data.root", "data.cache", "out")


@dataclass(frozen=True)
class Sample:
    """A test picture as a run shows it.

    Attributes:
        dataset: the test set, as records name it.
        name: of the picture, as records name it.
        caption: what is to be seen, with PSNR-Y before and after.
        rainy, restored, target: (H, W, 3), uint8.
    """

    dataset: str
    name: str
    caption: str
    rainy: NDArray[np.uint8]
    restored: NDArray[np.uint8]
    target: NDArray[np.uint8]

    def side_by_side(self) -> NDArray[np.uint8]:
        """Rainy, restored and target from left to right, (H, 3W, 3)."""
        return np.concatenate([self.rainy, self.restored, self.target], axis=1)

    def small(self) -> dict[str, NDArray[np.uint8]]:
        """The three by their names, at most 192 pixels a side, for the cells of a table."""
        from PIL import Image

        found: dict[str, NDArray[np.uint8]] = {}
        for which in ("rainy", "restored", "target"):
            picture = Image.fromarray(getattr(self, which))
            picture.thumbnail((_SMALL, _SMALL), Image.Resampling.LANCZOS)
            found[which] = np.asarray(picture)
        return found


def rate_bins() -> NDArray[np.float64]:
    """The edges of a histogram of spike rates: equal parts of [0, 1]."""
    return np.linspace(0.0, 1.0, _BINS + 1)


def on_test(dataset: str, metric: str) -> str:
    """The name of a test figure: metric `psnr_y` or `ssim_y`, convention `esdnet`."""
    return f"test/{dataset}/{metric}"


_MODES = {"online": "online", "offline": "offline", "disabled": "disabled", "shared": "shared"} | {
    "run": "online",  # W&B's older names
    "dryrun": "offline",
}


def mode() -> str | None:
    """What WANDB_MODE asks for; None where it says nothing.

    Raises:
        UserError: W&B has no such mode.
    """
    asked = os.environ.get("WANDB_MODE", "").strip()
    if asked and asked not in _MODES:
        raise unknown("WANDB_MODE", asked, _MODES)
    return _MODES.get(asked)


def project() -> str:
    """The W&B project that runs go to."""
    return os.environ.get("WANDB_PROJECT", PROJECT)


def has_key() -> bool:
    """Whether there is a key for W&B's server: in the environment, or where `wandb login` leaves it."""
    import netrc
    from urllib.parse import urlsplit

    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(_server()).hostname or ""
    named = os.environ.get("NETRC")
    place = home() or Path("/")
    for path in (Path(named),) if named else (place / ".netrc", place / "_netrc"):
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            if netrc.netrc(path).authenticators(host) is not None:
                return True
    return False


def under_agent() -> bool:
    """Whether a W&B agent started this process for a run of a sweep."""
    return bool(os.environ.get("WANDB_SWEEP_ID") and os.environ.get("WANDB_RUN_ID"))


def words(config: RunSpec) -> dict[str, Any]:
    """A run's settings as W&B shows them: under the names of the command line, without paths.

    The parameters of a sweep have the same names and values, so that the two agree. `VARIANT` has the network's options
    that were asked for, in one word to group by.
    """
    asked = " ".join(f"{k}={json.dumps(v)}" for k, v in sorted(config.model.options.items()))
    shown = {key: value for key, value in settings_of(config).items() if key not in _PRIVATE}
    return {**shown, VARIANT: asked or "as its authors'"}


def tags(config: RunSpec) -> list[str]:
    """Words to find a run by: network, its family, training data and recipe."""
    entry = config.network
    return list(dict.fromkeys([entry.name, entry.family, config.data.name, config.recipe.name]))


def scores(record: Record) -> list[dict[str, Any]]:
    """A row for each test picture of a run that is done: set, picture, PSNR-Y (dB) and SSIM-Y, before and after."""
    return [
        {
            "test set": dataset,
            "picture": row["name"],
            "rainy PSNR-Y (dB)": row["rainy_psnr_esdnet"],
            "restored PSNR-Y (dB)": row["psnr_esdnet"],
            "rainy SSIM-Y": row["rainy_ssim_esdnet"],
            "restored SSIM-Y": row["ssim_esdnet"],
        }
        for dataset, result in record["results"].items()
        for row in result.get("images", [])
    ]


def figures(record: Record, costs: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, float]:
    """The figures of a run that is done.

    Args:
        record: of the run.
        costs: of its network, by convention (`full`, `paper`).
    """
    training = record.get("training", {})
    found: dict[str, Any] = {"train/seconds": training.get("seconds")}
    found[VALIDATION[0]] = training.get("validation_psnr_y")
    for dataset, result in record["results"].items():
        for metric in ("psnr", "ssim"):
            found[on_test(dataset, f"{metric}_y")] = result["mean"].get(f"{metric}_esdnet")
    full, paper = (costs or {}).get("full", {}), (costs or {}).get("paper", {})
    found[PARAMETERS] = full.get("params")
    found[OPERATIONS], found[OPERATIONS_PAPER] = full.get("operations"), paper.get("operations")
    found[ENERGY], found[ENERGY_PAPER] = full.get("energy_uj"), paper.get("energy_uj")
    found["cost/spike_rate"] = full.get("rate")
    return {k: float(v) for k, v in found.items() if v is not None and math.isfinite(float(v))}


class Sink:
    """A place that a run's figures go to, opened when there is something to say.

    Every method is safe to call, whatever happens: what goes wrong is said once, and the sink is silent from then on.

    Args:
        config: of the run.
        folder: of the run.
    """

    title: str  # as errors name it

    def __init__(self, config: RunSpec, folder: Path) -> None:
        self.config = config
        self.folder = folder
        self._on = True

    @contextlib.contextmanager
    def _safely(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._on = False
            print(f"derain: not logged to {self.title} ({_reason(error)}); the run goes on", file=sys.stderr)

    def where(self) -> str:
        """Which it is, on- or offline, and where its files lie, in words."""
        raise NotImplementedError

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log figures of a training step."""
        raise NotImplementedError

    def histograms(self, rates: Mapping[str, NDArray[np.float32]], step: int) -> None:
        """Log how spike rates are distributed at a training step; nothing where a logger has no histograms.

        Args:
            rates: by level, the rate of each channel of its neurons, (channels,) in [0, 1].
            step: of the training.
        """

    def pictures(self, found: Callable[[], Iterable[Sample]]) -> None:
        """Log sample pictures.

        Args:
            found: makes them.
        """
        raise NotImplementedError

    def done(self, record: Record, costs: Callable[[], Mapping[str, Mapping[str, Any]] | None]) -> None:
        """Log what a finished run has come to, and close.

        Args:
            record: of the run.
            costs: counts what its network costs, by convention.
        """
        raise NotImplementedError

    def close(self, failed: bool = False) -> None:
        """Close; what a failed or interrupted run logged is kept."""
        raise NotImplementedError


class Tracker(Sink):
    """A run's line to W&B; its files lie in `wandb/` in the run's folder.

    It is opened here and not by Lightning's logger, which sends host, user, program and packages.
    """

    title = "W&B"

    def __init__(self, config: RunSpec, folder: Path) -> None:
        super().__init__(config, folder)
        self._run: Any = None
        self._small: dict[tuple[str, str], dict[str, NDArray[np.uint8]]] = {}
        self._on = "wandb" in config.logger and mode() != "disabled"

    def where(self) -> str:
        """Which it is, on- or offline, and where its files lie, in words."""
        if not self._on:
            return "wandb disabled (WANDB_MODE)"
        later = "; derain sync sends it" if self._mode == "offline" else ""
        return f"wandb {self._mode} ({self.folder / 'wandb'}{later})"

    @cached_property
    def _mode(self) -> str:
        chosen = mode() or ("online" if has_key() else "offline")
        # asked first: an attempt to start online that failed would leave the run's id taken
        if chosen == "online" and (why := unreachable()):
            print(
                f"derain: W&B is not reached ({why}); logged offline, derain sync sends it", file=sys.stderr
            )
            return "offline"
        return chosen

    def _opened(self) -> Any:
        if self._run is None:
            try:
                import wandb
            except ImportError as error:
                raise RuntimeError(f"{error}: pip install wandb, or logger=csv") from None
            logging.raiseExceptions = False  # its own log on a full disk: a traceback a message
            self._run = self._init(wandb, self._mode)
            self._run.define_metric(STEP)
            self._run.define_metric("*", step_metric=STEP, step_sync=True)
            self._run.define_metric(VALIDATION[0], step_metric=STEP, step_sync=True, summary="max")
        return self._run

    def _init(self, wandb: Any, mode: str) -> Any:
        self.folder.mkdir(parents=True, exist_ok=True)
        return wandb.init(
            project=project(),
            id=os.environ["WANDB_RUN_ID"] if under_agent() else self.config.identity,
            name=self.config.name,
            job_type="train",
            tags=tags(self.config),
            group=f"{self.config.model.name}-{self.config.data.name}-{self.config.recipe.name}",
            resume="allow",
            mode=mode,
            dir=str(self.folder),
            config=words(self.config),
            settings=wandb.Settings(
                init_timeout=_INIT_SECONDS,
                finish_timeout=_FINISH_SECONDS,
                silent=True,
                console="off",
                disable_git=True,
                disable_code=True,
                save_code=False,
                x_disable_meta=True,
                x_disable_machine_info=True,
                x_disable_stats=True,
                x_save_requirements=False,
                host="",
                program="",
            ),
        )

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log figures of a training step."""
        if not self._on:
            return
        with self._safely():
            self._opened().log({**metrics, **({} if step is None else {STEP: step})})

    def histograms(self, rates: Mapping[str, NDArray[np.float32]], step: int) -> None:
        """Log how spike rates are distributed, as `Sink` says."""
        if not self._on:
            return
        with self._safely():
            run = self._opened()
            import wandb

            shown = {
                f"{SPIKE_HISTOGRAMS}{level}": wandb.Histogram(np_histogram=np.histogram(values, rate_bins()))
                for level, values in rates.items()
            }
            run.log({**shown, STEP: step})

    def pictures(self, found: Callable[[], Iterable[Sample]]) -> None:
        """Log sample pictures, as `Sink` says; the table of scores will have them small."""
        if not self._on:
            return
        with self._safely():
            run = self._opened()
            import wandb

            # each under a name of its own: pictures under one name are shown at one size
            count: Counter[str] = Counter()
            images: dict[str, Any] = {}
            for sample in found():
                count[sample.dataset] += 1
                shown = wandb.Image(sample.side_by_side(), caption=sample.caption)
                images[f"{PICTURES}{sample.dataset}/{count[sample.dataset]}"] = shown
                self._small[sample.dataset, sample.name] = sample.small()
            run.log(images)

    def done(self, record: Record, costs: Callable[[], Mapping[str, Mapping[str, Any]] | None]) -> None:
        """Log what a finished run has come to, its record (and weights, if asked for) as an artifact, and close.

        Args:
            record: of the run.
            costs: counts what its network costs, by convention.
        """
        if not self._on:
            return
        with self._safely():
            run = self._opened()
            import wandb

            run.summary.update(figures(record, costs()))
            if table := self._table(wandb, record):
                run.log({SCORES: table})
            # without the home folder, which a dataset's path may name; relative, as the path is kept
            shown = self.folder / "wandb" / "sent.json"
            write_json(shown, json.loads(without_home(json.dumps(record, ensure_ascii=False))))
            artifact = wandb.Artifact(f"record-{record['identity']}", type="record")
            artifact.add_file(os.path.relpath(shown), name=RECORD, policy="immutable")
            run.log_artifact(artifact)
            if self.config.trainer.log_weights:
                about = {"network": self.config.model.name, "options": self.config.options}
                weights = wandb.Artifact(f"weights-{record['identity']}", type="model", metadata=about)
                weights.add_file(os.path.relpath(self.folder / WEIGHTS), name=WEIGHTS, policy="immutable")
                run.log_artifact(weights)
        self.close()

    def _table(self, wandb: Any, record: Record) -> Any:
        """A row for each test picture, the sample pictures in theirs; None without test pictures."""
        rows = scores(record)
        if not rows:
            return None
        shown = ["rainy", "restored", "target"] if self._small else []
        columns = [*list(rows[0])[:2], *shown, *list(rows[0])[2:]]
        data = []
        for row in rows:
            small = self._small.get((row["test set"], row["picture"]), {})
            pictures = {which: wandb.Image(small[which]) if small else None for which in shown}
            data.append([{**row, **pictures}[column] for column in columns])
        return wandb.Table(columns=columns, data=data)

    def close(self, failed: bool = False) -> None:
        """Close; what a failed or interrupted run logged is kept, and goes on under the same id."""
        if self._run is not None:
            with self._safely():
                self._run.finish(exit_code=int(failed))
            self._run = None


def unreachable() -> str:
    """Why W&B's server gives no answer; empty where it does, whatever the answer."""
    import urllib.error
    import urllib.request

    try:
        urllib.request.urlopen(_server(), timeout=_ANSWER_SECONDS).close()
    except urllib.error.HTTPError:
        return ""
    except urllib.error.URLError as error:
        return str(error.reason)
    except (OSError, ValueError) as error:
        return _reason(error)
    return ""


def _server() -> str:
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")


def _reason(error: Exception) -> str:
    """What went wrong, in a line; of pydantic's errors, whose first line counts them alone, what and where."""
    errors = getattr(error, "errors", None)
    if callable(errors) and isinstance(found := errors(), list) and found:
        wrong = found[0]
        return without_home(f"{'.'.join(map(str, wrong['loc']))}: {first_line(Exception(wrong['msg']))}")
    return without_home(first_line(error))


def samples(config: RunSpec, network: Any, device: Any) -> Iterator[Sample]:
    """The first test pictures of each set.

    Args:
        config: of the run.
        network: trained, in eval mode, on `device`.
        device: where to compute.
    """
    import torch

    from benchmark.data import open_pairs
    from benchmark.data.specs import test_sets
    from benchmark.metrics import psnr_y
    from benchmark.metrics.fidelity import to_8_bit
    from benchmark.restoration import restore

    tile, overlap = config.tiling
    for dataset in test_sets(config.data.name):
        try:
            pairs = open_pairs(dataset, config.data.root, "test")
        except UserError:  # said in the record
            continue
        for i in range(min(_SHOWN, len(pairs))):
            rainy, target = (pairs[i][which].to(device)[None] for which in ("rainy", "target"))
            with torch.no_grad():
                restored = restore(network, rainy, tile, overlap)
            before, after = (float(psnr_y(x, target)) for x in (rainy, restored))
            caption = f"{pairs.names[i]}: rainy {before:.2f} dB, restored {after:.2f} dB, target"
            shown = [
                np.asarray(to_8_bit(x)[0].to(torch.uint8).permute(1, 2, 0).cpu())
                for x in (rainy, restored, target)
            ]
            yield Sample(dataset_spec(dataset).name, pairs.names[i], caption, *shown)


def unsent(runs: Path) -> list[Path]:
    """What was logged offline below a folder and is not marked as sent, oldest first."""
    logs = (p for p in runs.rglob("offline-run-*/run-*.wandb") if not Path(f"{p}.synced").exists())
    return sorted((p.parent for p in logs), key=lambda p: p.name)


def sync(runs: Path, dry_run: bool = False) -> int:
    """Send to W&B what was logged offline, by W&B's own `wandb sync`; returns its exit status.

    To be called in the folder that the runs were started in: their records are sent too, by relative paths.

    Raises:
        UserError: no such folder, or no key.
        WorkError: wandb cannot be started.
    """
    if not runs.is_dir():
        raise UserError(f"{runs}: no such folder of runs")
    found = unsent(runs)
    if dry_run or not found:
        print("\n".join([*map(str, found), f"{len(found)} to send to W&B"]))
        return 0
    if not has_key():
        raise UserError("no key for W&B: set WANDB_API_KEY, or log in with: wandb login")
    try:
        status = subprocess.run(
            [sys.executable, "-m", "wandb", "sync", "--yes", *map(str, found)], check=False
        ).returncode
    except OSError as error:
        raise WorkError(f"wandb cannot be started: {error}") from None
    left = len(unsent(runs))
    print(f"{len(found) - left} of {len(found)} sent to W&B")
    return int(bool(status or left))
