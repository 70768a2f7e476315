"""What Dagster loads: the definitions of one code location, for the account the settings describe."""

import gc

# What is loaded here stays. To go through all of it for garbage, again and again while it grows and later in every run,
# takes more than a third of the time until the first run begins.
_COLLECTS = gc.isenabled()
gc.disable()
try:
    import dagster as dg

    from assets.location import build_definitions
    from medscribe_pipeline.operation.reasons import SAYS
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.watching import begin, is_begun

    def _load() -> dg.Definitions:
        settings = Settings.load()
        if not is_begun():
            # Dagster has started this process, and not the command, which knows better how much to tell.
            begin(settings.watch, level="info", codes=SAYS)
        return build_definitions(settings)

    defs = _load()
finally:
    if _COLLECTS:
        gc.freeze()
        gc.enable()

__all__ = ["build_definitions", "defs"]
