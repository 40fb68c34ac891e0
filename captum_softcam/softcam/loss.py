"""The ElasticNet penalty that makes class evidence sparse."""

from __future__ import annotations

from torch import Tensor, nn

from captum_softcam._names import listed, quoted

__all__ = ["ElasticNetEvidenceLoss"]

_REDUCTIONS = ("mean", "sum", "none")


class ElasticNetEvidenceLoss(nn.Module):
    r"""ElasticNet penalty on class evidence, added to the classification loss :cite:p:`djoumessi2026softcam`.

    .. math:: L(E) = \lambda_1 \sum_{k,p} |E_k(p)| + \lambda_2 \sum_{k,p} E_k(p)^2

    with evidence :math:`E` (K, h, w) of one example; sums run over classes and positions, as in the paper.

    Departures from the paper: every image of the batch is penalised (the released code takes the first only), and the
    second term is the ridge penalty, the *squared* 2-norm that gives the elastic net its name (the paper prints the norm,
    the released code leaves it unsquared).

    To use the weights of the paper, with ``reduction="mean"``: the sum grows with the number of cells, so for evidence with
    :math:`n` positions multiply them by :math:`256 / n`, because the evidence of the paper has 256 (512 pixels at stride
    32). ``lambda_l1`` can then be used as it is. The gradients of :math:`\lambda \lVert E \rVert` and
    :math:`\lambda' \lVert E \rVert^2` are equal for :math:`\lambda' = \lambda / (2 \lVert E \rVert)`: divide the 4e-5 of
    the paper by twice the norm of your evidence.

    Reductions: ``"mean"`` over the examples does not depend on the batch size, and DistributedDataParallel, which averages
    the gradients of equal parts, yields the gradient of the whole batch. ``"sum"`` grows with the batch; the average over
    *r* processes is then one *r*-th of the sum over the whole batch. ``"none"`` returns one value per example.

    Args:
        lambda_l1 (float): weight of the lasso term, >= 0. The paper uses 5e-5 to 1.5e-3 for 256 positions. Default: 0.0
        lambda_l2 (float): weight of the ridge term, >= 0. Default: 0.0
        reduction (str): ``"mean"`` over the examples, ``"sum"``, or ``"none"`` (N,). Default: ``"mean"``

    Raises:
        ValueError: on a negative weight or an unknown reduction.

    Example::

        >>> evidence = model.evidence_maps(images)
        >>> loss = cross_entropy(evidence.mean((2, 3)), labels) + ElasticNetEvidenceLoss(1e-4, 4e-5)(evidence)
    """

    def __init__(self, lambda_l1: float = 0.0, lambda_l2: float = 0.0, reduction: str = "mean") -> None:
        super().__init__()
        # Negated, because NaN fails every comparison and has to be refused as well.
        if not (lambda_l1 >= 0 and lambda_l2 >= 0):
            raise ValueError(f"lambda_l1 and lambda_l2 must be >= 0; got {quoted(lambda_l1)} and {quoted(lambda_l2)}.")
        if reduction not in _REDUCTIONS:
            raise ValueError(f"reduction {quoted(reduction)} is unknown; expected one of {listed(map(repr, _REDUCTIONS))}.")
        self.lambda_l1 = lambda_l1
        self.lambda_l2 = lambda_l2
        self.reduction = reduction

    def forward(self, evidence: Tensor) -> Tensor:
        """Compute the penalty of evidence maps.

        Args:
            evidence (Tensor): (N, K, h, w), or of signals and volumes (N, K, ...).

        Returns:
            Tensor: a scalar, or (N,) with ``reduction="none"``; >= 0.
        """
        cells = evidence.flatten(1)
        penalty = self.lambda_l1 * cells.abs().sum(1) + self.lambda_l2 * cells.square().sum(1)
        if self.reduction == "none":
            return penalty
        return penalty.mean() if self.reduction == "mean" else penalty.sum()

    def extra_repr(self) -> str:
        """Return the settings for ``print(module)``."""
        return f"lambda_l1={self.lambda_l1}, lambda_l2={self.lambda_l2}, reduction={self.reduction!r}"
