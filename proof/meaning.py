"""The formal meaning of nf_tables' expressions, and the execution of chains for one packet and any content of the sets.

Nothing branches: at each point of the program (chain, rule, and the places to return to) there is one condition under
which the packet comes here and one value of its mark and priority, made of all ways that lead here. Points are taken in an order
in which all ways to one are known before it is. What a packet writes into a set is a list of writes, each under its
condition; a look-up goes through them from the last to the first, and ends at what the set held before the packet.

A limit and a full set depend on the past: each is a function of the element that nobody knows, the same for the
specification.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Any, Callable

import z3

from packet import V4, V6, Bits, NoMeaning, Packet, Truth, const, join, turned

TRUE, FALSE = z3.BoolVal(True), z3.BoolVal(False)
ANONYMOUS, CONSTANT, INTERVAL, MAP, TIMEOUT, EVAL = 1, 2, 4, 8, 16, 32
PREROUTING, INPUT, FORWARD = 0, 1, 2


def both(*parts: Truth) -> Truth:
    kept = [part for part in parts if not z3.is_true(part)]
    if any(z3.is_false(part) for part in kept):
        return FALSE
    return kept[0] if len(kept) == 1 else z3.And(kept) if kept else TRUE


def either(*parts: Truth) -> Truth:
    kept = [part for part in parts if not z3.is_false(part)]
    if any(z3.is_true(part) for part in kept):
        return TRUE
    return kept[0] if len(kept) == 1 else z3.Or(kept) if kept else FALSE


def no(part: Truth) -> Truth:
    return FALSE if z3.is_true(part) else TRUE if z3.is_false(part) else z3.Not(part)


def choose(when: Truth, then: Any, otherwise: Any) -> Any:
    if z3.is_true(when) or then is otherwise:
        return then
    return otherwise if z3.is_false(when) else z3.If(when, then, otherwise)


def settled(value: Any) -> Any:
    """The value, in its simplest form."""
    return z3.simplify(value)


@dataclass
class Entry:
    """What a set has under a key. An `end` of 0 is none."""

    there: Truth
    data: Bits
    end: Bits


@dataclass
class Write:
    when: Truth
    key: Bits
    entry: Entry


@dataclass
class Store:
    """A set or map that packets or commands fill: any content, and then what this packet writes."""

    name: str
    key_bits: int
    data_bits: int
    before: Callable[[Bits], Entry]
    full: Callable[[Bits], Truth]
    over: Callable[[Bits], Truth]
    writes: list[Write] = field(default_factory=list)
    # Each new element, which takes room until the kernel tidies up, whether it stays or not.
    made: list[tuple[Truth, Bits]] = field(default_factory=list)

    @staticmethod
    def of_any_content(name: str, key_bits: int, data_bits: int) -> Store:
        key, data = z3.BitVecSort(key_bits), z3.BitVecSort(data_bits or 8)
        there = z3.Function(f"{name} has", key, z3.BoolSort())
        what = z3.Function(f"{name} at", key, data)
        end = z3.Function(f"{name} until", key, z3.BitVecSort(64))
        full = z3.Function(f"{name} full for", key, z3.BoolSort())
        over = z3.Function(f"{name} limit over for", key, z3.BoolSort())
        return Store(name, key_bits, data_bits, lambda k: Entry(there(k), what(k), end(k)), full, over)

    def read(self, key: Bits) -> Entry:
        found = self.before(key)
        for write in self.writes:
            here = both(write.when, settled(write.key == key))
            new = write.entry
            found = Entry(
                choose(here, new.there, found.there), choose(here, new.data, found.data), choose(here, new.end, found.end)
            )
        return found

    def write(self, when: Truth, key: Bits, entry: Entry) -> None:
        if not z3.is_false(when):
            self.writes.append(Write(when, key, entry))

    def put(self, when: Truth, key: Bits, data: Bits | None, end: Bits, renew: bool) -> Truth:
        """Adds an element, or renews the time of one that is there; its data stay. Returns whether it is there now."""
        old = self.read(key)
        if not renew:
            kept = old.end
        else:
            kept = choose(settled(old.end == 0), old.end, end)
        data = const(0, self.data_bits or 8) if data is None else data
        worked = either(old.there, no(self.full(key)))
        entry = Entry(TRUE, choose(old.there, old.data, data), choose(old.there, kept, end))
        self.write(both(when, worked), key, entry)
        self.made.append((both(when, worked, no(old.there)), key))
        return worked

    def take(self, when: Truth, key: Bits) -> None:
        zero = const(0, self.data_bits or 8)
        self.write(when, key, Entry(FALSE, zero, const(0, 64)))


@dataclass(frozen=True)
class Limit:
    rate: int
    unit: int
    burst: int
    inverted: bool


@dataclass
class World:
    """Everything that one packet meets and leaves behind."""

    stores: dict[str, Store]
    now: Bits
    # True if the limit that stands in a rule by itself is used up: that of first knocks, and that of signed keys.
    no_room: Truth
    too_many: Truth
    counted: dict[str, Truth] = field(default_factory=dict)
    logged: dict[tuple[str, str], Truth] = field(default_factory=dict)
    # Each time that a limit was asked: where, under which condition, and for which element.
    asked: list[tuple[str, Truth, Bits | None, Truth]] = field(default_factory=list)
    # The limits at each place: the name of the set, and the door or key that ends the key of the element.
    limits: dict[tuple[str, int], set[Limit]] = field(default_factory=dict)
    # When a limit that stands in a rule by itself is asked, and so has one less.
    used: dict[str, Truth] = field(default_factory=dict)
    rejected: dict[tuple[int, int], Truth] = field(default_factory=dict)
    # Where packets get another destination (address and port), or this host as their source.
    translated: dict[tuple[str, ...], Truth] = field(default_factory=dict)

    def note(self, notes: dict[Any, Truth], what: Any, when: Truth) -> None:
        notes[what] = either(notes.get(what, FALSE), when)


def any_world(table: dict[str, Any]) -> World:
    """A world with any content in the sets that are not made of the policy alone."""
    stores = {}
    for name, one in table["sets"].items():
        if one["flags"] & (TIMEOUT | EVAL):
            stores[name] = Store.of_any_content(name, 8 * one["key"], 8 * one["data"])
    return World(stores, z3.BitVec("now", 64), z3.Bool("no room for first knocks"), z3.Bool("too many datagrams of a key"))


class Machine:
    """The chains of a table, executed for a packet."""

    def __init__(self, table: dict[str, Any], world: World) -> None:
        self.chains, self.sets, self.world = table["chains"], table["sets"], world
        self.ranks = self.ranked()

    def ranked(self) -> dict[str, int]:
        """The chains in an order in which each stands before those that it calls. The kernel refuses circles."""

        def targets(chain: str) -> set[str]:
            found = set()
            for expression in (one for rule in self.chains[chain]["rules"] for one in rule):
                verdicts = [expression.get("data")]
                if expression["name"] == "lookup" and expression.get("dreg") == 0:
                    verdicts = [element["data"] for element in self.sets[expression["set"]]["elements"]]
                found |= {verdict["chain"] for verdict in verdicts if isinstance(verdict, dict) and "chain" in verdict}
            return found

        def visit(chain: str, callers: tuple[str, ...]) -> None:
            if chain in callers:
                raise NoMeaning(f"a circle of chains: {chain}")
            if chain not in done:
                for target in sorted(targets(chain)):
                    visit(target, callers + (chain,))
                done.append(chain)

        done: list[str] = []
        for chain in self.chains:
            visit(chain, ())
        return {chain: -place for place, chain in enumerate(done)}

    def hook(self, hook: int, packet: Packet, alive: Truth, priority: Bits) -> tuple[Truth, Bits]:
        """All chains of a hook. Returns whether the packet goes on, and then its mark and its priority, one after the other
        as they are given."""
        bases = [(chain["priority"], name) for name, chain in self.chains.items() if chain["hook"] == hook]
        for _, name in sorted(bases, key=lambda one: one[0]):
            if self.chains[name]["policy"] != 1:
                raise NoMeaning(f"the policy of chain {name}")
            alive, priority = self.chain(name, packet, alive, priority)
        return alive, priority

    def chain(self, base: str, packet: Packet, alive: Truth, priority: Bits) -> tuple[Truth, Bits]:
        """One chain of a hook, with all that it calls."""
        waiting: dict[tuple[tuple[str, int], ...], list[tuple[Truth, Bits]]] = {}
        order: list[tuple[Any, tuple[tuple[str, int], ...]]] = []
        accepted: list[tuple[Truth, Bits]] = []

        def come(frames: tuple[tuple[str, int], ...], when: Truth, priority: Bits) -> None:
            while frames and frames[-1][1] >= len(self.chains[frames[-1][0]]["rules"]):
                frames = frames[:-1]
            if z3.is_false(when):
                return
            if not frames:
                accepted.append((when, priority))
            elif frames in waiting:
                waiting[frames].append((when, priority))
            else:
                waiting[frames] = [(when, priority)]
                place = tuple((self.ranks[chain], at) for chain, at in frames)
                heapq.heappush(order, (place + ((1 << 30, 0),), frames))

        come(((base, 0),), alive, priority)
        while order:
            _, frames = heapq.heappop(order)
            when, priority = merge(waiting.pop(frames))
            (chain, at), below = frames[-1], frames[:-1]
            rule = Rule(self, packet, when, priority)
            rule.run(self.chains[chain]["rules"][at])
            after = below + ((chain, at + 1),)
            for condition, verdict, then in rule.exits:
                match verdict["verdict"]:
                    case "accept":
                        accepted.append((condition, then))
                    case "drop":
                        pass
                    case "return":
                        come(below, condition, then)
                    case "continue":
                        come(after, condition, then)
                    case "goto":
                        come(below + ((verdict["chain"], 0),), condition, then)
                    case "jump":
                        come(after + ((verdict["chain"], 0),), condition, then)
                    case other:
                        raise NoMeaning(f"verdict {other}")
            left = both(when, *(no(condition) for condition, _, _ in rule.exits))
            come(after, settled(left), rule.priority_after())
        return merge(accepted)


def merge(ways: list[tuple[Truth, Bits]]) -> tuple[Truth, Bits]:
    """All ways to one point: whether one of them is taken, and the priority that it brings."""
    if not ways:
        return FALSE, const(0, 64)
    priority = ways[-1][1]
    for when, one in reversed(ways[:-1]):
        priority = choose(when, one, priority)
    return settled(either(*(when for when, _ in ways))), settled(priority)


class Rule:
    """One rule for a packet: expression after expression, until one does not match."""

    def __init__(self, machine: Machine, packet: Packet, when: Truth, priority: Bits) -> None:
        self.machine, self.world, self.packet = machine, machine.world, packet
        # The mark and the priority as long as every expression has matched; what they were where one did not.
        self.when, self.priority = when, priority
        self.broken: list[tuple[Truth, Bits]] = []
        self.words: dict[int, Bits] = {}
        self.exits: list[tuple[Truth, dict[str, str], Bits]] = []

    def run(self, rule: list[dict[str, Any]]) -> None:
        for expression in rule:
            if z3.is_false(self.when):
                return
            meaning = getattr(self, "on_" + expression["name"], None)
            if meaning is None:
                raise NoMeaning(f"expression {expression['name']}")
            meaning(expression)

    # Registers: sixteen words of four bytes; 1 to 4 name four words each, 8 to 23 one.

    def store(self, register: int, value: Bits) -> None:
        """The bytes of a value, and zeroes to the end of the last word."""
        bits = value.size()
        value = z3.Concat(value, const(0, -bits % 32)) if bits % 32 else value
        first, count = word(register), value.size() // 32
        for i in range(count):
            self.words[first + i] = settled(z3.Extract(value.size() - 32 * i - 1, value.size() - 32 * i - 32, value))

    def load(self, register: int, size: int) -> Bits:
        first = word(register)
        words = range(first, first + (size + 3) // 4)
        if any(one not in self.words for one in words):
            raise NoMeaning("a register is read before it is written")
        whole = join([self.words[one] for one in words])
        return settled(z3.Extract(whole.size() - 1, whole.size() - 8 * size, whole))

    def must(self, condition: Truth) -> None:
        """The rule ends here unless the condition holds."""
        condition = settled(condition)
        self.broken.append((both(self.when, no(condition)), self.priority))
        self.when = both(self.when, condition)

    def priority_after(self) -> Bits:
        value = self.priority
        for when, one in reversed(self.broken):
            value = choose(when, one, value)
        return value

    def end(self, when: Truth, verdict: dict[str, str]) -> None:
        if not z3.is_false(when):
            self.exits.append((when, verdict, self.priority))

    # Expressions.

    def on_immediate(self, e: dict[str, Any]) -> None:
        if e["dreg"] == 0:
            self.end(self.when, e["data"])
            self.when = FALSE
        else:
            self.store(e["dreg"], literal(e["data"]))

    def on_payload(self, e: dict[str, Any]) -> None:
        offset, length = e["offset"], e["len"]
        match e["base"]:
            case 1:
                self.store(e["dreg"], self.packet.network(offset, length))
            case 2:
                fast = length in (1, 2, 4) and offset % length == 0 and offset + length < 256
                whole = TRUE if fast else no(self.packet.is_later)
                self.must(both(self.packet.protocol_is_known, whole, self.packet.has_transport(offset + length)))
                self.store(e["dreg"], self.packet.transport(offset, length))
            case other:
                raise NoMeaning(f"payload base {other}")

    def on_exthdr(self, e: dict[str, Any]) -> None:
        if e.get("op", 0) == 2 and e.get("flags", 0) == 1:
            self.must(TRUE if self.packet.family == V4 else FALSE)
            self.store(e["dreg"], choose(self.packet.has_option(e["type"]), const(1, 8), const(0, 8)))
            return
        if e.get("op", 0) != 0 or e.get("flags", 0) > 1:
            raise NoMeaning("exthdr of another kind than IPv6, or an option of IPv4 that is there")
        kind, offset, length = e["type"], e["offset"], e["len"]
        if self.packet.family != V6:
            self.must(FALSE)
        elif e.get("flags", 0) == 1:
            self.store(e["dreg"], choose(self.packet.has_extension(kind), const(1, 8), const(0, 8)))
        else:
            self.must(self.packet.has_of_extension(kind, offset + length))
            self.store(e["dreg"], self.packet.extension(kind, offset, length))

    def on_meta(self, e: dict[str, Any]) -> None:
        key, packet = e["key"], self.packet
        if "sreg" in e:
            value = turned(self.load(e["sreg"], 4))
            mark, priority = z3.Extract(63, 32, self.priority), z3.Extract(31, 0, self.priority)
            match key:
                case 2:
                    self.priority = settled(z3.Concat(mark, value))
                case 3:
                    self.priority = settled(z3.Concat(value, priority))
                case other:
                    raise NoMeaning(f"meta set of key {other}")
            return
        match key:
            case 2:
                self.store(e["dreg"], turned(z3.Extract(31, 0, self.priority)))
            case 3:
                self.store(e["dreg"], turned(z3.Extract(63, 32, self.priority)))
            case 4:
                self.store(e["dreg"], turned(packet.interface))
            case 6:
                self.store(e["dreg"], packet.interface_name)
            case 15:
                self.store(e["dreg"], const(packet.family, 8))
            case 16:
                self.must(packet.protocol_is_known)
                self.store(e["dreg"], packet.protocol)
            case 30:
                self.store(e["dreg"], turned(packet.time))
            case other:
                raise NoMeaning(f"meta key {other}")

    def on_ct(self, e: dict[str, Any]) -> None:
        match e["key"], e.get("direction"):
            case 0, None:
                self.store(e["dreg"], turned(self.packet.connection))
            case 2, None:
                self.store(e["dreg"], turned(self.packet.connection_status))
            case 12, 0:
                self.store(e["dreg"], self.packet.first_port)
            case other:
                raise NoMeaning(f"ct key {other}")

    def on_nat(self, e: dict[str, Any]) -> None:
        if e["type"] != 1 or e.get("last address", e["address"]) != e["address"] or e["family"] != self.packet.family:
            raise NoMeaning("nat of another kind than one destination")
        size = 4 if e["family"] == 2 else 16
        address = self.load(e["address"], size).as_long()
        port = str(self.load(e["port"], 2).as_long()) if "port" in e else ""
        self.world.note(self.world.translated, (f"{address:x}", port), self.when)
        self.end(self.when, {"verdict": "accept"})
        self.when = FALSE

    def on_masq(self, e: dict[str, Any]) -> None:
        self.world.note(self.world.translated, ("this host",), self.when)
        self.end(self.when, {"verdict": "accept"})
        self.when = FALSE

    def on_fib(self, e: dict[str, Any]) -> None:
        if (e["result"], e["flags"]) != (3, 2):
            raise NoMeaning("fib of another kind than `fib daddr type`")
        self.store(e["dreg"], turned(self.packet.address_type))

    def on_socket(self, e: dict[str, Any]) -> None:
        if e["key"] != 2:
            raise NoMeaning(f"socket key {e['key']}")
        self.must(self.packet.has_socket)
        self.store(e["dreg"], self.packet.socket_is_wildcard)

    def on_bitwise(self, e: dict[str, Any]) -> None:
        if e.get("op", 0) != 0:
            raise NoMeaning("bitwise shift")
        value = self.load(e["sreg"], e["len"])
        self.store(e["dreg"], (value & literal(e["mask"])) ^ literal(e["xor"]))

    def on_byteorder(self, e: dict[str, Any]) -> None:
        size, length = e["size"], e["len"]
        value = self.load(e["sreg"], length)
        parts = [z3.Extract(8 * (i + size) - 1, 8 * i, value) for i in reversed(range(0, length, size))]
        self.store(e["dreg"], join([turned(part) for part in parts]))

    def on_cmp(self, e: dict[str, Any]) -> None:
        right = literal(e["data"])
        left = self.load(e["sreg"], right.size() // 8)
        compare = [
            lambda: left == right, lambda: left != right, lambda: z3.ULT(left, right),
            lambda: z3.ULE(left, right), lambda: z3.UGT(left, right), lambda: z3.UGE(left, right),
        ]
        self.must(compare[e["op"]]())

    def on_range(self, e: dict[str, Any]) -> None:
        low, high = literal(e["from"]), literal(e["to"])
        value = self.load(e["sreg"], low.size() // 8)
        inside = both(z3.UGE(value, low), z3.ULE(value, high))
        self.must(inside if e["op"] == 0 else no(inside))

    def on_lookup(self, e: dict[str, Any]) -> None:
        name = e["set"]
        declared = self.machine.sets[name]
        key = self.load(e["sreg"], declared["key"])
        inverted = e.get("flags", 0) == 1
        if name in self.world.stores:
            found = self.world.stores[name].read(key)
            self.must(no(found.there) if inverted else found.there)
            if "dreg" in e:
                self.store(e["dreg"], found.data)
            return
        ways = matches(declared, key)
        if declared["verdicts"]:
            for match, verdict in ways:
                self.end(both(self.when, match), verdict)
            self.when = FALSE
            return
        there = either(*(match for match, _ in ways))
        if "dreg" in e and ways:
            value = literal(ways[0][1])
            for match, data in ways[1:]:
                value = choose(match, literal(data), value)
            self.store(e["dreg"], value)
        self.must(no(there) if inverted else there)

    def on_dynset(self, e: dict[str, Any]) -> None:
        if e.get("flags", 0) & 1:
            raise NoMeaning("dynset with an inverted result")
        name = e["set"]
        store, declared = self.world.stores[name], self.machine.sets[name]
        key = self.load(e["key"], declared["key"])
        if e["op"] == 2:
            store.take(self.when, key)
            return
        data = self.load(e["data"], declared["data"]) if "data" in e else None
        time = e.get("timeout", 0) or declared["timeout"]
        if not time and e["op"] == 1:
            raise NoMeaning("an update without a time")
        end = self.world.now + time if time else const(0, 64)
        self.must(store.put(self.when, key, data, end, renew=e["op"] == 1))
        for inner in e.get("expressions", []):
            if inner["name"] != "limit":
                raise NoMeaning(f"{inner['name']} in an element")
            self.limited(inner, name, store.over(key), key)

    def on_limit(self, e: dict[str, Any]) -> None:
        is_of_signed = (e["rate"], e["unit"], e["burst"]) == (60, 60, 60)
        where, over = ("signed", self.world.too_many) if is_of_signed else ("rule", self.world.no_room)
        if is_of_signed:
            self.world.note(self.world.used, where, self.when)
        self.limited(e, where, over, None)

    def limited(self, e: dict[str, Any], where: str, over: Truth, key: Bits | None) -> None:
        if e.get("type", 0) != 0:
            raise NoMeaning("a limit of bytes")
        inverted = e.get("flags", 0) == 1
        last = FALSE if key is None else settled(z3.Extract(31, 0, key))
        whose = last.as_long() if z3.is_bv_value(last) else 0
        self.world.limits.setdefault((where, whose), set()).add(Limit(e["rate"], e["unit"], e["burst"], inverted))
        self.world.asked.append((where, self.when, key, over))
        self.must(over if inverted else no(over))

    def on_counter(self, e: dict[str, Any]) -> None:
        """Counts, and nothing else."""

    def on_objref(self, e: dict[str, Any]) -> None:
        if e["type"] != 1:
            raise NoMeaning(f"object of type {e['type']}")
        self.world.note(self.world.counted, e["object"], self.when)

    def on_log(self, e: dict[str, Any]) -> None:
        where = f"group {e['group']}" if "group" in e else f"level {e.get('level')}"
        self.world.note(self.world.logged, (e.get("prefix", ""), where), self.when)

    def on_reject(self, e: dict[str, Any]) -> None:
        self.world.note(self.world.rejected, (e["type"], e.get("code", 0)), self.when)
        self.end(self.when, {"verdict": "drop"})
        self.when = FALSE


def word(register: int) -> int:
    if 1 <= register <= 4:
        return 4 * (register - 1)
    if 8 <= register <= 23:
        return register - 8
    raise NoMeaning(f"register {register}")


def literal(digits: str) -> Bits:
    return const(int(digits, 16), 4 * len(digits))


def matches(declared: dict[str, Any], key: Bits) -> list[tuple[Truth, Any]]:
    """The elements of a set that only an apply fills: when each is found, and its data."""
    elements = declared["elements"]
    if any("more" in element for element in elements):
        raise NoMeaning("an element with a time or an end")
    if not declared["flags"] & INTERVAL:
        return [(settled(key == literal(element["key"])), element.get("data")) for element in elements]
    # A set of ranges: an element begins one, and the next one in order begins what is after it.
    found: list[tuple[Truth, Any]] = []
    ordered = sorted(elements, key=lambda element: (int(element["key"], 16), element["flags"] ^ 1))
    for at, element in enumerate(ordered):
        if element["flags"] & 1:
            continue
        inside = z3.UGE(key, literal(element["key"]))
        if at + 1 < len(ordered):
            inside = both(inside, z3.ULT(key, literal(ordered[at + 1]["key"])))
        found.append((settled(inside), element.get("data")))
    return found
