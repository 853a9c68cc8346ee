"""What this plugin offers: feature networks for distances, and a segmenter of spectra."""

from gen_core.hooks import hookimpl


@hookimpl
def register_features(register):
    register(
        "random-conv64",
        options="gen_features.feature_options:RandomConv64",
        build="gen_features.random_conv64:build",
        version=1,
        summary="Fixed random convolutions, 3 channels in, 64 features out; needs no weights file.",
    )
    register(
        "codec",
        options="gen_features.feature_options:CodecFeatures",
        build="gen_features.codec_features:build",
        version=1,
        summary="Mean and standard deviation of the fitted codec's last encoder maps.",
    )


@hookimpl
def register_segmenters(register):
    register(
        "pixel-logistic",
        options="gen_features.pixel_logistic_options:PixelLogistic",
        build="gen_features.pixel_logistic:build",
        version=1,
        summary="Logistic regression on each pixel's spectrum and its neighbourhood, trained on masks.",
    )
    register(
        "w-net",
        options="gen_features.wnet_options:WNet",
        build="gen_features.wnet:build",
        version=1,
        summary="Two small U-Nets in a row on a few bands, trained on masks.",
    )
