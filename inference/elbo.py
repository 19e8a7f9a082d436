"""The evidence lower bound: for training, and taken apart for reading."""

import pyro
import pyro.infer
import torch
from pyro.infer.enum import get_importance_trace

from inference.evaluation import check_latents, evaluation_mode


class Trace_ELBO(pyro.infer.Trace_ELBO):
    """Pyro's Trace_ELBO without its waits for the device.

    Stock `Trace_ELBO` asks the device for a number (`.item()`) at every site of every step. This one
    adds the same log-probabilities in the same order and asks for none: at equal seed its gradients are the
    same bits, and so is its loss but for the rounding of a float32 sum, which stock adds up in double. It
    applies where every site of the guide is reparameterised; any other guide gets the stock estimator with
    its score-function terms.

    >>> from models import VAE; from guides import Guide; from priors import StandardNormal; import nets
    >>> decoder = torch.nn.Sequential(nets.MLP((2,), (8,)), nets.BernoulliHead(8, (1, 4, 4)))
    >>> model, guide = VAE(StandardNormal(2), decoder), Guide(nets.MLP((1, 4, 4), (8,)), nets.NormalHead(8, 2))
    >>> Trace_ELBO().differentiable_loss(model, guide, torch.zeros(5, 1, 4, 4)).shape     # summed over images
    torch.Size([])
    """

    def differentiable_loss(self, model, guide, *args, **kwargs):
        loss = 0.0
        for model_trace, guide_trace in self._get_traces(model, guide, args, kwargs):
            latents = [site for site in guide_trace.nodes.values() if site["type"] == "sample"]
            if all(site["fn"].has_rsample for site in latents):
                elbo = 0.0
                for site in model_trace.nodes.values():
                    if site["type"] == "sample":
                        elbo = elbo + site["log_prob_sum"]
                for site in latents:
                    elbo = elbo - site["log_prob_sum"]
                particle = -elbo
            else:
                value, surrogate = self._differentiable_loss_particle(model_trace, guide_trace)
                particle = value + (surrogate - surrogate.detach())
            loss = loss + particle / self.num_particles
        return loss


@torch.no_grad()
def elbo_parts(model, guide, images, batch_size=500):
    """ELBO = E_q[log p(x | z)] - E_q[log q(z | x) - log p(z)], one sample of z for each image.

    The KL term always has its full weight, whatever the training's, and modules are in evaluation mode.

    Args:
        images: (N, channels, height, width), as the model should see them.

    Returns:
        dict of floats, nats per image: `elbo`, `reconstruction`, `kl`.

    Raises:
        ValueError: where there are no images, or model and guide do not have the same latent sites.
    """
    if not len(images):
        raise ValueError("elbo_parts expects at least one image, got none")
    reconstruction = kl = 0.0
    with evaluation_mode(model, guide), pyro.validation_enabled(False):
        for x in images.split(batch_size):
            model_trace, guide_trace = get_importance_trace("flat", 1, model, guide, (x,), {})
            check_latents(model_trace.stochastic_nodes, guide_trace.stochastic_nodes)
            for name, site in model_trace.nodes.items():
                if site["type"] == "sample":
                    log_prob = site["log_prob_sum"].double()
                    if site["is_observed"]:
                        reconstruction = reconstruction + log_prob
                    else:
                        kl = kl + guide_trace.nodes[name]["log_prob_sum"].double() - log_prob
    reconstruction, kl = float(reconstruction) / len(images), float(kl) / len(images)
    return {"elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl}
