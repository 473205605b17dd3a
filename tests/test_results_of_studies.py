"""What the results' pages say of the studies, Tables 6 to 9, is what the committed tables have."""

from statistics import fmean

from conftest import REPOSITORY
from readme_pages import accuracies, kept, numbers, read
from reproduction import gradient_variances
from reproduction.study_rows import ANSATZE, BEST_ANSATZ, COMPARED, EVERY_STRING, EVERY_TABLE, LONG, STUDIES

README, RESULTS = "README.md", "results/README.md"
# images of each validation set, as `is_level` takes them
VALIDATED = {"mnist4": 4_785, "mnist10": 12_000, "fashion10": 12_000}


def test_what_all_strings_of_z_tell():
    parts = ("mnist10", "fashion10", "cifar10")
    strings = [accuracies(f"table6_{part}")["z_strings_implicit"] for part in parts]
    others = [accuracies(table)[row] for row in ("implicit", "linear") for table in ("table2", "table3", "table4")]
    pauli2 = accuracies("table6_mnist10")["pauli2_random400_implicit"]
    shown = [f"{acc:.2f}" for acc in (*strings, *others)]
    row = {row["row"]: row for row in kept("paper/table6_mnist10/table.json")["rows"]}["z_strings_implicit"]
    assert numbers(RESULTS, "All strings of Z take") == [f"{row['n_readouts']['mean']:,.0f}", *shown, "165", "400", "50", f"{pauli2:.2f}"]
    every_string = [of_every_string(part)[0][0]["mean"] for part in parts]
    longest = f"{accuracies('table8_operations')['1600_operations_implicit']:.1f}"
    assert numbers(README, "the same shots tell")[-10:] == [
        *(f"{acc:.1f}" for acc in strings), "3", *(f"{acc:.1f}" for acc in every_string), "1,600", "50", longest]  # fmt: skip
    ones = [f"{accuracies(f'table6_{part}')['z_strings_direct-1']:.2f}" for part in parts]
    untrained = [accuracies(f"table6_{part}")[f"z_strings_untrained_{depth}"] for depth in ("direct-1", "implicit") for part in parts]
    fives = [accuracies(f"table6_{part}")["z_strings_direct-5"] for part in parts]
    learned = [of_seed_0(f"table6_{part}")["z_strings_implicit"] - acc for part, acc in zip(parts, untrained[3:])]
    assert numbers(RESULTS, "little of what the circuit learns") == [
        *ones, *(f"{acc:.2f}" for acc in fives), *(f"{acc:.2f}" for acc in untrained), "0", f"{learned[2]:.1f}",
        f"{max(learned[:2]):.1f}"]  # fmt: skip
    ceilings = [accuracies(f"table6_{part}")["single_copy"] for part in parts]
    of_4 = accuracies("table6_mnist4")
    above = [f"{ceiling - acc:.1f}" for ceiling, acc in zip(ceilings, strings)]
    sizes = [f"{n_parameters('mnist10', name):,}" for name in ("single_copy", "z_strings_implicit")]
    best = max(acc for name, acc in of_4.items() if name != "single_copy")
    assert best == of_4["pauli2_random400_implicit_100-epochs"]
    left = f"{of_4['single_copy'] - best:.1f}"
    nearest = [accuracies(f"table6_{part}")["z_strings_entangling8_untrained_implicit_100-epochs"] for part in parts[:2]]
    as_long = [accuracies(f"table6_{part}")["single_copy_100-epochs"] for part in parts]
    below = [f"{ceiling - acc:.1f}" for ceiling, acc in zip(as_long, nearest)]
    assert numbers(RESULTS, "The single-copy ceiling stays above") == [
        *above, "1,023", "5,050", *sizes, "8", "100", *(f"{acc:.2f}" for acc in nearest), *below, "400", "100", left]  # fmt: skip
    drops = []
    for shots in (1024, 4096, 16384):
        found = kept(f"hardware/z_strings_mnist10/shots-{shots}.json")
        counted = found["rows"][0]["counted"]
        assert (found["images"], found["run"], counted["shots"], counted["draws"]) == (1000, "seed-0", shots, 3)
        drops += [f"{shots:,}", f"{100 * (found['rows'][0]['acc'] - counted['acc']):.1f}"]
    assert numbers(RESULTS, "of the first 1,000 test images") == ["1,000", *drops]


def of_every_string(part: str) -> tuple[list[dict], dict]:
    """Accuracies with `xyz_strings` of IMPLICIT, DIRECT-1, DIRECT-5 with gain 3 and IMPLICIT with gain 1, and of the ceiling."""
    rows = {row["row"]: row for row in kept(f"paper/table6_{part}/table.json")["rows"]}
    names = [f"{EVERY_STRING}_{which}_100-epochs" for which in ("gain3_implicit", "gain3_direct-1", "gain3_direct-5", "implicit")]
    assert {rows[name]["n_readouts"]["mean"] for name in names} == {3069} and rows[names[0]]["measurement_settings"]["mean"] == 3
    return [rows[name]["test_acc"] for name in names], rows["single_copy_100-epochs"]["test_acc"]


def test_what_every_string_of_three_settings_tells():
    parts = ("mnist10", "fashion10", "cifar10")
    found, ceilings = zip(*map(of_every_string, parts))
    means = [f"{of_part[k]['mean']:.2f}" for k in range(3) for of_part in found] + [f"{acc['mean']:.2f}" for acc in ceilings]
    deep, one, _, with_gain_1 = (acc["values"] for acc in found[2])
    above, ahead = ([a - b for a, b in zip(deep, other, strict=True)] for other in (ceilings[2]["values"], one))
    assert len(deep) == 3 and min(*above, *ahead) > 0
    differences = [[acc["mean"] - ceiling["mean"] for acc in of_part[:3]] for of_part, ceiling in zip(found[:2], ceilings)]
    assert all(abs(by - of_part[0]) < 0.1 for of_part in differences for by in of_part)
    assert min(deep) > max(ceilings[2]["values"])
    validated = accuracies("table6_cifar10", "values", "best_val_acc")
    gain_3, gain_1 = (validated[f"{EVERY_STRING}_{which}_100-epochs"][0] for which in ("gain3_implicit", "implicit"))
    assert gain_3 > gain_1
    assert numbers(RESULTS, "With every string of X, of Y and of Z") == [
        "3,069", "8", "100", "3", *means, f"{fmean(above):.1f}", f"{fmean(ahead):.1f}", "3", f"{differences[0][0]:.1f}",
        f"{-differences[1][0]:.1f}", "0.1", "3", "1", "0",
        f"{gain_3:.2f}", f"{gain_1:.2f}", "1", f"{with_gain_1[0]:.2f}"]  # fmt: skip
    assert abs(found[2][2]["mean"] - found[2][0]["mean"]) < 0.2  # of five layers
    assert f"gains {fmean(ahead):.1f} points, as five layers do" in " ".join(read(README).split())


def test_what_other_readouts_and_circuits_tell():
    acc = accuracies("table6_mnist10")
    sizes = {row["row"]: row["n_readouts"]["mean"] for row in kept("paper/table6_mnist10/table.json")["rows"]}
    readouts = [f"{readout}_direct-1" for readout in ("z", "marginal", "pauli1", "zz", "projections", "pauli2")]
    deep = {name: acc[name.replace("direct-1", "implicit")] for name in readouts}
    shown = [value for name in readouts for value in (f"{acc[name]:.2f}", f"{sizes[name]:.0f}")]
    assert numbers(RESULTS, "More readouts tell more") == [
        *shown, *(f"{acc:.2f}" for acc in deep.values()), "0",
        *(f"{accuracies(f'table6_{part}')[f'{readout}_direct-1']:.2f}" for readout in ("z", "projections") for part in ("fashion10", "cifar10"))]  # fmt: skip
    parts = ("mnist10", "fashion10", "cifar10")
    lost = {readout: [of_seed_0(f"table6_{part}")[f"{readout}_direct-1"] - of_seed_0(f"table6_{part}")[f"{readout}_implicit"] for part in parts]
            for readout in COMPARED}  # fmt: skip
    others = ("z", "marginal", "pauli1", "zz", "pauli2", "projections")  # from the least on
    for part in parts:
        compared = [readout for readout in others if (part, readout) != ("mnist10", "marginal")]
        one_layer = [of_seed_0(f"table6_{part}")[f"{readout}_direct-1"] for readout in compared]
        assert one_layer == sorted(one_layer)
        radii = {readout: kept(f"paper/table6_{part}/{readout}_implicit/seed-0.json")["test_spectral_radius"] for readout in COMPARED}
        assert set(sorted(radii, key=radii.get)[-2:]) == {"marginal", "projections"}
    rest = [by for readout in ("zz", "pauli1", "pauli2") for by in lost[readout]] + [lost["z"][2]]
    assert numbers(RESULTS, "The equilibrium loses where it reads probabilities") == [
        *(f"{by:.1f}" for readout in ("marginal", "projections") for by in lost[readout]), f"{lost['z'][0]:.1f}", f"{-lost['z'][1]:.1f}",
        f"{-min(rest):.1f}", f"{max(rest):.1f}", "0"]  # fmt: skip
    names = ("implicit", "random400_implicit", "entangling8_implicit", "su4_implicit", "entangling8_untrained_implicit")
    paper, many, layers, sweeps, untrained = (f"{acc[f'z_strings_{name}']:.2f}" for name in names)
    assert numbers(RESULTS, "Other circuits give all strings") == [
        paper, many, "400", layers, "8", sweeps, "2", untrained, "8", "0", "400",
        *(f"{accuracies(f'table6_{part}')[f'z_strings_{name}']:.2f}" for part in parts[1:] for name in (names[1], names[4])),
        f"{of_seed_0('table6_cifar10')['z_strings_implicit']:.2f}", "0", "400",
        *(f"{accuracies(f'table6_{part}')[f'pauli2_{name}']:.2f}" for part in parts for name in ("implicit", "random400_implicit")),
    ]  # fmt: skip


def test_how_long_the_studies_took():
    parts = [part.name for study in STUDIES.values() for part in study]
    hours = sum(kept(f"paper/{part}/table.json")["train_seconds_in_all"] for part in parts) / 3600
    assert numbers(RESULTS, "of the four took")[-1] == f"{hours:.1f}"


def of_seed_0(table: str) -> dict[str, float]:
    """Test accuracies, %, of the rows' first seed alone."""
    rows = kept(f"paper/{table}/table.json")["rows"]
    return {row["row"]: row["test_acc"]["values"][0] for row in rows if row["seeds"][0] == 0}


def n_parameters(part: str, name: str) -> int:
    (row,) = [row for row in kept(f"paper/table6_{part}/table.json")["rows"] if row["row"] == name]
    return round(row["n_parameters"]["mean"])


def test_what_readouts_of_four_wires_tell():
    acc = accuracies("table6_mnist4")
    names = ("z_strings_untrained_direct-1", "z_strings_direct-1", "z_strings_implicit", "z_strings_random400_implicit")
    untrained, trained, few, many = (f"{acc[name]:.2f}" for name in names)
    ahead = {name.split("_direct")[0]: acc[name] - acc[name.replace("direct-1", "implicit")]
             for name in acc if name.endswith("_direct-1") and "untrained" not in name}  # fmt: skip
    assert [name for name, by in ahead.items() if by < 0.1] == ["pauli1"] and abs(ahead["pauli1"]) < 0.05
    assert max(ahead.values()) == ahead["projections"] == ahead["marginal"]
    probabilities = [f"{acc[f'marginal_{depth}']:.2f}" for depth in ("direct-1", "implicit")]
    assert numbers(RESULTS, "On four wires") == ["15", untrained, trained, few, many, "400", "50", "16", *probabilities]


def test_rows_of_full_length_are_the_best_on_the_validation_set_or_level():
    parts = {part: accuracies(f"table6_{part}", measure="best_val_acc") for part in LONG}
    assert any(f"{LONG[part]}_100-epochs" in of_part for part, of_part in parts.items())
    for part, of_part in parts.items():
        if LONG[part] in of_part or f"{LONG[part]}_100-epochs" in of_part:
            in_30_epochs = [name for name in of_part if name.endswith("_implicit")]
            assert is_level(part, LONG[part], in_30_epochs)


def is_level(part: str, row: str, others: list[str]) -> bool:
    """Whether no other row is better on the validation set by more than a standard error."""
    of_part = accuracies(f"table6_{part}", measure="best_val_acc")
    best = max(map(of_part.get, others))
    return best - of_part[row] < 100 * (best / 100 * (1 - best / 100) / VALIDATED[part]) ** 0.5


def test_the_circuit_that_other_data_sets_get_is_the_best_on_mnist_10():
    kept_rows = accuracies("table6_mnist10")
    for readout in ("z_strings", "pauli2"):
        rows = [f"{readout}_{ansatz}_implicit" for ansatz in ANSATZE]
        assert is_level("mnist10", f"{readout}_{BEST_ANSATZ}_implicit", [row for row in rows if row in kept_rows])


def test_what_table_9_says():
    weak, strong = accuracies("table9_paper"), accuracies("table9_strong")
    shown = [f"{weak[name]:.1f}" for name in ("cap1", "cap10", "jacobian_free")]
    found = numbers(RESULTS, "In the paper's setting the solver")
    assert [number for number in found if "." in number] == shown
    near = [weak[name] for name in ("cap5", "cap10", "cap30", "tol0.01", "tol0.0001", "tol1e-05", "x", "previous")]
    assert max(near) - min(near) < 1.5 < min(near) - weak["jacobian_free"] + 0.5
    (at_30,) = [row for row in kept("paper/table9_strong/table.json")["rows"] if row["row"] == "cap30"]
    found = numbers(RESULTS, "Where f sees z more strongly")
    assert found == ["3", f"{at_30['test_converged']['mean']:.0f}", f"{weak['cap30'] - strong['cap30']:.0f}"]
    converged = accuracies("table9_strong", measure="test_converged")
    found_at_10, by_newton = f"{converged['cap10']:.0f}", f"{converged['newton']:.0f}"
    ends = {name: f"{strong[name]:.1f}" for name in ("cap10", "memory1", "fixed_point", "newton", "exact", "tol0.1")}
    assert numbers(RESULTS, "There the solver does matter") == [
        found_at_10, ends["cap10"], ends["memory1"], ends["fixed_point"], by_newton, ends["newton"], ends["exact"],
        ends["tol0.1"], "0.1"]  # fmt: skip
    assert strong["newton"] == min(strong.values()) and strong["tol0.1"] == max(strong.values())


def test_what_table_8_says():
    acc = {part: accuracies(f"table8_{part}") for part in ("operations", "wires")}
    rows = {row["row"]: row for part in acc for row in kept(f"paper/table8_{part}/table.json")["rows"]}
    few, many, few_1, many_1 = (f"{n}_operations_{depth}" for depth in ("implicit", "direct-1") for n in (50, 1600))
    sizes = [f"{rows[name]['n_parameters']['mean']:,.0f}" for name in (few, many)]
    linear = accuracies("table2")["linear"]
    shown = [f"{acc['operations'][name]:.2f}" for name in (few, many, few_1, many_1)]
    assert numbers(RESULTS, "More operations do what") == ["5", shown[0], "50", shown[1], "1,600", *shown[2:], *sizes, f"{linear:.2f}"]
    assert max(acc["operations"], key=acc["operations"].get) in (many, many_1) and acc["operations"][many] > linear
    radii, steps = ([f"{rows[name][measure]['mean']:.{digits}f}" for name in (few, many)]
                    for measure, digits in (("test_spectral_radius", 2), ("test_solver_steps", 1)))  # fmt: skip
    ahead = [f"{acc['operations'][a] - acc['operations'][b]:.1f}" for a, b in ((few, few_1), (many, many_1))]
    assert numbers(RESULTS, "the less f sees of z") == [*radii, *steps, ahead[0], "50", ahead[1], "1,600"]
    of = {part: gradient_variances.of_rows(EVERY_TABLE[f"table8_{part}"], REPOSITORY / "results" / "paper") for part in acc}
    small, large, longest = of["wires"]["4_wires_implicit"], of["wires"]["14_wires_implicit"], of["operations"][many]
    falls = [f"{small[name][0] / large[name][0]:.0f}-fold" for name in ("first_readout", "implicit")]
    text = " ".join(read(RESULTS).split("that flatten the start")[1].split("\n- **")[0].split())
    assert f"slope falls {falls[0]}, that of IMPLICIT's loss {falls[1]}. With more operations on ten wires it falls to" in text
    assert f"{longest['first_readout'][0]:.1e}, where two-designs are" in text
    assert abs(longest["first_readout"][0] / longest["two_designs"][0] - 1) < 0.1
    of_wires = [f"{acc['wires'][f'{n}_wires_implicit']:.2f}" for n in (10, 12, 14)]
    above = f"{large['first_readout'][0] / large['two_designs'][0]:.0f}"
    assert numbers(RESULTS, "are too few for many wires") == ["10", of_wires[0], "12", of_wires[1], "14", of_wires[2], "14", above]


def test_when_an_equilibrium_pays():
    acc, radii = accuracies("table7_mnist4"), accuracies("table7_mnist4", measure="test_spectral_radius")
    for name in acc:
        if "_gain" in name and name.endswith("_implicit"):
            assert acc[name] < acc[f"{name.split('_')[0]}_direct-1"]
    gains = ["0.3", "1", "3", "10"]
    of_gains, of_radii = ([of[f"pauli2_gain{gain}_implicit"] for gain in gains] for of in (acc, radii))
    residuals = accuracies("table7_mnist4", measure="test_res_rel")
    left = [residuals[f"pauli2_gain{gain}_implicit"] for gain in gains[2:]]
    shown = [number for value, gain in zip(of_gains, gains) for number in (f"{value:.2f}", gain)]
    assert numbers(RESULTS, "z added to the data, never") == [
        *shown, f"{acc['pauli2_direct-1']:.2f}", *(f"{radius:.2f}" for radius in of_radii), "1", f"{min(left):.2f}", "3",
        *(f"{acc[f'{readout}_gain3_implicit']:.2f}" for readout in ("z", "zz"))]  # fmt: skip
    assert max(of_radii[:2]) < 1 < min(of_radii[2:])


def test_when_an_equilibrium_pays_with_z_apart_and_more_operations():
    acc, radii = accuracies("table7_mnist4"), accuracies("table7_mnist4", measure="test_spectral_radius")
    values = {row["row"]: row["test_acc"]["values"] for row in kept("paper/table7_mnist4/table.json")["rows"]}
    one, two, deep = ([f"{readout}_concatenate_{depth}" for readout in ("z", "zz")] for depth in ("direct-1", "direct-2", "implicit"))
    depths = ("direct-1", "direct-2", "direct-5", "implicit")
    apart, added = ([acc[f"z_{'' if where == 'gain1' and depth == 'direct-1' else f'{where}_'}{depth}"] for depth in depths]
                    for where in ("concatenate", "gain1"))  # fmt: skip
    assert max(apart) < min(added)
    assert numbers(RESULTS, "On wires of its own z does little good") == [
        *(f"{radii[name]:.2f}" for name in deep), f"{acc[one[0]] - acc[deep[0]]:.1f}", f"{acc[deep[1]] - acc[one[1]]:.1f}",
        f"{acc[two[1]]:.2f}", f"{acc['zz_direct-1']:.2f}", *(f"{end(ends):.2f}" for ends in (apart, added) for end in (min, max))]  # fmt: skip
    assert all(b > a for a, b in zip(values[one[1]], values[deep[1]], strict=True)) and acc[deep[1]] < acc[two[1]] < acc["zz_direct-1"]
    ends = [f"{acc[f'zz_random{n}_{depth}']:.2f}" for depth in ("direct-1", "implicit") for n in (10, 800)]
    assert numbers(RESULTS, "More operations do as much for one layer") == ["10", "800", *ends, f"{acc['zz_random800_direct-2']:.2f}"]


def test_when_an_equilibrium_pays_on_cifar_10_and_percolation():
    of = {part: accuracies(part) for part in ("table6_cifar10", "table7_cifar10")}
    values = {row["row"]: row["test_acc"]["values"] for part in of for row in kept(f"paper/{part}/table.json")["rows"]}
    two, five, deep = (f"z_strings_gain3_{depth}" for depth in ("direct-2", "direct-5", "implicit"))
    radius = accuracies("table7_cifar10", measure="test_spectral_radius")[deep]
    left = of["table6_cifar10"]["single_copy"] - of["table7_cifar10"][deep]
    one_layer, *deeper = (of["table6_cifar10"][f"z_strings_{depth}"] for depth in ("direct-1", "direct-5", "implicit"))
    at_gain_1 = (of["table7_cifar10"]["z_strings_gain1_direct-2"], *deeper)
    ahead = [b - a for a, b in zip(values["z_strings_direct-1"], values[deep])]
    assert len(ahead) == 3
    assert numbers(RESULTS, "a second look at the data pays") == [
        *(f"{acc:.2f}" for acc in (one_layer, *at_gain_1)), "1", *(f"{of['table7_cifar10'][name]:.2f}" for name in (two, five, deep)), "3",
        "3", f"{min(ahead):.1f}", f"{max(ahead):.1f}", f"{radius:.2f}", f"{left:.1f}"]  # fmt: skip
    acc, radii = accuracies("table7_percolation"), accuracies("table7_percolation", measure="test_spectral_radius")
    z, zz, pauli2 = (acc[f"{readout}_implicit"] - acc[f"{readout}_direct-1"] for readout in ("z", "zz", "pauli2"))
    classical = [f"{acc[name]:.2f}" for name in ("classical_direct-1", "classical_implicit", "single_copy")]
    assert numbers(RESULTS, "where depth is known to matter") == [
        *classical, f"{-z:.1f}", f"{-zz:.1f}", f"{pauli2:.1f}", f"{acc['pauli2_implicit']:.2f}", f"{radii['zz_implicit']:.2f}", "3",
        f"{radii['zz_gain3_implicit']:.2f}", f"{acc['zz_implicit'] - acc['zz_gain3_implicit']:.1f}"]  # fmt: skip
    gained = acc["classical_implicit"] - acc["classical_direct-1"]
    assert numbers(README, "not ahead of explicit layers")[-2:] == [f"{gained:.1f}", f"{max(z, zz, pauli2):.1f}"]
    assert acc["pauli2_implicit"] == max(acc[name] for name in acc if name.endswith("implicit") and "classical" not in name)
