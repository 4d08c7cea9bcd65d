"""`python -m services.cli` is the `sluice` command."""

from services.cli.main import main

if __name__ == "__main__":
    main()
