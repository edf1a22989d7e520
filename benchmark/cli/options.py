"""What `derain` can be asked: its commands and their options."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from benchmark.errors import UserError

_Value = TypeVar("_Value", int, float)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and takes no abbreviations: a shortened flag may come to mean another.

    Every command can be told to be quiet or to say more, before its name or behind it.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)
        for flags, what in (
            (("-q", "--quiet"), "print results and errors alone: no progress, no remarks, no notes"),
            (
                ("-v", "--verbose"),
                "also say where an error came from, and at the end time, memory and kernels",
            ),
        ):
            self.add_argument(*flags, action="store_true", default=argparse.SUPPRESS, help=what)

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        """As argparse's; where none will do, none is asked for."""
        action = super().add_argument(*names, **options)
        if action.nargs == "*":
            action.required = False
        return action

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def _text_path(text: str) -> str:
    from benchmark.reading import path

    if not text:  # a shell's variable that is not set; as a path it would be this folder
        raise UserError("an empty path was given; this folder is called .")
    return path(text)


def path_of(text: str) -> Path:
    """A path as a user gave it, `~` and a file: address resolved; an empty one is refused."""
    return Path(_text_path(text))


def _whole(least: int, most: int = 10**9) -> Callable[[str], int]:
    """The reader of a whole number within limits."""

    def read(text: str) -> int:
        from benchmark.reading import whole

        return _within(text, whole, least, most)

    return read


def _number(above: float, most: float = 10**9) -> Callable[[str], float]:
    """The reader of a number within limits, of which the lower one is not meant."""

    def read(text: str) -> float:
        from benchmark.reading import number

        return _within(text, number, above, most, strictly=True)

    return read


def _within(
    text: str, read: Callable[[str], _Value], least: float, most: float, strictly: bool = False
) -> _Value:
    try:
        value = read(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from None
    if value < least or (strictly and value == least):
        at = "must be greater than" if strictly else "at least"
        raise argparse.ArgumentTypeError(f"{text}: {at} {least}")
    if value > most:
        raise argparse.ArgumentTypeError(f"{text}: at most {most}")
    return value


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _Parser(
        prog="derain", description="Train, measure and tabulate single-image deraining networks."
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    models = commands.add_parser("models", help="list the networks, or show one")
    models.add_argument("name", nargs="?", help="show this one")
    models.add_argument("--markdown", action="store_true", help="as a Markdown table")
    models.add_argument("--bibtex", action="store_true", help="the citations")
    _figures(models)

    data = commands.add_parser(
        "data", help="check or import a dataset, or render rain over clean photographs"
    )
    actions = data.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=_Parser)
    check = actions.add_parser("check", help="what is there, which dataset it is, what is missing or damaged")
    check.add_argument("path", type=path_of)
    _figures(check, "one row a folder of pairs or photographs")
    listing = actions.add_parser(
        "list", help="the datasets that are known: layout, counts, overlaps, terms, where"
    )
    listing.add_argument("name", nargs="?", help="show this one")
    _figures(listing)
    importing = actions.add_parser(
        "import", help="unpack a dataset's archive (zip, tar, tar.gz) safely, and check it"
    )
    importing.add_argument("archive", type=path_of)
    importing.add_argument(
        "-o", "--out", type=path_of, required=True, help="new folder, such as /data/Rain200H"
    )
    importing.add_argument(
        "--max-size", type=_number(0, 2**20), default=64, metavar="GIB", help="refuse more, unpacked (64)"
    )
    importing.add_argument(
        "--max-files", type=_whole(1), default=200_000, metavar="N", help="refuse more files (200000)"
    )
    importing.add_argument(
        "--max-ratio",
        type=_number(0),
        default=100,
        metavar="R",
        help="refuse to grow more than R-fold (100)",
    )
    _dry_run(importing)
    _figures(importing, "files and bytes, one row,")
    render = actions.add_parser("render", help="render rain over your own clean photographs")
    render.add_argument("clean", type=path_of, help="folder of clean photographs")
    render.add_argument("-o", "--out", type=path_of, required=True, help="new folder for input/ and target/")
    render.add_argument("--regime", default="heavy", help="light, heavy, mixed or twelve (default heavy)")
    render.add_argument("--seed", type=_whole(0, 2**32 - 1), default=0)
    _dry_run(render)
    _figures(render, "how many pairs, one row,")

    settings = "settings such as model=esdnet data=rain200h data.root=/data recipe=paper seed=1"
    train = commands.add_parser(
        "train", help="train and test one network", description=f"SETTINGS: {settings}"
    )
    train.add_argument("settings", nargs="*", metavar="KEY=VALUE", help=settings)
    _file(train)
    _dry_run(train)
    _figures(train)

    config = commands.add_parser("config", help="print the configuration that settings resolve to")
    config.add_argument("settings", nargs="*", metavar="KEY=VALUE", help=settings)
    _file(config)
    config.add_argument(
        "--schema", action="store_true", help="print the JSON schema of files of settings, and stop"
    )
    _figures(config, "one row a setting")

    evaluate = commands.add_parser("evaluate", help="measure a checkpoint on a dataset")
    _network(evaluate)
    evaluate.add_argument(
        "--data", type=path_of, required=True, help="a dataset, its test set, or input/ + target/"
    )
    evaluate.add_argument(
        "--metrics", help="further ones, commas between: lpips:FILE, dists:FILE, ntire:FILE, niqe, …"
    )
    _figures(evaluate, "one row an image")
    evaluate.add_argument(
        "--record",
        type=path_of,
        metavar="RUNS",
        help="also keep the record of a row that nobody trained here below this folder of runs, which tables take",
    )
    evaluate.add_argument(
        "--as", dest="dataset", help="with --record: which test set --data is (derain data list)"
    )
    evaluate.add_argument(
        "--trained-on", help="with --record: on which sets the weights were trained, where they do not say it"
    )
    evaluate.add_argument("--save", type=path_of, help="also write the restored pictures to this folder")
    evaluate.add_argument(
        "--overwrite", action="store_true", help="replace pictures that --save wrote before"
    )
    _dry_run(evaluate)

    score = commands.add_parser(
        "score", help="measure restored pictures, whoever restored them, against their targets"
    )
    score.add_argument("restored", type=path_of, help="folder of restored pictures, or one picture")
    score.add_argument(
        "target", type=path_of, help="folder of clean pictures of the same names, or one picture"
    )
    _figures(score, "one row a picture")

    restore = commands.add_parser(
        "restore",
        help="restore your own pictures and videos",
        description="Without --checkpoint by the weights that ship; photo.jpg becomes photo-derained.png beside it.",
    )
    _network(restore, checkpoint_needed=False, tile="auto")
    restore.add_argument("inputs", nargs="+", type=path_of, help="pictures, videos, folders, quoted patterns")
    restore.add_argument(
        "-o", "--out", type=path_of, help="folder for the results (default: beside the inputs)"
    )
    restore.add_argument("--overwrite", action="store_true", help="replace results that are there already")
    restore.add_argument("--only-missing", action="store_true", help="leave them, and restore the others")
    restore.add_argument("--lossless", action="store_true", help="videos: FFV1 in MKV, not H.264 in MP4")
    restore.add_argument(
        "--quality", type=int, metavar="CRF", help="videos: H.264's, 0 (no loss) to 51 (worst), default 18"
    )
    restore.add_argument("--compare", action="store_true", help="also rainy and restored side by side")
    _dry_run(restore)
    _figures(restore, "one row a result (size, seconds, bytes)")

    demo = commands.add_parser("demo", help="a page of before and after by the weights that ship")
    demo.add_argument(
        "--serve", action="store_true", help="a page to drop pictures on, on this machine alone"
    )
    demo.add_argument("--port", type=_whole(0, 65535), help="--serve: default any that is free")
    demo.add_argument("-o", "--out", type=path_of, metavar="FILE", help="the page (derain-demo.html)")
    demo.add_argument("--no-open", action="store_true", help="do not open it in the browser")
    demo.add_argument("--device", default="auto", help="auto, cpu, cuda")

    cost = commands.add_parser("cost", help="count parameters, operations, spikes and energy")
    cost.add_argument("--model", help="a network's name, or yours: module:Class or FILE.py:Class")
    cost.add_argument("--set", nargs="*", default=[], metavar="OPTION=VALUE", help="constructor options")
    cost.add_argument("--checkpoint", type=path_of, help="spike rates of these weights (default: untrained)")
    cost.add_argument(
        "--size", type=_whole(1, 16384), default=256, help="height and width in pixels (default 256)"
    )
    cost.add_argument("--convention", nargs="+", metavar="NAME",
                      default=["45nm", "lemaire", "full", "paper", "paper-text"],
                      help="45nm, lemaire, full, paper, paper-text or a YAML file (default: the five)")  # fmt: skip
    cost.add_argument(
        "--images", type=path_of, help="measure spike rates on this folder of pictures, or dataset"
    )
    cost.add_argument("--limit", type=_whole(1), help="at most so many of them")
    cost.add_argument("--per-layer", action="store_true", help="a row a layer, under the first convention")
    cost.add_argument("--sort", metavar="COLUMN", help="with --per-layer: the largest first")
    cost.add_argument("--plot", type=path_of, metavar="FOLDER", help="draw spike rates and energy shares")
    cost.add_argument(
        "--csv", type=path_of, metavar="FILE", help="also write the table as CSV; - prints it alone"
    )
    cost.add_argument("--json", type=path_of, metavar="FILE", nargs="?", const=Path("-"),
                      help="also write the table as JSON; without FILE print it alone")  # fmt: skip
    cost.add_argument("--latex", type=path_of, metavar="FILE", help="also write the table for LaTeX")
    cost.add_argument("--networks", action="store_true", help="the corrected Table 1: printed, thop's, true")
    cost.add_argument("--weights", nargs="*", default=[], metavar="NAME=FILE",
                      help="--networks: also with trained weights, or at a table of layers' rates (.csv)")  # fmt: skip
    cost.add_argument(
        "--scalability", action="store_true", help="operations, time and memory at 256, 512, 720"
    )
    cost.add_argument(
        "--time-limit", type=_number(0), default=300, help="--scalability: seconds a forward may take"
    )
    cost.add_argument(
        "-o", "--out", type=path_of, help="--networks, --scalability: folder (runs/tables/cost)"
    )

    table = commands.add_parser("table", help="do the runs of a table, and print it")
    table.add_argument("number", metavar="TABLE", help="1 … 5, an ablation study, or its YAML file")
    _table(table)
    _full_costs(table)
    table.add_argument(
        "--models", help="Tables 1 and 2: names with commas between (default: all), or none: --released alone"
    )
    table.add_argument(
        "--released",
        type=path_of,
        metavar="FILE",
        help="Tables 1 and 2: rows that nobody trained here, weights or pictures (YAML)",
    )
    table.add_argument(
        "--datasets",
        help="Table 1: columns, commas between: names (derain data list), folders, ./mine@rain200h",
    )
    table.add_argument("--values", help="a study over one setting: other values, such as 1,3,8 for Table 4")
    ablations = commands.add_parser("ablations", help="Tables 3, 4 and 5, or other ablation studies")
    _table(ablations, "STUDY … KEY=VALUE …", "names of studies (default: table3 table4 table5), and settings")
    _full_costs(ablations)
    ablations.add_argument("--list", action="store_true", help="list the studies, and stop")
    run = commands.add_parser(
        "run", help="do a saved plan (derain table … --save-plan FILE), print its tables"
    )
    run.add_argument("plan_file", metavar="PLAN", type=path_of, help="YAML or JSON")
    run.add_argument("settings", nargs="*", metavar="EXECUTOR", help=_EXECUTORS)
    _runs(run, "RUNS/tables/, there the name of the recipe in PLAN")

    study = commands.add_parser("study", help="the runs that test the papers' claims (docs/claims.md): hours")
    study.add_argument(
        "settings",
        nargs="*",
        metavar="PHOTOGRAPHS KEY=VALUE",
        help=f"clean photographs: train/ and test/ in or below a folder (BSDS500); {_EXECUTORS}",
    )
    study.add_argument(
        "--real", type=path_of, metavar="FOLDER", help="of folders of real pairs, tested on too"
    )
    study.add_argument(
        "--parts",
        help="of rates, ablations, networks, matched, lengths, energy; commas between (default: all)",
    )
    study.add_argument("--seeds", help="those alone, such as 0 or 0..2 (default: all of the protocol)")
    study.add_argument(
        "--draw", action="store_true", help="do no run: draw what is done, or what --out holds"
    )
    _runs(study, "RUNS/study-results")

    for name, what in (
        ("figures", "draw the figures of the runs that are done (PDF, PNG, SVG)"),
        ("report", "write one HTML page of tables, figures, pictures, costs and provenance"),
    ):
        shown = commands.add_parser(name, help=what)
        shown.add_argument(
            "--runs", type=_text_path, default="runs", help="folder of the runs (default runs)"
        )
        shown.add_argument("--recipe", default="embedded", help="whose runs (default embedded)")
        shown.add_argument("--models", help="names with commas between (default: all)")
        shown.add_argument("-o", "--out", type=path_of, help=f"default RUNS/{name}/RECIPE")
        _dry_run(shown)

    bench = commands.add_parser("bench", help="measure speed and memory beside the peers', in one run")
    bench.add_argument("--only", metavar="NAMES", help="cases, groups or studies, commas between (--list)")
    bench.add_argument("--list", action="store_true", help="list the cases and studies, and stop")
    bench.add_argument("--rounds", type=_whole(2, 10**6), help="rounds of each case (default 5)")
    bench.add_argument("--quick", action="store_true", help="short rounds and fewer, written to runs/bench")
    bench.add_argument("--slow", action="store_true", help="also what takes many minutes a call on a CPU")
    bench.add_argument("--profile", action="store_true", help="profile what does not reach what is asked for")
    bench.add_argument(
        "--threads", type=_whole(1, 4096), help="threads of every side (default: one for each core)"
    )
    bench.add_argument("-o", "--out", type=path_of, help="folder (default results/bench)")
    _figures(bench)

    sweep = commands.add_parser("sweep", help="start a W&B sweep, for agents on any number of machines")
    sweep.add_argument(
        "name", nargs="?", help="table1, table3, table4, table5, bayes or your YAML; none: list them"
    )
    sweep.add_argument(
        "--save-plan",
        type=path_of,
        metavar="FILE",
        help="write a grid's runs as a plan for derain run, and stop",
    )

    shown = commands.add_parser(
        "dashboard", help="build the W&B workspace: tables, energy, spike rates, pictures"
    )
    shown.add_argument("--project", help="of W&B (default: WANDB_PROJECT, or derain)")
    shown.add_argument("--entity", help="user or team of W&B (default: the key's)")
    shown.add_argument(
        "--runs", type=_text_path, default="runs", help="folder of the runs, for their tables (runs)"
    )
    shown.add_argument("--recipe", default="embedded", help="whose tables and test sets (default embedded)")
    shown.add_argument("--dry-run", action="store_true", help="print the workspace as JSON, send nothing")

    ship = commands.add_parser(
        "ship", help="measure a run's weights and put them among those that ship, with a card"
    )
    ship.add_argument("run", type=path_of, help="folder of a run that is done")
    ship.add_argument(
        "--first", type=path_of, metavar="RUN", help="the run whose weights this one went on from"
    )
    ship.add_argument("--name", default="general", help="what the weights are called (general)")
    ship.add_argument("--set", action="append", default=[], metavar="TITLE=FOLDER",
                      help="rainy and clean pictures to measure on, as often as there are sets")  # fmt: skip
    ship.add_argument("--clean", type=path_of, help="photographs without rain, which should stay as they are")
    ship.add_argument("--limit", type=_whole(1), default=50, help="at most so many of these (50)")
    ship.add_argument("--rainy", type=path_of, help="photographs of real rain")
    ship.add_argument("-o", "--out", type=path_of, help="folder of weights and card (default: this suite's)")
    ship.add_argument(
        "--docs", type=path_of, default=Path("docs/models"),
        help="folder of the page, and of NAME-seen.md: what was seen on photographs looked at (docs/models)",
    )  # fmt: skip
    ship.add_argument(
        "--page", action="store_true", help="measure nothing: draw the page again, after NAME-seen.md"
    )

    sync = commands.add_parser("sync", help="send to W&B what was logged offline")
    sync.add_argument("runs", nargs="?", type=path_of, default=Path("runs"), help="folder of the runs (runs)")
    sync.add_argument("--dry-run", action="store_true", help="list what would be sent, and stop")

    export = commands.add_parser(
        "export", help="write a network for other programs: ONNX, torch's pt2, NIR; try the file against it"
    )
    export.add_argument("--model", help="name of the network; needed where the weights do not say it")
    export.add_argument(
        "--checkpoint", type=path_of, help="weights (default: those that ship, else random ones)"
    )
    export.add_argument("--set", nargs="*", default=[], metavar="OPTION=VALUE", help="constructor options")
    export.add_argument(
        "--format",
        default="onnx",
        help="onnx (default), pt2, or nir: the encoder of a spiking network, for neuromorphic tools",
    )
    export.add_argument(
        "--size", help="pixels it is for: 256, 256x384, or any (default: the authors' tiles, or 256)"
    )
    export.add_argument("-o", "--out", type=path_of, required=True, metavar="FILE", help="such as net.onnx")
    export.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    _figures(export, "how far the file is from the network, one row a picture,")

    doctor = commands.add_parser(
        "doctor", help="what this machine offers: versions, compiler, kernels, memory, GPU, W&B, folders"
    )
    doctor.add_argument("--runs", type=_text_path, default="runs", help="folder of the runs (default runs)")
    _figures(doctor)
    completion = commands.add_parser("completion", help="print a completion for your shell")
    completion.add_argument("shell", help='bash, zsh or tcsh: eval "$(derain completion bash)"')

    inspect = commands.add_parser(
        "inspect",
        help="see what neurons do in rain: potentials and spikes of a layer, rates in rain and out of it",
    )
    _network(inspect, checkpoint_needed=False)
    inspect.add_argument("--image", type=path_of, help="a rainy picture to draw")
    inspect.add_argument(
        "--clean", type=path_of, help="the same without rain (default: the network's own result)"
    )
    inspect.add_argument("--layer", help="name of a neuron (default: the first; --layers lists them)")
    inspect.add_argument("--layers", action="store_true", help="list the neurons, and stop")
    inspect.add_argument("--patch", help="LEFT,TOP,SIZE in pixels (default: where there is most rain)")
    inspect.add_argument(
        "-o", "--out", type=path_of, default=Path("inspect.png"), help="the drawing (inspect.png)"
    )
    inspect.add_argument(
        "--data",
        type=_text_path,
        help="measure over a dataset with known rain: its name, or a folder of pairs",
    )
    inspect.add_argument(
        "--above", type=_whole(0, 254), default=0, help="rain differs by more than this, of 255 (default 0)"
    )
    inspect.add_argument("--limit", type=_whole(1), help="at most so many pairs of the dataset")
    _figures(inspect, "the rates, one row a neuron")
    return parser


def _figures(parser: argparse.ArgumentParser, rows: str = "the table") -> None:
    parser.add_argument(
        "--json", action="store_true", help="print the figures as JSON, and nothing else there"
    )
    parser.add_argument(
        "--csv",
        type=path_of,
        metavar="FILE",
        help=f"also write {rows} as CSV; - prints it, and nothing else there",
    )


def _dry_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and write nothing")


_EXECUTORS = (
    "what does the runs: executor=ray executor.address=… executor.gpus=1; executor=slurm (default: local)"
)


def _file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-c", "--config", dest="file", type=path_of, metavar="FILE",
        help="settings in a YAML or JSON file (derain config --schema; a run's config.yaml); those given here win",
    )  # fmt: skip


def _table(
    parser: argparse.ArgumentParser, metavar: str = "KEY=VALUE", help: str = "settings for all runs"
) -> None:
    parser.add_argument("settings", nargs="*", metavar=metavar, help=f"{help}; {_EXECUTORS}")
    parser.add_argument(
        "--data", type=_text_path, help="folder of the published datasets (default: the embedded ones)"
    )
    parser.add_argument("--recipe", help="default: embedded without --data, else paper")
    parser.add_argument("--seeds", default="0", help="such as 0, 0,1,2 or 0..4 (default 0)")
    parser.add_argument(
        "--save-plan", type=path_of, metavar="FILE", help="write the plan to a YAML or JSON file, and stop"
    )
    _runs(parser)


def _full_costs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--full-costs", action="store_true", help="parameters and operations of the full networks"
    )


def _runs(parser: argparse.ArgumentParser, tables: str = "RUNS/tables/RECIPE") -> None:
    parser.add_argument(
        "--workers", type=_whole(1, 4096), help="runs at a time (default: one a GPU or core, up to 8)"
    )
    parser.add_argument("--runs", type=_text_path, default="runs", help="folder of the runs (default runs)")
    parser.add_argument("--out", type=path_of, help=f"folder of the tables (default {tables})")
    parser.add_argument(
        "--plan", action="store_true", help="print the runs, their states and what they will take, and stop"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="as --plan, but measure no steps and write nothing"
    )
    _figures(parser, "the (first) table")
    parser.add_argument(
        "--retry", metavar="STATES", help="try again: failed, diverged, out-of-memory (commas), or all"
    )


_TILES = {
    "authors": "authors, whole or pixels (default: as the authors test)",
    "auto": "auto (default: whole where that fits into memory), authors, whole or pixels",
}


def _network(parser: argparse.ArgumentParser, checkpoint_needed: bool = True, tile: str = "authors") -> None:
    parser.add_argument(
        "--model", help="name of the network (derain models); needed where the weights do not say it"
    )
    parser.add_argument(
        "--checkpoint",
        type=path_of,
        required=checkpoint_needed,
        help="weights: this suite's, a run's folder, or the authors'",
    )
    parser.add_argument("--set", nargs="*", default=[], metavar="OPTION=VALUE", help="constructor options")
    parser.add_argument("--tile", default=tile, help=_TILES[tile])
    parser.add_argument("--overlap", type=_whole(0, 16384), help="pixels that tiles share (default 8)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")


__all__ = ["build_parser", "path_of"]
