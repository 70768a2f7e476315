"""The `medscribe` command.

Exit codes: 0 done; 1 something is quarantined, refused or failed in part; 2 bad configuration; 3 a provider, the
EHR or the database is unreachable; 130 stopped by Ctrl-C. What a user can cause ends in one message, never in a
traceback.
"""

from __future__ import annotations

import gc
import os
import sys
import traceback

from medscribe_pipeline.errors import MedscribeError

__all__ = ["main"]

INTERRUPTED = 130
# Loading Dagster and SQLAlchemy makes a million objects that stay. Looking through them for garbage every 700 new ones
# is a fifth of the time a run with nothing to do takes.
GARBAGE_AFTER = 50_000


def main() -> None:
    """Entry point of the command."""
    gc.set_threshold(GARBAGE_AFTER)
    from typer.exceptions import TyperException

    from medscribe_pipeline.cli.app import app
    from medscribe_pipeline.cli.help import WRONG_USAGE, group_of

    code: object = 0
    try:
        code = group_of(app)(standalone_mode=False)
    except MedscribeError as error:
        sys.stderr.write(f"medscribe: {error}\n")
        code = error.exit_code
    except TyperException as error:
        sys.stderr.write(f"medscribe: {error.format_message().rstrip('.')}. Try `medscribe --help`.\n")
        code = WRONG_USAGE
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (`head`, a pager) went away: nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:  # noqa: BLE001  # a mistake of ours; where it is may be told, its words may be a patient's
        sys.stderr.writelines(traceback.format_tb(error.__traceback__))
        sys.stderr.write(f"medscribe: unexpected {type(error).__name__}. Please report it with the lines above.\n")
        code = 1
    if code == INTERRUPTED:
        sys.stderr.write("medscribe: stopped. What was landed and delivered stays; run the same command to go on.\n")
    sys.exit(code if isinstance(code, int) else 0)
