import pytest
import torch

from codeprior.metrics import (
    OfficialTrunk,
    Provenance,
    Results,
    WeightsMissing,
    column_names,
    columns,
    perceptual_distance,
    psnr_measure,
    results_markdown,
)


class _Scaled:
    """LPIPS's scaling of signed images, and nothing behind it."""

    record = Provenance(network="scaling layer")

    def __call__(self, images):
        shift, scale = torch.tensor([-0.03, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.45])
        return [(images * 2 - 1 - shift[:, None, None]) / scale[:, None, None]]


@pytest.mark.parametrize("signed", [False, True])
def test_the_network_meets_bgr_in_the_range_of_the_script(signed):
    clean, restored = (torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    found = perceptual_distance(restored, clean, trunk=OfficialTrunk(_Scaled(), signed=signed))

    def script(images):  # what the reference's script hands over: BGR, [0, 1] or [-1, 1], straight into the scaling
        values = images[:, [2, 1, 0]] * 2 - 1 if signed else images[:, [2, 1, 0]]
        shift, scale = torch.tensor([-0.03, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.45])
        scaled = (values - shift[:, None, None]) / scale[:, None, None]
        return scaled / scaled.square().sum(1, keepdim=True).sqrt()

    expected = (script(restored) - script(clean)).square().sum(1).mean(dim=(1, 2))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    assert OfficialTrunk(_Scaled(), signed=signed).record.colours == "bgr"


def test_missing_images_lower_the_reference_means_and_no_other():
    results = Results(measures=[psnr_measure()], truths=4)
    results.add(["a", "b"], {"m": {"PSNR": [20.0, 30.0]}})
    assert results.summaries()["m"]["PSNR"].mean == 25
    assert results.official_means() == {"m": {"PSNR": 12.5}}
    assert "| m | 12.50 |" in results_markdown(results)
    with pytest.raises(ValueError, match="expected truths"):
        Results(measures=[]).official_means()


def test_columns_that_cannot_be_made_are_named(tmp_path):
    found = columns(weights=tmp_path)
    assert [measure.name for measure in found.measures[:2]] == ["PSNR", "SSIM"]
    assert f"vgg16-397923af.pth is not in {tmp_path}" in found.left_out["lpips"]
    assert "arcface" in found.left_out
    with pytest.raises(WeightsMissing, match="arcface cannot be made"):
        columns(["arcface"], weights=tmp_path)
    with pytest.raises(ValueError, match="expected names of psnr, ssim"):
        columns(["beauty"])
    assert set(column_names()) >= set(found.left_out)
