"""The comparison: for one policy and the table that the kernel holds, is each step the step that the rules ask for?

For every family and protocol, and for each hook on its own, a solver is asked for a packet and a content of the sets for
which the two differ: in the verdict, in what any set holds under any key afterwards, in a counter, in a line of the log.
`unsat` for all questions is the proof.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import z3

from bytecode import TRANSLATES
from meaning import (
    FALSE, FORWARD, INPUT, PREROUTING, TRUE, Machine, Store, World, any_world, both, choose, either, no,
    settled,
)
from packet import TCP, UDP, V4, V6, Bits, Packet, Truth, const
from policy import ROOT, Automaton, Knock, Policy, State
from rules import Rules, number
from tables import compare_tables

ECHO = 0xFFFF0000
# Chains that translate, where packets arrive and where they leave.
DESTINATIONS, SOURCES = TRANSLATES + PREROUTING, TRANSLATES + 4


def tracks(table: dict[str, Any]) -> bool:
    """Whether a rule asks for connection tracking. The kernel then puts fragments together at priority -400; only the
    chain before it sees them, and that reads nothing behind the IP headers."""
    if any(chain["hook"] in (DESTINATIONS, SOURCES) for chain in table["chains"].values()):
        return True
    rules = (rule for chain in table["chains"].values() for rule in chain["rules"])
    return any(one["name"] == "ct" for rule in rules for one in rule)


HOOKS = {
    PREROUTING: "prerouting", INPUT: "input", FORWARD: "forward", DESTINATIONS: "destinations", SOURCES: "sources",
}


@dataclass
class Difference:
    """Something that the rules and the ruleset disagree about."""

    what: str
    where: str
    example: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join([f"{self.where}: {self.what}", *("    " + line for line in self.example)])


@dataclass
class Report:
    differences: list[Difference] = field(default_factory=list)
    questions: int = 0
    seconds: float = 0.0

    @property
    def proved(self) -> bool:
        return not self.differences


def number_states(table: dict[str, Any], automaton: Automaton) -> dict[State, int]:
    """A guess at the number of each state, by walking both machines side by side. A wrong guess proves nothing: it makes
    the comparison fail."""
    steps: dict[tuple[int, Knock], int] = {}
    for element in table["sets"].get("steps", {"elements": []})["elements"]:
        key = bytes.fromhex(element["key"])
        knock = Knock(key[4], int.from_bytes(key[8:10], "big"))
        steps[int.from_bytes(key[:4], "little"), knock] = int.from_bytes(bytes.fromhex(element["data"]), "little")
    numbers, queue = {ROOT: 0}, [ROOT]
    while queue:
        state = queue.pop()
        for knock in automaton.knocks:
            led = automaton.step(state, knock)
            if led.state is None:
                continue
            if led.opens is not None:
                # A state with no step but an echo, which no step leads to.
                echoes = {at for (at, one), to in steps.items() if to == ECHO and one == knock}
                alone = {at for at in echoes if sum(1 for other, _ in steps if other == at) == 1}
                found = alone - set(steps.values())
                if len(found) != 1:
                    continue
                (new,) = found
            else:
                new = steps.get((numbers[state], knock), steps.get((0, knock)))
            if new is not None and led.state not in numbers:
                numbers[led.state] = new
                queue.append(led.state)
    return numbers


@dataclass
class Case:
    """One family, one protocol, one hook."""

    table: dict[str, Any]
    policy: Policy
    automaton: Automaton
    numbers: dict[State, int]
    family: int
    protocol: int | None
    hook: int

    def __str__(self) -> str:
        family = "IPv4" if self.family == V4 else "IPv6"
        protocol = {TCP: "TCP", UDP: "UDP", None: "other"}[self.protocol]
        return f"{family}, {protocol}, {HOOKS[self.hook]}"

    def packet(self) -> tuple[Packet, list[Truth]]:
        packet = Packet("packet", self.family)
        if tracks(self.table) or (self.family == V4 and self.hook == 1):
            packet.given["later fragment"] = z3.BoolVal(False)
        if self.protocol is not None:
            packet.given["protocol"] = const(self.protocol, 8)
            packet.given["protocol known"] = TRUE
        if self.family == V4:
            # The walk over the headers of IPv4 is one byte.
            packet.given["network9"] = packet.protocol
        if self.protocol is not None:
            return packet, packet.facts()
        known = [packet.protocol != TCP, packet.protocol != UDP]
        return packet, packet.facts() + [either(no(packet.protocol_is_known), both(*known))]

    def run(self, stop: bool = False) -> tuple[Report, World]:
        report, begun = Report(), time.monotonic()
        packet, facts = self.packet()
        before = z3.Concat(packet.mark, packet.priority)
        ours, theirs = any_world(self.table), any_world(self.table)
        alive, left = Machine(self.table, ours).hook(self.hook, packet, TRUE, before)
        rules = Rules(self.policy, self.automaton, theirs, self.family, self.numbers, self.table["ticks"])
        missing = [state for state in self.automaton.states if state not in self.numbers]
        if missing or len(set(self.numbers.values())) != len(self.numbers):
            report.differences.append(Difference("no number for each state of the automaton", str(self)))
            return report, ours
        try:
            stranger = rules.is_shut_out(packet, self.hook)
            step = rules.step(self.hook, packet)
        except KeyError as missing_set:
            report.differences.append(Difference(f"there is no set {missing_set}", str(self)))
            return report, ours
        solver = z3.SolverFor("QF_UFBV")
        solver.set("timeout", 60_000)
        solver.add(facts)
        solver.add(self.invariants(theirs, packet))
        if self.hook == INPUT and self.protocol == TCP:
            # TCP throws away what is too short for its header; with IPv6, `hides_more` has asked about fragments.
            solver.add(either(packet.has_transport(14), no(packet.has_transport(4))))
        questions = [("whether the packet is dropped", z3.Xor(no(alive), step.dropped))]
        questions.append(("a stranger gets through a door", both(stranger, alive)))
        mark, priority = z3.Extract(63, 32, left), z3.Extract(31, 0, left)
        kept = both(no(step.marked), priority == packet.priority)
        zeroed = both(either(step.judged, step.marked), priority == 0)
        questions.append(("the priority that the packet leaves with", both(alive, no(either(kept, zeroed)))))
        wanted = choose(step.marked, const(0, 32), packet.mark)
        questions.append(("the mark that the packet leaves with", both(alive, mark != wanted)))
        key_for: dict[str, Bits] = {}
        for name, store in ours.stores.items():
            if store.writes or theirs.stores[name].writes:
                key_for[name] = z3.BitVec(f"{name} key", store.key_bits)
                questions.append((f"the set {name}", differ(store, theirs.stores[name], key_for[name])))
                made = (made_at(one, key_for[name]) for one in (store, theirs.stores[name]))
                questions.append((f"the room taken in {name}", z3.Xor(*made)))
        for what, mine, other in (
            ("counter", ours.counted, theirs.counted), ("log", ours.logged, theirs.logged),
            ("reject", ours.rejected, theirs.rejected), ("translation", ours.translated, theirs.translated),
        ):
            for one in sorted(set(mine) | set(other)):
                questions.append((f"{what} {one}", z3.Xor(mine.get(one, FALSE), other.get(one, FALSE))))
        # The program at the interface marks nothing shorter than 32 bytes. What has no room for a tag uses the limit up too.
        whole = packet.has_transport(24)
        for one in sorted(set(ours.used) | set(theirs.used)):
            used = z3.Xor(ours.used.get(one, FALSE), theirs.used.get(one, FALSE))
            questions.append((f"the limit of {one} used", both(whole, used)))
        for what, question in twice(ours):
            questions.append((f"the limit of {what} asked twice", question))
        if solver.check() != z3.sat:
            report.differences.append(Difference("nothing meets the assumptions", str(self)))
        questions = [(what, settled(question)) for what, question in questions]
        report.questions = len(questions)
        # All at once, and one by one only where there is something to show.
        solver.push()
        solver.add(either(*(question for _, question in questions)))
        if solver.check() == z3.unsat:
            questions = []
        solver.pop()
        for what, question in questions:
            if z3.is_false(question):
                continue
            solver.push()
            solver.add(question)
            answer = solver.check()
            if answer != z3.unsat:
                example = [f"the solver says {answer}"]
                if answer == z3.sat:
                    example = show(solver.model(), self, packet, ours, theirs, alive, step, key_for)
                report.differences.append(Difference(what, str(self), example))
            solver.pop()
            if stop and report.differences:
                break
        report.seconds = time.monotonic() - begun
        return report, ours

    def invariants(self, world: World, packet: Packet) -> list[Truth]:
        """What is assumed of the sets. Progress: an apply begins without any, and packets write no other numbers (this
        proof: what they write is what the rules write). Tokens: only commands write them, with numbers of secrets."""
        found = []
        if "tokens" in world.stores:
            for offset in (8, 24, 32):
                entry = world.stores["tokens"].before(packet.transport(offset, 16))
                half = z3.Extract(15, 0, entry.data)
                found.append(both(half != 0, half != 0xFFFF))
        for version in ("4", "6"):
            store = world.stores.get("progress" + version)
            if store is not None and store.key_bits == packet.source.size():
                entry = store.before(packet.source)
                states = [n for state, n in self.numbers.items() if state != ROOT]
                found.append(z3.Implies(entry.there, either(*(entry.data == number(n) for n in states))))
        return found


def differ(ours: Store, theirs: Store, key: Bits) -> Truth:
    mine, other = ours.read(key), theirs.read(key)
    same = [mine.end == other.end]
    if ours.data_bits:
        same.append(mine.data == other.data)
    return either(z3.Xor(mine.there, other.there), both(mine.there, no(both(*same))))


def made_at(store: Store, key: Bits) -> Truth:
    return either(*(both(when, settled(key == one)) for when, one in store.made))


def twice(world: World) -> list[tuple[str, Truth]]:
    """The meaning has one answer of a limit for each element. That is true unless a packet asks twice, and the first answer
    was that there is something left."""
    found = []
    for at, (name, when, key, over) in enumerate(world.asked):
        for other, before, same, _ in world.asked[:at]:
            if other == name:
                found.append((name, both(when, before, TRUE if key is None else settled(key == same), no(over))))
    return found


def show(model: Any, case: Case, packet: Packet, ours: World, theirs: World, alive: Truth, step: Any, keys: Any) -> list[str]:
    """A counterexample in words: the packet, what the sets hold for it, and what each side does."""

    def value(term: Any) -> Any:
        return model.eval(term, model_completion=True)

    lines = []
    fields = {name: value(term) for name, term in sorted(packet.given.items())}
    lines.append("packet: " + ", ".join(f"{name}={one}" for name, one in fields.items()))
    for name, key in keys.items():
        before = ours.stores[name].before(key)
        mine, other = ours.stores[name].read(key), theirs.stores[name].read(key)
        if not z3.is_true(value(settled(differ(ours.stores[name], theirs.stores[name], key)))):
            continue
        said = []
        for at, one in (("before", before), ("the kernel", mine), ("the rules", other)):
            there = z3.is_true(value(one.there))
            said.append(f"{at} has it, data {value(one.data)}, until {value(one.end)}" if there else f"{at} has it not")
        lines.append(f"set {name}, key {value(key).as_long():x}: " + "; ".join(said))
    progress = ours.stores.get("progress4" if case.family == V4 else "progress6")
    if progress is not None:
        entry = progress.before(packet.source)
        states = {number(n).as_long(): state for state, n in case.numbers.items()}
        state = states.get(value(entry.data).as_long()) if z3.is_true(value(entry.there)) else ROOT
        if state is not None:
            lines.append("progress before: " + (" ".join(map(str, state.run)) or f"none, last knock {state.last}"))
            port = value(packet.port).as_long()
            knock = Knock(value(packet.protocol).as_long(), port)
            trace = [*state.run, knock] if state.run else [knock]
            lines.append("for `toctoc explain`:")
            lines += [f"{at / 10} 192.0.2.1 {one}" for at, one in enumerate(trace, 1)]
    lines.append(f"dropped: the kernel {value(no(alive))}, the rules {value(step.dropped)}")
    lines.append(f"now {value(ours.now)}, no room for first knocks: {value(ours.no_room)}")
    return lines


def prove(table: dict[str, Any], policy: Policy, stop: bool = False) -> Report:
    """Compares all cases of one policy, or stops at the first difference."""
    automaton = Automaton(policy)
    numbers = number_states(table, automaton)
    whole, limits = Report(), {}
    for family in (V4, V6):
        for protocol in (TCP, UDP, None):
            for hook in HOOKS:
                report, world = Case(table, policy, automaton, numbers, family, protocol, hook).run(stop)
                if stop and report.differences:
                    return report
                whole.differences += report.differences
                whole.questions += report.questions
                whole.seconds += report.seconds
                for name, some in world.limits.items():
                    limits.setdefault(name, set()).update(some)
    whole.differences += [Difference(what, "sets") for what in compare_tables(table, policy, automaton, limits)]
    return whole
