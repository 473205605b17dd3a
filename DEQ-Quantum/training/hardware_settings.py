"""Under which noise and with how many shots a model is trained, validated and tested: settings, and their validation."""

import re
from dataclasses import dataclass

from models.table import MODELS
from runs.settings import BaseSettings, SettingsError, setting
from utils.launch import world_size

SAME = "same"  # --encoding_noise as --noise
JACOBIAN_FREE = "identity"  # --b_solver: (I - J)^-1 taken for 1


@dataclass
class HardwareSettings(BaseSettings):
    """Read by `training.hardware`, for training, validation and test alike."""

    noise: str = setting("none", "hardware", "of the ansatz's gates and of the bits that are read, exact and "
                         "differentiated: channels joined by commas, as depolarizing:1e-2,readout:0.02 or device:manila; "
                         "`hardware.py evaluate --help` lists them")
    encoding_noise: str = setting("none", "hardware", "of the encoding's gates, likewise; same: as --noise. Slow for "
                                  "amplitudes")
    shots: int = setting(0, "hardware", "of every circuit: values are read by counting, anew at every call, and equilibria "
                         "are solved from them; derivatives stay exact, so the implicit gradient is that at the counted "
                         "equilibrium, but for --gradient shift. 0: exact expectation values", at_least=0)
    gradient: str = setting("autograd", "hardware", "shift: every derivative from values of circuits at shifted angles and "
                            "inputs, as a chip gives it, with --shots of each; the same gradient without shots",
                            ("autograd", "shift"))

    @property
    def on_hardware(self) -> bool:
        """Whether circuits have noise, are counted, or give derivatives as a chip does."""
        return self.has_noise or self.shots > 0 or self.by_shifts

    @property
    def by_shifts(self) -> bool:
        return self.gradient == "shift"

    @property
    def has_noise(self) -> bool:
        return (self.noise, self.encoding_noise) != ("none", "none")

    @property
    def hardware_choices(self) -> list[str]:
        """The same in words that a folder's name may hold."""
        noise = self.noise if self.noise != "none" else ""
        encoding = f"encoding-{self.encoding_noise}" if self.encoding_noise != "none" else ""
        shots = f"{self.shots}shots" if self.shots else ""
        gradient = self.gradient if self.by_shifts else ""
        words = (re.sub(r"[^\w.+-]+", "-", word)[:60] for word in (noise, encoding, shots, gradient))
        return [*filter(None, words)]

    def noises(self):
        """`hardware.noise.Noise` of ansatz and encoding.

        Raises:
            SettingsError: one line with what is not understood, or cannot be.
        """
        from hardware.noise import NoiseError, common_gate, parse_noise  # here: --help does not wait for numpy

        flag = "--noise"
        try:
            noise = parse_noise(self.noise)
            flag = "--encoding_noise"
            encoding = noise if self.encoding_noise == SAME else parse_noise(self.encoding_noise)
            common_gate(noise, encoding)
        except NoiseError as error:
            text = str(error).removeprefix("--noise").removeprefix(":").strip()
            raise SettingsError(f"{flag}: {text}") from None
        return noise, encoding

    @classmethod
    def validate_flags(cls, given: dict) -> None:
        super().validate_flags(given)
        if given.get("shots") == 0:
            raise SettingsError("--shots 0 reads nothing: a circuit takes one shot or more; leave it out for exact values")

    def check_hardware(self, s) -> None:
        """Refuse noise and shots that go with no other settings of the run.

        Args:
            s: all settings.

        Raises:
            SettingsError: one line that names the flags.
        """
        if self.encoding_noise == SAME and self.noise == "none":
            raise SettingsError("--encoding_noise same is that of --noise, and there is none: give --noise")
        if not self.on_hardware:
            return
        flags = {"--noise": self.noise != "none", "--encoding_noise": self.has_noise, "--shots": self.shots > 0}
        flag = next((flag for flag, given in flags.items() if given), "--gradient shift")
        if self.has_noise:
            self.noises()
        if MODELS[s.model].circuit is None:
            raise SettingsError(f"{flag} is of circuits, and --model {s.model} has none: leave it out")
        if s.engine != "compiled":
            raise SettingsError(f"{flag} has an engine of its own: leave out --engine {s.engine}")
        if s.shard == "columns":
            raise SettingsError(f"--shard columns is of circuits without noise and shots: leave out {flag}")
        if self.shots and s.f_solver == "newton" and not self.by_shifts:
            raise SettingsError(
                "--shots give no exact Jacobian, which --f_solver newton takes: measure it by --gradient shift, or choose another"
            )
        if self.shots and world_size() > 1:
            raise SettingsError("--shots are drawn for the whole batch in one process: start it without torchrun")
        if self.by_shifts:
            self._check_shifts(s)

    def _check_shifts(self, s) -> None:
        implicit = s.mode == "implicit"
        if implicit and s.jac_loss_weight and s.jac_loss_freq:
            raise SettingsError(
                "--gradient shift gives first derivatives, and the Jacobian loss asks for those of derivatives: use "
                "--jac_loss_freq 0, or --gradient autograd"
            )
        layers = s.n_layer if not implicit or s.pretrain_steps else 0
        solves = implicit and (s.b_solver != JACOBIAN_FREE or s.f_solver == "newton") or s.spectral_radius_mode
        if s.encoding == "amplitude" and self.encoding_noise != "none" and (solves or layers > 1):
            raise SettingsError(
                "--gradient shift: with --encoding_noise readouts are no quadratic form of the amplitudes, and two "
                "circuits do not give their slope in what f feeds back: leave --encoding_noise out, use "
                "--amplitude_encoder False, or take no such slope (--b_solver identity, or one layer)"
            )
