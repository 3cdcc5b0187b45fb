"""What the pages say about the sets themselves: their room, and the limits of their elements.

A limit is written in the least unit of time in which it is eight or more; parts of one are left out.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from meaning import Limit
from policy import Automaton, Policy, longest, named
from rules import HOUR, SECOND, number

WEEK = 604_800_000
UNITS = (1, 60, 3600, 86_400, 604_800)

# docs/kernel.md, "The sets": room for this many, where it is not `max_sources`.
ROOM = {
    "closed": 1 << 20, "ended": 1 << 20, "spent": 1 << 16, "spent-elsewhere": 1 << 20, "burnt": 1 << 16, "burning": 1 << 16,
    "tags": 1 << 16,
    "revoked": 1 << 16, "revoked-elsewhere": 1 << 16, "flood": 256,
}

# Where a chain begins: hook and priority. TCP and tokens are judged before connection tracking (-200) and translation
# (-100), UDP between them, headers in front of fragments before these are put together (-400).
HOOKS = {
    "fragments": (0, -450), "knocks-tcp": (0, -300), "knocks-token": (0, -300), "knocks-udp": (0, -150),
    "incoming": (1, 0), "forwarded": (2, 0), "destinations": (10, -100), "sources": (14, 100),
}


def limit(amount: int, milliseconds: int, burst: int, inverted: bool = True) -> Limit:
    per_second = Fraction(amount * 1000, milliseconds)
    unit = next((unit for unit in UNITS if per_second * unit >= 8), UNITS[-1])
    return Limit(max(int(per_second * unit), 1), unit, burst, inverted)


def once_in(milliseconds: int, burst: int) -> Limit:
    return Limit(1, milliseconds // 1000, burst, False)


def limits_of(policy: Policy, automaton: Automaton) -> dict[tuple[str, int], Limit]:
    """The limits, by set and by the door or key whose elements have it (0 where that makes no difference)."""
    found = {}
    share = max(policy.room // 256, 16)
    steps = min(Fraction(32, SECOND), Fraction(policy.room // 16, policy.within))
    for version in ("4", "6"):
        each = Fraction(32, SECOND) if version == "4" else steps
        found["steady" + version, 0] = limit(each.numerator, each.denominator, 128)
        found["repeats" + version, 0] = once_in(HOUR, 3)
        for door in policy.doors.values():
            found["claim" + version, key_word(door.name)] = once_in(HOUR, 1)
        for key in policy.keys:
            found["logged" + version, key_word(key.name)] = limit(1, SECOND, 10)
    for key in policy.keys:
        lasting = max(longest(door, time) for door, time in key.opens)
        found["crowd", key_word(key.name)] = limit(share, lasting, share)
        for sequence in key.sequences:
            found["burning", key_word(" ".join(map(str, sequence)))] = once_in(WEEK, 1)
    found["spent", 0] = once_in(WEEK, 1)
    found["signed", 0] = Limit(60, 60, 60, True)
    found["rule", 0] = limit(policy.room // 2, policy.within, policy.room // 4)
    return found


def key_word(name: str) -> int:
    return number(named(name)).as_long()


def compare_tables(
    table: dict[str, Any], policy: Policy, automaton: Automaton, limits: dict[tuple[str, int], set[Limit]]
) -> list[str]:
    wanted = limits_of(policy, automaton)
    found = []
    for name, one in table["chains"].items():
        if one["hook"] is not None and HOOKS.get(name) != (one["hook"], one["priority"]):
            found.append(f"the chain {name} is at hook {one['hook']}, priority {one['priority']}, not at {HOOKS.get(name)}")
    for (name, whose), some in sorted(limits.items()):
        # Where several keys come to one rule it is not said whose element it is: the limit is that of one of them.
        right = {one for place, one in wanted.items() if place == (name, whose) or (whose == 0 and place[0] == name)}
        if not some <= right:
            found.append(f"the limit of {name} {whose:x}: {some}, and not {right}")
    for name, one in table["sets"].items():
        if one["flags"] & 0x30:
            least, most = room_of(name, policy, automaton)
            if not least <= one["size"] <= most:
                found.append(f"the room of {name}: {one['size']}, and not {least} to {most}")
    return found


def room_of(name: str, policy: Policy, automaton: Automaton) -> tuple[int, int]:
    base = re.sub(r"[46](-p\d+)?$", "", name)
    if base == "first":
        # All groups with all first knocks, those that have just expired beside them.
        firsts = len(automaton.firsts)
        groups = 1 << min(max((policy.room // firsts).bit_length() - 1, 1), 12)
        return 2 * firsts * groups, 1 << 31
    if base == "tokens":
        return 4096, 1 << 31
    room = ROOM.get(base, policy.room)
    return room, room
