import math

import torch

from neuropbr_core.evaluation.means import Row, RunningMeans


def test_running_means_count_images_and_not_batches() -> None:
    means = RunningMeans()
    means.add(["a"], ["brick"], {"x": torch.tensor([1.0])})
    means.add(["b", "c", "d"], ["wood", "wood", "brick"], {"x": torch.tensor([3.0, 4.0, 8.0])})
    assert means.means() == {"x": 4.0}
    assert means.by_material() == {"brick": {"x": 4.5}, "wood": {"x": 3.5}}
    assert means.rows[2] == Row("c", "wood", {"x": 4.0})


def test_running_means_leave_out_what_could_not_be_measured_but_show_a_prediction_that_is_nan() -> None:
    valid = torch.ones(3, 1, 4, 4)
    valid[0] = 0
    means = RunningMeans()
    means.add(["a", "b", "c"], ["m"] * 3, {"x": torch.tensor([math.nan, 1.0, 2.0])}, valid)
    assert means.means() == {"x": 1.5}
    means.add(["d"], ["m"], {"x": torch.tensor([math.nan])}, valid[1:2])
    assert math.isnan(means.means()["x"])


def test_running_means_of_nothing_are_empty() -> None:
    assert RunningMeans().means() == {}
    assert RunningMeans().by_material() == {}
