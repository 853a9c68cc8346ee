"""One small module a command; each imports core inside its function, so that `gen --help` stays quick."""
