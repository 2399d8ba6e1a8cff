"""The entry point: which command, and how each kind of error ends."""

import io
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

import gandyn
from gandyn import checks
from gandyn.cli.commands import COMMANDS, execute
from gandyn.sweeps import interrupts
from gandyn.text import printable

USAGE = """\
usage: gandyn COMMAND ...

A microscope for the loss dynamics of GANs: many small GANs at once, the true value function beside every loss.

  gandyn run [FILE.toml] [--field value ...]   train and measure; --help lists every field
  gandyn run --preset pacgan_2_ring            a published protocol (gandyn list presets)
  gandyn run --using mine.py --loss mine       with parts of your own (docs/extending.md)
  gandyn sweep FILE.toml --out DIR [--dry-run] a grid of settings: its plan, then the whole of it
  gandyn resume DIR                            go on with what was stopped, from its checkpoints
  gandyn extend DIR --seeds 64:128             add seeds, or --steps 20000: train for longer
  gandyn status DIR                            how far it is
  gandyn replay DIR --run 17                   one run again, bit for bit, measured more densely
  gandyn report DIR [--out FILE.html]          one self-contained HTML page of a results folder
  gandyn page DIR [--size 20MB]                one offline page to look into every run, at every step (docs/page.md)
  gandyn show DIR [--json]                     what a results folder holds, and its table of results
  gandyn export DIR --to csv                   tables (csv, parquet), or event files (tensorboard)
  gandyn list [WHAT]                           losses, penalties, targets, ... with one line each
  gandyn --version

Python: gandyn.run(target, config, hparams, seeds=..., out=...), gandyn.run_sweep(...), gandyn.open_results(DIR).
"""

PATIENCE_SECONDS = 8.0
"""After a signal that asks to stop, a process that is still busy (with compiling, say) ends as it is."""


def _warn(message: Any, *_: Any, **__: Any) -> None:
    print("gandyn:", "\n  ".join(map(printable, str(message).split("\n"))), file=sys.stderr)


def _fail(message: str, code: int = 2) -> NoReturn:
    _warn(message)
    sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point.

    Exits with 2 and one message for what cannot be meant, with 1 where runs failed or the disk did, and with 130 or 143
    where it was stopped.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(USAGE, end="")
        return
    if given == ["--version"]:
        print(f"gandyn {gandyn.__version__}")
        return
    command, *rest = given
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a folder's name may be no text
    with warnings.catch_warnings():
        warnings.showwarning = _warn
        try:
            checks.choice("command", command, COMMANDS)
            with interrupts.deadline(PATIENCE_SECONDS):
                execute(command, rest)
        except (ValueError, FileNotFoundError) as error:
            _fail(str(error))
        except BrokenPipeError:
            # The reader of a pipe has gone (`gandyn list | head`): nothing is left to say to it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OSError as error:
            reason = error.strerror or str(error)
            _fail(f"{error.filename}: {reason}" if error.filename else reason, 1)
        except ExceptionGroup as failures:
            _fail("\n".join([failures.message, *map(str, failures.exceptions)]), 1)
        except KeyboardInterrupt as stop:
            signum = stop.signum if isinstance(stop, interrupts.Stopped) else 2
            print("gandyn: stopped; what was measured so far is kept, and gandyn resume goes on", file=sys.stderr)
            sys.exit(128 + signum)
