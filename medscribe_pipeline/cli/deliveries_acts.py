"""What `medscribe deliveries` does to many versions: said first, done on a word, and told afterwards."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from medscribe_pipeline.cli.deliveries_print import OBSTACLES, counts_json, print_counts, say
from medscribe_pipeline.cli.ehr import target_of
from medscribe_pipeline.cli.options import day_of
from medscribe_pipeline.cli.output import print_json
from medscribe_pipeline.cli.show import find_note
from medscribe_pipeline.ehr.by_hand import Obstacle
from medscribe_pipeline.ehr.ledger import State
from medscribe_pipeline.ehr.listing import Count, Which, pages
from medscribe_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from medscribe_pipeline.ehr.by_hand import Done
    from medscribe_pipeline.ehr.listing import Standing
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

__all__ = ["Choice", "carry_out", "choose", "now"]


@dataclass(frozen=True, slots=True)
class Choice:
    """What an act is for.

    Attributes:
        which: The versions.
        named: Whether notes were named, rather than found by what they have in common.
        yes: Whether more than one version may be moved.
        as_json: Whether a program is listening.
    """

    which: Which
    named: bool
    yes: bool
    as_json: bool


def choose(
    settings: Settings,
    warehouse: Warehouse,
    notes: Sequence[str],
    *,
    states: tuple[State, ...],
    target: str | None,
    reason: str | None,
    day: str | None,
    more: bool = False,
) -> Which:
    """The versions an act is for, on the targets that are configured.

    Args:
        settings: The settings.
        warehouse: The open warehouse.
        notes: Note ids, or `provider:source_id`.
        states: States the act starts from.
        target: Only this target.
        reason: Only with this reason.
        day: Only of this visit day, as a person typed it.
        more: Something else narrows it down.

    Raises:
        ConfigError: `which_deliveries`: nothing says which. `no_such_note`, `several_notes`, `target`, `day`: what is
            given names nothing.
    """
    if not (notes or target or reason or day or more):
        raise ConfigError(
            "Say which: note ids, or --target, --reason or --day; `medscribe deliveries list` shows what there is",
            code="which_deliveries",
        )
    first = target_of(settings, target).target
    with warehouse.read() as connection:
        note_ids = tuple(find_note(connection, warehouse.account, name).note_id for name in notes)
    return Which(
        targets=(first,) if target else tuple(settings.targets),
        states=states,
        reason=reason,
        day=day_of(day),
        note_ids=note_ids,
    )


def carry_out(
    warehouse: Warehouse,
    choice: Choice,
    what: str,
    obstacle_to: Callable[[Standing], Obstacle | None],
    act: Callable[[], Done],
) -> int:
    """Says what an act is going to do, does it if it may, and tells what it did.

    Args:
        warehouse: The open warehouse.
        choice: What it is for.
        what: What becomes of a version: `discarded`.
        obstacle_to: Why nothing can be done with a version.
        act: Does it.

    Returns:
        The exit code: 1 where somebody else was faster with a version.

    Raises:
        ConfigError: `needs_yes`: it is for more than one version, and `--yes` is not given.
    """
    counts, obstacles = _foreseen(warehouse, choice, obstacle_to)
    number = sum(each.versions for each in counts)
    done = None
    if number == 1 or (number and choice.yes):
        done = act()
        obstacles = done.obstacles
    if choice.as_json:
        print_json(
            {
                "versions": done.versions if done else 0,
                "overtaken": done.overtaken if done else 0,
                "found": counts_json(counts),
                "obstacles": {str(name): count for name, count in sorted(obstacles.items())},
                "days": sorted(done.days) if done else [],
            }
        )
    else:
        _tell(counts, obstacles, what, named=choice.named)
        if done:
            _tell_done(done, what)
    if done is None and number:
        raise ConfigError(f"Nothing was done. Add --yes if all {number} versions are to be {what}", code="needs_yes")
    return 1 if done and done.overtaken else 0


def now() -> datetime:
    """The current time."""
    return datetime.now(UTC)


def _foreseen(
    warehouse: Warehouse, choice: Choice, obstacle_to: Callable[[Standing], Obstacle | None]
) -> tuple[list[Count], Counter[Obstacle]]:
    found: Counter[tuple[str, State, str | None]] = Counter()
    obstacles: Counter[Obstacle] = Counter()
    for page in pages(warehouse, choice.which):
        for each in page:
            obstacle = obstacle_to(each)
            if obstacle is None:
                found[each.key.target, each.state, each.reason] += 1
            else:
                obstacles[obstacle] += 1
    order = sorted(found, key=lambda each: (each[0], each[1], each[2] or ""))
    return [Count(*each, found[each]) for each in order], obstacles


def _tell(counts: Sequence[Count], obstacles: Counter[Obstacle], what: str, *, named: bool) -> None:
    if counts:
        print_counts(counts, f"To be {what}")
        if any(each.state is State.UNKNOWN for each in counts):
            say("What nobody knows about may have arrived: then it stays there, and nothing updates or withdraws it.")
    elif not obstacles:
        say(
            f"Nothing of these notes can be {what}. `medscribe deliveries show NOTE` tells how they stand."
            if named
            else f"There is nothing of that to be {what}."
        )
    for obstacle, count in sorted(obstacles.items()):
        say(f"{count} not {what}: {OBSTACLES[obstacle]}.")


def _tell_done(done: Done, what: str) -> None:
    days = f"; the next `medscribe sync` goes through {len(done.days)} visit days" if done.days else ""
    say(f"{done.versions} versions {what}{days}.")
    if done.overtaken:
        say(
            f"{done.overtaken} changed meanwhile, by a run or by somebody else, and were left alone: "
            "look at them again."
        )
