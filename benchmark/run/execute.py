"""One run: train, test, count, and leave a record."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark import catalog
from benchmark.data.specs import dataset_spec, test_sets
from benchmark.errors import (
    DiskFull,
    Diverged,
    Foreign,
    Interrupted,
    OutOfMemory,
    ProcessLost,
    Stop,
    UserError,
    WorkError,
    out_of_memory,
)
from benchmark.files import WEIGHTS, explained, plain, require_writable, write_text
from benchmark.launch import require_launch
from benchmark.metrics.measures import Measure, opened
from benchmark.resident import keep_freed_memory
from benchmark.run.claims import Claim, Owner
from benchmark.run.current import forget, require_current, test_digests, training_digest
from benchmark.run.ends import end_of, memory_kills
from benchmark.run.loggers import Loggers
from benchmark.run.records import (
    FAILURE,
    Record,
    commit,
    find_record,
    provenance,
    read_record,
    without_home,
    without_places,
    write_record,
)
from benchmark.run.states import DIVERGED, FAILED, INTERRUPTED, OUT_OF_MEMORY, failure_digest, mark_of
from benchmark.run.tracking import samples, under_agent
from benchmark.sources import code_digest
from benchmark.spec import RunSpec

if TYPE_CHECKING:
    from benchmark.data import PairedImages


def execute(
    config: RunSpec,
    progress: Callable[[int, int], None] | None = None,
    watch: Owner | None = None,
    log: Callable[[Mapping[str, float]], None] | None = None,
) -> Record:
    """Do a run, or find it done.

    A run that was cut off goes on from its last checkpoint. A run that fails leaves `failure.json` with the reason.
    While it lasts the run is claimed (`benchmark.run.claims`).

    Args:
        config: the resolved configuration.
        progress: called with (training steps done, steps in all).
        watch: a process; when it is gone, the run saves and stops as on SIGTERM.
        log: called with the figures that are logged while it trains.

    Returns:
        The record.

    Raises:
        Claimed: another process is doing the run.
        UserError, WorkError: the run cannot be done or failed; the reason is also in `failure.json`.
    """
    folder = config.folder
    tracker = Loggers(config, folder, log)
    done = find_record(config)
    if done is not None:
        require_current(done, folder)
        return _found(done, config, tracker)
    require_launch(config)
    require_writable(folder)
    if not _first_process():
        return _attempt(config, folder, None, tracker, lambda: None)
    orphaned = functools.partial(os.kill, os.getpid(), signal.SIGTERM)
    with Claim(folder, watch=watch, on_orphaned=orphaned, failure=failure_digest(folder)) as claim:
        done = find_record(config)  # the last owner may have ended it meanwhile
        if done is not None:
            return _found(done, config, tracker)

        def tell(step: int, steps: int) -> None:
            claim.hold(sure=False)
            claim.step, claim.steps = step, steps
            if progress is not None:
                progress(step, steps)

        return _attempt(config, folder, tell, tracker, claim.hold)


def _found(record: Record, config: RunSpec, tracker: Loggers) -> Record:
    if under_agent():  # which waits for the figures of the run that it asked for
        tracker.tell_agent(record, lambda: _costs(config))
    return record


def _first_process() -> bool:
    """Whether this is the process of a parallel training that speaks for all."""
    ranks = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
    return all(os.environ.get(rank, "0") == "0" for rank in ranks)


def _attempt(
    config: RunSpec,
    folder: Path,
    progress: Callable[[int, int], None] | None,
    tracker: Loggers,
    hold: Callable[[], None],
) -> Record:
    write_text(folder / "config.yaml", as_yaml(config))
    before = mark_of(folder)
    kills = memory_kills()
    try:
        record = _train_and_test(config, folder, progress, tracker)
    except SystemExit:  # a process of a parallel training that has nothing more to do
        raise
    except BaseException as original:
        error = _told(original, config, folder, kills)
        if _is_told_by_another(error, folder, before):
            tracker.close(failed=True)
            if isinstance(error, ProcessLost):
                raise
            sys.exit(getattr(error, "status", 1))
        fault = error.__cause__ if isinstance(error, Foreign) else error
        failure = {
            "identity": config.identity,
            "name": config.name,
            "state": _state(error),
            "config": config.plain(),
            "reason": str(error) or type(error).__name__,
            "traceback": _last_lines(fault),
            **provenance(config.model.name),
        }
        hold()
        # where the disk is what failed there is no room for the reason either; it is raised
        with contextlib.suppress(UserError, WorkError):
            write_record(folder, failure, FAILURE)
        tracker.close(failed=True)
        if error is original:
            raise
        raise error from original
    hold()
    write_record(folder, record)
    (folder / FAILURE).unlink(missing_ok=True)
    tracker.done(record, lambda: _costs(config))
    return record


def _last_lines(error: BaseException | None) -> list[str]:
    """Of a traceback; none of what is told in a line of ours."""
    if error is None or isinstance(error, (UserError, WorkError)):
        return []
    return without_home("".join(traceback.format_exception(error))).splitlines()[-12:]


def _costs(config: RunSpec) -> dict[str, dict[str, Any]] | None:
    from benchmark.run.costs import trained_costs

    return trained_costs(config)


def as_yaml(config: RunSpec) -> str:
    """A run's settings as config.yaml in its folder has them."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(plain(config.plain())))


def _is_told_by_another(error: BaseException, folder: Path, before: tuple[int, int] | None) -> bool:
    """Whether the reason is another process's of the same training to leave: it stopped together with that one, or lost
    it, or lost one that has left its own reason.
    """
    if not _first_process():
        return isinstance(error, (Interrupted, KeyboardInterrupt, ProcessLost, Stop))
    return isinstance(error, ProcessLost) and mark_of(folder) != before


def _told(error: BaseException, config: RunSpec, folder: Path, kills: int | None) -> BaseException:
    """The error in a line of ours where it says that memory or disk ran out, else as it is."""
    if isinstance(error, ProcessLost) and end_of(error.ended, kills).state == OUT_OF_MEMORY:
        return OutOfMemory(f"{error}: the system had run out of memory")
    if out_of_memory(error) and not isinstance(error, OutOfMemory):
        recipe = config.recipe
        return OutOfMemory(
            f"out of memory with batches of {recipe.batch} patches of {recipe.patch} px; nothing is made smaller "
            "unasked: set a smaller recipe.batch (which makes another run), or use a larger device"
        )
    if _of_shared_memory(error):
        return WorkError(
            f"the loader's {config.data.workers} processes could not go on, for want of shared memory perhaps: run the "
            "same command with data.workers=0 to go on from the last checkpoint"
        )
    return explained(error, folder) or error


def _of_shared_memory(error: BaseException) -> bool:
    """Whether it says that a loader's process ended, or had no room for a batch."""
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("DataLoader worker", "shared memory", "<torch_")
    )


def _state(error: BaseException) -> str:
    if isinstance(error, (KeyboardInterrupt, Interrupted, Stop, DiskFull)):
        return INTERRUPTED
    if out_of_memory(error):
        return OUT_OF_MEMORY
    if isinstance(error, ProcessLost) and (
        error.ended is None or end_of(error.ended, None).state == INTERRUPTED
    ):
        return INTERRUPTED
    if isinstance(error, Diverged):
        return DIVERGED
    return FAILED


def _train_and_test(
    config: RunSpec, folder: Path, progress: Callable[[int, int], None] | None, tracker: Loggers
) -> Record:
    import torch

    from benchmark.checkpoints import save_weights

    keep_freed_memory()
    forget()
    trained_on = training_digest(config)
    # before the training: what is wrong with them is not to be found after it
    measures, about = opened(config.evaluation.metrics)
    pairs, missing = test_pairs(config, max((m.metric.least for m in measures), default=1))
    network, training = _trained(config, folder, progress, tracker)
    network.eval()
    save_weights(network, folder / WEIGHTS, _about(config))
    device = torch.device("cuda" if _on_gpu(config) else "cpu")
    began = time.monotonic()
    forget()
    tested_on = test_digests(config, pairs)
    results = test(config, network.to(device), device, folder, pairs, measures)
    tracker.pictures(lambda: samples(config, network, device))
    return {
        "identity": config.identity,
        "training_identity": config.training_identity,
        "name": config.name,
        "state": "done",
        "config": config.plain(),
        "training": training,
        "test_seconds": round(time.monotonic() - began, 2),
        "model_options": config.options,
        "data": {"train": trained_on, "test": tested_on},
        "parameters": {"trained": sum(p.numel() for p in network.parameters())},
        "results": results,
        "missing": missing,
        **({"metrics": {name: without_places(told) for name, told in about.items()}} if about else {}),
        **provenance(config.model.name),
    }


def _trained(
    config: RunSpec, folder: Path, progress: Callable[[int, int], None] | None, tracker: Loggers
) -> tuple[Any, dict[str, Any]]:
    """The trained network, and how it was trained; not again where a run has it that differs in the test alone."""
    from benchmark.checkpoints import load_checkpoint
    from benchmark.models import create_model
    from benchmark.training.train import train, training_data

    twin = _twin(config)
    if twin is not None:
        data = training_data(config)
        data.audit()  # which sets are tested on besides may differ
        network = create_model(config.model.name, **config.options)
        load_checkpoint(network, folder.parent / twin["name"] / WEIGHTS)
        told = {**twin["training"]["data"], **data.accepted()}
        return network, {**twin["training"], "trained_as": twin["name"], "data": told}
    if _first_process():
        print(tracker.where(), file=sys.stderr, flush=True)
    trained = train(config, folder, progress, tracker.log, tracker.histograms)
    load_checkpoint(trained.network, trained.checkpoint)
    return trained.network, {
        "steps": trained.steps,
        "steps_per_epoch": trained.steps_per_epoch,
        "seconds": round(trained.seconds, 2),
        "final_loss": trained.final_loss,
        "validation_psnr_y": trained.validation_psnr_y,
        "weights": trained.checkpoint.name,
        "code": trained.code,
        "data": trained.data,
    }


def _twin(config: RunSpec) -> Record | None:
    """The record of a run with the same training that has its weights still."""
    siblings = f"{config.model.name}-{config.data.name}-seed{config.seed}-*"
    for folder in sorted(config.folder.parent.glob(siblings)):
        try:
            record = read_record(folder)
        except UserError:  # of another version: no reason for this run to fail
            continue
        if record is None or not (folder / WEIGHTS).is_file():
            continue
        # as it was when it was trained: the catalogue's embedded options may have changed since
        if record.get("training_identity") != config.training_identity:
            continue
        if record.get("data", {}).get("train") == training_digest(config):
            return record
    return None


def test_pairs(config: RunSpec, least: int = 1) -> tuple[dict[str, PairedImages], dict[str, str]]:
    """The pairs of every set that a training dataset stands for; for each set that cannot be tested the reason.

    Args:
        config: the resolved configuration.
        least: pixels that the sides of pictures must have, beside what PSNR and SSIM ask for.

    Raises:
        UserError: the dataset's own test set, or one that was asked for besides, is missing or wrong.
    """
    from benchmark.data import open_pairs
    from benchmark.metrics.fidelity import least_side

    found: dict[str, PairedImages] = {}
    missing: dict[str, str] = {}
    also = config.evaluation.also
    for name in dict.fromkeys([*test_sets(config.data.name), *also]):
        try:
            found[name] = open_pairs(name, config.data.root, "test", least=max(least, least_side()))
        except UserError as error:
            if name == config.data.name or name in also:
                raise
            # a record tells no folder of the user's
            missing[name] = without_home(str(error).replace(str(config.data.root), "data.root"))
    return found, missing


def test(
    config: RunSpec,
    network: Any,
    device: Any,
    folder: Path,
    pairs: Mapping[str, PairedImages],
    measures: Sequence[Measure] = (),
) -> dict[str, Any]:
    """Test a network on pairs, by further metrics too; returns the results by dataset."""
    from benchmark.run.evaluate import evaluate, summary

    tile, overlap = config.tiling
    results: dict[str, Any] = {}
    for name, images in pairs.items():
        rows = evaluate(
            network,
            images,
            tile=tile,
            overlap=overlap,
            batch=config.evaluation.batch,
            device=device,
            save=folder / "restored" / dataset_spec(name).name if config.evaluation.save_images else None,
            progress=False,
            measures=measures,
        )
        results[dataset_spec(name).name] = {
            "tile": tile,
            "overlap": overlap,
            "mean": summary(rows),
            "images": rows,
        }
    return results


def _about(config: RunSpec) -> dict[str, Any]:
    """What weights say of themselves: enough to build the network and to know what trained it; no paths."""
    return {
        "model": {"name": config.model.name, "options": config.options},
        "recipe": config.recipe.name,
        "data": config.data.name,
        "seed": config.seed,
        "identity": config.identity,
        "commit": commit(),
        "code": code_digest(catalog.network(config.model.name).target),
    }


def _on_gpu(config: RunSpec) -> bool:
    import torch

    return config.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
