"""Remarks on a trained run: sentences about results that a person should not take at face value."""

import math

from vampyro.runs.scoring import criterion

UNUSED_KL = 0.1  # nats per image, below which the posterior of an image is the prior


def remarks(metrics: list[dict], best_epoch: int, untrained: dict, beta: float = 1.0, warmup: int = 0) -> list[str]:
    """Return sentences on what is wrong with a run, none where nothing is.

    A run has diverged where its best epoch is far below the untrained model, or where its last epoch is and the loss
    rose by more than an order of magnitude meanwhile. "Far" is the untrained model's own distance from 0, and each
    epoch is judged by the objective that it was trained with.

    Args:
        metrics: one dict for each epoch, as in metrics.jsonl.
        best_epoch: the number of the epoch whose weights are kept.
        untrained: what `vampyro.training.validation` returns for the model before training.
        beta, warmup: of the KL term's weight.

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

    def weighted(line: dict, epoch: int) -> float:
        weight = beta * min(1.0, epoch / warmup) if warmup else beta
        if "kl" in line:
            return line["reconstruction"] - weight * line["kl"]
        return line["reconstruction"] + weight * line["log_prior"]

    def far_below(line: dict) -> bool:
        start = weighted(untrained, line["epoch"])
        return weighted(line, line["epoch"]) < start - max(10.0, abs(start))

    first, best, last = metrics[0], metrics[best_epoch - 1], metrics[-1]
    by = criterion(best)
    name = "ELBO" if by == "elbo" else by
    advice = "Use a lower --lr."
    said = []
    if far_below(best):
        said.append(
            f"Training diverged: the validation {name} of the best epoch is {best[by]:.4g}, that of the untrained "
            f"model {untrained[by]:.4g}. {advice}"
        )
    elif far_below(last) and last["loss"] > first["loss"] + 10 * max(1.0, math.fabs(first["loss"])):
        said.append(
            f"Training diverged after epoch {best_epoch}: the validation {name} fell from {best[by]:.4g} to "
            f"{last[by]:.4g}. The results are those of epoch {best_epoch}. {advice}"
        )
    if best.get("kl", math.inf) < UNUSED_KL:
        said.append(
            f"The latents are unused: the KL term is {max(0.0, best['kl']):.2f} nats per image. "
            "Use a lower --beta or a longer --warmup."
        )
    return said
