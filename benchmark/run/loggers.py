"""Where a run's figures go beside `metrics.csv`: any of W&B, TensorBoard and MLflow, each by its name in `logger`.

What they are told is `benchmark.run.tracking`'s. TensorBoard and MLflow are written through Lightning's loggers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.files import WEIGHTS
from benchmark.run.records import Record
from benchmark.run.tracking import (
    PICTURES,
    PROJECT,
    SPIKE_HISTOGRAMS,
    Sample,
    Sink,
    Tracker,
    figures,
    rate_bins,
    scores,
    tags,
    words,
)
from benchmark.spec import RunSpec


def _in_words(config: RunSpec) -> dict[str, Any]:
    """The settings as words, which every kind of logger can show."""
    return {key: str(value) for key, value in words(config).items()}


class _Lightning(Sink):
    """A sink that is one of Lightning's loggers.

    Neither host, user nor paths are in what it is told.
    """

    def __init__(self, config: RunSpec, folder: Path) -> None:
        super().__init__(config, folder)
        self._logger: Any = None
        self._step = 0

    def _made(self) -> Any:
        raise NotImplementedError

    def _opened(self) -> Any:
        if self._logger is None:
            self._logger = self._made()
        return self._logger

    def _picture(self, name: str, caption: str, picture: NDArray[np.uint8]) -> None:
        raise NotImplementedError

    def _ended(self, record: Record, found: dict[str, float]) -> None:
        raise NotImplementedError

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log figures of a training step."""
        if not self._on:
            return
        with self._safely():
            self._step = self._step if step is None else step
            self._opened().log_metrics(dict(metrics), self._step)

    def pictures(self, found: Callable[[], Iterable[Sample]]) -> None:
        """Log sample pictures, as `Sink` says."""
        if not self._on:
            return
        with self._safely():
            self._opened()
            for i, sample in enumerate(found()):
                self._picture(f"{PICTURES}{sample.dataset}/{i + 1}", sample.caption, sample.side_by_side())

    def done(self, record: Record, costs: Callable[[], Mapping[str, Mapping[str, Any]] | None]) -> None:
        """Log what a finished run has come to, and close."""
        if not self._on:
            return
        with self._safely():
            self._opened()
            self._step = record["training"].get("steps", self._step)
            self._ended(record, figures(record, costs()))
        self.close()

    def close(self, failed: bool = False) -> None:
        """Close; what a failed or interrupted run logged is kept, and goes on there."""
        if self._logger is not None:
            with self._safely():
                self._logger.finalize("failed" if failed else "success")
            self._logger = None


class TensorBoard(_Lightning):
    """Event files in `tensorboard/` in the run's folder."""

    title = "TensorBoard"

    def where(self) -> str:
        """Which it is, on- or offline, and where its files lie, in words."""
        return f"tensorboard offline ({self.folder / 'tensorboard'}; tensorboard --logdir {self.config.out})"

    def _made(self) -> Any:
        from pytorch_lightning.loggers import TensorBoardLogger

        return TensorBoardLogger(self.folder, name="", version="tensorboard")

    def histograms(self, rates: Mapping[str, NDArray[np.float32]], step: int) -> None:
        """Log how spike rates are distributed, as `Sink` says."""
        if not self._on:
            return
        with self._safely():
            board = self._opened().experiment
            for level, values in rates.items():
                board.add_histogram(f"{SPIKE_HISTOGRAMS}{level}", values, step, bins=rate_bins())

    def _picture(self, name: str, caption: str, picture: NDArray[np.uint8]) -> None:
        self._logger.experiment.add_image(name, picture, self._step, dataformats="HWC")
        self._logger.experiment.add_text(name, caption, self._step)

    def _ended(self, record: Record, found: dict[str, float]) -> None:
        self._logger.log_hyperparams(_in_words(self.config), found, step=self._step)  # and the figures


class MLflow(_Lightning):
    """A run at the server that MLFLOW_TRACKING_URI names, else in `mlruns/` in the folder of the runs.

    A run that goes on is found by its identity. The files are MLflow's plain ones, not its data base: several runs at a
    time write them.
    """

    title = "MLflow"

    def where(self) -> str:
        """Which it is, on- or offline, and where its files lie, in words."""
        named = os.environ.get("MLFLOW_TRACKING_URI")
        if named and named.startswith(("http:", "https:", "databricks")):
            return "mlflow online (MLFLOW_TRACKING_URI)"
        return f"mlflow offline ({'MLFLOW_TRACKING_URI' if named else Path(self.config.out) / 'mlruns'})"

    def _made(self) -> Any:
        for name, value in (
            ("MLFLOW_DISABLE_TELEMETRY", "true"),
            ("MLFLOW_ALLOW_FILE_STORE", "true"),
            (
                "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
                "2",
            ),  # of a server that is gone; the run does not wait for it
            ("MLFLOW_HTTP_REQUEST_TIMEOUT", "10"),
        ):
            os.environ.setdefault(name, value)
        from mlflow.tracking import MlflowClient
        from pytorch_lightning.loggers import MLFlowLogger

        uri = os.environ.get("MLFLOW_TRACKING_URI") or (Path(self.config.out) / "mlruns").absolute().as_uri()
        client = MlflowClient(uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = client.get_experiment_by_name(name)
        place = experiment.experiment_id if experiment else client.create_experiment(name)
        earlier = client.search_runs([place], f"tags.identity = '{self.config.identity}'", max_results=1)
        if earlier:
            run = earlier[0].info.run_id
            client.update_run(run, status="RUNNING")
        else:  # not by Lightning, which would send the user's name and the path of the program
            about = {"identity": self.config.identity, **{f"tag.{word}": "" for word in tags(self.config)}}
            run = client.create_run(place, run_name=self.config.name, tags=about).info.run_id
        logger = MLFlowLogger(tracking_uri=uri, run_id=run)
        logger.log_hyperparams(_in_words(self.config))
        return logger

    def _picture(self, name: str, caption: str, picture: NDArray[np.uint8]) -> None:
        self._logger.experiment.log_image(self._logger.run_id, picture, artifact_file=f"{name}.png")

    def _ended(self, record: Record, found: dict[str, float]) -> None:
        self._logger.log_metrics(found, self._step)
        rows = scores(record)
        if rows:
            table = {key: [row[key] for row in rows] for key in rows[0]}
            self._logger.experiment.log_dict(self._logger.run_id, table, "scores.json")
        if self.config.trainer.log_weights:
            self._logger.experiment.log_artifact(self._logger.run_id, str(self.folder / WEIGHTS))


_SINKS: dict[str, type[Sink]] = {"wandb": Tracker, "tensorboard": TensorBoard, "mlflow": MLflow}


class Loggers:
    """All that a run logs to.

    Args:
        config: of the run.
        folder: of the run.
        also: called with the figures that are logged while it trains.
    """

    def __init__(
        self, config: RunSpec, folder: Path, also: Callable[[Mapping[str, float]], None] | None = None
    ) -> None:
        self.folder = folder
        self.also = also
        self.sinks = [_SINKS[name](config, folder) for name in config.logger if name in _SINKS]

    def where(self) -> str:
        """Which loggers, on- or offline, and where their files lie, in a line."""
        return ", ".join([f"logging to {self.folder / 'metrics.csv'}", *(s.where() for s in self.sinks)])

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log figures of a training step."""
        if self.also is not None:
            self.also(metrics)
        for sink in self.sinks:
            sink.log(metrics, step)

    def histograms(self, rates: Mapping[str, NDArray[np.float32]], step: int) -> None:
        """Log how spike rates are distributed at a training step, as `Sink` says."""
        for sink in self.sinks:
            sink.histograms(rates, step)

    def pictures(self, found: Callable[[], Iterable[Sample]]) -> None:
        """Log sample pictures, made once, and only if anything takes them."""
        made = _once(lambda: list(found()))
        for sink in self.sinks:
            sink.pictures(made)

    def done(self, record: Record, costs: Callable[[], Mapping[str, Mapping[str, Any]] | None]) -> None:
        """Log what a finished run has come to, and close."""
        counted = _once(costs)
        for sink in self.sinks:
            sink.done(record, counted)

    def tell_agent(self, record: Record, costs: Callable[[], Mapping[str, Mapping[str, Any]] | None]) -> None:
        """Tell W&B alone, whose agent asked for a run that was done already."""
        for sink in self.sinks:
            if isinstance(sink, Tracker):
                sink.done(record, costs)

    def close(self, failed: bool = False) -> None:
        """Close; what a failed or interrupted run logged is kept."""
        for sink in self.sinks:
            sink.close(failed)


def _once(make: Callable[[], Any]) -> Callable[[], Any]:
    found: list[Any] = []

    def made() -> Any:
        if not found:
            found.append(make())
        return found[0]

    return made
