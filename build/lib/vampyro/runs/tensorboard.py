"""A run as TensorBoard shows it: `tensorboard --logdir runs`."""

from vampyro.errors import require

AXES = {"loss": "training", "seconds": "training"}  # all others are of the validation images


class Board:
    """Curves of every epoch, the last figures as images, settings beside results: in DIR/tensorboard.

    The curves are those of metrics.jsonl, whatever lay there before: an event says that all earlier ones are void, and
    every epoch is written anew. So nothing is there twice after a resumption, nor missing where the flag came later.

    Args:
        path: the run's folder, or None: then nothing is written.
        metrics: of the epochs so far.
    """

    def __init__(self, path=None, metrics=()):
        self.writer = None
        if path is not None:
            require("tensorboard", "--tensorboard")
            from torch.utils.tensorboard import SummaryWriter  # seconds to import, and an optional package

            self.writer = SummaryWriter(str(path / "tensorboard"), purge_step=1)
            for line in metrics:
                self.epoch(line)

    def epoch(self, metrics):
        """The figures of one epoch, nats per image (and its seconds)."""
        if self.writer is not None:
            for name, value in metrics.items():
                if name != "epoch":
                    self.writer.add_scalar(f"{AXES.get(name, 'validation')}/{name}", value, metrics["epoch"])
            self.writer.flush()

    def end(self, epoch, pictures, config, results):
        """Figures by file name, and the settings with what they led to; the last that is written."""
        if self.writer is not None:
            for name, figure in pictures.items():
                self.writer.add_figure(name.removesuffix(".png"), figure, epoch, close=False)
            settings = {
                name: value if isinstance(value, (bool, int, float)) else str(value) for name, value in config.items()
            }
            figures = {f"test/{name}": value for name, value in results.items() if isinstance(value, (int, float))}
            self.writer.add_hparams(settings, figures, run_name=".", global_step=epoch)
            self.writer.close()
