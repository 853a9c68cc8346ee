"""The door of the plugin: strings that resolve, options without torch."""

import importlib
import subprocess
import sys

from gen_features.plugin import register_features, register_segmenters


def test_every_registered_string_resolves():
    seen = {}
    register = lambda name, **kw: seen.update({name: kw})
    register_features(register)
    register_segmenters(register)
    assert {"random-conv64", "codec", "pixel-logistic"} <= set(seen)
    assert {"moco-resnet18", "moco-resnet50", "mae-vit", "inception-v3"} <= set(seen)
    for row in seen.values():
        for target in (row["options"], row["build"]):
            module, attribute = target.split(":")
            assert hasattr(importlib.import_module(module), attribute)


def test_options_need_no_torch():
    code = (
        "import sys, gen_features.feature_options, gen_features.pixel_logistic_options, gen_metrics.metric_options;"
        "import gen_features.moco_options, gen_features.mae_options, gen_features.inception_options;"
        "assert not {'torch', 'numpy', 'scipy'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
