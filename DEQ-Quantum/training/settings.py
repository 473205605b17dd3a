"""Every setting of a QDEQ run: default, meaning and command-line form of each, and their validation.

One dataclass, composed of the parts of `runs/settings.py` and `data_settings.py` and of those below. Flags keep the
spelling of the paper's released code. Torch-free; what depends on the model's name is in `models/table.py`.
"""

from dataclasses import dataclass, fields

from circuits.ansatz import ANSATZE, N_RANDOM_OPERATIONS
from circuits.circuit import TRAINABLE_GATES
from circuits.encodings import INJECTIONS, build_encoding
from circuits.readout import READOUTS, build_readout
from data_settings import ANGLES, IMAGES, SIDE, STATES, ImageSettings
from engines import ENGINES
from models.table import LIFTS, MODELS
from runs.settings import (
    BaseSettings,
    OptimisationSettings,
    PlateauSettings,
    RunSettings,
    SettingsError,
    changed,
    setting,
)
from training.equilibrium_settings import EquilibriumSettings
from training.hardware_settings import HardwareSettings


@dataclass
class ModelSettings(BaseSettings):
    """The layer and what is built from it: read by `models.table.build_model` and `training.evaluation.depth_of`."""

    model: str = setting("qdeq", "model", "qdeq, or a baseline trained the same way: " + ", ".join(
                         f"{m.name} ({m.about})" for m in MODELS.values() if m.label), tuple(MODELS))
    n_wires: int = setting(10, "model", "qubits, even, from 4; images are pooled to n_wires x n_wires features, also "
                           "where there is no circuit. Models of whole images take odd numbers too", at_least=4,
                           at_most=SIDE)
    amplitude_encoder: bool = setting(True, "model", "True: features are amplitudes; False: rotation angles")
    mode: str = setting("implicit", "model", "implicit: equilibrium; direct: n_layer weight-tied layers",
                        ("implicit", "direct"))
    n_layer: int = setting(0, "model", "layers of --mode direct, or of the warm-up before --mode implicit", at_least=0,
                           at_most=10_000)
    dropout: float = setting(0.05, "model", "probability of dropping an entry of the equilibrium in training; "
                             " and ".join(m.name for m in MODELS.values() if not m.has_dropout) + " have none",
                             at_least=0, at_most=1)
    engine: str = setting("compiled", "model", "; ".join(f"{n}: {e.about}" for n, e in ENGINES.items()),
                          tuple(ENGINES))
    trainable_gates: str = setting("all", "model", "released: freeze the four-qubit blocks' gates, as the released "
                                   "code does; none: the circuit stays at its random start, and the head trains alone",
                                   TRAINABLE_GATES)
    ansatz: str = setting("paper", "model", "parametrised circuit: the paper's; strongly_entangling: rotations of every "
                          "wire and a ring of CNOTs; rotation_chain: an open chain; su4: general two-qubit gates in "
                          "sequence; su4_last_four: and three more at the end; sim14: circuit 14 of Sim "
                          "et al.", tuple(ANSATZE))
    n_random_operations: int = setting(N_RANDOM_OPERATIONS, "model", "of --ansatz paper, before its four-qubit blocks",
                                       at_least=0, at_most=100_000)
    n_blocks: int = setting(1, "model", "repetitions of the ansatz: staircases of four-qubit blocks (paper), layers "
                            "(strongly_entangling, rotation_chain, sim14), sweeps (su4)", at_least=1, at_most=10_000)
    readout: str = setting("z", "model", "what is measured: z on every wire; zz, also on pairs; z_strings, on any number of "
                           "wires, 2^n_wires - 1 in all; pauli1, X, Y and Z; pauli2, also XX, YY and ZZ; xyz_strings, of "
                           "each letter on any number of wires; projections, on n_wires^2 basis states; marginal, of the "
                           "last four wires; or strings, as ZIII,XXII")
    lift: str = setting("auto", "model", "readouts to the inputs of f: repeat each, interpolate, a fixed random projection; "
                        "auto: repeat where that comes out even, else project", LIFTS)
    z_gain: float = setting(1.0, "model", "how strongly f sees z beside x: v = z_gain z + x; 0: not at all", at_least=0,
                            at_most=1e6)
    bond_dimension: int = setting(2, "model", "of the matrix product states that --model dilip2022_mps makes of images",
                                  at_least=1, at_most=32)
    features_per_wire: int = setting(4, "model", "angles on every wire, RZ and RX in turns, of --model alam2021_pca and "
                                     "alam2021_vae", at_least=1, at_most=16)
    angle_scale: float = setting(1.0, "model", "of the same models: the largest angle of each feature over the training "
                                 "split, in radians", positive=True, at_most=1e3)
    logit_scale: float = setting(128.0, "model", "of --model dilip2022 and dilip2022_mps, whose logits are so many times the "
                                 "probabilities, and kiwit2025, times what its head makes of them", positive=True, at_most=1e6)
    injection: str = setting("add", "model", "where z enters f: add, to the data; concatenate: x on wires of its own, z as "
                             "angles on others", tuple(INJECTIONS))

    @property
    def encoding(self) -> str:
        """How features enter the circuit: amplitude, angle, components (as angles), or none without a circuit."""
        return MODELS[self.model].encoding(self)

    @property
    def circuit_choices(self) -> list[str]:
        """How the circuit departs from the paper's, in words that a folder's name may hold."""
        if MODELS[self.model].circuit is None:
            return []
        ansatz = self.ansatz if self.ansatz != "paper" else ""
        random = f"random{self.n_random_operations}" if self.n_random_operations != N_RANDOM_OPERATIONS else ""
        blocks = f"blocks{self.n_blocks}" if self.n_blocks > 1 else ""
        named = self.readout if self.readout in READOUTS else f"{self.readout.count(',') + 1}strings"
        readout = named if self.readout != "z" else ""
        lift = self.lift if self.lift != "auto" else ""
        gain = f"gain{self.z_gain:g}" if self.z_gain != 1 else ""
        angles = ""
        if MODELS[self.model].features in ANGLES:
            angles = f"{self.features_per_wire}perwire" * (self.features_per_wire != 4)
            angles += f"scale{self.angle_scale:g}" * (self.angle_scale != 1)
        logits = f"logits{self.logit_scale:g}" * (MODELS[self.model].scales_logits and self.logit_scale != 128)
        injection = self.injection if self.injection != "add" else ""
        return [*filter(None, (ansatz, "" if ansatz else random, blocks, readout, lift, gain, injection, angles, logits))]

    @property
    def reduction(self) -> str:
        """What `dataset.load_features` makes of the images."""
        return MODELS[self.model].features

    def validate(self) -> list[str]:
        warnings = super().validate()
        model = MODELS[self.model]
        if self.n_wires % 2 and model.features not in IMAGES:
            raise SettingsError(f"--n_wires must be an even number from 4 to {SIDE}, got {self.n_wires}")
        if self.n_wires % 2 and self.ansatz == "paper":
            raise SettingsError(f"--ansatz paper takes an even --n_wires, got {self.n_wires}: choose another --ansatz")
        if self.dropout == 1:
            raise SettingsError(f"--dropout is a probability below 1, got {self.dropout}")
        if self.trainable_gates == "released" and self.ansatz != "paper":
            raise SettingsError(f"--trainable_gates released is of --ansatz paper, and --ansatz is {self.ansatz}")
        if self.trainable_gates == "none" and model.circuit is not None and not model.has_head:
            raise SettingsError(f"--trainable_gates none leaves nothing to train of --model {self.model}, which has no head")
        if model.circuit is not None:
            self._check_readout()
        if self.mode == "direct" and self.n_layer < 1:
            raise SettingsError("--mode direct needs --n_layer, the number of layers (1 or more)")
        return warnings

    def _check_readout(self) -> None:
        if self.injection != "add" and MODELS[self.model].features in (*IMAGES, *ANGLES):
            taken = "whole images" if MODELS[self.model].features in IMAGES else "several angles a wire"
            raise SettingsError(f"--injection {self.injection} is not for --model {self.model}, which takes {taken}")
        encoding = build_encoding(self.encoding, self.n_wires, self.injection, self.features_per_wire)
        try:
            n = len(build_readout(self.readout, encoding.n_wires))
        except ValueError as error:
            raise SettingsError(f"--readout: {error}") from None
        width = MODELS[self.model].circuit(self).n_fed_back
        if self.lift == "repeat" and width % n:
            raise SettingsError(f"--lift repeat: {n} readouts cannot be repeated to {width} inputs; choose another lift")


# what else the circuit is made of, and the paper's choice, which results that do not name it have
CIRCUIT_SETTINGS = {
    f.name: f.default
    for f in fields(ModelSettings)
    if f.name in ("ansatz", "n_random_operations", "n_blocks", "readout", "lift", "z_gain", "injection")
}


@dataclass
class TrainingSettings(PlateauSettings):
    """How parameters are trained: read by the loop."""

    lr: float = changed(OptimisationSettings, "lr", help="learning rate (Table 5 of the paper: 0.0075 to 0.1)")
    scheduler: str = changed(PlateauSettings, "scheduler", help="learning rate over time, after a linear ramp of "
                             "--warmup_step steps")
    clip: float = setting(0.25, "optimisation", "largest gradient norm; 0 does not clip", at_least=0)
    weight_decay: float = setting(0.0, "optimisation", "L2 penalty", at_least=0)
    batch_size: int = changed(OptimisationSettings, "batch_size", help="images per step")
    batch_chunk: int = setting(1, "optimisation", "split each batch into this many parts to save memory", at_least=1)
    max_step: int = changed(OptimisationSettings, "max_step", help="optimiser steps in all, warm-up included; 0: as "
                            "--epochs says")
    pretrain_steps: int = setting(0, "optimisation", "warm-up: first steps through --n_layer explicit layers",
                                  at_least=0)
    start_train_steps: int = setting(0, "optimisation", "steps taken before the first one, as by --load's run; they "
                                     "count in --max_step and --pretrain_steps", at_least=0)
    seed: int = changed(OptimisationSettings, "seed", help="of parameters, split, batches, dropout and random vectors")

    def validate(self) -> list[str]:
        warnings = super().validate()
        if self.max_step and self.pretrain_steps >= self.max_step:
            raise SettingsError("--pretrain_steps must be smaller than --max_step: the warm-up would never end")
        if self.max_step and self.start_train_steps >= self.max_step:
            raise SettingsError("--start_train_steps must be smaller than --max_step")
        if self.batch_chunk > self.batch_size:
            raise SettingsError("--batch_chunk cannot exceed --batch_size")
        return warnings


@dataclass
class Settings(RunSettings, EquilibriumSettings, TrainingSettings, ImageSettings, ModelSettings, HardwareSettings):
    """Settings of one run of train_qdeq.py. Fields are the flags; `help` says what each does."""

    name: str = changed(RunSettings, "name", help="name of the run (default: made from data set, model and seed)")
    load: str = setting("", "run", "start from the parameters of this checkpoint (.pt) or run folder", path=True)
    max_eval_steps: int = setting(-1, "run", "batches of --batch_size images per validation, -1: all images; the test "
                                  "is always whole", at_least=-1)
    shard: str = setting("batch", "run", "what the processes that torchrun starts share out: batch; columns: also the "
                         "circuit's work of once a step, for large --n_wires", ("batch", "columns"), surrounding=True)
    debug: bool = setting(False, "run", "check every gradient for NaN (slow) and leave no run folder behind")

    @property
    def encoding(self) -> str:
        """How data enter the circuit: as states where they are such, else as the model's features do."""
        return "turned_states" if self.dataset.startswith(STATES) else super().encoding

    @property
    def run_name(self) -> str:
        """--name, or one made from what was chosen."""
        kind = f"direct{self.n_layer}" if self.mode == "direct" else "warmup" if self.pretrain_steps else "implicit"
        model = MODELS[self.model]
        encoding = self.encoding if len(model.encodings) > 1 else ""
        kind = kind if model.has_depth else ""
        model = model.name if model.label else ""
        choices = (*self.circuit_choices, *self.hardware_choices)
        classes = f"{self.num_classes}c" + self.classes.replace(",", "")
        parts = (self.dataset_name, classes, f"{self.n_wires}q", encoding, *choices, model, kind)
        return self.name or "_".join(filter(None, (*parts, f"seed{self.seed}")))

    @property
    def max_eval_images(self) -> int | None:
        """How many validation images are looked at; None: all."""
        return self.max_eval_steps * self.batch_size if self.max_eval_steps > 0 else None

    @property
    def tags(self) -> list[str]:
        """What Weights & Biases files the run under."""
        return [self.dataset_name[:64], f"{self.num_classes}C"]  # it takes no longer ones

    def validate(self) -> list[str]:
        warnings = super().validate()
        if self.encoding == "turned_states" and "angle" not in MODELS[self.model].encodings:
            able = ", ".join(model.name for model in MODELS.values() if "angle" in model.encodings)
            raise SettingsError(
                f"--dataset {self.dataset} is for models whose circuit begins in them ({able}), not {self.model}"
            )
        if wrong := MODELS[self.model].check(self):
            raise SettingsError(wrong)
        if self.mode == "direct" and self.pretrain_steps:
            raise SettingsError("--pretrain_steps warms up --mode implicit; with --mode direct leave it at 0")
        if self.pretrain_steps and self.n_layer < 1:
            raise SettingsError("--pretrain_steps needs --n_layer, the number of layers of the warm-up (1 or more)")
        if self.mode == "implicit" and self.rand_f_thres_delta >= self.f_thres and not self.keep_states:
            raise SettingsError(
                f"--rand_f_thres_delta {self.rand_f_thres_delta} takes up to so many of the --f_thres {self.f_thres} "
                f"forward steps, and one must remain: add --rand_f_thres_delta {self.f_thres - 1}, or raise --f_thres"
            )
        self.check_start(self)
        if self.max_eval_steps == 0:
            raise SettingsError("--max_eval_steps 0 would validate on nothing: give -1 for all batches")
        if self.shard == "columns" and (self.engine, self.encoding, self.injection) != ("compiled", "amplitude", "add"):
            raise SettingsError(
                "--shard columns shares out what the compiled engine does for amplitude-encoded inputs, and does nothing "
                f"with --model {self.model}, --engine {self.engine}, encoding {self.encoding}, --injection "
                f"{self.injection}: leave it out"
            )
        self.check_hardware(self)
        if self.restart and self.debug:
            raise SettingsError("--debug leaves no run folder behind: there is nothing to --restart")
        return [*warnings, *self._without_effect()]

    def _check_readout(self) -> None:
        if self.encoding == "turned_states" and (self.injection != "add" or not self.amplitude_encoder):
            raise SettingsError(
                f"--dataset {self.dataset}: z turns the states themselves: leave out --injection and --amplitude_encoder"
            )
        super()._check_readout()

    @classmethod
    def validate_flags(cls, given: dict) -> None:
        super().validate_flags(given)
        if given.get("restart") and given.get("load"):
            raise SettingsError("--load starts anew and --restart continues: give one of them")

    def _without_effect(self) -> list[str]:
        warnings = [f"--{name} has no effect with --model {self.model}" for name in self._idle_with_model()]
        if self.ansatz != "paper" and self.n_random_operations != N_RANDOM_OPERATIONS:
            warnings.append("--n_random_operations has no effect without --ansatz paper")
        if self.mode == "implicit" and self.n_layer and not self.pretrain_steps:
            warnings.append("--n_layer has no effect: --mode implicit uses it for a warm-up of --pretrain_steps")
        if self.f_memory and self.mode == "direct":
            warnings.append("--f_memory has no effect with --mode direct")
        if self.keep_states and self.rand_f_thres_delta != EquilibriumSettings.rand_f_thres_delta:
            warnings.append("--rand_f_thres_delta has no effect with --keep_states")
        if self.jac_loss_weight and self.jac_loss_freq and self.mode == "direct":
            warnings.append("--jac_loss_weight has no effect with --mode direct")
        return warnings

    def _idle_with_model(self) -> list[str]:
        """Settings that differ from their default although the model does not read them."""
        model = MODELS[self.model]
        idle = []
        if model.circuit is None:
            idle += ["engine", "trainable_gates", *CIRCUIT_SETTINGS]
        if len(model.encodings) < 2:
            idle += ["amplitude_encoder"]
        if model.features != "compressed_frqi":
            idle += ["bond_dimension"]
        if not model.scales_logits:
            idle += ["logit_scale"]
        if model.features not in ANGLES:
            idle += ["features_per_wire", "angle_scale"]
        if not model.has_dropout:
            idle += ["dropout"]
        if not model.has_depth:
            idle += ["pretrain_steps", "jac_loss_weight", "jac_loss_freq", "z0", "f_memory"]
        return [f.name for f in fields(self) if f.name in idle and getattr(self, f.name) != f.default]
