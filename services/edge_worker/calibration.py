"""What a calibration file means for this worker: the gate's signal and threshold, and what an answer may promise."""

from __future__ import annotations

from dataclasses import dataclass

from services.common.calibration import files
from services.common.calibration.answer_level import AnswerRule
from services.common.calibration.files import Asked, Calibration, CalibrationError
from services.common.calibration.predictor import NAME, Predictor
from services.common.lm import presets
from services.common.settings import ConfigError
from services.edge_worker.answer import AnswerRequest
from services.edge_worker.settings import EdgeSettings
from services.edge_worker.signals import Importance, Signal

ASK_ALWAYS = -1.0  # below any uncertainty: no threshold of the file passes at this alpha
SAME_POLICY = ("span_tokens", "wait_tokens", "risk", "x_entries")


@dataclass(frozen=True)
class Calibrated:
    """One calibration at one ``alpha``."""

    calibration: Calibration
    alpha: float

    @property
    def tau_u(self) -> float:
        tau = self.calibration.tau(self.alpha)
        return ASK_ALWAYS if tau is None else tau

    @property
    def signal(self) -> Signal | None:
        """``None``: the predictor."""
        return None if self.calibration.policy.signal == NAME else Signal(self.calibration.policy.signal)

    @property
    def predictor(self) -> Predictor | None:
        return self.calibration.predictor if self.signal is None else None

    @property
    def answer_level(self) -> AnswerRule | None:
        return self.calibration.policy.answer_level

    def promise(self, request: AnswerRequest, chat: bool) -> str:
        """The guarantee of an answer, as far as its request decides it."""
        asked = Asked(
            sampling=request.sampling,
            prompt_tokens=len(request.prompt_ids),
            max_tokens=request.max_tokens,
            k=request.k,
            gamma=request.gamma,
            chat=chat,
        )
        return files.guarantee(self.calibration, self.alpha, asked)

    def check(self, *, revision: str, weights: str, target: str, tokenizer_hash: str, template: str) -> None:
        """Raises ``ConfigError`` where the models are not those that were calibrated.

        ``revision`` and number format ``weights`` of the draft; ``target``: its name, which is all that an edge knows;
        ``template`` of the chat.
        """
        found = self.calibration
        pairs = (
            ("draft", revision, found.draft.revision),
            ("number format of the draft", weights, found.draft.weights),
            ("target", presets.short(target), presets.short(found.target.reference)),
            ("tokenizer", tokenizer_hash, found.tokenizer_hash),
            ("chat template", files.text_hash(template), found.template_hash),
        )
        for what, here, there in pairs:
            if here != there:
                raise ConfigError(
                    f"SLUICE_EDGE_CALIBRATION is for another {what} ({there}) than this worker's ({here}): "
                    "calibrate this one, or set the models of the calibration"
                )


def load(settings: EdgeSettings) -> Calibrated | None:
    """The calibration that the settings name. Raises ``ConfigError`` where the two contradict each other."""
    if settings.calibration is None:
        return None
    try:
        found = files.load(settings.calibration)
        alphas = [t.alpha for t in found.thresholds]
        if settings.alpha is None and len(alphas) != 1:
            known = ", ".join(f"{a:g}" for a in alphas)
            raise ConfigError(f"SLUICE_EDGE_ALPHA: choose one of those in {settings.calibration}: {known}")
        alpha = alphas[0] if settings.alpha is None else settings.alpha
        found.at(alpha)
    except CalibrationError as error:
        raise ConfigError(f"SLUICE_EDGE_CALIBRATION: {error}") from error
    _check_policy(settings, found)
    return Calibrated(found, alpha)


def _check_policy(settings: EdgeSettings, found: Calibration) -> None:
    if "signal" in settings.model_fields_set and settings.signal != found.policy.signal:
        raise ConfigError(f"SLUICE_EDGE_SIGNAL is {settings.signal}, but {found.policy.signal} was calibrated: leave it out")
    if found.policy.signal not in (NAME, *Signal):
        raise ConfigError(f"SLUICE_EDGE_CALIBRATION: unknown signal {found.policy.signal!r}; run `sluice calibrate` again")
    if settings.importance is not Importance(found.policy.importance):
        raise ConfigError(
            f"SLUICE_EDGE_IMPORTANCE is {settings.importance}, but the calibration has {found.policy.importance}: use that"
        )
    for name in SAME_POLICY:
        here, there = getattr(settings, name), getattr(found.policy, name)
        if here != there:
            raise ConfigError(f"SLUICE_EDGE_{name.upper()} is {here}, but the calibration was made with {there}: use that")
