"""What can be measured of a finished run: name → (what it says, module of this package with `measure(subject)`)."""

SECTIONS = {
    "likelihood": "log p̂(x) by importance sampling, with its errors, k̂ and convergence",
    "elbo": "the ELBO taken apart: KL a latent, mutual information, active units",
    "prior": "use of its components; prior and posteriors in the latent plane",
    "samples": "what a classifier and a Fréchet distance say of samples and reconstructions; nearest training images",
    "outliers": "log p̂(x) of noise and of another data set beside the test images'",
    "ais": "log p̂(x) of a few images by annealed importance sampling, and bidirectional bounds",
    "gaps": "amortisation and approximation gap of a few images",
}
