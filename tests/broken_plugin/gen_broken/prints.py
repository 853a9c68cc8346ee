"""Prints when it is loaded, and offers a codec whose name another plugin has."""

from gen_core.hooks import hookimpl

print("Welcome to gen-broken!")


@hookimpl
def register_codecs(register):
    for name in ("vqvae", "talkative"):
        register(
            name,
            options="gen_broken.options:Options",
            build="gen_broken.codec:build",
            version=1,
            summary="A codec.",
        )
