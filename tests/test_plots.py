"""Figures say what the tensors hold."""

import pytest
import torch

import codeprior as cp
from codeprior.degradations import Chain, GaussianNoise, Jpeg

pytest.importorskip("matplotlib", reason="the extra `eval` brings it")


def test_usage_is_drawn_from_most_to_least_used_and_summed_up_in_the_title():
    indices = torch.tensor([[3, 3, 3, 3], [1, 1, 0, 0]])
    figure = cp.plots.plot_usage(indices, 6)
    (axes,) = figure.axes
    heights = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert heights.max() == 4 and set(heights) == {0, 2, 4}
    # shares 1/2, 1/4, 1/4: exp of their entropy, 2 ** 1.5
    assert axes.get_title() == "3 of 6 codes in use (50%), perplexity 2.8"
    with pytest.raises(ValueError, match=r"expected indices in \[0, 3\), got 0 to 3"):
        cp.plots.plot_usage(indices, 3)
    with pytest.raises(ValueError, match="got none"):
        cp.plots.plot_usage(torch.zeros(0, dtype=torch.int64), 3)


def test_a_trace_shows_the_picture_before_and_after_each_step():
    chain = Chain(ops=(GaussianNoise(sigma=(20, 20)), Jpeg(quality=(30, 30))))
    image = torch.rand(3, 24, 32, generator=torch.Generator().manual_seed(0))
    figure = cp.plots.plot_trace(chain, image, generator=torch.Generator().manual_seed(1))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[0] == "before"
    assert titles[1].startswith("GaussianNoise (32×24)\nsigma 20")
    assert titles[2].startswith("Jpeg (32×24)\nquality 30")
    shown = torch.from_numpy(figure.axes[2].images[0].get_array().data.copy()).permute(2, 0, 1)
    after = chain(image, generator=torch.Generator().manual_seed(1), mode="strict", dtype=torch.uint8)
    assert torch.equal(shown, after)


def test_figures_do_not_stay_open():
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    cp.plots.plot_usage(torch.zeros(3, dtype=torch.int64), 2)
    assert pyplot.get_fignums() == before
