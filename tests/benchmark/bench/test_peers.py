"""The authors' arrangement on SpikingJelly computes what our network computes: else comparing their speed is idle."""

from __future__ import annotations

import pytest
import torch

from esdnet import ESDNet


@pytest.mark.parametrize("training", [True, False])
def test_the_peer_is_the_same_function(training: bool) -> None:
    functional = pytest.importorskip("spikingjelly.activation_based.functional")
    from benchmark.bench.peers import spikingjelly_esdnet

    ours = ESDNet(dim=16, encoder_blocks=(1, 1, 1), bottleneck_blocks=1, decoder_blocks=(1, 1)).train(
        training
    )
    peer = spikingjelly_esdnet(ours).train(training)
    rainy = torch.rand(2, 3, 24, 32)
    functional.reset_net(peer)
    torch.testing.assert_close(peer(rainy), ours(rainy), rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in peer.parameters()) == sum(p.numel() for p in ours.parameters())
