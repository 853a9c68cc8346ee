"""The core of gen: interfaces, registry, recipe, engine and run; it knows no plugin."""

__version__ = "0.1.0"
API_VERSION = 1  # of the plugin door; a plugin made for another number is a row with its cause
