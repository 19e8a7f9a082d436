"""The line printed for each epoch, and remarks on problems of a run."""

import math

Metrics = dict[str, float]  # metrics of an epoch, as in metrics.jsonl
UNUSED_KL = 0.1  # nats per image; with a smaller KL, the posterior of an image equals the prior


def criterion(metrics: Metrics) -> str:
    """Return the name of the validation metric: the ELBO, or the objective for guides of points."""
    return "elbo" if "elbo" in metrics else "objective"


def as_trained(metrics: Metrics, beta: float) -> float:
    """Return the metric for early stopping: the ELBO with its KL weighted as in training, or the objective."""
    return metrics["elbo"] - (beta - 1) * metrics["kl"] if "elbo" in metrics else metrics["objective"]


def line(metrics: Metrics) -> str:
    """Return the line to print for an epoch."""
    if criterion(metrics) == "elbo":
        parts = f"ELBO {metrics['elbo']:8.2f} = {metrics['reconstruction']:8.2f} - KL {metrics['kl']:6.2f}"
    else:
        parts = (
            f"objective {metrics['objective']:8.2f} of log p(x | z) {metrics['reconstruction']:8.2f} and "
            f"log p(z) {metrics['log_prior']:8.2f}"
        )
    return (
        f"epoch {metrics['epoch']:4d}   loss {metrics['loss']:8.2f}   validation: {parts}   {metrics['seconds']:.1f} s"
    )


def remarks(
    metrics: list[Metrics], best_epoch: int, untrained: Metrics, beta: float = 1.0, warmup: int = 0
) -> list[str]:
    """Return sentences that describe problems of a run; an empty list without problems.

    A run has diverged if its best epoch is far below the `untrained` model, or if its last epoch is and the loss
    increased by more than a factor of ten. "Far" is the absolute value of the untrained model's objective. Each epoch
    is judged by the objective with which it was trained.

    >>> start = {"elbo": -543.0, "reconstruction": -541.0, "kl": 2.0}
    >>> def epoch(number, elbo, kl):
    ...     return {"epoch": number, "elbo": elbo, "reconstruction": elbo + kl, "kl": kl, "loss": -elbo}
    >>> remarks([epoch(1, -200.0, 3.0)], 1, start)
    []
    >>> remarks([epoch(1, -200.0, 0.01)], 1, start)     # doctest: +ELLIPSIS
    ['The latents are unused: the KL term is 0.01 nats per image. ...']
    >>> remarks([epoch(1, -2e9, 3e3)], 1, start)        # doctest: +ELLIPSIS
    ['Training diverged: the validation ELBO of the best epoch is -2e+09, that of the untrained model -543. ...']
    """

    def weighted(line: Metrics, epoch: int) -> float:
        weight = beta * min(1.0, epoch / warmup) if warmup else beta
        if "kl" in line:
            return line["reconstruction"] - weight * line["kl"]
        return line["reconstruction"] + weight * line["log_prior"]

    def far_below(line: Metrics) -> bool:
        start = weighted(untrained, int(line["epoch"]))
        return weighted(line, int(line["epoch"])) < start - max(10.0, abs(start))

    first, best, last = metrics[0], metrics[best_epoch - 1], metrics[-1]
    by = criterion(best)
    name, said = "ELBO" if by == "elbo" else by, []
    if far_below(best):
        said.append(
            f"Training diverged: the validation {name} of the best epoch is {best[by]:.4g}, that of the untrained "
            f"model {untrained[by]:.4g}. Use a lower --lr."
        )
    elif far_below(last) and last["loss"] > first["loss"] + 10 * max(1.0, math.fabs(first["loss"])):
        said.append(
            f"Training diverged after epoch {best_epoch}: the validation {name} decreased from {best[by]:.4g} to "
            f"{last[by]:.4g}. The results are those of epoch {best_epoch}. Use a lower --lr."
        )
    if best.get("kl", math.inf) < UNUSED_KL:
        said.append(
            f"The latents are unused: the KL term is {max(0.0, best['kl']):.2f} nats per image. "
            "Use a lower --beta or a longer --warmup."
        )
    return said
