"""Padding to a multiple and cropping back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esdnet import crop_to, pad_to_multiple


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 40), width=st.integers(1, 40), multiple=st.integers(1, 32), batch=st.integers(0, 2)
)
def test_padding_reaches_the_next_multiple_and_keeps_the_picture(
    height: int, width: int, multiple: int, batch: int
) -> None:
    image = torch.rand(batch, 3, height, width)
    padded = pad_to_multiple(image, multiple)
    for size, old in zip(padded.shape[-2:], (height, width), strict=True):
        assert size % multiple == 0
        assert old <= size < old + multiple
    assert torch.equal(crop_to(padded, height, width), image)


def test_the_margin_is_the_reflection_without_the_edge_pixel() -> None:
    image = torch.arange(30.0).reshape(1, 1, 5, 6)
    padded = pad_to_multiple(image, 8)
    assert padded.shape == (1, 1, 8, 8)
    assert torch.equal(padded[0, 0, :5, 6:], image[0, 0, :, [4, 3]])
    assert torch.equal(padded[0, 0, 5:, :6], image[0, 0, [3, 2, 1]])


def test_what_fits_is_returned_as_it_is() -> None:
    image = torch.rand(1, 3, 16, 24)
    assert pad_to_multiple(image, 8) is image


@pytest.mark.parametrize("leading", [(), (2,), (2, 3)])
def test_any_number_of_leading_dimensions(leading: tuple[int, ...]) -> None:
    assert pad_to_multiple(torch.rand(*leading, 3, 17, 30), 4).shape == (*leading, 3, 20, 32)
