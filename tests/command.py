"""The command line in this process, for all tests of it."""

from __future__ import annotations

from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
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


def refused(name: str, *arguments: object) -> str:
    """The sentence that a run of a command is refused with; nothing may be left in the working directory."""
    before = sorted(Path().rglob("*"))
    done = run(name, *arguments)
    assert done.code == 2, done.err
    (line,) = done.err.splitlines()
    assert line.startswith(f"captum-softcam {name}: ")
    assert line.endswith(".")
    assert sorted(Path().rglob("*")) == before
    return line.removeprefix(f"captum-softcam {name}: ")
