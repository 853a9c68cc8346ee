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
    register(
        "moco-resnet18",
        options="gen_features.moco_options:MocoResnet18",
        build="gen_features.moco:build_resnet18",
        version=1,
        summary="Momentum Contrast, 18 layers: learns from this run's volumes which views belong together.",
    )
    register(
        "moco-resnet50",
        options="gen_features.moco_options:MocoResnet50",
        build="gen_features.moco:build_resnet50",
        version=1,
        summary="Momentum Contrast, 50 layers, as published systems use it for memorization.",
    )
    register(
        "mae-vit",
        options="gen_features.mae_options:MaeVit",
        build="gen_features.mae:build",
        version=1,
        summary="Masked autoencoder: a small vision transformer that completes hidden patches.",
    )
    register(
        "inception-v3",
        options="gen_features.inception_options:InceptionV3",
        build="gen_features.inception_v3:build",
        version=1,
        summary="The network of published FID values; weights from a file of yours, checked by hash.",
    )
    register(
        "probe",
        options="gen_features.probe_options:Probe",
        build="gen_features.probe:build",
        version=1,
        summary="Tells a yes-no condition of the volumes from another network's features; linear or fine-tuned.",
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
