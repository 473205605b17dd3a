"""How equilibria are solved, and where the solves begin: settings, and their validation. Torch-free."""

from dataclasses import dataclass

from deq.settings import FORWARD_SOLVERS, SOLVERS
from models.table import MODELS
from runs.settings import BaseSettings, SettingsError, setting
from training.hardware_settings import JACOBIAN_FREE
from utils.launch import world_size

WITH_MEMORY = {name: SOLVERS[name].options["memory"] for name in FORWARD_SOLVERS if "memory" in SOLVERS[name].options}
OF_SOLVER = ("f_solver", "stop_mode", "f_thres", "f_tol", "f_memory")  # of forward solves: what an evaluation may have otherwise
_OWN_MEMORY = ", ".join(f"{option.default} of {name}" for name, option in WITH_MEMORY.items())


@dataclass
class EquilibriumSettings(BaseSettings):
    """How z* and its gradient are found: read by `training.evaluation.depth_of` and the loop."""

    f_solver: str = setting("broyden", "equilibrium", "solver of z = f(z; x); newton (exact Jacobian) is the fastest "
                            "with the compiled amplitude engine", FORWARD_SOLVERS)
    f_memory: int = setting(0, "equilibrium", "steps that --f_solver learns from: broyden's rank-one updates, after which its "
                            "inverse Jacobian, pairs or matrix, starts anew at -I; the latest differences that anderson "
                            f"combines. 0: the solver's own, {_OWN_MEMORY}", at_least=0)
    z0: str = setting("zero", "equilibrium", "where solves begin, and what the first of explicit layers sees: zero; x, the "
                      "state E r nearest to it; previous, in training the equilibrium that the image last had (zero before "
                      "that, in warm-up layers and in evaluations)", ("zero", "x", "previous"))
    b_solver: str = setting("broyden", "equilibrium", "solver of the gradient's linear system; exact: direct solve; "
                            "fixed_point: the Neumann series of --b_thres terms; identity: none of them, Jacobian-free",
                            ("broyden", "anderson", "fixed_point", "exact", JACOBIAN_FREE))
    stop_mode: str = setting("rel", "equilibrium", "residual that stops: rel ||f(z)-z||/||z||, abs ||f(z)-z||",
                             ("rel", "abs"))
    f_thres: int = setting(10, "equilibrium", "most forward solver steps", at_least=1, at_most=100_000)
    b_thres: int = setting(10, "equilibrium", "most backward solver steps", at_least=1, at_most=100_000)
    f_tol: float = setting(1e-3, "equilibrium", "residual at which a sample's forward solve stops", positive=True)
    b_tol: float = setting(1e-3, "equilibrium", "residual at which a sample's backward solve stops", positive=True)
    rand_f_thres_delta: int = setting(2, "equilibrium", "training draws the forward cap from f_thres - {0..delta}",
                                      at_least=0)
    jac_loss_weight: float = setting(0.0, "equilibrium", "weight of ||J_f||_F^2 / numel(z) in the loss", at_least=0)
    jac_loss_freq: float = setting(0.0, "equilibrium", "fraction of steps that carry the Jacobian loss, 0 to 1",
                                   at_least=0, at_most=1)
    jac_incremental: int = setting(0, "equilibrium", "raise the Jacobian weight by 0.1 every so many steps, up to 2",
                                   at_least=0)
    keep_states: bool = setting(False, "equilibrium", "with --trainable_gates none f never changes: find the state of every "
                                "image once, with --f_thres steps in every solve, and train the head on them; of every "
                                "training and validation image it keeps the readouts and z, 4 bytes a number")
    spectral_radius_mode: bool = setting(False, "equilibrium", "report the Jacobian's spectral radius at validation "
                                         "(mean over the first 2048 images)")

    def validate(self) -> list[str]:
        warnings = super().validate()
        if bool(self.jac_loss_weight or self.jac_incremental) != bool(self.jac_loss_freq):
            warnings.append("no Jacobian loss: it needs both --jac_loss_weight and --jac_loss_freq")
        if self.f_memory and self.f_solver not in WITH_MEMORY:
            raise SettingsError(
                f"--f_memory {self.f_memory} is of --f_solver {' and '.join(WITH_MEMORY)}, and {self.f_solver} keeps no "
                "steps: use --f_memory 0"
            )
        return warnings

    def check_start(self, s) -> None:
        """Refuse a --z0 that the model or its depth does not have, and --keep_states where states change.

        Args:
            s: all settings.

        Raises:
            SettingsError: one line that names the flags.
        """
        if self.z0 == "previous" and s.mode == "direct":
            raise SettingsError("--z0 previous is of equilibria, and --mode direct has none: use --z0 zero or x")
        if self.keep_states:
            self._check_kept(s)
        if self.z0 != "x":
            return
        of_x, of_z = MODELS[s.model].widths(s)
        if of_x != of_z:
            data = f" and --dataset {s.dataset}" if s.encoding == "turned_states" else ""
            raise SettingsError(
                f"--z0 x begins at x, which has {of_x} numbers with --model {s.model}{data}, and z has {of_z}: use --z0 zero"
            )

    def _check_kept(self, s) -> None:
        if MODELS[s.model].circuit is None or s.trainable_gates != "none":
            raise SettingsError("--keep_states: states change with what f learns: give a circuit's --trainable_gates none")
        changing = {
            "--shots": s.shots,
            "--gradient shift": s.by_shifts,
            "--pretrain_steps": s.pretrain_steps,
            "--z0 previous": self.z0 == "previous",
            "--jac_loss_freq": self.jac_loss_freq and s.mode == "implicit",
            "torchrun": world_size() > 1,
        }
        if flag := next((flag for flag, given in changing.items() if given), ""):
            raise SettingsError(f"--keep_states finds every state once, in one process and one way: leave out {flag}")
