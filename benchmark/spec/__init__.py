"""A run as one object, made in one place: `words → RunSpec`.

`schema.py` has every setting with type, bounds, choices and help; `resolve.py` makes a `RunSpec` of words and files;
`rules.py` refuses what cannot go together; `identities.py` says which runs are the same; `recipes/` are trainings by
name. Nothing here imports torch.
"""

from pathlib import Path

from benchmark.spec.identities import differences, digest
from benchmark.spec.resolve import (
    from_plain,
    pairs_of,
    recipe_of,
    recipes,
    resolve,
    settings_of,
    sources,
    words_of_file,
)
from benchmark.spec.schema import SEEDS, RecipeSpec, RunSpec, ScheduleSpec

STUDY = Path(__file__).parent / "study.yaml"  # what `derain study` trains

__all__ = [
    "SEEDS",
    "STUDY",
    "RecipeSpec",
    "RunSpec",
    "ScheduleSpec",
    "differences",
    "digest",
    "from_plain",
    "pairs_of",
    "recipe_of",
    "recipes",
    "resolve",
    "settings_of",
    "sources",
    "words_of_file",
]
