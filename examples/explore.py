"""Reactive notebook: decode any point of the latent plane.

pip install -r examples/requirements-examples.txt
marimo run examples/explore.py        # `marimo edit` also shows the cells and lets you change them
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="The latent plane")


@app.cell
def _():
    import marimo as mo
    import pyro
    import torch

    from vampyro import assemble, data, plots
    from vampyro.training import elbo_parts, fit, make_update

    images = data.load("mnist5k")
    x, labels = images.images("train")[:2000], images.labels_of("train")[:2000]
    return assemble, elbo_parts, fit, images, labels, make_update, mo, plots, pyro, torch, x


@app.cell
def _(mo, x):
    prior = mo.ui.dropdown(["standard", "mog:20", "vamp:50", "coupling:4"], value="vamp:50", label="prior")
    flow = mo.ui.dropdown(["none", "planar:4", "iaf:2"], value="none", label="flow of the posterior")
    epochs = mo.ui.slider(1, 40, value=10, label="epochs", show_value=True, debounce=True)
    choice = mo.ui.slider(0, len(x) - 1, value=0, label="image", show_value=True)
    mo.vstack([mo.md("# The latent plane"), mo.hstack([prior, flow, epochs], justify="start")])
    return choice, epochs, flow, prior


@app.cell
def _(assemble, elbo_parts, epochs, fit, flow, images, make_update, mo, prior, pyro):
    # Only a change of the prior, the flow or the number of epochs trains again.
    pyro.set_rng_seed(0)
    model, guide = assemble(prior=prior.value, flow=flow.value, hidden=(200,), latent=2)
    with mo.status.progress_bar(total=epochs.value, title="training", remove_on_exit=True) as bar:
        for metrics in fit(make_update(model, guide, lr=2e-3), images, epochs=epochs.value):
            bar.update(subtitle=f"-ELBO {metrics['loss']:.1f} nats per image")
    found = elbo_parts(model, guide, images.images("valid"))
    mo.md(
        f"validation ELBO **{found['elbo']:.1f}** = "
        f"reconstruction {found['reconstruction']:.1f} - KL {found['kl']:.1f} nats per image"
    )
    return guide, model


@app.cell
def _(choice, guide, mo, pyro, torch, x):
    # Limit the sliders to the range of the codes.
    pyro.set_rng_seed(0)
    with torch.no_grad():
        codes = guide.q(x).sample()
    (left, low), (right, high) = codes.quantile(0.01, 0).tolist(), codes.quantile(0.99, 0).tolist()

    def slider(label, start, stop):
        return mo.ui.slider(start, stop, step=(stop - start) / 100, value=(start + stop) / 2, label=label)

    z1, z2 = slider("z₁", left, right), slider("z₂", low, high)
    mo.hstack([z1, z2, choice], justify="start")
    return codes, z1, z2


@app.cell
def _(choice, codes, guide, labels, mo, model, plots, torch, x, z1, z2):
    with torch.no_grad():
        z = torch.tensor([[z1.value, z2.value]])
        decoded = model.decoder(z).mean
        q = guide.q(x[choice.value : choice.value + 1])
        rebuilt = model.decoder(q.sample()).mean
        plane = plots.latent_plane(codes, labels, model.prior().log_prob, title="codes and contours of the prior")
        axes = plane.axes[0]
        # Contour of the posterior of the selected image that contains 90 % of its samples.
        (left_, right_), (low_, high_) = axes.get_xlim(), axes.get_ylim()
        columns, rows = torch.linspace(left_, right_, 200), torch.linspace(low_, high_, 200)
        density = q.log_prob(torch.cartesian_prod(rows, columns).flip(-1)).reshape(200, 200)
        level = q.log_prob(q.sample((500,))).quantile(0.1).item()
        axes.contour(columns, rows, density, levels=[level], colors="red", linewidths=1.5, linestyles="solid")
        axes.plot(z1.value, z2.value, "+", color="black", markersize=18, markeredgewidth=3)
    pictures = plots.image_grid(torch.cat([decoded, x[choice.value : choice.value + 1], rebuilt]), 3)
    pictures.set_size_inches(4.5, 1.6)
    mo.hstack(
        [
            plane,
            mo.vstack(
                [
                    pictures,
                    mo.md(
                        f"From left to right: E[x | z] at the cross, z = ({z1.value:.2f}, {z2.value:.2f}); "
                        "the selected image; its reconstruction."
                    ),
                    mo.md(
                        "Black: contours of the prior. "
                        "Red: the contour that contains 90 % of the samples of q(z | x) for the selected image."
                    ),
                ]
            ),
        ],
        widths=[3, 2],
    )
    return


if __name__ == "__main__":
    app.run()
