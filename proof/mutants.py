"""Rulesets with one change, made on the bytecode: each must be refuted, or be the same ruleset in other words."""

from __future__ import annotations

import copy
import random
import re
from typing import Any, Iterator

Table = dict[str, Any]
Change = tuple[str, Any]


def flip(chance: random.Random, digits: str) -> str:
    """The same bytes with one bit changed."""
    bit = chance.randrange(4 * len(digits))
    return f"{int(digits, 16) ^ (1 << bit):0{len(digits)}x}"


def verdicts(table: Table) -> list[dict[str, str]]:
    return [{"verdict": "accept"}, {"verdict": "drop"}, {"verdict": "return"}, {"verdict": "continue"}] + [
        {"verdict": "goto", "chain": name} for name in ("leave", "shut", "remember", "judge") if name in table["chains"]
    ]


def change_expression(chance: random.Random, table: Table, e: dict[str, Any]) -> str | None:
    """Changes one thing in an expression; returns what, or None if there is nothing to change."""
    name = e["name"]
    if name == "cmp":
        if chance.random() < 0.5:
            old, e["op"] = e["op"], e["op"] ^ 1
            return f"cmp {old} becomes {e['op']}"
        old, e["data"] = e["data"], flip(chance, e["data"])
        return f"cmp with {old} becomes {e['data']}"
    if name == "bitwise":
        old, e["mask"] = e["mask"], flip(chance, e["mask"])
        return f"mask {old} becomes {e['mask']}"
    if name == "payload":
        old, e["offset"] = e["offset"], max(e["offset"] - e["len"], 0) if chance.random() < 0.5 else e["offset"] + 1
        return f"payload at {old} becomes {e['offset']}" if old != e["offset"] else None
    if name == "meta" and e["key"] in (2, 3):
        # Priority for mark, or the other way round.
        old, e["key"] = e["key"], e["key"] ^ 1
        return f"meta {old} becomes {e['key']}"
    if name == "lookup":
        if e.get("dreg") is not None:
            return None
        e["flags"] = e.get("flags", 0) ^ 1
        return f"look-up in {e['set']} inverted"
    if name == "dynset":
        what = chance.choice(["op", "timeout", "limit"])
        if what == "op":
            old, e["op"] = e["op"], chance.choice([op for op in (0, 1, 2) if op != e["op"]])
            return f"dynset {e['set']}: op {old} becomes {e['op']}"
        if what == "timeout" and e.get("timeout"):
            e["timeout"] += chance.choice([-1000, 1000])
            return f"dynset {e['set']}: another timeout"
        if what == "limit" and e.get("expressions"):
            return f"dynset {e['set']}: " + str(change_expression(chance, table, e["expressions"][0]))
        return None
    if name == "limit":
        what = chance.choice(["rate", "unit", "burst", "flags"])
        old, e[what] = e[what], e[what] ^ 1 if what == "flags" else e[what] * 2
        return f"limit: {what} {old} becomes {e[what]}"
    if name == "immediate":
        if e["dreg"]:
            old, e["data"] = e["data"], flip(chance, e["data"])
            return f"immediate {old} becomes {e['data']}"
        old, e["data"] = e["data"], chance.choice([one for one in verdicts(table) if one != e["data"]])
        return f"verdict {old} becomes {e['data']}"
    if name == "fib":
        return None
    if name == "objref":
        old, e["object"] = e["object"], "wrong" if e["object"] != "wrong" else "shut-out"
        return f"counter {old} becomes {e['object']}"
    if name == "log" and "prefix" in e:
        old, e["prefix"] = e["prefix"], e["prefix"].replace("door", "dooor")
        return "another log prefix"
    return None


def change(chance: random.Random, table: Table) -> str | None:
    """Changes one thing in a table; returns what."""
    chain = chance.choice([name for name, one in table["chains"].items() if one["rules"]])
    rules = table["chains"][chain]["rules"]
    at = chance.randrange(len(rules))
    kind = chance.choice(["rule", "swap", "expression", "expression", "expression", "without", "element", "set", "chain"])
    place = f"{chain} rule {at + 1}"
    if kind == "rule":
        del rules[at]
        return f"{place} is gone"
    if kind == "swap" and at + 1 < len(rules):
        if rules[at] == rules[at + 1]:
            return None
        rules[at], rules[at + 1] = rules[at + 1], rules[at]
        return f"{place} comes after the next"
    if kind == "expression":
        what = change_expression(chance, table, chance.choice(rules[at]))
        return f"{place}: {what}" if what else None
    if kind == "without":
        spot = chance.randrange(len(rules[at]))
        gone = rules[at].pop(spot)
        return f"{place} without {gone['name']} ({spot + 1})"
    if kind == "element":
        name = chance.choice([name for name, one in table["sets"].items() if not one["flags"] & 0x30 and one["elements"]])
        elements = table["sets"][name]["elements"]
        spot = chance.randrange(len(elements))
        if chance.random() < 0.5:
            return f"set {name} without {elements.pop(spot)['key']}"
        element = elements[spot]
        if isinstance(element.get("data"), str) and chance.random() < 0.6:
            old, element["data"] = element["data"], chance.choice(elements)["data"]
            return f"set {name}: {element['key']} leads to {element['data']}, not to {old}" if old != element["data"] else None
        old, new = element["key"], flip(chance, element["key"])
        if any(one["key"] == new for one in elements):
            return None
        element["key"] = new
        return f"set {name}: {old} becomes {new}"
    if kind == "set":
        name = chance.choice([name for name, one in table["sets"].items() if one["flags"] & 0x30])
        one = table["sets"][name]
        if one["timeout"] and chance.random() < 0.6:
            one["timeout"] += chance.choice([-500, 500, 10_000])
            return f"set {name}: another timeout"
        one["size"] = one["size"] // 2 if chance.random() < 0.5 else one["size"] * 2
        return f"set {name}: room for {one['size']}"
    if kind == "chain" and table["chains"][chain]["hook"] is not None:
        one = table["chains"][chain]
        if chance.random() < 0.5:
            one["hook"] = 1 - one["hook"] if one["hook"] < 2 else 0
            return f"{chain} at another hook"
        one["priority"] = -one["priority"] + chance.choice([-175, 40])
        return f"{chain} at priority {one['priority']}"
    return None


def mutants(table: Table, count: int, chance: random.Random) -> Iterator[tuple[str, Table]]:
    """So many tables with one change each, no two alike."""
    seen: set[str] = set()
    while len(seen) < count:
        changed = copy.deepcopy(table)
        what = change(chance, changed)
        if what is None or what in seen or changed == table:
            continue
        seen.add(what)
        yield what, changed


# Why a changed ruleset is the same, where the solver finds it so. The last reasons are for what only costs time.
REASONS = [
    (r"^(door-without-key|browser|ping)\.toml: (arrived|remember|tooquick|leave|judge|set steady|set progress)",
     "no key has a sequence: nothing comes there"),
    (r"signed\.toml: judge-token rule 2", "no key has a token: the next rule drops the rest as well"),
    (r"without immediate|verdict .* becomes \{'verdict': '(return|continue)'\}", "the chain ends there anyway, or the next rule "
     "says the same"),
    (r"ranges-and-firewall\.toml: set __set", "no single UDP port is a door: the look-up in `ports` finds none"),
    (r"knocks-tcp rule \d+: cmp", "the next rule judges the packet as well: the look at the priority saves time"),
    (r"(begun|admit|pass|again|shut|crowded|tooquick|told|opens-.*|first-knock|second-knock|remember|judge|door-.*|incoming) "
     r"rule \d+ comes after the next", "no packet matches both rules, or their order makes no difference"),
    (r"knocks-tcp rule \d+ comes after the next", "no packet matches both rules"),
    (r"(near|knocks-udp|ranges|headers|leading|incoming) rule \d+ comes after the next", "both rules do the same"),
    (r"without (cmp|meta) \(\d+\)|without (payload|bitwise|byteorder) \(\d+\)", "the register holds it already, or another rule or "
     r"expression asks the same"),
    (r"first-knock rule [12]", "a source that makes a first knock has lost its progress before"),
    (r"second-knock rule", "a row that is missing leads nowhere in any case"),
    (r"headers rule \d+: (mask|cmp|payload)", "the next rule asks for offset 0 again"),
    (r"set (first[46]|tokens).*: room for", "there is more room than the pages ask for"),
    (r"set (second-knocks|heard)", "the port is judged also where a glance would do: it costs time"),
    (r"(glance|near) rule", "the packet is judged also where a glance would do: it costs time"),
]


def reason_for(what: str) -> str | None:
    return next((reason for pattern, reason in REASONS if re.search(pattern, what)), None)
