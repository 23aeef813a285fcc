"""`python -m cifar_pipeline` is `cifar`."""

from cifar_pipeline.cli import main

main(prog_name="cifar")
