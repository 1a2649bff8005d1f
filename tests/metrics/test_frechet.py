import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codeprior.metrics import (
    FIDInception,
    all_features,
    feature_statistics,
    fid,
    frechet_distance,
    kid,
    read_statistics,
    write_statistics,
)
from tests.metrics.packages import need


def _features(seed: int, count: int, dim: int, shift: float = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dim, dim, generator=generator)
    return (torch.randn(count, dim, generator=generator) + shift) @ mixing


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12))
def test_distance_agrees_with_scipys_matrix_root(seed: int, dim: int):
    first, second = _features(seed, 40, dim), _features(seed + 1, 50, dim, shift=0.3)
    one, two = feature_statistics(first), feature_statistics(second)
    a, b = np.cov(first.double().numpy(), rowvar=False), np.cov(second.double().numpy(), rowvar=False)
    root = np.real(scipy.linalg.sqrtm(np.atleast_2d(a) @ np.atleast_2d(b)))
    expected = float((one.mean - two.mean).square().sum()) + np.trace(np.atleast_2d(a + b)) - 2 * np.trace(root)
    assert frechet_distance(one, two) == pytest.approx(
        expected, rel=1e-6
    )  # the root of a product loses half the digits


def test_kid_is_the_unbiased_sum_over_pairs():
    first, second = _features(0, 9, 4).double(), _features(1, 7, 4).double()

    def kernel(x, y):
        return (float(x @ y) / 4 + 1) ** 3

    same = [
        sum(kernel(rows[i], rows[j]) for i in range(len(rows)) for j in range(len(rows)) if i != j)
        / (len(rows) * (len(rows) - 1))
        for rows in (first, second)
    ]
    across = sum(kernel(x, y) for x in first for y in second) / (len(first) * len(second))
    assert kid(first, second) == pytest.approx(sum(same) - 2 * across, rel=1e-9)


def test_one_set_has_no_distance_to_itself_even_where_the_covariance_is_singular():
    statistics = feature_statistics(_features(0, 5, 20))
    assert abs(frechet_distance(statistics, statistics)) < 1e-6 * statistics.covariance.trace()


def test_a_shift_moves_by_its_square():
    features = _features(0, 30, 4)
    moved = feature_statistics(features + torch.tensor([3.0, 0, 0, 4]))
    assert frechet_distance(feature_statistics(features), moved) == pytest.approx(25, rel=1e-5)


def test_kid_of_two_draws_of_one_set_is_about_zero():
    generator = torch.Generator().manual_seed(0)
    draws = [kid(*torch.randn(2, 40, 8, generator=generator)) for _ in range(30)]
    assert abs(np.mean(draws)) < 3 * np.std(draws) / np.sqrt(30)
    assert min(draws) < 0 < max(draws)


def test_few_pictures_are_refused_unless_forced():
    features, reference = _features(0, 1999, 3), feature_statistics(_features(1, 100, 3))
    with pytest.raises(ValueError, match=r"at least 2000 pictures, got 1999; .* Use kid"):
        fid(features, reference)
    assert fid(features, reference, force=True) == frechet_distance(feature_statistics(features), reference)
    with pytest.raises(ValueError, match=r"at least two pictures, got \(1, 3\)"):
        feature_statistics(features[:1])
    with pytest.raises(ValueError, match="one length, got 3 and 4"):
        frechet_distance(reference, feature_statistics(_features(1, 100, 4)))


def test_statistics_are_read_as_basicsr_and_pytorch_fid_write_them(tmp_path):
    statistics = feature_statistics(_features(0, 30, 5))
    arrays = {"mean": statistics.mean.numpy(), "cov": statistics.covariance.numpy()}
    torch.save({"name": "FFHQ", "size": 512, **arrays}, tmp_path / "s.pth")
    write_statistics(tmp_path / "s.npz", statistics)
    for name, count in (("s.pth", 0), ("s.npz", 30)):
        found = read_statistics(tmp_path / name)
        assert torch.equal(found.mean, statistics.mean)
        assert torch.equal(found.covariance, statistics.covariance)
        assert found.count == count
    with pytest.raises(FileExistsError, match="exists already and is kept"):
        write_statistics(tmp_path / "s.npz", statistics)
    write_statistics(tmp_path / "s.npz", feature_statistics(_features(1, 20, 5)), overwrite=True)
    assert read_statistics(tmp_path / "s.npz").count == 20
    torch.save({"other": 1}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="holds no mean and covariance"):
        read_statistics(tmp_path / "other.pth")


@pytest.mark.slow  # about ten seconds of one core
def test_the_inception_features_are_those_of_pytorch_fid(tmp_path, monkeypatch):
    need("pytorch_fid")
    from pytorch_fid import inception
    from torchvision.models import inception_v3

    with torch.device("meta"):
        network = inception_v3(weights=None, num_classes=1008, aux_logits=False, init_weights=False)
    network = network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for name, tensor in network.state_dict().items():
        if "num_batches" in name:
            tensor.zero_()
        elif "bn." in name:
            tensor.uniform_(0.5, 1.5, generator=generator)
        else:
            tensor.uniform_(-1, 1, generator=generator).div_(max(1, tensor[0].numel()) ** 0.5)
    torch.save(network.state_dict(), tmp_path / "inception.pth")  # random weights in the published layout
    monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: network.state_dict())
    reference = inception.InceptionV3([3]).eval()
    images = torch.rand(1, 3, 128, 96, generator=generator)
    with torch.no_grad():
        expected = reference(images)[0].flatten(1)
        found = all_features([FIDInception(tmp_path / "inception.pth", sha256="")(images)])
    assert (found - expected).norm() < 1e-4 * expected.norm()  # float32


def test_other_inception_weights_are_refused(tmp_path):
    (tmp_path / "other.pth").write_bytes(b"")
    with pytest.raises(ValueError, match="begins 6726825d"):
        FIDInception(tmp_path / "other.pth")
