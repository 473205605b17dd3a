"""What the results' pages say of the paper's tables is what the committed tables have."""

import csv
import io
import json

from circuits import build_circuit
from models.table import MODELS
from readme_pages import accuracies, kept, numbers, read
from reproduction.rows import TABLES

README, RESULTS = "README.md", "results/README.md"


def against_paper(table: str) -> list[float]:
    """Differences to the paper's accuracies of its own models, trained as the paper says."""
    found = accuracies(table, "difference")
    return [found[name] for name in ("implicit", "warmup", "direct-10", "direct-5", "direct-2", "direct-1")]


def test_differences_to_the_paper():
    mnist10, fashion, cifar = map(against_paper, ("table2", "table3", "table4"))
    every = mnist10 + fashion + cifar
    rows = {row["row"]: row["test_acc"] for row in kept("paper/table2/table.json")["rows"]}
    released = [rows[f"released_{model}"] for model in ("implicit", "direct-1")]
    left = sorted(row["difference"] for row in released)
    circuit = build_circuit(10, trainable_gates="released")
    gates = [str(len(circuit.frozen)), str(circuit.n_parameters)]
    most_below, most_above = f"{-min(every):.1f}", f"{max(every):.1f}"
    assert numbers(README, "at or above the paper's") == [most_below, most_above, *gates, *(f"{d:.1f}" for d in left)]
    bounds = [f"{min(mnist10):.0f}", f"{max(mnist10):.0f}"]
    shown = [f"{row[key]:.2f}" for row in released for key in ("mean", "std", "paper")]
    assert numbers(RESULTS, "every gate is trained.") == [*bounds, *gates, *shown]
    bounds = [f"{min(fashion):.0f}", f"{max(fashion):.0f}", f"{-min(cifar):.1f}", f"{max(cifar):.1f}"]
    assert numbers(RESULTS, "with every gate trained too") == bounds


def test_encodings_of_mnist_4():
    acc = accuracies("table1")
    depths = ("implicit", "warmup", "direct-10", "direct-5", "direct-2", "direct-1")
    amplitude, angle = ({depth: acc[f"{encoding}_{depth}"] for depth in depths} for encoding in ("amplitude", "angle"))
    apart = [amplitude[depth] - angle[depth] for depth in depths]
    assert numbers(RESULTS, "no number to be compared") == [f"{min(apart):.0f}", f"{max(apart):.0f}"]
    assert max(amplitude, key=amplitude.get) == min(angle, key=angle.get) == "direct-1"
    assert max(angle, key=angle.get).startswith("direct")
    assert all(row.paper.test_acc is None for row in TABLES["table1"].rows if row.is_papers)


def families() -> list[dict[str, float]]:
    """The paper's models of each table, by depth; both encodings of the first."""
    prefixes = [("table1", "amplitude_"), ("table1", "angle_"), ("table2", ""), ("table3", ""), ("table4", "")]
    depths = ("implicit", "warmup", "direct-10", "direct-5", "direct-2", "direct-1")
    return [{depth: accuracies(table)[prefix + depth] for depth in depths} for table, prefix in prefixes]


def test_equilibrium_against_explicit_layers():
    best = [max(acc for depth, acc in family.items() if depth.startswith("direct")) for family in families()]
    behind = {name: [b - family[name] for b, family in zip(best, families())] for name in ("implicit", "warmup")}
    ranges = [f"{end(behind[name]):.1f}" for name in ("implicit", "warmup") for end in (min, max)]
    paper = {row.name: row.paper.test_acc for row in TABLES["table2"].rows}
    ahead = paper["implicit"] - max(paper[f"direct-{n}"] for n in (1, 2, 5, 10))
    assert numbers(RESULTS, "not ahead of explicit layers") == [*ranges, f"{ahead:.1f}"]
    assert numbers(README, "not ahead of explicit layers")[:2] == ranges[:2]


def test_classical_models_against_quantum_ones():
    columns = ("linear", "classical-implicit", "classical_narrow-implicit")
    every = [accuracies(table) for table in TABLES]
    assert numbers(RESULTS, "Simple classical models") == [f"{acc[name]:.1f}" for name in columns for acc in every]
    classical = {name for name in every[0] if name.startswith("classical") or name == "linear"}
    for table, acc in zip(TABLES.values(), every):
        pooled = [row.name for row in table.rows if MODELS[row.model].features == "pooling" and row.name in acc]
        best = max(acc[name] for name in pooled if name not in classical)
        assert min(acc[name] for name in columns) > best  # what both pages say


def test_what_the_equilibrium_and_the_head_contribute():
    rows = [("amplitude_", "table1"), ("", "table2"), ("", "table3"), ("", "table4")]
    shown = []
    for model in ("", "classical_narrow-", "classical-"):
        for prefix, table in rows:
            own = model or prefix
            shown.append(f"{accuracies(table)[f'{own}implicit'] - accuracies(table)[f'{own}direct-1']:+.1f}")
    assert numbers(RESULTS, "What the equilibrium contributes") == shown
    losses = [accuracies(table)[f"{prefix}implicit"] - accuracies(table)["wang2022-implicit"]
              for prefix, table in (rows[0], rows[3], rows[1])]  # fmt: skip
    assert numbers(RESULTS, "The linear head") == [f"{loss:.0f}" for loss in losses]
    (alam,) = [row["test_acc"] for row in kept("paper/table2/table.json")["rows"] if row["row"] == "alam2021-direct-1"]
    published = [row for row in kept("paper/table2/table.json")["rows"] if row["row"] in ("alam2021_pca-1", "alam2021_vae-1")]
    assert len(published) == 2 and all(row["test_acc"]["difference"] > 0 for row in published)
    assert numbers(RESULTS, "Alam et al.'s encoding") == [f"{-alam['difference']:.0f}", f"{alam['paper']:.2f}"]


def test_published_circuits_against_their_works_and_as_equilibria():
    of = {table: accuracies(table, "difference") for table in TABLES}
    text = " ".join(read(RESULTS).split("- **Published circuits")[1].split("\n- **")[0].split())
    kiwit = [f"{of[table]['kiwit2025-1']:+.1f}" for table in ("table2", "table3", "table4")]
    assert f"layer {kiwit[0]} points on MNIST-10, {kiwit[1]} on FashionMNIST-10 and {kiwit[2]} on CIFAR-10" in text
    west = of["table1"]["west2024-0123-direct-1"], *(of[table]["west2024-direct-1-200"] for table in ("table2", "table3"))
    deeper = f"six layers {of['table2']['kiwit2025-6']:+.1f} on MNIST-10, eight {of['table3']['kiwit2025-8']:+.1f} on FashionMNIST-10"
    assert deeper in text
    assert "20 layers {:+.1f} on digits 0 to 3, 200 layers {:+.1f} on MNIST-10 and {:+.1f} on FashionMNIST-10".format(*west) in text
    far = {(table, row.name) for table in TABLES for row in TABLES[table].rows
           if row.differs and abs(of[table].get(row.name) or 0) > 4}  # fmt: skip
    assert far == {("table2", "alam2021_pca-1"), ("table3", "west2024-direct-1-200"), ("table3", "dilip2022_mps-1")}
    dilip = [f"{of['table3'][name]:+.1f}" for name in ("dilip2022-1", "dilip2022_mps-1")]
    assert "layer {} there on exact states and {} on compressed ones".format(*dilip) in text
    assert f"their 14 layers {of['table3']['dilip2022-14']:+.1f} on exact states" in text
    deep = [[float(line["val_acc"]) for line in csv.DictReader(io.StringIO(read(f"results/paper/{table}/west2024-direct-1-200/seed-0.csv")))]
            for table in ("table2", "table3")]  # fmt: skip
    assert "below theirs ({:.1f} % and {:.1f} %)".format(*(100 * validated[-1] for validated in deep)) in text
    gains = {"implicit": [], "head": []}
    for table, digits in (("table1", "-0123"), ("table2", "")):
        acc = accuracies(table)
        one = acc[f"west2024{digits}-direct-1"]
        gains["implicit"].append(f"{one - acc[f'west2024{digits}-implicit']:.1f}")
        gains["head"].append(f"{acc[f'west2024_head{digits}-direct-1'] - one:.1f}")
    assert "lose {} points on digits 0 to 3 and {} on MNIST-10 against one pass".format(*gains["implicit"]) in text
    assert "gains {} and {}.".format(*gains["head"]) in text


def test_the_page_of_wests_200_layers_has_the_numbers_of_its_runs():
    name = "west2024-direct-1-200"
    page, row = "results/west/README.md", TABLES["table3"].row(name)
    three, two = kept("west/three-epochs.json"), kept(f"paper/table3/{name}/seed-0.json")
    with_row = {key: three[key] for key in ("model", "ansatz", "n_blocks", "seed")}
    assert with_row == {key: two[key] for key in with_row} and (three["epochs"], two["epochs"]) == (3, row.epochs)
    shown = [f"{100 * run[key]:.2f}" for run in (three, two) for key in ("best_val_acc", "test_acc")]
    assert numbers(page, "is the cause") == shown
    validated = [float(line["val_acc"]) for line in csv.DictReader(io.StringIO(read(f"results/paper/table3/{name}/seed-0.csv")))]
    assert numbers(page, "ends at")[:2] == [shown[3], f"{row.paper.test_acc}"]
    assert f"still gained {100 * (validated[1] - validated[0]):.1f} points" in read(page) and len(validated) == 2
    assert f"{72 - 100 * validated[1]:.1f} points are missing; its test number is {row.paper.test_acc - 72:.1f}" in " ".join(read(page).split())
    assert f"error of {100 * (0.746 * 0.254 / 500) ** 0.5:.1f} from 500" in " ".join(read(page).split())


def test_the_page_of_dilips_row_has_the_numbers_of_its_runs():
    sweep = {row["point"]["logit_scale"]: row["best_val_acc"]["mean"] for row in json.loads(read("results/dilip/sweep.json"))["rows"]}
    best = max(sweep, key=sweep.get)
    assert numbers("results/dilip/README.md", "What it found") == [best, f"{sweep[best]:.2f}", f"{sweep['128']:.2f}", "128"]
    row = TABLES["table3"].row("dilip2022-1")
    assert float(best) == row.flags["logit_scale"]
    runs = [json.loads(read(path)) for path in ("results/dilip/scale-128_60-epochs.json", "results/paper/table3/dilip2022-1/seed-0.json")]
    assert [run["epochs"] for run in runs] == [row.epochs] * 2
    assert numbers("results/dilip/README.md", "The factor is the cause") == [
        "128", f"{row.epochs}", "0", *(f"{100 * runs[0][name]:.2f}" for name in ("best_val_acc", "test_acc")), "300",
        *(f"{100 * runs[1][name]:.2f}" for name in ("best_val_acc", "test_acc")),
    ]  # fmt: skip
    assert 1.5 < 100 * (runs[1]["test_acc"] - runs[0]["test_acc"]) < 2.5  # "two points lower"
