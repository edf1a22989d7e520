"""`derain models`, `derain data`: what there is to train and to test on."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from benchmark.errors import printable
from benchmark.text import output

if TYPE_CHECKING:
    from benchmark.data.audit import Report
    from benchmark.data.specs import Dataset


def models(options: Namespace) -> int:
    """`derain models`."""
    from benchmark import catalog
    from benchmark.report import models as pages

    entries = [catalog.network(options.name)] if options.name else list(catalog.networks().values())

    def show() -> None:
        if options.bibtex:
            print("\n\n".join(e.citation for e in entries))
        elif options.name:
            print(pages.details(entries[0]))
        elif options.markdown:
            print(pages.markdown(entries), end="")
        else:
            pages.show(entries)

    found = pages.listed(entries)
    output.give(found, output.frame_of(found["networks"]), show)
    return 0


def data(options: Namespace) -> int:
    """`derain data check`, `derain data list`, `derain data import` and `derain data render`."""
    from benchmark import data as datasets

    if options.action == "import":
        return _import(options)
    if options.action == "list":
        return _list_datasets(options.name)
    if options.action == "render":
        count = datasets.render(
            options.clean, options.out, regime=options.regime, seed=options.seed, dry_run=options.dry_run
        )
        done = "would be written" if options.dry_run else "written"
        out = printable(options.out)
        found = {"pairs": count, "out": str(options.out), "written": not options.dry_run}
        output.give(
            found,
            output.frame_of([found]),
            lambda: print(f"{count} pairs {done} to {out}/input and {out}/target"),
        )
        return 0
    report = datasets.check(options.path)
    checked = _checked(report)
    output.give(checked, _parts(checked), lambda: print("\n".join(report.lines())))
    return 1 if report.problems else 0


def _checked(report: Report) -> dict[str, Any]:
    """What an audit found, as plain data."""
    parts = [
        {
            "folder": str(part.folder),
            "dataset": part.dataset,
            "split": part.split,
            "count": part.count,
            "paired": part.paired,
            "psnr_y": part.psnr_y,
            "sizes": [
                {"width": width, "height": height, "count": count}
                for (height, width), count in sorted(part.sizes.items(), key=lambda item: -item[1])
            ],
        }
        for part in report.parts
    ]
    return {
        "folder": str(report.path),
        "dataset": report.dataset,
        "parts": parts,
        "problems": report.problems,
        "remarks": report.remarks,
        "passed_over": report.passed_over,
    }


def _parts(checked: dict[str, Any]) -> Any:
    """One row a folder of pairs, its sizes in words."""
    rows = [
        {**part, "sizes": " ".join(f"{s['width']}x{s['height']}:{s['count']}" for s in part["sizes"])}
        for part in checked["parts"]
    ]
    return output.frame_of(rows)


def _list_datasets(name: str | None) -> int:
    from benchmark.data.specs import DATASETS, OURS, READ, dataset_spec

    entries = list(DATASETS.values()) if name is None else [dataset_spec(name)]
    rows = [
        {
            "name": entry.name,
            "title": entry.title,
            "about": entry.about,
            "embedded": entry.embedded,
            "paired": entry.paired,
            "splits": list(entry.splits),
            "counts": dict(entry.published),
            "counts_stated": entry.counts,
            "trained_on": entry.training,
            "layout": entry.layout,
            "overlaps": entry.overlaps,
            "terms": entry.terms,
            "where": entry.where,
            "read": READ if entry.name in OURS and entry.where else None,
        }
        for entry in entries
    ]
    flat = [
        {
            **row,
            "splits": " ".join(entry.splits),
            "counts": " ".join(f"{split}:{count}" for split, count in entry.published.items()),
        }
        for row, entry in zip(rows, entries, strict=True)
    ]

    def show() -> None:
        if name is not None:
            _show_dataset(entries[0])
            return
        for entry in entries:
            print(f"{entry.name:<15} {entry.about}")

    output.give({"datasets": rows}, output.frame_of(flat), show)
    return 0


def _show_dataset(entry: Dataset) -> None:
    from benchmark.data.specs import OURS, READ

    counts = ", ".join(f"{split} {count:,}" for split, count in entry.published.items())
    unknown = "not stated"
    print(f"{entry.title}: {entry.about}")
    for key, value in (
        ("layout", entry.layout or unknown),
        ("splits", ", ".join(entry.splits)),
        ("counts", "; ".join(part for part in (counts, entry.counts) if part) or unknown),
        ("model", f"trained on {entry.training}"),
        ("overlaps", entry.overlaps or "none known"),
        ("terms", entry.terms or unknown),
        ("where", entry.where + f" (read {READ})" * (entry.name in OURS) if entry.where else unknown),
    ):
        print(f"  {key:<9} {value}")


def _import(options: Namespace) -> int:
    from benchmark.data.archives import Limits, import_archive

    limits = Limits(int(options.max_size * 2**30), options.max_files, options.max_ratio)
    found = import_archive(options.archive, options.out, limits, dry_run=options.dry_run)
    done = "would be unpacked" if options.dry_run else "unpacked"
    about: dict[str, Any] = {
        "files": found.files,
        "bytes": found.size,
        "out": str(options.out),
        "unpacked": found.report is not None,
    }
    as_data = {**about, "folders": found.folders, "report": found.report and _checked(found.report)}

    def show() -> None:
        print(f"{found.files} files, {found.size / 2**20:.1f} MiB, {done} to {printable(options.out)}")
        if found.report is not None:
            print("\n".join(found.report.lines()))
            return
        print("\n".join(f"  {printable(folder)}: {count} files" for folder, count in found.folders.items()))

    output.give(as_data, output.frame_of([about]), show)
    return 1 if found.report is not None and found.report.problems else 0
