"""The one list of metrics against metrics.csv as old runs have it, and against what is measured."""

import pytest
import torch

from models.table import build_model
from training.evaluation import depth_of, measure, measure_backward
from training.metrics import COLUMNS, EVENTS, METRICS, names
from training.settings import Settings

# word by word the first line of older files, and what came later
HEADER = (
    "event,train_step,epoch,mode,lr,grad_norm,seconds_per_step,peak_memory_mb,"
    "train_loss,train_acc,train_res,train_res_rel,train_solver_steps,train_converged,train_jac_loss,"
    "val_loss,val_acc,val_res,val_res_rel,val_solver_steps,val_converged,val_spectral_radius,"
    "best_val_loss,best_val_acc,best_val_res,best_val_res_rel,"
    "test_loss,test_acc,test_res,test_res_rel,test_solver_steps,test_converged,test_spectral_radius"
)


def test_columns_are_those_of_old_runs_and_the_new_ones_come_last():
    assert ",".join(COLUMNS) == HEADER + ",train_b_converged,train_b_res_rel"


def test_every_event_is_known():
    assert {event for metric in METRICS for event in metric.events} == set(EVENTS)


@pytest.mark.parametrize("mode", [{"mode": "implicit"}, {"mode": "direct", "n_layer": 1}])
def test_what_is_measured_of_every_image_is_in_the_list(mode):
    settings = Settings(n_wires=4, num_classes=2, **mode)
    prediction = build_model(settings)(torch.rand(3, 16), depth_of(settings))
    measured = measure(prediction, torch.tensor([0, 1, 1]))
    of_the_solver = {"solver_steps", "converged"}
    expected = {*names("train")} - {"jac_loss"}  # which is of the batch
    assert set(measured) == (expected if settings.mode == "implicit" else expected - of_the_solver)
    assert all(len(values) == 3 for values in measured.values())
    assert measured["loss"].requires_grad
    assert measure_backward(prediction) == {}  # there has been none
    measured["loss"].mean().backward()
    backward = measure_backward(prediction)
    assert set(backward) == ({"b_converged", "b_res_rel"} if settings.mode == "implicit" else set())
    assert all(len(values) == 3 for values in backward.values())


@pytest.mark.parametrize(("b_thres", "b_tol"), [(1, 1e-9), (30, 1e-4)])
def test_whether_the_gradient_has_converged_is_measured(b_thres, b_tol):
    settings = Settings(n_wires=4, num_classes=2, b_thres=b_thres, b_tol=b_tol)
    torch.manual_seed(0)
    prediction = build_model(settings)(torch.rand(3, 16), depth_of(settings))
    measure(prediction, torch.tensor([0, 1, 1]))["loss"].mean().backward()
    found = measure_backward(prediction)
    assert found["b_converged"].tolist() == [b_thres > 1] * 3
    assert ((found["b_res_rel"] <= b_tol) == found["b_converged"]).all()
    prediction.failed = torch.tensor([True, False, False])
    assert measure_backward(prediction)["b_converged"].tolist() == [False] + [b_thres > 1] * 2
