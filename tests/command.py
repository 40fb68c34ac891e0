"""The command line in this process, for all tests of it."""

from __future__ import annotations

from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from types import SimpleNamespace

from captum_softcam import cli


def run(*arguments: object) -> SimpleNamespace:
    """Exit status and what was printed; a traceback would be an error of the test."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            cli.main([str(argument) for argument in arguments])
            code = 0
        except SystemExit as end:
            code = end.code
    return SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())
