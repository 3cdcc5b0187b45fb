"""The meaning against the kernel: random rules, random contents of the sets, and real packets over a veth pair.

Each packet is sent, and the kernel's verdict, the packet's priority and mark, all sets and all counters are compared with those of
`meaning.Machine`, which gets the same packet and contents as constants. The same packet comes a second time, so that
limits are used up. Runs inside `unshare -Urn`; `__main__` sees to that.
"""

from __future__ import annotations

import os
import random
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import z3

from bytecode import Kernel, attributes, number, text
from headers import fields
from meaning import FALSE, TRUE, Entry, Machine, Store, World
from packet import CT_INVALID, const

NOW = 1 << 40
OBJECTS = 19  # NFT_MSG_GETOBJ
SOURCES = {4: ["10.0.0.1", "10.0.0.2", "10.0.1.7", "192.0.2.9"], 6: ["2001:db8::1", "2001:db8::2", "2001:db8:1::7", "2001:db8:5::9"]}
TARGETS = {4: ["10.9.0.1", "10.9.0.77", "10.9.0.255", "224.0.0.9"], 6: ["2001:db8:9::1", "2001:db8:9::77", "ff02::9"]}
TYPES = {"10.9.0.1": 2, "10.9.0.77": 1, "10.9.0.255": 3, "224.0.0.9": 5, "2001:db8:9::1": 2, "2001:db8:9::77": 1, "ff02::9": 5}
PORTS = [22, 25, 53, 443, 8005]
SETS = """
table inet toctoc
delete table inet toctoc
table inet judge
delete table inet judge
table inet judge {
	map initial { type nf_proto : classid; }
	map marks { type nf_proto : mark; }
	set met { type nf_proto; size 8; flags dynamic; }
	set came { type nf_proto; size 8; flags dynamic; }
	set seen { type classid . mark; size 65536; flags dynamic; }
	chain first { type filter hook prerouting priority -500; ip saddr 203.0.113.99 update @came { meta nfproto } drop; meta priority set meta nfproto map @initial meta mark set meta nfproto map @marks update @met { meta nfproto }; }
	chain last { type filter hook prerouting priority 10; update @seen { meta priority . meta mark }; }
}
table inet toctoc {
	set s4 { type ipv4_addr . classid; size 64; flags dynamic,timeout; timeout 100s; }
	set s6 { type ipv6_addr . classid; size 64; flags dynamic,timeout; timeout 100s; }
	map m4 { type ipv4_addr : classid; size 64; flags dynamic,timeout; timeout 100s; }
	map m6 { type ipv6_addr : classid; size 64; flags dynamic,timeout; timeout 100s; }
	set full4 { type ipv4_addr; size 1; flags dynamic,timeout; timeout 100s; }
	set none { type classid; size 64; flags dynamic,timeout; }
	set limit4 { type ipv4_addr; size 64; flags dynamic,timeout; timeout 100s; }
	set over6 { type ipv6_addr; size 64; flags dynamic,timeout; timeout 100s; }
	set token { typeof @th,64,128; size 64; flags dynamic,timeout; timeout 100s; }
	set heard { type inet_service; elements = { 22, 443 }; }
	map steps { type classid . inet_proto . inet_service : classid; elements = { 0:0 . tcp . 22 : 0:1, 0:1 . tcp . 443 : 0:2, 0:0 . udp . 53 : 0:3, 0:1 . tcp . 22 : ffff:0 }; }
	counter c1 { }
	counter c2 { }
"""
FRESH = "\n".join(f"flush set inet judge {name}" for name in ("came", "met", "seen")) + "\n"
MATCHES = [
    "ip saddr 10.0.0.1", "ip saddr & 255.255.0.0 == 10.0.0.0", "ip saddr { 10.0.0.0/31, 192.0.2.9 }", "ip6 saddr 2001:db8::1",
    "ip6 saddr != { 2001:db8::/48, 2001:db8:5::9 }", "meta l4proto tcp", "meta l4proto != tcp", "th dport 22", "th dport != 53",
    "th dport @heard", "th dport != @heard", "tcp dport 20-30", "udp dport 50-60", "tcp dport { 22, 8005 }", "th sport > 1000",
    "tcp flags & (fin | syn | rst | ack) == syn", "tcp flags & (fin | syn | rst | ack) != syn", "ip protocol udp",
    "ip frag-off & 0x3fff == 0x2000", "ip frag-off & 0x1fff != 0", "meta nfproto ipv6", "meta priority 0:1", "meta priority <= 0:2",
    "meta priority != 0:0", "iif != 1", 'iifname "v0"', 'iifname { "v1", "eth0" }', "fib daddr type local", "fib daddr type != unicast",
    "fib daddr type { broadcast, multicast, anycast }", "exthdr frag exists", "exthdr dst exists", "exthdr rt exists",
    "frag frag-off 0 frag more-fragments 1", "ip6 nexthdr { 0, 43, 44, 60 }", "ip6 nexthdr != { 6, 17, 44, 58 }", "hbh nexthdr 44",
    "ip saddr . meta priority @s4", "ip6 saddr . meta priority @s6", "ip saddr . meta priority != @s4", "ip saddr @full4",
    "@th,64,16 1 @th,96,32 0x2112a442", "@th,64,128 @token", "@th,64,128 != @token", "meta priority @none", "meta time >= 1000000",
    "ip6 hoplimit 255", "icmpv6 type { 1, 2, 128 }", "icmp type 8", "meta nfproto @protocols", "limit rate 1/week burst 1 packets",
    "th dport != 20-30", "tcp dport != { 20-30, 443 }", "ct state invalid", "ct state != { established, related }", "socket wildcard 0",
    "meta mark 0x74637463", "meta mark != 0x74637463", "meta mark & 0xff00 == 0x7400", "meta mark > 7", "meta mark . meta priority { 0x0 . 0:0, 0x7 . 0:1 }",
]
CHANGES = [
    "meta priority set 0:1", "meta priority set 0:0", "meta priority set 5693:153e", "meta priority set ip saddr map @m4",
    "meta priority set ip6 saddr map @m6", "meta priority set meta priority . meta l4proto . th dport map @steps",
    "update @s4 { ip saddr . meta priority }", "update @s4 { ip saddr . 0:7 timeout 500s }", "add @s4 { ip saddr . meta priority }",
    "delete @s4 { ip saddr . meta priority }", "update @s6 { ip6 saddr & ffff:ffff:ffff:: . meta priority timeout 500s }",
    "delete @s6 { ip6 saddr . meta priority }", "update @m4 { ip saddr : meta priority }", "delete @m4 { ip saddr : meta priority }",
    "delete @m6 { ip6 saddr : meta priority } update @m6 { ip6 saddr : meta priority }", "add @m6 { ip6 saddr : meta priority timeout 500s }",
    "update @full4 { ip saddr }", "add @none { meta priority }", "add @none { meta priority timeout 500s }", "delete @none { meta priority }",
    "add @limit4 { ip saddr limit rate 1/week burst 1 packets }", "update @over6 { ip6 saddr limit rate over 1/week burst 1 packets }",
    "add @token { @th,64,128 timeout 500s }", "delete @token { @th,64,128 }", 'counter name "c1"', 'counter name "c2"', "counter",
    'log prefix "toctoc: " group 5', "meta mark set 0x0", "meta mark set 0x74637463", "meta mark set 0x0 meta priority set 0:0",
    "meta mark set th dport map { 22 : 0x7, 53 : 0x74637463 }",
]
VMAPS = ["meta l4proto . th dport vmap { tcp . 22 : VERDICT, udp . 53 : VERDICT }", "meta priority vmap { 0:1 : VERDICT, ffff:0 : VERDICT }"]


class Sender:
    """Random packets, as bytes behind the Ethernet header."""

    def __init__(self, chance: random.Random, fragments: bool) -> None:
        self.chance, self.fragments = chance, fragments

    def packet(self) -> tuple[bytes, str]:
        version = self.chance.choice([4, 6])
        source, target = self.chance.choice(SOURCES[version]), self.chance.choice(TARGETS[version])
        protocol, payload = self.transport(version)
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        ends = socket.inet_pton(family, source) + socket.inet_pton(family, target)
        if version == 4:
            options = self.chance.choice([b"", b"", b"\1\1\1\1"])
            fragment = self.chance.choice([0, 0, 0, 0x2000, 0x2001, 0x4000]) if self.fragments else 0
            size = 20 + len(options) + len(payload)
            head = struct.pack("!BBHHHBBH", 0x45 + len(options) // 4, 0, size, 7, fragment, 64, protocol, 0) + ends + options
            return head[:10] + checksum(head) + head[12:] + payload, target
        following = protocol
        for _ in range(self.chance.choice([0, 0, 1, 2, 3])):
            kind = self.chance.choice([43, 44, 44, 60, 60] if self.fragments else [43, 60])
            if kind == 44:
                more = struct.pack("!BBHI", following, 0, self.chance.choice([0, 1, 8, 9]), 77)
            elif kind == 43:
                more = struct.pack("!BBBBI", following, 0, 4, self.chance.choice([0, 1]), 0)
            else:
                more = struct.pack("!BB6s", following, 0, b"\1\4\0\0\0\0")
            payload, following = more + payload, kind
        if self.chance.random() < 0.2:
            payload, following = struct.pack("!BB6s", following, 0, b"\1\4\0\0\0\0") + payload, 0
        hops = self.chance.choice([64, 255])
        return struct.pack("!IHBB", 6 << 28, len(payload), following, hops) + ends + payload, target

    def transport(self, version: int) -> tuple[int, bytes]:
        port = self.chance.choice(PORTS)
        kind = self.chance.choice(["tcp", "tcp", "tcp", "udp", "udp", "icmp", "other"])
        if kind == "tcp":
            data = struct.pack("!HHIIBBHHH", 4000, port, 1, 0, 0x50, self.chance.choice([2, 2, 2, 16, 18, 4, 1, 66]), 1000, 0, 0)
            return 6, data[: self.chance.choice([20, 20, 20, 14, 13, 12, 4, 3])]
        if kind == "udp":
            token = self.chance.choice([b"\0\1ab\x21\x12\xa4\x42" + b"t" * 8, b"T" * 16, b"short", b""])
            return 17, struct.pack("!HHHH", 4000, port, 8 + len(token), 0) + token
        if kind == "icmp":
            return (1 if version == 4 else 58), struct.pack("!BBHI", self.chance.choice([1, 2, 8, 128]), 0, 0, 0)
        return self.chance.choice([47, 112, 6]), b"\0\0\0\x16"[: self.chance.choice([0, 2, 4])]


def checksum(data: bytes) -> bytes:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


def random_rules(chance: random.Random) -> str:
    """Four chains; each calls only those behind it. No packet asks a limit twice: of that the meaning says nothing."""
    limits: set[str] = set()

    def once(part: str) -> bool:
        if "limit" not in part:
            return True
        limit = part.split()[1]
        return not (limit in limits or limits.add(limit))

    lines = [SETS, "\tset protocols { type nf_proto; elements = { ipv6 }; }"]

    def verdict(chain: int) -> str:
        calls = [f"{word} t{to}" for word in ("jump", "goto") for to in range(chain + 1, 4)]
        return chance.choice(["accept", "drop", "return", "continue"] + calls * 2)

    for chain in range(3, -1, -1):
        lines.append(f"\tchain t{chain} {{")
        if chain == 0:
            lines.append("\t\ttype filter hook prerouting priority raw; policy accept;")
        for _ in range(chance.randint(2, 6)):
            parts = [chance.choice(MATCHES) for _ in range(chance.choice([0, 1, 1, 2]))]
            parts += [chance.choice(CHANGES) for _ in range(chance.choice([0, 1, 1, 2]))]
            parts = [one for one in parts if once(one)]
            if chance.random() < 0.15:
                parts.append(chance.choice(VMAPS).replace("VERDICT", verdict(chain), 1).replace("VERDICT", verdict(chain), 1))
            elif chance.random() < 0.6 or not parts:
                parts.append(verdict(chain))
            lines.append("\t\t" + " ".join(parts))
        lines.append("\t}")
    return "\n".join(lines + ["}"]) + "\n"


def nft(script: str) -> str:
    """Runs a script. Returns what nft complains of."""
    done = subprocess.run(["nft", "-f", "-"], input=script, text=True, capture_output=True)
    return done.stderr or "no word" if done.returncode else ""


def random_contents(chance: random.Random) -> str:
    lines = [f"flush {'map' if name in ('m4', 'm6') else 'set'} inet toctoc {name}" for name in ("s4", "s6", "m4", "m6", "full4", "none", "limit4", "over6", "token")]
    lines += [FRESH, "flush map inet judge initial", "flush map inet judge marks"]
    state = lambda: chance.choice(["0:0", "0:1", "0:2", "5693:153e"])  # noqa: E731
    for version in (4, 6):
        for source in SOURCES[version]:
            if chance.random() < 0.5:
                lines.append(f"add element inet toctoc s{version} {{ {source} . {state()} timeout 1000s }}")
            if chance.random() < 0.5:
                lines.append(f"add element inet toctoc m{version} {{ {source} timeout 1000s : {state()} }}")
    lines.append(f"add element inet toctoc full4 {{ {chance.choice(SOURCES[4])} timeout 1000s }}")
    if chance.random() < 0.5:
        lines.append(f"add element inet toctoc none {{ {state()} }}")
    priority = chance.choice(["0:0", "0:0", "0:1", "0:3"])
    lines.append(f"add element inet judge initial {{ ipv4 : {priority}, ipv6 : {priority} }}")
    mark = chance.choice(["0x0", "0x7", "0x74637463"])
    lines.append(f"add element inet judge marks {{ ipv4 : {mark}, ipv6 : {mark} }}")
    return "\n".join(lines) + "\n"


class Bench:
    """The kernel's side: what it holds, and a packet sent."""

    def __init__(self) -> None:
        self.kernel = Kernel()
        self.wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self.wire.bind(("v1", 0))
        self.ends = bytes.fromhex("020000000001" "020000000002")
        self.interface = socket.if_nametoindex("v0")

    def contents(self, table: str, name: str) -> dict[str, tuple[int, int]]:
        """The elements of a set: key -> data, and the milliseconds that are left (0: no end)."""
        found = {}
        for message in map(dict, self.kernel.dump(13, (1, table), (2, name))):
            for _, inner in attributes(message.get(3, b"")):
                one = dict(attributes(inner))
                key = dict(attributes(one[1]))[1].hex()
                data = int(dict(attributes(one[2]))[1].hex(), 16) if 2 in one else 0
                found[key] = (data, number(one.get(5, b"")))
        return found

    def counts(self) -> dict[str, int]:
        objects = map(dict, self.kernel.dump(OBJECTS, (1, "toctoc")))
        return {text(one[2]): number(dict(attributes(one[4]))[2]) for one in objects if text(one[1]) == "toctoc"}

    def send(self, data: bytes) -> None:
        kind = b"\x08\x00" if data[0] >> 4 == 4 else b"\x86\xdd"
        self.wire.send(self.ends + kind + data)
        # Packets of one processor are taken in order: when the next one has come, this one is through.
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20, 7, 0, 64, 253, 0) + socket.inet_aton("203.0.113.99") + socket.inet_aton("10.9.0.1")
        self.wire.send(self.ends + b"\x08\x00" + head[:10] + checksum(head) + head[12:])

    def comes(self) -> bool:
        """Waits until the packet is through. Returns whether the firewall has met it."""
        until = time.monotonic() + 10
        while not self.contents("judge", "came"):
            if time.monotonic() > until:
                raise RuntimeError("no packet comes through")
        return bool(self.contents("judge", "met"))


def world_of(table: dict[str, Any], held: dict[str, dict[str, tuple[int, int]]], used: set[tuple[str, str]]) -> World:
    """The same contents as constants. A limit is used up for an element that has been asked before."""
    stores = {}
    for name, contents in held.items():
        declared = table["sets"][name]
        width = 8 * declared["data"] or 8

        def before(key: Any, contents: Any = contents, width: int = width) -> Entry:
            digits = f"{key.as_long():0{key.size() // 4}x}"
            data, left = contents.get(digits, (0, 0))
            return Entry(z3.BoolVal(digits in contents), const(data, width), const(NOW + left if left else 0, 64))

        def over(key: Any, name: str = name) -> Any:
            return z3.BoolVal((name, f"{key.as_long():0{key.size() // 4}x}") in used)

        full = TRUE if name == "full4" else FALSE
        stores[name] = Store(name, 8 * declared["key"], 8 * declared["data"], before, lambda key, full=full: full, over)
    return World(stores, const(NOW, 64), z3.BoolVal(("rule", "") in used), z3.BoolVal(False))


def entries(store: Store, before: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """What a set holds after the packet, by the meaning."""
    keys = set(before) | {f"{write.key.as_long():0{store.key_bits // 4}x}" for write in store.writes}
    found = {}
    for digits in keys:
        entry = store.read(const(int(digits, 16), store.key_bits))
        if z3.is_true(z3.simplify(entry.there)):
            end = z3.simplify(entry.end).as_long()
            found[digits] = (z3.simplify(entry.data).as_long(), end - NOW if end else 0)
    return found


def alike(one: dict[str, tuple[int, int]], other: dict[str, tuple[int, int]]) -> bool:
    """The same keys and data, and times that differ by less than the run takes."""
    if set(one) != set(other):
        return False
    near = lambda a, b: (a == 0) == (b == 0) and abs(a - b) < 20_000  # noqa: E731
    return all(one[key][0] == other[key][0] and near(one[key][1], other[key][1]) for key in one)


def try_packet(bench: Bench, table: dict[str, Any], data: bytes, target: str, used: set[tuple[str, str]]) -> str | None:
    """Sends a packet, and says what the kernel and the meaning disagree about. "lost": the stack dropped it before."""
    names = [name for name, one in table["sets"].items() if one["flags"] & 0x30]
    held = {name: bench.contents("toctoc", name) for name in names}
    counts = bench.counts()
    priority, mark = (next(iter(bench.contents("judge", name).values()))[0] for name in ("initial", "marks"))
    bench.send(data)
    if not bench.comes():
        return "lost"
    packet = fields(data)
    packet.given |= {
        "interface": const(bench.interface, 32), "interface name": const(int.from_bytes(b"v0".ljust(16, b"\0"), "big"), 128),
        "address type": const(TYPES[target], 32), "time": const(time.time_ns(), 64), "connection": const(CT_INVALID, 32), "socket": FALSE,
        "priority": turned32(priority), "mark": turned32(mark),
    }
    world = world_of(table, held, used)
    alive, left = Machine(table, world).hook(0, packet, TRUE, z3.simplify(z3.Concat(packet.mark, packet.priority)))
    seen = bench.contents("judge", "seen")
    if z3.is_true(alive) != bool(seen):
        return f"verdict: the kernel {'lets it pass' if seen else 'drops it'}"
    # The mark comes first in the meaning, and second in `seen`.
    notes = z3.simplify(z3.Concat(*(turned32(z3.Extract(at + 31, at, left)) for at in (0, 32)))).as_long()
    if seen and int(next(iter(seen)), 16) != notes:
        return f"priority and mark: the kernel {next(iter(seen))}, the meaning {notes:016x}"
    for name in names:
        now, then = bench.contents("toctoc", name), entries(world.stores[name], held[name])
        if not alike(now, then):
            return f"set {name}: before {held[name]}, the kernel {now}, the meaning {then}"
    for name, amount in bench.counts().items():
        if (amount != counts[name]) != z3.is_true(z3.simplify(world.counted.get(name, FALSE))):
            return f"counter {name}"
    for name, when, key, _ in world.asked:
        if z3.is_true(z3.simplify(when)):
            used.add((name, "" if key is None else f"{key.as_long():0{key.size() // 4}x}"))
    return None


def turned32(value: Any) -> Any:
    number_ = value if isinstance(value, int) else z3.simplify(value).as_long()
    return const(int.from_bytes(number_.to_bytes(4, "little"), "big"), 32)


def main(count: int, seed: int) -> int:
    setup = [
        "ip link add v0 address 02:00:00:00:00:01 type veth peer name v1 address 02:00:00:00:00:02", "ip address add 10.9.0.1/24 brd 10.9.0.255 dev v0",
        "ip address add 2001:db8:9::1/64 dev v0 nodad", "ip link set lo up", "ip link set v0 up", "ip link set v1 up",
    ]
    for command in setup:
        subprocess.run(command.split(), check=True)
    # Nothing but our packets comes.
    Path("/proc/sys/net/ipv6/conf/v1/disable_ipv6").write_text("1")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    chance, bench, tried, lost, rulesets, wrong, names = random.Random(seed), Bench(), 0, 0, 0, 0, set()
    while tried < count and wrong < 5:
        script = random_rules(chance)
        if nft(script):
            continue
        rulesets += 1
        table = bench.kernel.table()
        used_here = {one["name"] for chain in table["chains"].values() for rule in chain["rules"] for one in rule}
        names |= used_here
        used: set[tuple[str, str]] = set()
        # With these the kernel puts fragments together, and single ones come no further.
        sender = Sender(chance, fragments=not used_here & {"ct", "socket"})
        for _ in range(8):
            data, target = sender.packet()
            if refused := nft(random_contents(chance)):
                raise RuntimeError(refused)
            used = {one for one in used if one[0] == "rule"}
            for _ in range(2):
                said = try_packet(bench, table, data, target, used)
                if said == "lost":
                    lost += 1
                    break
                tried += 1
                if said is not None:
                    wrong += 1
                    print(f"{said}\npacket {data.hex()}\n{script[script.index('	set protocols'):]}", flush=True)
                    break
                nft(FRESH)
    print("expressions: " + ", ".join(sorted(names)))
    print(f"{tried} packets through {rulesets} rulesets, {wrong} judged otherwise than by the kernel; {lost} never came")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
