"""ESDNet, the efficient spiking deraining network (Song et al., IJCAI 2024). Needs torch and snntorch only.

The names below bring torch in when they are used, so that the catalogue can read this package's options
without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esdnet.blocks import level_of as level_of
    from esdnet.network import ESDNet as ESDNet
    from esdnet.neurons import IntegerSequence as IntegerSequence
    from esdnet.neurons import LeakySequence as LeakySequence
    from esdnet.neurons import SequenceNeuron as SequenceNeuron
    from esdnet.neurons import surrogate_step as surrogate_step
    from esdnet.sizes import crop_to as crop_to
    from esdnet.sizes import pad_to_multiple as pad_to_multiple

_HOME = {
    "ESDNet": "esdnet.network",
    "level_of": "esdnet.blocks",
    "SequenceNeuron": "esdnet.neurons",
    "LeakySequence": "esdnet.neurons",
    "IntegerSequence": "esdnet.neurons",
    "surrogate_step": "esdnet.neurons",
    "pad_to_multiple": "esdnet.sizes",
    "crop_to": "esdnet.sizes",
}

# of the suite around this package, which serves alone without it: brought in when it is asked for by this name
_OF_THE_SUITE = {"ESDNetModule": "benchmark.lightning"}

__all__ = [*_HOME, *_OF_THE_SUITE]


def __getattr__(name: str) -> Any:
    if name in _OF_THE_SUITE:
        try:
            module = importlib.import_module(_OF_THE_SUITE[name])
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] != "benchmark":
                raise
            raise ImportError(
                f"esdnet.{name} trains by the suite derain, of which this is a part; install all of it"
            ) from None
        return getattr(module, name)
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'esdnet' has no attribute {name!r}")
