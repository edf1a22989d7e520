from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from benchmark.errors import UserError
from benchmark.means import PSNR_CAP, mean_of
from benchmark.metrics import fidelity as metrics
from benchmark.metrics.fidelity import (
    CONVENTIONS,
    Convention,
    _check_range,
    fidelity,
    least_side,
    psnr_y,
    ssim_y,
)
from benchmark.metrics.measures import Metric, open_metric
from benchmark.metrics.meters import PSNRY, SSIMY


def pair(n: int = 2, height: int = 40, width: int = 52) -> tuple[torch.Tensor, torch.Tensor]:
    target = torch.randint(0, 256, (n, 3, height, width)).float() / 255
    return (target + 0.1 * torch.randn_like(target)), target


def luma(image: torch.Tensor) -> np.ndarray:
    levels = np.rint(image.double().clamp(0, 1).numpy() * 255)
    return 16 + (65.481 * levels[:, 0] + 128.553 * levels[:, 1] + 24.966 * levels[:, 2]) / 255


def test_four_conventions_and_their_differences() -> None:
    assert list(CONVENTIONS) == ["esdnet", "matlab", "statistic", "float"]
    assert least_side() == 11 + 2 * 4
    restored, target = pair()
    a, b = luma(restored), luma(target)
    plain = 10 * np.log10(255**2 / ((a - b) ** 2).mean((1, 2)))
    cropped = 10 * np.log10(255**2 / ((a - b)[:, 4:-4, 4:-4] ** 2).mean((1, 2)))
    rounded = 10 * np.log10(255**2 / ((np.rint(a) - np.rint(b)) ** 2).mean((1, 2)))
    np.testing.assert_allclose(psnr_y(restored, target, "statistic"), plain, atol=1e-9)
    np.testing.assert_allclose(psnr_y(restored, target), cropped, atol=1e-9)
    np.testing.assert_allclose(psnr_y(restored, target, "matlab"), rounded, atol=1e-9)
    np.testing.assert_allclose(psnr_y(restored, target, "float"), plain, atol=1e-9)


def test_ssim_is_skimages_with_a_gaussian_window() -> None:
    restored, target = pair()
    for i in range(2):
        _, whole = structural_similarity(
            luma(restored)[i],
            luma(target)[i],
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
            full=True,
        )
        assert ssim_y(restored, target, "statistic")[i].item() == pytest.approx(
            whole[5:-5, 5:-5].mean(), abs=1e-9
        )


def test_ssim_of_flat_pictures_is_its_luminance_term() -> None:
    """Wang et al. 2004, equation 6: (2ab + C1) / (a² + b² + C1), C1 = (0.01 · 255)²; the other terms are 1."""
    dark, darker = torch.zeros(1, 3, 32, 32), torch.full((1, 3, 32, 32), 1 / 255)
    a, b = 16.0, 16 + 219 / 255
    expected = (2 * a * b + 2.55**2) / (a**2 + b**2 + 2.55**2)
    assert float(ssim_y(darker, dark, "float")) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("side", "factor"), [(383, 1), (384, 2), (639, 2), (640, 3)])
def test_statistic_ssim_is_of_block_means(side: int, factor: int) -> None:
    restored, target = pair(1, side, side + 1)
    plain = Convention("plain", False, 0, False, "")
    a, b = luma(restored)[0], luma(target)[0]

    def shrunk(y: np.ndarray) -> np.ndarray:
        # the scripts: filter with mirrored edges, keep every factor-th value
        before, after = (factor - 1) // 2, factor // 2
        padded = np.pad(y, (before, after), mode="symmetric")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (factor, factor))
        return windows.mean((2, 3))[::factor, ::factor]

    _, whole = structural_similarity(
        shrunk(a),
        shrunk(b),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        full=True,
    )
    assert torch.equal(ssim_y(restored, target, "float"), ssim_y(restored, target, plain))
    measured = ssim_y(restored, target, "statistic").item()
    assert measured == pytest.approx(whole[5:-5, 5:-5].mean(), abs=1e-9)
    assert (measured == pytest.approx(ssim_y(restored, target, plain).item(), abs=1e-6)) == (factor == 1)


def test_eight_bits_are_measured_and_overshoot_is_clamped() -> None:
    _, target = pair()
    assert psnr_y(target + 0.4 / 255, target).isinf().all()  # rounds away
    bright = torch.ones(1, 3, 32, 32)
    assert psnr_y(bright * 1.7, bright).isinf().all()


def test_each_image_by_itself_and_any_float_type() -> None:
    restored, target = pair(3)
    for metric in (psnr_y, ssim_y):
        values = metric(restored, target)
        assert values.shape == (3,) and values.dtype == torch.float64
        single = torch.cat([metric(restored[i : i + 1], target[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(values, single, rtol=0, atol=1e-12)
        assert torch.equal(metric(restored.double(), target), metric(restored, target))


def test_identical_pictures() -> None:
    _, target = pair()
    for convention in CONVENTIONS:
        assert psnr_y(target, target, convention).tolist() == [math.inf, math.inf]
        torch.testing.assert_close(ssim_y(target, target, convention), torch.ones(2, dtype=torch.float64))


def test_inputs_are_left_alone() -> None:
    restored, target = (x.double() for x in pair())
    before = restored.clone()
    psnr_y(restored, target)
    ssim_y(restored, target)
    assert torch.equal(restored, before)


@pytest.mark.parametrize(
    ("restored", "target", "words"),
    [
        (torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 33), "but target is"),
        (torch.rand(3, 32, 32), torch.rand(3, 32, 32), r"\(N, 3, H, W\)"),
        (torch.rand(1, 1, 32, 32), torch.rand(1, 1, 32, 32), r"\(N, 3, H, W\)"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), torch.rand(1, 3, 32, 32), "floating point.*uint8"),
        (torch.full((1, 3, 32, 32), math.nan), torch.rand(1, 3, 32, 32), "restored has NaN"),
        (torch.rand(1, 3, 32, 32), torch.full((1, 3, 32, 32), math.inf), "target has NaN"),
        (torch.rand(1, 3, 32, 32), torch.full((1, 3, 32, 32), 200.0), "reaches 200: divide by 255"),
        (
            torch.rand(1, 3, 32, 32),
            torch.full((1, 3, 32, 32), 1.5),
            r"target must be in \[0, 1\].*reaches 1.5: clamp",
        ),
        (torch.rand(1, 3, 32, 32), torch.full((1, 3, 32, 32), 1.003), r"reaches 1.003"),
        (torch.rand(1, 3, 32, 32), torch.full((1, 3, 32, 32), -0.003), r"reaches -0.003"),
        (
            torch.rand(1, 3, 8, 32),
            torch.rand(1, 3, 8, 32),
            "cuts 4 pixels on every side: nothing .* of 8×32 pixels",
        ),
        (torch.rand(1, 3, 32, 32), torch.full((1, 3, 32, 32), 2.5), r"reaches 2\.5: divide by 255"),
        (torch.rand(1, 3, 32, 32), torch.full((1, 3, 32, 32), -1.5), r"reaches -1\.5"),
    ],
)
def test_wrong_input(restored: torch.Tensor, target: torch.Tensor, words: str) -> None:
    other = Metric("x", "X", False, lambda file: lambda restored, target: torch.zeros(len(restored)))
    entries = [psnr_y, ssim_y, lambda a, b: fidelity(a, b), PSNRY().update, SSIMY().update]
    if restored.shape == target.shape and "on every side" not in words and restored.is_floating_point():
        entries.append(open_metric(other, None))
    for metric in entries:
        if metric is entries[2] and restored.dtype == torch.uint8:
            continue  # grey levels of a file are welcome there
        with pytest.raises(ValueError, match=words) as caught:
            metric(restored, target)
        assert "\n" not in str(caught.value)


def test_half_a_grey_level_outside_rounds_away() -> None:
    restored, target = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    beyond = target.clone()
    beyond[..., :8, :], beyond[..., 8:16, :] = 1 + 0.4 / 255, -0.4 / 255
    assert torch.equal(psnr_y(restored, beyond), psnr_y(restored, beyond.clamp(0, 1)))
    half = 0.5 / 255  # the limit itself still does
    _check_range(-half, 1 + half, "target")
    for low, high in ((math.nextafter(-half, -1), 1.0), (0.0, math.nextafter(1 + half, 2))):
        with pytest.raises(ValueError, match="must be in"):
            _check_range(low, high, "target")


def test_one_value_that_is_not_finite_is_enough() -> None:
    for value in (math.inf, -math.inf, math.nan):
        restored, target = pair()
        restored[1, 2, 3, 4] = value
        with pytest.raises(ValueError, match="restored has NaN or infinite values"):
            psnr_y(restored, target)


def test_pictures_too_small_for_the_window_or_none_at_all() -> None:
    restored, target = pair(1, 18, 40)
    for measure in (ssim_y, lambda a, b: fidelity(a, b, ["float", "esdnet"])):
        with pytest.raises(ValueError, match=r"SSIM \(esdnet\) needs .* at least 19×19 pixels, not 18×40"):
            measure(restored, target)
    restored, target = pair(1, 10, 40)
    assert psnr_y(restored, target).isfinite().all(), "the border leaves two rows"
    none = torch.empty(0, 3, 32, 32)
    assert psnr_y(none, none).shape == (0,)


def test_block_means_of_a_batch() -> None:
    image = torch.arange(48.0).reshape(2, 4, 6)
    expected = image.reshape(2, 2, 2, 3, 2).mean((2, 4))
    assert torch.equal(metrics._block_means(image, 2), expected)


def test_what_is_compiled_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    if metrics.compiled_metrics() is None:
        pytest.skip("no C compiler")

    def filtered(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        raise AssertionError

    monkeypatch.setattr(metrics, "_filtered_similarity", filtered)
    assert ssim_y(*pair()).shape == (2,)


def test_too_small_for_the_window() -> None:
    image = torch.rand(1, 3, 18, 40)
    with pytest.raises(ValueError, match="19×19"):
        ssim_y(image, image)
    assert ssim_y(image, image, "matlab").item() == pytest.approx(1)


def test_unknown_convention_names_the_nearest() -> None:
    image = torch.rand(1, 3, 32, 32)
    with pytest.raises(UserError, match="did you mean 'matlab'"):
        psnr_y(image, image, "matlb")


@pytest.mark.parametrize(("meter", "metric"), [(PSNRY, psnr_y), (SSIMY, ssim_y)])
def test_meters_average_over_images(meter: type, metric: object) -> None:
    restored, target = pair(5)
    state = meter("matlab")
    state.update(restored[:4], target[:4])
    state.update(restored[4:], target[4:])  # batches of different sizes count by their images
    assert state.compute().item() == pytest.approx(
        metric(restored, target, "matlab").mean().item(), abs=1e-12
    )  # type: ignore[operator]
    state.reset()
    state.update(restored[:1], target[:1])
    assert state.compute().item() == pytest.approx(
        metric(restored[:1], target[:1], "matlab").item(), abs=1e-12
    )  # type: ignore[operator]


def test_meters_count_a_perfect_picture_as_means_do() -> None:
    restored, target = pair(2)
    restored[0] = target[0]
    meter = PSNRY()
    meter.update(restored, target)
    values = psnr_y(restored, target).tolist()
    assert values[0] == math.inf
    assert meter.compute().item() == pytest.approx(mean_of("psnr_esdnet", values))
    only = PSNRY()
    only.update(target, target)
    assert only.compute().item() == PSNR_CAP


def test_meters_merge_as_processes_do() -> None:
    restored, target = pair(3)
    first, second, all_of_them = PSNRY(), PSNRY(), PSNRY()
    first.update(restored[:2], target[:2])
    second.update(restored[2:], target[2:])
    all_of_them.update(restored, target)
    first.merge_state(second)
    assert first.compute().item() == pytest.approx(all_of_them.compute().item(), abs=1e-12)


def test_all_conventions_at_once_are_the_same_values() -> None:
    restored, target = torch.rand(2, 3, 48, 60), torch.rand(2, 3, 48, 60)
    found = fidelity(restored, target, tuple(CONVENTIONS))
    assert list(found) == list(CONVENTIONS)
    for name, (psnr, ssim) in found.items():
        assert torch.equal(psnr, psnr_y(restored, target, name))
        assert torch.equal(ssim, ssim_y(restored, target, name))


def test_grey_levels_are_what_a_file_of_the_picture_holds() -> None:
    restored, target = torch.rand(2, 3, 32, 40), torch.rand(2, 3, 32, 40)
    levels = [(x.double() * 255).round().to(torch.uint8) for x in (restored, target)]
    for a, b in zip(fidelity(restored, target)["esdnet"], fidelity(*levels)["esdnet"], strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="divide by 255"):
        psnr_y(levels[0], levels[1])


@pytest.mark.parametrize("size", [(11, 11), (11, 40), (12, 27), (75, 33)])
def test_the_compiled_similarity_is_that_of_torch(size: tuple[int, int]) -> None:
    if metrics.compiled_metrics() is None:
        pytest.skip("no C compiler")
    a, b = (255 * torch.rand(size[0] + 6, size[1] + 8, dtype=torch.float64) for _ in range(2))
    b = 0.7 * a + 0.3 * b
    for one, other in ((a[3:-3, 4:-4], b[3:-3, 4:-4]), (a[3:-3, 4:-4].clone(), b[3:-3, 4:-4])):
        compiled, filtered = metrics._mean_similarity(one, other), metrics._filtered_similarity(one, other)
        assert 0.1 < filtered < 0.999
        torch.testing.assert_close(compiled, filtered, atol=1e-12, rtol=0)
        assert metrics._mean_similarity(one, one) == 1


def test_without_a_compiler_the_values_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    restored, target = pair()
    with_compiler = ssim_y(restored, target)
    monkeypatch.setattr(metrics, "compiled_metrics", lambda: None)
    torch.testing.assert_close(ssim_y(restored, target), with_compiler, atol=1e-12, rtol=0)


@pytest.mark.parametrize("layout", ["file", "planes", "window", "four channels"])
def test_the_compiled_luma_is_that_of_torch_to_the_last_bit(
    layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if metrics.compiled_metrics() is None:
        pytest.skip("no C compiler")
    levels = torch.randint(256, (2, 61, 83, 4), dtype=torch.uint8)
    images = {
        "file": levels[..., :3].contiguous().permute(0, 3, 1, 2),
        "planes": levels[..., :3].permute(0, 3, 1, 2).contiguous(),
        "window": levels[..., :3].permute(0, 3, 1, 2).contiguous()[..., 3:-4, 5:-6],
        "four channels": levels[..., :3].permute(0, 3, 1, 2),
    }
    compiled = metrics._luma(images[layout])
    monkeypatch.setattr(metrics, "compiled_metrics", lambda: None)
    assert torch.equal(compiled, metrics._luma(images[layout]))
