"""The page of the study of hardware says what its committed evaluations hold."""

from statistics import mean, stdev

from conftest import REPOSITORY
from deployment.command_line import parse_command_line
from deployment.costing import costs, duration
from hardware.devices import read_device
from reproduction.hardware_rows import DRAWN, SHOTS, SHOTS_OF_TEN, rows
from reproduction.hardware_tables import circuits_of_images, dropped, gradients, load, markdown, values
from readme_pages import numbers
from utils.files import read_json
from utils.statistics import mean_and_spread

PAGE = "results/hardware/README.md"
FOLDER = REPOSITORY / "results" / "hardware"
KEPT = load(FOLDER)
IMPLICIT, DIRECT = "amplitude_implicit", "amplitude_direct-1"


def acc(row: str, noise: str | None, suite: str = "ansatz", name: str = "acc") -> str:
    """Mean over seeds, in %."""
    return f"{100 * mean(values(KEPT[row], suite, noise, lambda found: found[name])):.1f}"


def lost(row: str, noise: str, suite: str = "ansatz") -> list[str]:
    """Points, and half of their interval."""
    return [f"{float(word):.1f}" for word in dropped(KEPT[row], suite, noise).split(" ± ")]


def counted(row: str, shots: int, name: str, solver: str = "", noise: str = "none") -> float:
    suite = f"{solver}, {shots} shots" if solver else f"{shots} shots"
    return mean(values(KEPT[row], suite, noise, lambda found: found["counted"][name]))


def test_resilience():
    said = numbers(PAGE, "resist noise better")
    small = [lost(row, "depolarizing:1e-2", suite) for suite in ("ansatz", "all gates") for row in (IMPLICIT, DIRECT)]
    rows_of_three = (IMPLICIT, DIRECT, "amplitude_direct-10")
    large = [acc(row, "depolarizing:3e-2") for row in rows_of_three]
    stds = [100 * stdev(values(KEPT[row], "ansatz", "depolarizing:3e-2", lambda found: found["acc"])) for row in rows_of_three]
    large += [f"{min(stds):.0f}", f"{max(stds):.0f}"]
    wang = [lost(f"wang2022-{depth}", "depolarizing:1e-2") for depth in ("implicit", "direct-1")]
    assert said == ["1e-2", "2021", *sum(small, []), "3e-2", *large, *sum(wang, [])]


def test_depth():
    said = numbers(PAGE, "Does being shallow pay")
    deep = "coherent-5"
    assert said == [
        acc(deep, None), acc(IMPLICIT, None), "1e-2", acc(deep, "depolarizing:1e-2"), acc(IMPLICIT, "depolarizing:1e-2"),
        "3e-2", acc(deep, "depolarizing:3e-2"), "2021", acc(deep, "device:quito"), acc(IMPLICIT, "device:quito"),
        acc(deep, "device:manila"), acc(IMPLICIT, "device:manila"),
    ]  # fmt: skip


def test_states():
    noise = "depolarizing:1e-2"
    moved, error = (100 * mean(values(KEPT[IMPLICIT], "ansatz", noise, lambda found: found[name]))
                    for name in ("shift", "prediction_error"))  # fmt: skip
    angles = f"{100 * mean(values(KEPT['angle_implicit'], 'ansatz', noise, lambda found: found['prediction_error'])):.0f}"
    before, after = (mean(values(KEPT[IMPLICIT], "ansatz", which, lambda found: found["spectral_radius"]))
                     for which in (None, noise))  # fmt: skip
    said = numbers(PAGE, "What does noise do to the equilibrium")
    assert [word for word in said if word != "-1"] == ["1e-2", f"{moved:.0f}", f"{error:.0f}", angles, f"{before:.2f}", f"{after:.2f}"]


def test_errors_that_are_not_random():
    def range_of(row):
        places = [("ansatz", "coherent:0.03"), *((DRAWN.name, noise) for noise in DRAWN.noises)]
        means = [float(acc(row, noise, suite)) for suite, noise in places]
        return [f"{min(means):.1f}", f"{max(means):.1f}"]

    assert numbers(PAGE, "errors that are not random") == [
        "0.03", *sum((range_of(row) for row in (IMPLICIT, "amplitude_warmup", DIRECT)), []),
        "0.1", f"{float(acc(IMPLICIT, 'coherent:0.1')):.0f}",
        acc(IMPLICIT, "device:quito", "all gates"), acc("angle_implicit", "device:quito", "all gates"),
        lost(IMPLICIT, "device:aachen", "all gates")[0],
    ]  # fmt: skip


def test_where_encodings_cross():
    def both(noise, suite):
        found = [mean_and_spread(values(KEPT[row], suite, noise, lambda one: 100 * one["acc"]))
                 for row in (IMPLICIT, "angle_implicit")]  # fmt: skip
        return sum((one.text(".1f").split(" ± ") for one in found), [])

    compiled = {row["part"]: f"{row['two_qubit_gates']:g}"
                for row in read_json(FOLDER / "transpile" / f"{IMPLICIT}.json")["rows"]
                if (row["device"], row["optimization_level"]) == ("manila", 1)}  # fmt: skip
    (angles,) = (f"{row['two_qubit_gates']:g}" for row in read_json(FOLDER / "transpile" / "angle_implicit.json")["rows"]
                 if (row["device"], row["optimization_level"], row["part"]) == ("manila", 1, "all"))  # fmt: skip
    assert numbers(PAGE, "amplitude and angle encoding cross") == [
        "3e-2", acc(IMPLICIT, "depolarizing:3e-2"), acc("angle_implicit", "depolarizing:3e-2"),
        "1e-2", *both("depolarizing:1e-2", "all gates"), "3e-2", *both("depolarizing:3e-2", "all gates"),
        compiled["all"], angles, "100", "4,096",
        *(f"{100 * read_json(FOLDER / 'machines' / f'{row}.json')[name]:.0f}"
          for row in (IMPLICIT, "angle_implicit", DIRECT, "angle_direct-1") for name in ("acc", "ideal_acc")),
    ]  # fmt: skip
    for name in ("manila", "sherbrooke", "aachen"):
        amplitude, angle = (float(acc(row, f"device:{name}", "all gates")) for row in (IMPLICIT, "angle_implicit"))
        assert amplitude > angle


def test_shots():
    drops = [[counted(row, shots, "drop") for shots in SHOTS] for row in (IMPLICIT, DIRECT)]
    assert all(round(of_row[2], 1) == 0 for of_row in drops)
    circuits = [circuits_of_images(KEPT[IMPLICIT], f"{shots} shots", "none") for shots in SHOTS]
    assert round(mean(circuits[0])) == 3 and round(mean(circuits[2])) == 5
    broyden = [counted(IMPLICIT, shots, "error", "broyden") for shots in SHOTS]
    averaged = [counted(IMPLICIT, shots, "error", "averaged") for shots in SHOTS]
    assert all(1.7 < a / b < 2.2 for a, b in zip(broyden, averaged))
    assert all(2 < 11 / mean(of) < 3.5 for of in circuits)
    def costs(row, shots, solver=""):
        return f"{counted(row, shots, 'drop', solver):.1f}"

    assert [round(128 * mean(circuits[0]), -1), round(1024 * mean(circuits[1]), -2)] == [410, 4100]
    assert numbers(PAGE, "On four qubits") == [
        "128", costs(IMPLICIT, 128), "1,024", costs(IMPLICIT, 1024), "8,192", costs(DIRECT, 128), costs(DIRECT, 1024),
        "3", "5", "410", costs(IMPLICIT, 128), costs(DIRECT, 410), "4,096", costs(IMPLICIT, 1024), costs(DIRECT, 4096),
        f"{11 * 128:,}", "11", costs(IMPLICIT, 128, "averaged"), costs(DIRECT, 1408),
    ]  # fmt: skip
    ten = [counted(row, shots, "drop") for shots in SHOTS_OF_TEN for row in ("implicit", "direct-1")]
    assert numbers(PAGE, "On ten qubits shots") == [
        "2,000", "1,024", *(f"{drop:.0f}" for drop in ten[:2]), "8,192", *(f"{drop:.0f}" for drop in ten[2:4]), "65,536",
        *(f"{drop:.1f}" for drop in ten[4:]),
    ]  # fmt: skip
    classical = "classical_narrow-implicit"
    sizes = [1 / (1 + 128 * counted(row, 128, "res_floor") ** 2) ** 0.5 for row in (classical, IMPLICIT)]
    assert numbers(PAGE, "a classical equilibrium do better") == [
        "128", "+1", "-1", f"{counted(classical, 128, 'drop'):.1f}", f"{drops[0][0]:.1f}", *(f"{size:.1f}" for size in sizes)
    ]  # fmt: skip


def test_mitigation():
    def mitigated(way):
        found = values(KEPT[IMPLICIT], "mitigation", "device:quito", lambda row: row["mitigated"])
        return f"{100 * mean(one['acc'] for entry in found for one in entry if one['mitigation'] == way):.1f}"

    quito = read_device("quito")
    lift = f"{quito.readout_0_for_1 - quito.readout_1_for_0:.2f}"  # of <Z> = 0
    assert numbers(PAGE, "Does mitigation help") == [
        acc(IMPLICIT, "device:quito", "mitigation"), mitigated("readout"), lift, "20", mitigated("rescale"),
        mitigated("head"), mitigated("zne"),
    ]  # fmt: skip


def test_trained_under_noise_and_with_shots():
    clean, noisy, shots = (f"implicit_{how}" for how in ("clean", "noise", "shots"))
    pairs = [(acc(a, noise), acc(clean, noise))
             for a, noise in ((noisy, "depolarizing:1e-2"), (noisy, "device:quito"), (shots, None))]  # fmt: skip
    read = [f"{100 * counted(row, 1024, 'acc'):.1f}" for row in (shots, clean)]
    said = numbers(PAGE, "Does training under noise help")
    assert said == ["30", "1e-2", *pairs[0], *pairs[1], "1,024", *pairs[2], *read]


def test_gradients():
    found = gradients(KEPT)
    exact = found["IMPLICIT, amplitude", "exact backward solve"]
    free = found["IMPLICIT, amplitude", "Jacobian-free"]
    layer = found["DIRECT-1, amplitude", "one layer after another"]
    cosines = {(name, entry["shots"]): f"{mean(entry['cosines']):.2f}"
               for name, entries in (("exact", exact), ("free", free), ("layer", layer)) for entry in entries}  # fmt: skip
    assert cosines["exact", 1024] == cosines["layer", 1024] and cosines["exact", 8192] == cosines["layer", 8192]
    assert numbers(PAGE, "Are gradients with shots") == [
        "1,024", cosines["exact", 1024], "8,192", cosines["exact", 8192], cosines["free", 8192], "8,192"
    ]  # fmt: skip


def test_ten_qubits_agree():
    def of(row, noise):
        return acc(row, noise, "ten qubits")

    names = ("implicit", "direct-1")
    said = numbers(PAGE, "Noise on ten qubits")
    drops = [lost(row, "depolarizing:1e-2", "ten qubits")[0] for row in names]
    machines = [of(row, f"device:{name}") for name in ("guadalupe", "aachen") for row in names]
    took = [sum(values(KEPT["implicit"], "ten qubits", "depolarizing:1e-2", lambda found: found[name]))
            for name in ("seconds", "seconds_of_observables")]  # fmt: skip
    assert said == ["1e-2", *drops, "2021", *machines, "1e-2", "10,000", *(f"{seconds:.1f}" for seconds in took)]
    assert {run["suites"]["ten qubits"]["found"]["images"] for row in names for run in KEPT[row]} == {10_000}


def test_costs():
    def cost(*flags):
        return costs(parse_command_line(["cost", *flags]))

    ten, four = cost("--n_wires", "10"), cost("--n_wires", "4", "--images", "3957", "--train_images", "19000")
    rows = {row["label"]: row for row in ten["rows"]}
    small = next(row for row in four["rows"] if row["label"] == "IMPLICIT")
    one = rows["IMPLICIT"]["inference_sample"]["circuits"]
    trainings = [duration(row["training"]["hours"]).removesuffix(" years")
                 for row in (rows["IMPLICIT"], rows["IMPLICIT, Jacobian loss"], rows["DIRECT, 1 layer"], small)]  # fmt: skip
    seconds = 1024 * 250e-6
    said = numbers(PAGE, "What would it cost")
    assert said == [
        "1,024", "250", f"{one:.0f}", f"{one * seconds:.1f}", f"{rows['IMPLICIT']['inference']['hours']:.1f}", *trainings,
        "1,024", "64",
    ]  # fmt: skip


def test_the_first_page():
    training = next(row for row in costs(parse_command_line(["cost", "--n_wires", "10"]))["rows"] if row["label"] == "IMPLICIT, Jacobian loss")
    assert numbers("README.md", "On hardware terms") == [
        "1e-2", "1,024", f"{counted(IMPLICIT, 1024, 'drop'):.1f}", "65,536", f"{counted('implicit', 65536, 'drop'):.1f}",
        duration(training["training"]["hours"]).removesuffix(" years"), "1,024",
        f"{KEPT['implicit'][0]['surrogate'][0]['circuits']:,}",
    ]  # fmt: skip
    assert all(float(lost(row, "depolarizing:1e-2")[0]) < 1 for row in (IMPLICIT, DIRECT))


def test_surrogates():
    of_four, of_ten = ([[run["surrogate"][number] for run in KEPT[row]] for number in range(3)]
                       for row in (IMPLICIT, "implicit"))  # fmt: skip

    def mean_acc(found, name="acc"):
        return f"{100 * mean(one[name] for one in found):.1f}"

    assert numbers(PAGE, "an advantage in using") == [
        str(of_four[0][0]["circuits"]), f"{of_ten[0][0]['circuits']:,}", mean_acc(of_four[1]), f"{of_four[1][0]['shots']:,}",
        f"{100 * counted(IMPLICIT, 1024, 'acc'):.1f}", mean_acc(of_ten[2]), mean_acc(of_ten[2], "noisy_acc"),
        f"{of_ten[2][0]['shots']:,}",
    ]  # fmt: skip


def test_the_tables_are_those_of_the_files():
    others = [{path.stem: read_json(path) for path in (FOLDER / room).glob("*.json")} for room in ("transpile", "machines")]
    wanted = markdown(KEPT, *(dict(sorted(found.items())) for found in others))
    assert (FOLDER / "tables.md").read_text() == wanted + "\n"


def test_every_row_has_its_seeds():
    seeds = {name: len(runs) for name, runs in KEPT.items()}
    assert seeds == {row.name: 1 if table.name == "table2" else 3 for table, row in rows()}
