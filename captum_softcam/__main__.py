"""Run the command line as ``python -m captum_softcam``."""

from captum_softcam.cli import main

if __name__ == "__main__":
    main()
