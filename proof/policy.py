"""The policy file and its automaton, read from the manual page and section 2 of the contract, not from the program.

`toctoc check` says what is valid; this reads what is valid, and says so where it knows no meaning.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import ipaddress
import re
import tomllib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from packet import TCP, UDP

# The services of the manual page that the policies of the tests name.
SERVICES = {
    "ssh": 22, "http": 80, "https": 443, "domain": 53, "ms-wbt-server": 3389, "openvpn": 1194, "postgresql": 5432,
}
PORTLESS = {
    "icmp": 1, "igmp": 2, "ipip": 4, "ipv6": 41, "gre": 47, "esp": 50, "ah": 51, "icmpv6": 58, "ospf": 89, "vrrp": 112,
}
UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "days": 86_400_000}

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, order=True)
class Knock:
    protocol: int
    port: int

    def __str__(self) -> str:
        return f"{self.port}/{'tcp' if self.protocol == TCP else 'udp'}"


@dataclass(frozen=True, order=True)
class Ports:
    protocol: int
    first: int
    last: int


@dataclass(frozen=True)
class Target:
    host: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int | None


def target(text: str) -> Target:
    try:
        return Target(ipaddress.ip_address(text), None)
    except ValueError:
        host, port = text.rsplit(":", 1)
        return Target(ipaddress.ip_address(host.strip("[]")), int(port))


@dataclass(frozen=True)
class Door:
    name: str
    ports: tuple[Ports, ...]
    trust: tuple[Network, ...]
    accepts: bool
    extend: int | None  # the milliseconds that a connection adds to a grant
    at_most: int | None  # those after the opening in which it may
    everything: bool  # a grant is for every port
    # The hosts behind this one that it stands in front of; none for a door of this host.
    to: tuple[Network, ...] = ()
    knocks_there: bool = False
    # Where its connections are passed on to, an address and a port (None: the same).
    forward: tuple[Target, ...] = ()
    masquerade: bool = False


@dataclass(frozen=True)
class Key:
    name: str
    opens: tuple[tuple[Door, int], ...]  # the doors, each with the milliseconds that a grant lasts
    sequences: tuple[tuple[Knock, ...], ...]
    scratch: bool
    token: int | None  # the number that stands for the secret
    browser: bool
    ping: bool
    once: bool
    expires: int | None  # in seconds since 1970: it opens before that
    signed: int | None  # the class of its datagrams


@dataclass(frozen=True)
class Allowance:
    ports: tuple[Ports, ...]
    protocols: tuple[int, ...]
    sources: tuple[Network, ...]
    interfaces: tuple[str, ...]


@dataclass(frozen=True)
class HostFirewall:
    allow: tuple[Allowance, ...]
    ping: bool
    forwards: bool


def milliseconds(text: str) -> int:
    parts = re.findall(r"(\d+)\s*([a-z]+)", text)
    return sum(int(amount) * UNITS[unit] for amount, unit in parts)


def ports(value: int | str) -> Ports:
    if isinstance(value, int):
        return Ports(TCP, value, value)
    where, _, protocol = value.partition("/")
    number = {"": TCP, "tcp": TCP, "udp": UDP}[protocol]
    if where in SERVICES:
        where = str(SERVICES[where])
    first, _, last = where.partition("-")
    return Ports(number, int(first), int(last or first))


def knock(value: int | str) -> Knock:
    one = ports(value)
    return Knock(one.protocol, one.first)


def named(text: str) -> int:
    """The number of a name in the kernel's sets: FNV-1a, its upper half never 0 or ffff."""
    number = 0x811C9DC5
    for byte in text.encode():
        number = (number ^ byte) * 0x01000193 % (1 << 32)
    return number ^ 0x55550000 if number >> 16 in (0, 0xFFFF) else number


def token_number(secret: bytes, browser: bool) -> int:
    """The number of a secret there."""
    label = b"toctoc letters id v1" if browser else b"toctoc key id v1"
    number = int.from_bytes(hmac.digest(secret, label, hashlib.sha256)[:4], "big")
    return number ^ 0x55550000 if number >> 16 in (0, 0xFFFF) else number


def signed_class(secret: bytes) -> int:
    number = int.from_bytes(hmac.digest(secret, b"toctoc signed class v1", hashlib.sha256)[:4], "big")
    return number ^ 0x55550000 if number >> 16 in (0, 0xFFFF) else number


def longest(door: Door, open_for: int) -> int:
    """How long a grant may last."""
    return open_for if door.at_most is None else door.at_most


def end_of(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, datetime.datetime):
        return int(value.timestamp())
    midnight = datetime.datetime.combine(value, datetime.time(), datetime.timezone.utc)
    return int(midnight.timestamp()) + 86_400


@dataclass
class Policy:
    text: dict[str, Any]
    folder: Path
    doors: dict[str, Door] = field(default_factory=dict)
    keys: list[Key] = field(default_factory=list)

    @staticmethod
    def read(path: Path) -> Policy:
        return Policy(tomllib.loads(path.read_text()), path.parent)

    def __post_init__(self) -> None:
        text = self.text
        accepted = text.get("fleet", {}).get("accept", [])
        for name, door in text.get("door", {}).items():
            trust = tuple(ipaddress.ip_network(one) for one in door.get("trust", []))
            extend, at_most = (milliseconds(door[one]) if one in door else None for one in ("extend", "at_most"))
            everything = door["ports"] == "all"
            listed = () if everything else tuple(ports(one) for one in door["ports"])
            to = tuple(ipaddress.ip_network(one) for one in door.get("to", []))
            there = door.get("knock_at", "this host") == "both"
            written = door.get("forward", [])
            forward = tuple(target(one) for one in ([written] if isinstance(written, str) else written))
            self.doors[name] = Door(
                name, listed, trust, name in accepted, extend, at_most, everything, to, there, forward,
                door.get("masquerade", False),
            )
        for name, key in text.get("key", {}).items():
            lists = [key["sequence"]] if "sequence" in key else key.get("scratch", [])
            browser = key.get("browser", False)
            token = None
            if "token" in key:
                token = token_number(bytes.fromhex((self.folder / key["token"]).read_text().strip()), browser)
            self.keys.append(
                Key(
                    name,
                    tuple((self.doors[door], self.open_for(key, door)) for door in key["opens"]),
                    tuple(tuple(knock(one) for one in sequence) for sequence in lists),
                    "scratch" in key,
                    token,
                    browser,
                    key.get("ping", False),
                    key.get("once", False),
                    end_of(key.get("expires")),
                    self.class_of(key),
                )
            )

    def class_of(self, key: dict[str, Any]) -> int | None:
        if "signed" not in key:
            return None
        return signed_class(bytes.fromhex((self.folder / key["signed"]).read_text().strip()))

    @property
    def signed_mark(self) -> int:
        return self.text.get("signed_mark", 0x74637463)

    @property
    def has_signed(self) -> bool:
        return any(key.signed is not None for key in self.keys)

    def open_for(self, key: dict[str, Any], door: str) -> int:
        """That of the key goes before that of the door, and that before the one at the top."""
        places = (key, self.text["door"][door], self.text)
        return milliseconds(next((one["open_for"] for one in places if "open_for" in one), "60s"))

    @property
    def within(self) -> int:
        return milliseconds(self.text.get("within", "10s"))

    @property
    def interfaces(self) -> list[str] | None:
        return self.text.get("interfaces")

    @property
    def ignored(self) -> list[Knock]:
        return [knock(one) for one in self.text.get("ignore", [])]

    @property
    def rejects(self) -> bool:
        return self.text.get("closed", "drop") == "reject"

    @property
    def log(self) -> str:
        return self.text.get("log", "kernel")

    @property
    def room(self) -> int:
        return self.text.get("max_sources", 65536)

    @property
    def token_port(self) -> int | None:
        return knock(self.text["token_port"]).port if "token_port" in self.text else None

    @property
    def prefixes(self) -> dict[int, int]:
        grant = self.text.get("grant", {})
        return {4: grant.get("prefix4", 32), 6: grant.get("prefix6", 128)}

    @property
    def doors_here(self) -> list[Door]:
        return [door for door in self.doors.values() if not door.to]

    @property
    def doors_behind(self) -> list[Door]:
        return [door for door in self.doors.values() if door.to]

    @property
    def heard_behind(self) -> tuple[Network, ...]:
        """Where knocks are heard besides at this host."""
        return tuple(network for door in self.doors_behind if door.knocks_there for network in door.to)

    @property
    def has_fleet(self) -> bool:
        return "fleet" in self.text

    @property
    def groups(self) -> list[str]:
        """The NFLOG groups that hear of every opening."""
        own = [self.log.replace("nflog:", "group ")] if self.log.startswith("nflog:") else []
        return own + ([f"group {self.text['fleet'].get('group', 7)}"] if self.has_fleet else [])

    @property
    def has_once(self) -> bool:
        return any(key.once for key in self.keys)

    @property
    def everything(self) -> Door | None:
        """The door whose grants are for every port."""
        return next((door for door in self.doors.values() if door.everything), None)

    @property
    def longest_grant(self) -> int:
        return max((longest(door, time) for key in self.keys for door, time in key.opens), default=0)

    @property
    def firewall(self) -> HostFirewall | None:
        if "firewall" not in self.text:
            return None
        wall = self.text["firewall"]
        found = []
        for one in wall.get("allow", []):
            section = one if isinstance(one, dict) else {"ports": [one]}
            listed = section["ports"]
            found.append(
                Allowance(
                    tuple(ports(what) for what in listed if what not in PORTLESS),
                    tuple(PORTLESS[what] for what in listed if what in PORTLESS),
                    tuple(ipaddress.ip_network(network) for network in section.get("from", [])),
                    tuple(section.get("interfaces", [])),
                )
            )
        return HostFirewall(tuple(found), wall.get("ping", False), wall.get("forward", "accept") == "accept")

    @property
    def judges_udp(self) -> bool:
        guarded = any(one.protocol == UDP for door in self.doors.values() for one in door.ports)
        return guarded or any(one.protocol == UDP for _, _, sequence in self.sequences for one in sequence)

    @cached_property
    def sequences(self) -> list[tuple[Key, int, tuple[Knock, ...]]]:
        return [(key, at, sequence) for key in self.keys for at, sequence in enumerate(key.sequences)]


@dataclass(frozen=True)
class State:
    """A place in the automaton: the knocks that are the beginning of a sequence, or none right after an opening. The
    last knock is the one whose repetition is an echo."""

    run: tuple[Knock, ...]
    last: Knock | None


ROOT = State((), None)


@dataclass(frozen=True)
class Step:
    """What a knock leads to: `state` None is an echo, which changes nothing; `opens` is the place of a sequence."""

    state: State | None
    opens: int | None = None


class Automaton:
    """Rules 2, 3 and 5: computed from the words, state by state."""

    def __init__(self, policy: Policy) -> None:
        self.sequences = [sequence for _, _, sequence in policy.sequences]
        self.knocks = sorted({knock for sequence in self.sequences for knock in sequence})
        self.beginnings = {sequence[:length] for sequence in self.sequences for length in range(1, len(sequence))}

    def step(self, state: State, knock: Knock) -> Step:
        if knock == state.last:
            return Step(None)
        run = state.run + (knock,)
        for place, sequence in enumerate(self.sequences):
            if run[-len(sequence) :] == sequence:
                return Step(State((), knock), place)
        for start in range(len(run)):
            if run[start:] in self.beginnings:
                return Step(State(run[start:], knock))
        return Step(ROOT)

    @cached_property
    def states(self) -> list[State]:
        begun = [State(run, run[-1]) for run in sorted(self.beginnings)]
        return [ROOT, *begun, *(State((), last) for last in sorted({sequence[-1] for sequence in self.sequences}))]

    @cached_property
    def firsts(self) -> list[Knock]:
        return sorted({sequence[0] for sequence in self.sequences})

    @property
    def notes_firsts(self) -> bool:
        """Rule 8: whether a sequence is long enough that its first knock may be given away in a flood."""
        return any(len(sequence) > 2 for sequence in self.sequences)

    def firsts_before(self, second: Knock) -> list[Knock]:
        """Rule 8: the first knocks that a second one may follow, in order; up to eight. One that begins a sequence
        itself is a first knock."""
        if second in self.firsts:
            return []
        long = [sequence for sequence in self.sequences if len(sequence) > 2 and sequence[1] == second]
        return sorted({sequence[0] for sequence in long})[:8]
