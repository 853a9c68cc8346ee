"""What this plugin offers. Only strings: nothing else is imported until a recipe asks for it."""

from gen_core.hooks import hookimpl

GEN_API = 1  # the plugin interface this was written for


@hookimpl
def register_datasets(register):
    register(
        "rings",
        options="gen_example.options:Rings",
        build="gen_example.rings:RingData",
        version=1,
        summary="Random rings whose brightness rises with the band.",
    )


@hookimpl
def register_codecs(register):
    register(
        "patch-linear",
        options="gen_example.options:PatchLinear",
        build="gen_example.patch_linear:PatchLinearCodec",
        version=1,
        summary="Each patch through one linear map, there and back.",
    )


@hookimpl
def register_metrics(register):
    register(
        "mean-error",
        options="gen_example.options:MeanError",
        build="gen_example.mean_error:MeanErrorMetric",
        version=1,
        summary="Mean absolute error of reconstructions.",
    )
