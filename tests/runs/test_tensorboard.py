"""What TensorBoard is shown: every epoch once, also after a resumption, and the figures."""

import json

import pytest

from vampyro import cli as run

pytest.importorskip("tensorboard", reason="tensorboard is optional: pip install -r requirements-extras.txt")

FLAGS = "--hidden 8 --latent 2 --samples 10 --batch-size 50 --epochs"


def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0}).Reload()


@pytest.mark.parametrize("before", [["--tensorboard"], []], ids=["resumed", "flag given later"])
def test_events_are_the_metrics(dataset, tmp_path, before):
    folder = tmp_path / "run"
    assert run.main([*FLAGS.split(), "2", "--dataset", str(dataset), "--out", str(folder), *before]) is None
    assert (folder / "tensorboard").exists() == bool(before)
    assert run.main(["--resume", str(folder), "--epochs", "4", "--tensorboard"]) is None
    found, metrics = events(folder), [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    assert len(metrics) == 4
    for tag, name in {"training/loss": "loss", "validation/elbo": "elbo", "validation/kl": "kl"}.items():
        points = found.Scalars(tag)
        assert [point.step for point in points] == [1, 2, 3, 4]
        assert [point.value for point in points] == pytest.approx([line[name] for line in metrics])
    assert {"samples", "reconstructions", "curves"} <= set(found.Tags()["images"])
    assert {image.step for image in found.Images("samples")} == {4}
    likelihood = json.loads((folder / "results.json").read_text())["test"]["log_likelihood"]
    assert found.Scalars("test/log_likelihood")[-1].value == pytest.approx(likelihood)
