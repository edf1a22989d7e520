"""`derain models`, `derain data`: what there is to train and to test on."""

from __future__ import annotations

from argparse import Namespace

from benchmark.errors import printable


def models(options: Namespace) -> int:
    """`derain models`."""
    from benchmark import catalog
    from benchmark.report import models as pages
    from benchmark.text import output

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
    """`derain data check`, `derain data import` and `derain data render`."""
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
        print(f"{count} pairs {done} to {out}/input and {out}/target")
        return 0
    report = datasets.check(options.path)
    print("\n".join(report.lines()))
    return 1 if report.problems else 0


def _list_datasets(name: str | None) -> int:
    from benchmark.data.specs import DATASETS, OURS, READ, dataset_spec

    if name is None:
        for entry in DATASETS.values():
            print(f"{entry.name:<15} {entry.about}")
        return 0
    entry = dataset_spec(name)
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
        ("where", entry.where + f" (read {READ})" * (name in OURS) if entry.where else unknown),
    ):
        print(f"  {key:<9} {value}")
    return 0


def _import(options: Namespace) -> int:
    from benchmark.data.archives import Limits, import_archive

    limits = Limits(int(options.max_size * 2**30), options.max_files, options.max_ratio)
    found = import_archive(options.archive, options.out, limits, dry_run=options.dry_run)
    done = "would be unpacked" if options.dry_run else "unpacked"
    print(f"{found.files} files, {found.size / 2**20:.1f} MiB, {done} to {printable(options.out)}")
    if found.report is None:
        print("\n".join(f"  {printable(folder)}: {count} files" for folder, count in found.folders.items()))
        return 0
    print("\n".join(found.report.lines()))
    return 1 if found.report.problems else 0
