"""Curves keep few points, and gaps where values are not finite."""

from neuropbr_core.report.curves import POINTS, Curve, curves_of


def test_metrics_by_event():
    rows = [
        {"event": "run_started", "time": "t", "epoch": 0, "step": 0, "epochs": 2},
        {"event": "train", "time": "t", "epoch": 1, "step": 5, "loss/total": 2.0, "lr": 0.1},
        {"event": "validation", "time": "t", "epoch": 1, "step": 9, "loss": 1},
        {
            "event": "train",
            "time": "t",
            "epoch": 1,
            "step": 10,
            "loss/total": None,
            "non_finite": {"loss/total": "nan"},
        },
    ]
    assert curves_of(rows) == {
        "train loss/total": Curve((5, 10), (2.0, None)),
        "train lr": Curve((5,), (0.1,)),
        "validation loss": Curve((9,), (1.0,)),
    }


def test_long_curves_become_means_of_neighbours():
    rows = [{"event": "train", "step": step, "loss": float(step)} for step in range(1, 4 * POINTS + 1)]
    curve = curves_of(rows)["train loss"]
    assert len(curve.x) == POINTS
    assert curve.x[:2] == (4, 8)
    assert curve.y[0] == 2.5
    assert curve.x[-1] == 4 * POINTS


def test_strange_rows_are_passed_over():
    assert (
        curves_of([{"event": "train", "step": "5", "loss": 1.0}, {"loss": 1.0}, {"event": "train", "step": True}]) == {}
    )
