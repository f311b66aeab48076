"""What an evaluation does: a look at the model, then the attacks, batch by batch."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from within_epsilon.attacks import Loss, noise_control, settings
from within_epsilon.attacks.core.registry import function_of
from within_epsilon.evaluation.core.examples import Batch, Examples
from within_epsilon.evaluation.core.judging import Guarded, judge, on_device
from within_epsilon.evaluation.core.record import Record
from within_epsilon.evaluation.diagnosis.diagnose import diagnose, training
from within_epsilon.evaluation.diagnosis.stages import Controls, check_stages
from within_epsilon.losses import cross_entropy, margin_loss
from within_epsilon.reports import Finding, RobustReport
from within_epsilon.runtime import untouched
from within_epsilon.threat import Ball

# How many examples the diagnosis looks at: so many, and of large ones no more than have this
# many pixel values: one photo of 224 x 224. Controls are worth their time from so many on.
ENOUGH = 64
_ENOUGH_NUMBERS, _COMPARED = 2**17, 8

# What is harmless for the library's attacks alone.
_HARMLESS_HERE = {"zero gradient at 0 and 1", "in-place writes"}
# What could only make the robust accuracy too high, and does not if nothing stands.
_TOO_HIGH = {
    *("probabilities", "saturated outputs", "small logits", "weak loss", "flat loss"),
    *("zero gradient", "no gradient", "misleading gradient", "gradient with holes"),
    *("gradient-free attack finds more", "zero gradient at 0 and 1"),
}


class Run:
    """An evaluation under way.

    Parameters
    ----------
    model : nn.Module
        The model.
    ball : Ball
        The threat model.
    stages : sequence of Guarded
        The attacks in turn.
    seed : int
        Of the global random generators during a batch.
    """

    def __init__(self, model: nn.Module, ball: Ball, stages: Sequence[Guarded], seed: int) -> None:
        self.model, self.ball, self.stages, self.seed = model, ball, stages, seed
        self._controls: Controls | None = None

    def look(self, examples: Examples, record: Record, *, thoroughly: bool) -> None:
        """Diagnose the model, on the first examples that are not on record."""
        batches = examples.ahead(ENOUGH) if thoroughly and record.report.n < ENOUGH else []
        sample = sample_of(self.model, map(record.unknown, batches))
        record.note(findings_on(self.model, sample, self.ball, self.stages))
        if sample is not None and len(sample.labels) >= _COMPARED:
            self._controls = Controls(self.model, sample, self.ball, self.stages)

    def judge(self, batch: Batch, record: Record) -> Tensor:
        """Judge a batch, add what became of it to the record, and return adversarial images."""
        here = on_device(batch, self.model)
        with untouched(self.model, self.seed):
            judged = judge(self.model, here, self.ball, self.stages)
        record.add(batch, judged)
        if self._controls is not None:
            self._controls.note(here, judged)
            if self._controls.complete:
                record.note(self._controls.findings())
                self._controls = None
        return judged.images_adv

    def findings(self, record: Record, report: RobustReport) -> tuple[Finding, ...]:
        """Return all findings; those that the stages refute are not doubtful."""
        if self._controls is not None:
            record.note(self._controls.findings())
        record.note(check_stages(report))
        return weighed(record.findings, self.stages, report.robust)


def findings_on(
    model: nn.Module, sample: Batch | None, ball: Ball, stages: Sequence[Guarded]
) -> list[Finding]:
    """Diagnose the model on a sample; without one, see whether it is in train mode."""
    if sample is None:
        return [finding] if (finding := training(model)) else []
    ball, losses = ball[sample.indices], losses_of(stages)
    return diagnose(model, sample.images, sample.labels, ball, losses=losses)


def sample_of(model: nn.Module, batches: Iterable[Batch]) -> Batch | None:
    """Return the first examples of one shape that have no NaN, on the model's device."""
    first = [batch for batch in batches if len(batch.labels)]
    if not first:
        return None
    shape = first[0].images.shape[1:]
    alike = [batch for batch in first if batch.images.shape[1:] == shape]
    most = max(1, min(ENOUGH, _ENOUGH_NUMBERS // max(shape.numel(), 1)))
    images, labels, indices = (
        torch.cat(column)[:most] for column in zip(*(batch[:3] for batch in alike), strict=True)
    )
    whole = Batch(images, labels, indices)
    sample = whole.rows(~whole.images.flatten(1).isnan().any(dim=1))
    return on_device(sample, model) if len(sample.labels) else None


def weighed(
    findings: Iterable[Finding], stages: Sequence[Guarded], robust: int
) -> tuple[Finding, ...]:
    """Tell which findings are doubtful for these attacks, when so many examples stand."""
    suspect = _HARMLESS_HERE if any(stage.own for stage in stages) else set()
    refuted = _TOO_HIGH if robust == 0 else set()
    return tuple(
        replace(one, doubtful=(one.doubtful or one.name in suspect) and one.name not in refuted)
        for one in findings
    )


def findings_of_parts(report: RobustReport) -> tuple[Finding, ...]:
    """Return the findings of merged parts as those of the whole, evaluated at once, would be.

    A part whose examples have all fallen counts no finding as doubtful that could only have made
    its robust accuracy too high; another part may have examples that stand. How stages fared is
    judged by their sums.

    Parameters
    ----------
    report : RobustReport
        Of `reports.merge`; its attacks are the library's.
    """
    of_sums = {"gradient-free attack finds more", "bad examples"}
    found = [finding for finding in report.findings if finding.name not in of_sums]
    found += check_stages(report)
    high = _TOO_HIGH - _HARMLESS_HERE
    return tuple(
        replace(finding, doubtful=report.robust > 0) if finding.name in high else finding
        for finding in found
    )


def losses_of(stages: Sequence[Guarded]) -> list[Loss]:
    """Return what the attacks raise; those of the library that do not say raise margins."""
    losses: list[Loss] = []
    for stage in stages:
        loss = settings(stage.attack).get("loss", cross_entropy if stage.own else margin_loss)
        if callable(loss) and function_of(stage.attack) is not noise_control:
            losses.append(loss)
    return losses
