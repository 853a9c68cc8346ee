"""The contracts of gen, asked of this plugin."""

from pathlib import Path

import torch
from gen_core.batch import collate
from gen_core.codec import CodecContext
from gen_core.dataset import DatasetContext
from gen_core.recipe import load_recipe
from gen_core.testing import check_codec, check_dataset, check_metric

recipe = load_recipe(Path(__file__).parents[1] / "rings.toml")


def build(table, context=None):
    return recipe.table(table).component.build(recipe.table(table).options, context)


def dataset(cache):
    return build("dataset", DatasetContext(recipe.volume, recipe.split, seed=0, cache=cache))


def test_the_data_set_keeps_its_contract(tmp_path):
    check_dataset(dataset(tmp_path))


def test_the_codec_keeps_its_contract(tmp_path):
    data = dataset(tmp_path)
    batch = collate([data.split("train")[i] for i in range(3)])
    check_codec(build("codec", CodecContext(data.spec)), batch.x, batch)


def test_the_metric_keeps_its_contract(tmp_path):
    batch = collate(list(dataset(tmp_path).split("val")))
    batch.reference = batch.x + 0.1 * torch.randn(batch.x.shape)
    check_metric(lambda: build("metrics.mean-error"), [("reconstruction", batch)])
