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

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'esdnet' has no attribute {name!r}")
