"""`python -m gen_cli` is `gen`."""

from gen_cli.main import main

main()
