"""These tests belong to the example, which is not installed here; test_third_party.py installs it first."""

collect_ignore_glob = ["*"]
