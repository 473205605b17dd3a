"""`reproduce.py dashboard`: what README describes in words is what wandb is sent, and a lack is one line."""

import json
import re
import sys

import pytest
import wandb

from conftest import REPOSITORY
from reproduce import main
from reproduction.rows import TABLES
from reproduction.workspace import BARS, FIGURES, SECTIONS, build_workspace
from runs.settings import SettingsError
from training.metrics import COLUMNS
from wandb_server import WandbServer

README = (REPOSITORY / "results" / "README.md").read_text()


def sections_of(content: dict) -> dict[str, list[dict]]:
    section = content["spec"]["section"]
    return {part["name"]: part["panels"] for part in section["panelBankConfig"]["sections"]}


def check(content: dict) -> None:
    """The layout is the one that README shows."""
    panels = sections_of(content)
    assert list(panels) == re.findall(r"^\| (\w+) \| [`e]", README, re.M) == list(SECTIONS)
    for name in list(SECTIONS)[:-1]:
        (row,) = re.findall(rf"^\| {name} \| (.*) \|$", README, re.M)
        described = re.findall(r"`(\w+)`", row)
        assert sorted(described) == sorted(metric for panel in panels[name] for metric in panel["config"]["metrics"])
        for panel in panels[name]:
            (metric,) = panel["config"]["metrics"]
            bars = metric in BARS.get(name, ())
            assert panel["viewType"] == ("Bar Chart" if bars else "Run History Line Plot")
            assert bars or panel["config"]["xAxis"] == "epoch"
            assert bool(panel["config"].get("yLogScale")) == (f"`{metric}` (logarithmic)" in row)
    shown = json.dumps(panels["summary"])
    assert all(f'"{key}"' in shown for key in (*TABLES, *FIGURES))
    (runs,) = content["spec"]["section"]["runSets"]
    assert [key["name"] for key in runs["grouping"]] == ["group", "jobType"]


def test_panels_show_what_runs_log():
    assert {metric for part in (SECTIONS, BARS) for metrics in part.values() for metric in metrics} <= set(COLUMNS)


def test_without_the_extra_one_line_says_how_to_have_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    with pytest.raises(SettingsError, match="^dashboard needs wandb-workspaces: .*setup.sh --extras sweep$"):
        build_workspace("me", "qdeq")


def test_its_json_is_written_offline(tmp_path, capsys):
    pytest.importorskip("wandb_workspaces")
    main(["dashboard", "--wandb_project", "p", "--out", str(tmp_path / "new" / "d.json")])
    content = json.loads((tmp_path / "new" / "d.json").read_text())
    assert content["project"] == "p"
    check(content)
    assert str(tmp_path / "new" / "d.json") in capsys.readouterr().out


def test_it_is_made_online(monkeypatch, capsys):
    pytest.importorskip("wandb_workspaces")
    server = WandbServer()
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", 40 * "a")
    wandb.teardown()
    main(["dashboard", "--entity", "me", "--wandb_project", "p"])
    (view,) = server.views
    assert (view["entityName"], view["projectName"]) == ("me", "p")
    check({"spec": json.loads(view["spec"])})
    assert "/me/p?nw=" in capsys.readouterr().out
    server.refuses = True  # a server that is gone would be waited for
    with pytest.raises(SystemExit, match="1"):
        main(["dashboard", "--entity", "me"])
    server.close()
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: --entity me: wandb has not taken the dashboard")
    wandb.teardown()
