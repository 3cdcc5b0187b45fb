"""The reader: loads a script into a network namespace of its own, and reads the table back from the kernel.

What comes back is what the kernel executes: netlink messages of nf_tables, one expression after the other. nft writes
the rules and is not asked again, so nothing depends on how a release prints them.

An expression, an attribute or a kind of set that is not in the tables below is an error. Nothing is passed over.

Run as a program, `bytecode.py SCRIPT` prints the table as JSON; `read` runs that inside `unshare`.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

Attributes = dict[int, bytes]

NETLINK_NETFILTER = 12
SUBSYSTEM = 10 << 8  # NFNL_SUBSYS_NFTABLES
GET_CHAIN, GET_RULE, GET_SET, GET_ELEMENT = 4, 7, 10, 13
INET = 1  # NFPROTO_INET
DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
TABLE = "toctoc"

# The attributes of each expression (linux/netfilter/nf_tables.h): number -> name and form. "unused" is read and dropped.
EXPRESSIONS: dict[str, dict[int, tuple[str, str]]] = {
    "immediate": {1: ("dreg", "u32"), 2: ("data", "data")},
    "bitwise": {
        1: ("sreg", "u32"), 2: ("dreg", "u32"), 3: ("len", "u32"), 4: ("mask", "data"), 5: ("xor", "data"),
        6: ("op", "u32"), 7: ("shift", "data"),
    },
    "byteorder": {1: ("sreg", "u32"), 2: ("dreg", "u32"), 3: ("op", "u32"), 4: ("len", "u32"), 5: ("size", "u32")},
    "cmp": {1: ("sreg", "u32"), 2: ("op", "u32"), 3: ("data", "data")},
    "range": {1: ("sreg", "u32"), 2: ("op", "u32"), 3: ("from", "data"), 4: ("to", "data")},
    "lookup": {1: ("set", "text"), 2: ("sreg", "u32"), 3: ("dreg", "u32"), 4: ("id", "unused"), 5: ("flags", "u32")},
    "dynset": {
        1: ("set", "text"), 2: ("id", "unused"), 3: ("op", "u32"), 4: ("key", "u32"), 5: ("data", "u32"),
        6: ("timeout", "u64"), 7: ("expression", "expression"), 9: ("flags", "u32"), 10: ("expressions", "expressions"),
    },
    "payload": {1: ("dreg", "u32"), 2: ("base", "u32"), 3: ("offset", "u32"), 4: ("len", "u32")},
    "exthdr": {
        1: ("dreg", "u32"), 2: ("type", "u8"), 3: ("offset", "u32"), 4: ("len", "u32"), 5: ("flags", "u32"),
        6: ("op", "u32"),
    },
    "meta": {1: ("dreg", "u32"), 2: ("key", "u32"), 3: ("sreg", "u32")},
    "ct": {1: ("dreg", "u32"), 2: ("key", "u32"), 3: ("direction", "u8")},
    "nat": {
        1: ("type", "u32"), 2: ("family", "u32"), 3: ("address", "u32"), 4: ("last address", "u32"), 5: ("port", "u32"),
        6: ("last port", "u32"), 7: ("flags", "u32"),
    },
    "masq": {1: ("flags", "u32")},
    "fib": {1: ("dreg", "u32"), 2: ("result", "u32"), 3: ("flags", "u32")},
    "socket": {1: ("key", "u32"), 2: ("dreg", "u32"), 3: ("level", "unused")},
    "limit": {
        1: ("rate", "u64"), 2: ("unit", "u64"), 3: ("burst", "u32"), 4: ("type", "u32"), 5: ("flags", "u32"),
    },
    "counter": {1: ("bytes", "unused"), 2: ("packets", "unused")},
    "objref": {1: ("type", "u32"), 2: ("object", "text")},
    "log": {
        1: ("group", "u16"), 2: ("prefix", "text"), 3: ("snaplen", "u32"), 4: ("threshold", "u16"),
        5: ("level", "u32"), 6: ("flags", "u32"),
    },
    "reject": {1: ("type", "u32"), 2: ("code", "u8")},
}
# Added to the number of a hook, for its chains that translate.
TRANSLATES = 10
VERDICTS = {0: "drop", 1: "accept", -1: "continue", -2: "break", -3: "jump", -4: "goto", -5: "return"}
PADDING = {"dynset": 8, "limit": 6, "counter": 3}


class ReadError(Exception):
    """The kernel said something that this reader has no words for."""


def attributes(data: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            raise ReadError(f"an attribute of {length} bytes")
        found.append((kind & 0x3FFF, data[at + 4 : at + length]))
        at += (length + 3) & ~3
    return found


def text(data: bytes) -> str:
    return data.rstrip(b"\0").decode()


def number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def verdict(data: bytes) -> dict[str, Any]:
    inner = dict(attributes(data))
    code = struct.unpack(">i", inner[1])[0]
    if code not in VERDICTS:
        raise ReadError(f"verdict {code}")
    return {"verdict": VERDICTS[code], **({"chain": text(inner[2])} if 2 in inner else {})}


def value(data: bytes) -> Any:
    """Bytes of a register as hexadecimal digits, or a verdict."""
    ((kind, inner),) = attributes(data)
    return inner.hex() if kind == 1 else verdict(inner)


def expression(data: bytes) -> dict[str, Any]:
    outer = dict(attributes(data))
    name = text(outer[1])
    known = EXPRESSIONS.get(name)
    if known is None:
        raise ReadError(f"no meaning is known for the expression {name}")
    made: dict[str, Any] = {"name": name}
    for kind, content in attributes(outer.get(2, b"")):
        if kind == PADDING.get(name):
            continue
        if kind not in known:
            raise ReadError(f"attribute {kind} of the expression {name}")
        field, form = known[kind]
        if form == "text":
            made[field] = text(content)
        elif form == "data":
            made[field] = value(content)
        elif form == "expression":
            made["expressions"] = [expression(content)]
        elif form == "expressions":
            made["expressions"] = [expression(one) for _, one in attributes(content)]
        elif form != "unused":
            made[field] = number(content)
    return made


class Kernel:
    """A socket of nf_tables in this network namespace."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)

    def dump(self, kind: int, *asked: tuple[int, str]) -> list[list[tuple[int, bytes]]]:
        body = struct.pack("=BBH", INET, 0, 0)
        for number_, name in asked:
            content = name.encode() + b"\0"
            body += struct.pack("=HH", 4 + len(content), number_) + content + b"\0" * (-len(content) % 4)
        self.socket.send(struct.pack("=IHHII", 16 + len(body), SUBSYSTEM | kind, DUMP, 1, 0) + body)
        found = []
        while True:
            data, at = self.socket.recv(1 << 20), 0
            while at < len(data):
                length, kind_, flags = struct.unpack_from("=IHH", data, at)
                content = data[at + 16 : at + length]
                at += (length + 3) & ~3
                if flags & 0x10:
                    raise ReadError("the ruleset changed while it was read")
                if kind_ == 3:  # NLMSG_DONE
                    return found
                if kind_ == 2:  # NLMSG_ERROR
                    raise ReadError(os.strerror(-struct.unpack_from("=i", content)[0]))
                found.append(attributes(content[4:]))

    def table(self) -> dict[str, Any]:
        chains: dict[str, Any] = {}
        for found in map(dict, self.dump(GET_CHAIN)):
            if text(found[1]) != TABLE:
                continue
            hook = {kind: number(data) for kind, data in attributes(found.get(4, b"")) if kind < 3}
            priority = struct.unpack(">i", struct.pack(">I", hook.get(2, 0)))[0]
            policy = number(found[5]) if 5 in found else None
            # A chain that translates is at a hook of its own: it sees the first packet of a connection alone.
            at = hook.get(1)
            if at is not None and text(found[7]) == "nat":
                at += TRANSLATES
            chains[text(found[3])] = {"hook": at, "priority": priority, "policy": policy, "rules": []}
        for found in map(dict, self.dump(GET_RULE, (1, TABLE))):
            rule = [expression(one) for _, one in attributes(found[4])]
            chains[text(found[2])]["rules"].append(rule)
        sets = {}
        for found in map(dict, self.dump(GET_SET, (1, TABLE))):
            name = text(found[2])
            desc = dict(attributes(found.get(9, b"")))
            sets[name] = {
                "flags": number(found.get(3, b"")),
                "key": number(found[5]),
                "verdicts": number(found.get(6, b"")) == 0xFFFFFF00,
                "data": number(found.get(7, b"")),
                "timeout": number(found.get(11, b"")),
                "size": number(desc.get(1, b"")),
                "elements": self.elements(name),
            }
        return {"chains": chains, "sets": sets}

    def elements(self, name: str) -> list[dict[str, Any]]:
        made = []
        for found in map(dict, self.dump(GET_ELEMENT, (1, TABLE), (2, name))):
            for _, inner in attributes(found.get(3, b"")):
                one = dict(attributes(inner))
                element = {"key": value(one[1]), "flags": number(one.get(3, b""))}
                if 2 in one:
                    element["data"] = value(one[2])
                if set(one) - {1, 2, 3, 6}:
                    element["more"] = sorted(set(one) - {1, 2, 3, 6})
                made.append(element)
        return made


def read(script: str) -> dict[str, Any]:
    """The table that a script makes, in a namespace that is gone afterwards. Needs no privileges."""
    command = ["unshare", "-Urn", sys.executable, str(Path(__file__).resolve()), "/dev/stdin"]
    done = subprocess.run(command, input=script, capture_output=True, text=True)
    if done.returncode:
        raise ReadError(done.stderr.strip())
    return json.loads(done.stdout)


def ticks_per_second() -> int:
    """The kernel counts times in ticks, and rounds them down: 1009 ms come back as what they are in whole ticks."""
    probe = "table inet ticks { set probe { type inet_service; timeout 1009ms; }; }"
    subprocess.run(["nft", probe], check=True)
    kernel = Kernel()
    (found,) = [dict(one) for one in kernel.dump(GET_SET, (1, "ticks"))]
    kept = number(found[11])
    (rate,) = [rate for rate in (100, 250, 300, 1000) if 1009 * rate // 1000 * 1000 // rate == kept]
    return rate


def main() -> None:
    script = Path(sys.argv[1]).read_text()
    loaded = subprocess.run(["nft", "-f", "-"], input=script, text=True, capture_output=True)
    if loaded.returncode:
        sys.exit(loaded.stderr)
    table = Kernel().table()
    table["ticks"] = ticks_per_second()
    json.dump(table, sys.stdout)


if __name__ == "__main__":
    main()
