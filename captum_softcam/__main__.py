"""``python -m captum_softcam``: the command line."""

from captum_softcam.cli import main

if __name__ == "__main__":
    main()
