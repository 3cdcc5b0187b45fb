"""The specification: one step of the rules of section 2 for one packet, written from the contract and the pages.

`Rules.before_routing` and `Rules.at_input` say what becomes of a packet and of the sets; nothing here has seen a ruleset.
Sets are named and keyed as docs/kernel.md says. A state of the automaton is a number that the caller gives, since the
pages leave the numbering open.
"""

from __future__ import annotations

from dataclasses import dataclass

import z3

from meaning import FALSE, TRUE, Store, World, both, either, no, settled
from packet import (
    ANYCAST, BROADCAST, CT_ESTABLISHED, CT_NEW, CT_RELATED, LOCAL, MULTICAST, TCP, UDP, UNICAST, V4, V6, Bits, Packet, Truth,
    const, join,
)
from policy import ROOT, Automaton, Door, Key, Knock, Network, Policy, Ports, State, Target, longest, named

SECOND, HOUR = 1000, 3_600_000


def number(value: int) -> Bits:
    """A number of the type classid, as the bytes of a key or of data."""
    return const(int.from_bytes(value.to_bytes(4, "little"), "big"), 32)


def padded(value: Bits) -> Bits:
    """A part of a key, to whole words."""
    return z3.Concat(value, const(0, -value.size() % 32)) if value.size() % 32 else value


def key_of(*parts: Bits) -> Bits:
    return settled(join([padded(part) for part in parts]))


def masked(address: Bits, length: int) -> Bits:
    bits = address.size()
    return address & const(((1 << length) - 1) << (bits - length), bits)


def one_of(value: Bits, options: list[int]) -> Truth:
    return either(*(settled(value == option) for option in options))


@dataclass
class Step:
    """What becomes of a packet, besides what its world remembers."""

    dropped: Truth = FALSE
    # The packet is a knock or was asked for a grant: then its priority may be 0 afterwards.
    judged: Truth = FALSE
    # The packet has the mark of signed keys: then mark and priority are 0 afterwards.
    marked: Truth = FALSE


@dataclass
class Rules:
    policy: Policy
    automaton: Automaton
    world: World
    family: int
    # The number that the kernel has for each state of the automaton.
    numbers: dict[State, int]
    # The kernel's ticks in a second; it rounds times down to them.
    ticks: int

    # Sets.

    def store(self, name: str) -> Store:
        return self.world.stores[name]

    @property
    def version(self) -> int:
        return 4 if self.family == V4 else 6

    def by_family(self, name: str) -> Store:
        return self.store(f"{name}{self.version}")

    def by_network(self, name: str) -> Store:
        length = self.policy.prefixes[self.version]
        whole = 32 if self.version == 4 else 128
        return self.store(f"{name}{self.version}" + ("" if length == whole else f"-p{length}"))

    def after(self, milliseconds: int) -> Bits:
        return self.world.now + milliseconds * self.ticks // 1000 * 1000 // self.ticks

    def network(self, packet: Packet) -> Bits:
        """As much of the source as a grant covers."""
        return masked(packet.source, self.policy.prefixes[self.version])

    def site(self, packet: Packet) -> Bits:
        """As much of the source as counts as one where room is shared."""
        return packet.source if self.family == V4 else masked(packet.source, 64)

    def group(self, packet: Packet) -> Bits:
        """The addresses around the source for which a first knock is noted: at most 4,096 groups, and room for each with
        each first knock. Of IPv6 it is the low bits of the third group."""
        bits = min(max((self.policy.room // max(len(self.automaton.firsts), 1)).bit_length() - 1, 1), 12)
        if self.family == V4:
            return masked(packet.source, bits)
        return packet.source & const(((1 << bits) - 1) << 80, 128)

    def flow(self, packet: Packet) -> Bits:
        return key_of(packet.source, packet.destination, packet.protocol, packet.source_port, packet.port)

    def put(self, store: Store, when: Truth, key: Bits, milliseconds: int, data: Bits | None = None) -> Truth:
        return store.put(when, key, data, self.after(milliseconds), renew=True)

    def within_limit(self, name: str, when: Truth, key: Bits, milliseconds: int, renew: bool = True) -> tuple[Truth, Truth]:
        """Counts at an element. Returns whether it is there, and whether its limit is used up."""
        store = self.store(name)
        worked = store.put(when, key, None, self.after(milliseconds), renew)
        return worked, store.over(key)

    # Packets.

    def guarded(self, packet: Packet) -> Truth:
        if self.policy.interfaces is None:
            return packet.interface != 1
        return self.comes_by(packet, self.policy.interfaces)

    def comes_by(self, packet: Packet, names: list[str]) -> Truth:
        return one_of(packet.interface_name, [int.from_bytes(name.encode().ljust(16, b"\0"), "big") for name in names])

    def watched(self, packet: Packet) -> Truth:
        """With `[firewall]`, headers are looked at wherever a packet comes from."""
        return packet.interface != 1 if self.policy.firewall else self.guarded(packet)

    def is_protocol(self, packet: Packet, protocol: int) -> Truth:
        return both(packet.protocol_is_known, settled(packet.protocol == protocol))

    def shows(self, packet: Packet, upto: int) -> Truth:
        """Whether so many bytes of the header behind the IP headers are there. A later fragment has none."""
        return both(packet.has_transport(upto), no(packet.is_later))

    def shows_flags(self, packet: Packet) -> Truth:
        return both(self.is_protocol(packet, TCP), self.shows(packet, 14))

    def starts(self, packet: Packet) -> Truth:
        """SYN set; ACK, RST and FIN clear."""
        # Three bytes from the flags on: see `shows`.
        return both(self.shows_flags(packet), self.shows(packet, 16), packet.flags & 0x17 == 2)

    def begins(self, packet: Packet) -> Truth:
        """A SYN without ACK: a host behind may take it for a beginning, whatever other flags it has."""
        return both(self.shows_flags(packet), self.shows(packet, 16), packet.flags & 0x12 == 2)

    def begins_nothing(self, packet: Packet) -> Truth:
        return both(self.shows_flags(packet), packet.flags & 0x12 != 2)

    def goes_on(self, packet: Packet) -> Truth:
        return both(self.shows_flags(packet), packet.flags & 0x17 != 2)

    def starts_flow(self, packet: Packet) -> Truth:
        known = one_of(packet.connection, [CT_ESTABLISHED, CT_RELATED])
        return both(self.is_protocol(packet, UDP), no(known))

    def is_to(self, packet: Packet, ports: Ports) -> Truth:
        right = both(z3.UGE(packet.port, ports.first), z3.ULE(packet.port, ports.last))
        return both(self.is_protocol(packet, ports.protocol), self.shows(packet, 4), settled(right))

    def is_knock_at(self, packet: Packet, knock: Knock) -> Truth:
        return self.is_to(packet, Ports(knock.protocol, knock.port, knock.port))

    def is_from(self, packet: Packet, networks: tuple[Network, ...]) -> Truth:
        right = [one for one in networks if one.version == self.version]
        return either(
            *(masked(packet.source, one.prefixlen) == int(one.network_address) for one in right)
        )

    def is_for(self, packet: Packet, networks: tuple[Network, ...]) -> Truth:
        right = [one for one in networks if one.version == self.version]
        return either(*(masked(packet.destination, one.prefixlen) == int(one.network_address) for one in right))

    def door_ports(self, packet: Packet, door: Door) -> Truth:
        there = self.is_for(packet, door.to) if door.to else TRUE
        return both(there, either(*(self.is_to(packet, ports) for ports in door.ports)))

    def first_fragment(self, packet: Packet) -> Truth:
        """IPv6: a fragment header that says offset 0, and that more follow."""
        fields = packet.extension(44, 2, 2)
        return both(packet.has_of_extension(44, 4), fields & 0xFFF8 == 0, fields & 1 == 1)

    # The hooks.

    def step(self, hook: int, packet: Packet) -> Step:
        match hook:
            case 0:
                return self.before_routing(packet)
            case 1:
                return self.at_input(packet, TRUE)
            case 10:
                return self.new_destination(packet)
            case 14:
                return self.new_source(packet)
        return self.on_the_way(packet)

    # Translations.

    def targets(self, door: Door) -> list[Target]:
        return [one for one in door.forward if one.host.version == self.version]

    def new_destination(self, packet: Packet) -> Step:
        """What a door with `forward` has let in is passed on, and nothing else."""
        step = Step()
        here = both(self.guarded(packet), packet.address_type == LOCAL)
        for door in self.policy.doors_here:
            for to in self.targets(door):
                new = both(here, self.door_ports(packet, door), either(self.is_protocol(packet, UDP), self.starts(packet)))
                step.judged = either(step.judged, new)
                held = both(new, either(*(self.lasts(packet, one) for one in (door, self.policy.everything) if one)))
                if self.policy.has_once:
                    flow, passed = self.flow(packet), self.by_family("passed")
                    used = both(new, no(held), passed.read(flow).there)
                    passed.take(used, flow)
                    held = either(held, used)
                port = "" if to.port is None else str(to.port)
                self.world.note(self.world.translated, (f"{int(to.host):x}", port), held)
        return step

    def lasts(self, packet: Packet, door: Door) -> Truth:
        """Trust, or a grant of a kind that lasts."""
        grant = key_of(self.network(packet), number(named(door.name)))
        held = either(self.is_from(packet, door.trust), self.by_network("grants").read(grant).there)
        if door.extend is not None:
            held = either(held, both(*(self.by_network(name).read(grant).there for name in ("stay", "use"))))
        if door.accepts:
            held = either(held, self.by_network("elsewhere").read(grant).there)
        return held

    def passed_on(self, packet: Packet, door: Door) -> Truth:
        """A packet of a connection that the door has passed on."""
        ways = []
        for to in self.targets(door):
            for one in door.ports:
                there = one if to.port is None else Ports(one.protocol, to.port, to.port)
                first = both(z3.UGE(packet.first_port, one.first), z3.ULE(packet.first_port, one.last))
                ways.append(both(packet.destination == int(to.host), self.is_to(packet, there), settled(first)))
        return both(packet.connection_status & 0x20 != 0, either(*ways))

    def new_source(self, packet: Packet) -> Step:
        doors = [door for door in self.policy.doors_here if door.masquerade]
        ways = either(*(self.passed_on(packet, door) for door in doors))
        self.world.note(self.world.translated, ("this host",), ways)
        return Step()

    def on_the_way(self, packet: Packet) -> Step:
        """Packets to other hosts: doors in front of them, and `forward = "drop"`."""
        firewall = self.policy.firewall
        drops = firewall is not None and not firewall.forwards
        doors = self.policy.doors_behind
        passed_on = either(*(self.passed_on(packet, door) for door in self.policy.doors_here if door.forward))
        if not doors and not any(door.forward for door in self.policy.doors_here):
            return Step(dropped=TRUE if drops else FALSE)
        step = Step(dropped=self.is_torn(packet))
        if doors:
            # A route in the packet: its header may name another host than its last one.
            routed = both(self.guarded(packet), either(packet.has_option(131), packet.has_option(137)))
            if not drops:
                # A later fragment that looks as if it began nothing goes on too. Without the first one nobody puts it together.
                looks = both(self.is_protocol(packet, TCP), packet.has_transport(14), packet.flags & 0x12 != 2)
                routed = both(routed, no(looks))
            step.dropped = either(step.dropped, routed)
        new = either(self.begins(packet), self.starts_flow(packet))
        asked = both(no(step.dropped), self.guarded(packet), new)
        at_doors = both(asked, either(*(self.door_ports(packet, door) for door in doors)))
        self.at_door(packet, at_doors, step, doors)
        if drops:
            known = one_of(packet.connection, [CT_ESTABLISHED, CT_RELATED])
            step.dropped = either(step.dropped, no(either(at_doors, passed_on, known)))
        return step

    def is_torn(self, packet: Packet) -> Truth:
        """A fragment that could hide from us what a TCP packet to a host behind a door begins."""
        doors = [door for door in self.policy.doors_behind if any(one.protocol == TCP for one in door.ports)]
        there = both(self.guarded(packet), either(*(self.is_for(packet, door.to) for door in doors)))
        if self.family == V4:
            second = packet.network(6, 2) & 0x1FFF == 1
            return both(there, second, self.is_protocol(packet, TCP))
        later = both(packet.has_of_extension(44, 4), packet.extension(44, 2, 2) & 0xFFF8 != 0)
        other = both(packet.protocol_is_known, packet.protocol != TCP)
        fragment = both(no(one_of(packet.network(6, 1), [TCP, UDP, 58])), packet.has_extension(44))
        return both(there, fragment, no(self.begins(packet)), no(self.begins_nothing(packet)), no(later), no(other))

    def before_routing(self, packet: Packet) -> Step:
        step = Step()
        here = both(self.guarded(packet), packet.address_type == LOCAL)
        step.dropped = self.hides_headers(packet)
        alive = no(step.dropped)
        self.connections_begin(packet, both(alive, self.goes_on(packet)))
        short = both(alive, here, self.hides_flags(packet))
        # Behind this host, where the policy says so.
        there = both(self.guarded(packet), self.is_for(packet, self.policy.heard_behind))
        token = both(alive, either(here, there), self.is_token(packet))
        step.marked = packet.mark == self.policy.signed_mark if self.policy.has_signed else FALSE
        self.signed_in(packet, both(token, step.marked))
        self.tokens_in(packet, both(token, no(step.marked)), self.places(packet))
        # An echo request with a token or without goes on.
        echo = both(alive, either(here, there), self.may_have_token(packet))
        self.tokens_in(packet, echo, [(self.whole(packet, 40), packet.transport(24, 16))])
        step.judged = either(step.judged, echo)
        step.dropped = either(step.dropped, short, token)
        new = self.starts(packet)
        if self.policy.judges_udp:
            datagram = both(self.starts_flow(packet), no(token))
            new = either(new, datagram)
            # To a whole network: no knock, but a service behind a door would hear it.
            wide = one_of(packet.address_type, [BROADCAST, MULTICAST, ANYCAST])
            to_all = both(alive, datagram, self.guarded(packet), wide)
            self.at_door(packet, to_all, step)
        there = both(there, packet.address_type == UNICAST)
        self.knock(packet, both(alive, new, here), both(alive, new, there), step)
        return step

    def at_input(self, packet: Packet, alive: Truth) -> Step:
        step = Step()
        hidden = both(alive, self.hides_more(packet))
        step.dropped = hidden
        alive = both(alive, no(hidden))
        self.connections_begin(packet, both(alive, self.goes_on(packet)))
        firewall = self.policy.firewall
        if firewall is not None:
            alive = both(alive, no(self.lets_in_anyhow(packet, firewall.ping)))
        elif self.policy.has_once:
            alive = both(alive, no(self.goes_on(packet)))
        guarded = self.guarded(packet)
        if self.policy.has_once:
            flow = self.flow(packet)
            has_flow = both(packet.protocol_is_known, self.shows(packet, 4))
            passed = both(alive, guarded, has_flow, self.by_family("passed").read(flow).there)
            self.by_family("passed").take(passed, flow)
            alive = both(alive, no(passed))
        datagram = self.is_protocol(packet, UDP) if firewall else self.starts_flow(packet)
        new = either(self.starts(packet), datagram)
        asked = both(alive, guarded, new)
        doors = either(*(self.door_ports(packet, door) for door in self.policy.doors_here))
        self.at_door(packet, both(asked, doors), step)
        if firewall is not None:
            rest = both(alive, no(both(asked, doors)), no(self.is_allowed(packet)))
            everything = self.policy.everything
            if everything is not None:
                # What is no door and is not allowed, for those who may come to every port.
                may = both(rest, guarded)
                passes = both(may, self.passes_by(packet, everything, may))
                step.judged = either(step.judged, passes)
                rest = both(rest, no(passes))
            step.dropped = either(step.dropped, rest)
        return step

    def is_shut_out(self, packet: Packet, hook: int) -> Truth:
        """A stranger's new connection to a door, said without any of the above: no grant of any kind, no trust. At
        prerouting it is to an address of this host, at the input hook to any, on the way to others to a host behind a door."""
        if hook > 2:
            return FALSE
        new = either(self.starts(packet), both(self.is_protocol(packet, UDP), packet.connection == CT_NEW))
        grants, all_of_it = FALSE, FALSE
        for door in self.policy.doors_behind if hook == 2 else self.policy.doors_here:
            held = self.lasts(packet, door)
            if self.policy.has_once:
                grant = key_of(self.network(packet), number(named(door.name)))
                held = either(held, self.by_network("once").read(grant).there)
            grants = either(grants, both(self.door_ports(packet, door), no(held)))
            if door.everything:
                all_of_it = held
        if self.policy.has_once:
            flow = self.flow(packet)
            grants = both(grants, *(no(self.by_family(name).read(flow).there) for name in ("admitted", "passed")))
        grants = both(grants, no(all_of_it))
        here = both(self.guarded(packet), packet.interface != 1, packet.connection == CT_NEW)
        # IPv4 comes whole to the input hook.
        first = no(packet.is_later) if self.family == V6 else both(no(packet.is_later), packet.network(6, 2) & 0x1FFF == 0)
        return both(new, first, here, grants, packet.address_type == LOCAL if hook == 0 else TRUE)

    # 6. Closed means closed: headers and fragments.

    def hides_headers(self, packet: Packet) -> Truth:
        """IPv6: headers in front of a fragment header, which the stack would read otherwise once that is removed. Hop-by-hop
        options right before it are read before. Packets for other hosts go on."""
        if self.family == V4:
            return FALSE
        first = packet.network(6, 1)
        harmless = both(first == 0, packet.has_of_extension(0, 1), packet.extension(0, 0, 1) == 44)
        return both(
            no(one_of(first, [TCP, UDP, 44, 58])), no(harmless), packet.has_extension(44), self.watched(packet),
            packet.address_type != UNICAST,
        )

    def hides_more(self, packet: Packet) -> Truth:
        """The same at the input hook, for addresses of this host that looked like those of others."""
        if self.family == V4:
            return FALSE
        odd = either(packet.has_extension(60), packet.has_extension(43))
        other = both(self.first_fragment(packet), packet.protocol_is_known, packet.protocol != TCP)
        torn = both(no(self.goes_on(packet)), no(other), self.first_fragment(packet))
        return both(
            one_of(packet.network(6, 1), [0, 43, 44, 60]), packet.address_type == UNICAST, self.watched(packet),
            either(odd, torn),
        )

    def hides_flags(self, packet: Packet) -> Truth:
        """A first fragment of TCP too short to show flags. In IPv6 other headers may hide even that it is TCP."""
        if self.family == V4:
            fragment = packet.network(6, 2) & 0x3FFF == 0x2000
            return both(fragment, self.is_protocol(packet, TCP), no(self.starts(packet)), no(self.goes_on(packet)))
        other = both(packet.protocol_is_known, packet.protocol != TCP)
        return both(self.first_fragment(packet), no(other), no(self.starts(packet)), no(self.goes_on(packet)))

    # 1. A grant comes first.

    def at_door(self, packet: Packet, asked: Truth, step: Step, doors: list[Door] | None = None) -> None:
        """A new connection, if it is to a door: it may pass, or it is refused and forgets its progress. Without doors, those
        of this host are meant."""
        for door in self.policy.doors_here if doors is None else doors:
            here = both(asked, self.door_ports(packet, door))
            if z3.is_false(here):
                continue
            step.judged = either(step.judged, here)
            refused = both(here, no(self.passes(packet, door, here)))
            self.by_family("progress").take(refused, packet.source)
            self.world.note(self.world.counted, "shut-out", refused)
            step.dropped = either(step.dropped, refused)
            if self.policy.rejects:
                reset = self.is_protocol(packet, TCP)
                self.world.note(self.world.rejected, (1, 0), both(refused, reset))
                self.world.note(self.world.rejected, (2, 1), both(refused, no(reset)))

    def passes(self, packet: Packet, door: Door, here: Truth) -> Truth:
        """A grant for everything is for each door of this host. It is asked before those for the door, and behind whom that
        trusts."""
        if door.forward and not self.targets(door):
            # There is nowhere to pass it on.
            return FALSE
        everything = self.policy.everything
        if everything is None or everything == door or door.to:
            return self.passes_by(packet, door, here)
        trusted = self.is_from(packet, door.trust)
        first = self.passes_by(packet, everything, both(here, no(trusted)))
        return either(trusted, first, self.passes_by(packet, door, both(here, no(first))))

    def passes_by(self, packet: Packet, door: Door, here: Truth) -> Truth:
        grant = key_of(self.network(packet), number(named(door.name)))
        trusted = self.is_from(packet, door.trust)
        given = self.by_network("grants").read(grant).there
        lasting = either(trusted, given)
        if door.extend is not None:
            # Each connection that is let in extends the grant, while its opening is noted; and it is let in then, too,
            # when only an earlier connection is.
            use, noted = self.by_network("use"), self.by_network("stay").read(grant).there
            asks = both(here, no(trusted), noted)
            stays = both(asks, no(given), use.read(grant).there)
            self.put(use, both(asks, given), grant, door.extend)
            lasting = either(lasting, both(stays, self.put(use, stays, grant, door.extend)))
        if door.accepts:
            lasting = either(lasting, self.by_network("elsewhere").read(grant).there)
        if door.everything or not self.policy.has_once:
            return lasting
        # A grant for one connection: its first packet may come three times more within ten seconds.
        flow = self.flow(packet)
        admitted, passed = self.by_family("admitted"), self.by_family("passed")
        again = both(here, no(lasting), admitted.read(flow).there)
        counts = both(again, no(self.is_protocol(packet, UDP)))
        counted, over = self.within_limit(f"repeats{self.version}", counts, flow, 10 * SECOND, renew=False)
        repeated = both(again, either(self.is_protocol(packet, UDP), both(counted, no(over))))
        once = self.by_network("once")
        owns = both(here, no(lasting), no(again), once.read(grant).there)
        claimed, taken = self.within_limit(f"claim{self.version}", owns, grant, 10 * SECOND)
        uses = both(owns, claimed, no(taken))
        once.take(uses, grant)
        noted = self.put(admitted, uses, flow, 10 * SECOND)
        self.by_family("repeats").take(both(uses, noted), flow)
        self.put(passed, either(repeated, uses), flow, 1 * SECOND)
        return either(lasting, repeated, uses)

    def connections_begin(self, packet: Packet, goes_on: Truth) -> None:
        """Any other packet of the flow ends the time in which a first packet may come again."""
        keys = [key for key in self.policy.keys if key.once]
        doors = {door.name: door for key in keys for door, _ in key.opens}
        ports = {one for door in doors.values() for one in door.ports if one.protocol == TCP}
        for one in sorted(ports):
            when = both(goes_on, self.shows(packet, 16), self.is_to(packet, one))
            for name in ("admitted", "passed"):
                self.by_family(name).take(when, self.flow(packet))

    # 2 to 5. Knocks.

    def knock(self, packet: Packet, is_new: Truth, there: Truth, step: Step) -> None:
        """A new connection to this host, or `there` to one behind it, where doors are asked on the way."""
        ignored = either(*(self.is_knock_at(packet, knock) for knock in self.policy.ignored))
        doors = either(*(self.door_ports(packet, door) for door in self.policy.doors_here))
        others = either(*(self.door_ports(packet, door) for door in self.policy.doors_behind))
        self.at_door(packet, both(is_new, no(ignored)), step)
        is_new = both(no(ignored), either(both(is_new, no(doors)), both(there, no(others))))
        step.judged = either(step.judged, is_new)
        progress = self.by_family("progress")
        entry = progress.read(packet.source)
        midway = both(is_new, entry.there)
        echo, restarts = FALSE, FALSE
        stands: dict[State, Truth] = {}
        opens: dict[int, Truth] = {}
        at = {state: both(midway, entry.data == number(n)) for state, n in self.numbers.items() if state != ROOT}
        at[ROOT] = both(is_new, no(entry.there))
        known = FALSE
        for knock in self.automaton.knocks:
            here = self.is_knock_at(packet, knock)
            if z3.is_false(here):
                continue
            known = either(known, here)
            usual = self.automaton.step(ROOT, knock)
            others = []
            for state, stand in at.items():
                led = self.automaton.step(state, knock)
                if led == usual:
                    continue
                others.append(stand)
                when = both(here, stand)
                if led.state is None:
                    echo = either(echo, when)
                elif led.opens is not None:
                    opens[led.opens] = either(opens.get(led.opens, FALSE), when)
                else:
                    stands[led.state] = either(stands.get(led.state, FALSE), when)
            rest = both(is_new, here, no(either(*others)))
            restarts = either(restarts, rest)
            if usual.opens is not None:
                opens[usual.opens] = either(opens.get(usual.opens, FALSE), rest)
            else:
                stands[usual.state] = either(stands.get(usual.state, FALSE), rest)
        nowhere = either(stands.pop(ROOT, FALSE), both(is_new, no(known)))
        # A knock of a source midway that goes no further than a first knock would, or nowhere.
        lost = both(midway, either(restarts, no(known)))
        self.world.note(self.world.counted, "wrong", lost)
        self.given_first(packet, nowhere, stands)
        progress.take(both(nowhere, no(either(*stands.values()))), packet.source)
        for place, when in opens.items():
            done = self.complete(packet, place, when)
            _, _, sequence = self.policy.sequences[place]
            state = State((), sequence[-1])
            stands[state] = either(stands.get(state, FALSE), done)
        self.remember(packet, stands)

    def given_first(self, packet: Packet, nowhere: Truth, stands: dict[State, Truth]) -> None:
        """8. In a flood, a second knock counts as one after the first knock that was noted around the source."""
        if not self.automaton.notes_firsts:
            return
        left = both(nowhere, self.store("flood").read(const(self.family, 8)).there)
        first = self.by_family("first")
        for knock in self.automaton.knocks:
            here = both(left, self.is_knock_at(packet, knock))
            for before in self.automaton.firsts_before(knock):
                key = key_of(self.group(packet), number(self.numbers[State((before,), before)]))
                noted = both(here, first.read(key).there)
                state = State((before, knock), knock)
                stands[state] = either(stands.get(state, FALSE), noted)
                here = both(here, no(noted))

    def remember(self, packet: Packet, stands: dict[State, Truth]) -> None:
        """4 and 8. Progress lasts for `within`, if the source is not too quick and there is room."""
        when = either(*stands.values())
        progress = self.by_family("progress")
        counted, over = self.within_limit(f"steady{self.version}", when, self.site(packet), 5 * SECOND)
        quick = both(when, counted, over)
        firsts = {state: one for state, one in stands.items() if len(state.run) == 1}
        crowded = both(no(quick), self.world.no_room if self.automaton.notes_firsts else FALSE)
        no_room = both(crowded, either(*firsts.values()))
        for state, one in stands.items():
            kept = both(one, no(quick), no(no_room) if state in firsts else TRUE)
            progress.take(kept, packet.source)
            self.put(progress, kept, packet.source, self.policy.within, number(self.numbers[state]))
        progress.take(either(quick, no_room), packet.source)
        if self.automaton.notes_firsts:
            for state, one in firsts.items():
                key = key_of(self.group(packet), number(self.numbers[state]))
                self.put(self.by_family("first"), both(one, crowded), key, self.policy.within)
            self.put(self.store("flood"), no_room, const(self.family, 8), self.policy.within)

    def complete(self, packet: Packet, place: int, when: Truth) -> Truth:
        """A sequence is complete. Returns whether the source then stands on what is left: its last knock, for its echo."""
        key, _, sequence = self.policy.sequences[place]
        opens = when
        if key.scratch:
            name = number(named(" ".join(str(knock) for knock in sequence)))
            opens = both(opens, no(self.store("burnt").read(name).there))
            burning, over = self.within_limit("burning", opens, name, HOUR, renew=False)
            opens = both(opens, burning, no(over))
            opens = both(opens, self.store("burnt").put(opens, name, None, const(0, 64), renew=False))
        opens = both(opens, self.is_in_time(packet, key))
        opened = self.open(packet, key, opens)
        crowded = both(opens, no(opened))
        self.by_family("progress").take(crowded, packet.source)
        return both(when, no(crowded))

    def is_in_time(self, packet: Packet, key: Key) -> Truth:
        return TRUE if key.expires is None else z3.ULT(packet.time, key.expires * 10**9)

    def open(self, packet: Packet, key: Key, when: Truth) -> Truth:
        """5. Grants each door, if there is room. Returns whether all were granted."""
        name = number(named(key.name))
        if self.family == V6:
            there, over = self.within_limit("crowd", when, key_of(self.site(packet), name), self.policy.longest_grant)
            when = both(when, no(both(there, over)))
        for door, time in key.opens:
            which = number(named(door.name))
            noted = longest(door, time)
            when = both(when, self.put(self.by_family("opened"), when, key_of(packet.source, which, name), noted))
            grant = key_of(self.network(packet), which)
            if door.at_most is not None:
                # What connections have added to an earlier grant is over.
                when = both(when, self.put(self.by_network("stay"), when, grant, door.at_most))
                self.by_network("use").take(when, grant)
            if key.once:
                self.by_family("claim").take(when, grant)
            when = both(when, self.put(self.by_network("once" if key.once else "grants"), when, grant, time))
        told = when
        if self.policy.log == "kernel":
            again, over = self.within_limit(f"logged{self.version}", when, key_of(packet.source, name), 10 * SECOND)
            told = both(when, no(both(again, over)))
        for door, _ in key.opens:
            prefix = f"toctoc: opened door={door.name} key={key.name} "
            if self.policy.log == "kernel":
                self.world.note(self.world.logged, (prefix, "level 6"), told)
            for group in self.policy.groups:
                self.world.note(self.world.logged, (prefix, group), when)
        self.world.note(self.world.counted, f"opened-{key.name}", when)
        return when

    # Tokens.

    def is_token(self, packet: Packet) -> Truth:
        kinds = [number for key in self.policy.keys for number in (key.token, key.signed)]
        if self.policy.token_port is None or all(number is None for number in kinds):
            return FALSE
        return both(self.is_knock_at(packet, Knock(UDP, self.policy.token_port)), self.shows(packet, 5))

    def may_have_token(self, packet: Packet) -> Truth:
        """An echo request, where a key has `ping`."""
        if not any(key.ping for key in self.policy.keys):
            return FALSE
        protocol, kind = (1, 8) if self.family == V4 else (58, 128)
        return both(self.is_protocol(packet, protocol), self.shows(packet, 3), packet.transport(0, 1) == kind)

    def whole(self, packet: Packet, upto: int) -> Truth:
        return both(packet.has_transport(upto), no(packet.is_later))

    def places(self, packet: Packet) -> list[tuple[Truth, Bits]]:
        """Where a token can stand in a datagram: at its beginning, and with `browser` as the name in a STUN check."""
        places = [(self.whole(packet, 24), packet.transport(8, 16))]
        if any(key.browser for key in self.policy.keys):
            head = both(
                packet.transport(8, 2) == 1, packet.transport(12, 4) == 0x2112A442, packet.transport(28, 2) == 6,
                self.whole(packet, 48),
            )
            places.insert(0, (head, packet.transport(32, 16)))
        return places

    def signed_in(self, packet: Packet, arrived: Truth) -> None:
        """A datagram that the program at the interface has found good: its class is whose it is, and its tag opens once. A
        key has so many in a minute, and a repeat is not counted."""
        tag = packet.transport(8, 16)
        for key in self.policy.keys:
            if key.signed is None or z3.is_false(arrived):
                continue
            own = both(arrived, packet.priority == key.signed, self.is_in_time(packet, key), self.whole(packet, 24))
            if self.policy.has_fleet:
                own = both(own, no(self.store("spent-elsewhere").read(tag).there))
            new = both(own, no(self.store("tags").read(tag).there))
            self.world.note(self.world.used, "signed", new)
            new = both(new, no(self.world.too_many))
            noted = both(new, self.store("tags").put(new, tag, None, self.after(2 * HOUR), renew=False))
            spent, over = self.within_limit("spent", noted, tag, 2 * HOUR, renew=False)
            self.open(packet, key, both(noted, spent, no(over)))

    def tokens_in(self, packet: Packet, arrived: Truth, places: list[tuple[Truth, Bits]]) -> None:
        """A token opens once, in one packet."""
        if z3.is_false(arrived) or all(key.token is None for key in self.policy.keys):
            return
        left = arrived
        for there, token in places:
            here = both(left, there)
            if self.policy.has_fleet:
                elsewhere = both(here, self.store("spent-elsewhere").read(token).there)
                left, here = both(left, no(elsewhere)), both(here, no(elsewhere))
            tokens = self.store("tokens")
            entry = tokens.read(token)
            good = both(here, entry.there)
            spent, over = self.within_limit("spent", good, token, 25 * HOUR, renew=False)
            opens = both(good, spent, no(over))
            tokens.take(opens, token)
            for key in self.policy.keys:
                if key.token is not None:
                    own = both(opens, entry.data == number(key.token), self.is_in_time(packet, key))
                    self.open(packet, key, own)
            left = both(left, no(opens))

    # [firewall].

    def lets_in_anyhow(self, packet: Packet, ping: bool) -> Truth:
        kind = packet.transport(0, 1)
        icmp = both(self.is_protocol(packet, 1), packet.has_transport(1))
        icmp6 = both(self.is_protocol(packet, 58), packet.has_transport(1))
        ways = [
            one_of(packet.connection, [CT_ESTABLISHED, CT_RELATED]),
            packet.interface == 1,
            both(self.goes_on(packet), packet.has_socket, packet.socket_is_wildcard == 0),
        ]
        if self.family == V4:
            ways.append(packet.network(6, 2) & 0x1FFF != 0)
            ways.append(both(icmp, one_of(kind, [3, 11, 12] + ([8] if ping else []))))
        else:
            link = masked(packet.source, 10) == 0xFE80 << 112
            ways.append(both(icmp6, one_of(kind, [1, 2, 3, 4] + ([128] if ping else []))))
            ways.append(both(icmp6, packet.network(7, 1) == 255, one_of(kind, [133, 134, 135, 136, 137])))
            ways.append(both(icmp6, link, one_of(kind, [130, 131, 132, 143])))
            dhcp = both(self.is_protocol(packet, UDP), packet.has_transport(4), packet.source_port == 547)
            ways.append(both(link, dhcp, packet.port == 546))
        return either(*ways)

    def is_allowed(self, packet: Packet) -> Truth:
        ways = []
        for one in self.policy.firewall.allow:
            what = either(
                *(self.is_to(packet, ports) for ports in one.ports),
                *(self.is_protocol(packet, protocol) for protocol in one.protocols),
            )
            where = self.comes_by(packet, list(one.interfaces)) if one.interfaces else TRUE
            ways.append(both(what, where, self.is_from(packet, one.sources) if one.sources else TRUE))
        return either(*ways)
