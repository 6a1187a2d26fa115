"""`python -m poolwright.cli.iexec`."""

from poolwright.cli.iexec.main import main

main()
