"""The walk over the headers of a packet of bytes, as netfilter does it: which protocol, where, and which headers are there.

`find` is `ipv6_find_hdr` of net/ipv6/exthdrs_core.c, `fields` what `nft_set_pktinfo` and the expressions make of it. It
turns a packet on the wire into the fields of `packet.Packet`.
"""

from __future__ import annotations

import z3

from packet import V4, V6, Packet, const

HOPS, ROUTING, FRAGMENT, AUTH, NONE, DESTINATION = 0, 43, 44, 51, 59, 60
EXTENSIONS = (HOPS, ROUTING, FRAGMENT, AUTH, NONE, DESTINATION)


def find(data: bytes, target: int) -> tuple[int, int, int] | None:
    """A header of an IPv6 packet, or (target -1) its protocol: number, offset, and offset of the fragment."""
    at, header, fragment = 40, data[6], 0
    while True:
        found = header == target
        if header not in EXTENSIONS or header == NONE:
            return (header, at, fragment) if target < 0 or found else None
        if len(data) < at + (4 if header == ROUTING else 2):
            return None
        following = data[at]
        if header == FRAGMENT:
            if len(data) < at + 4:
                return None
            fragment = int.from_bytes(data[at + 2 : at + 4], "big") & ~7
            if fragment:
                if target < 0 and (following not in EXTENSIONS or following == NONE):
                    return following, 0, fragment
                return (header, at, fragment) if found else None
            length = 8
        elif header == AUTH:
            if target < 0:
                return header, at, fragment
            length = (data[at + 1] + 2) * 4
        else:
            length = (data[at + 1] + 1) * 8
        if found:
            return header, at, fragment
        header, at = following, at + length


def fields(data: bytes, name: str = "packet") -> Packet:
    """The fields of a packet, beginning with its IP header."""
    family = V4 if data[0] >> 4 == 4 else V6
    packet = Packet(name, family)
    given = packet.given
    for i in range(20 if family == V4 else 40):
        given[f"network{i}"] = const(data[i], 8)
    if family == V4:
        fragment = int.from_bytes(data[6:8], "big") & 0x1FFF
        walked: tuple[int, int, int] | None = (data[9], 4 * (data[0] & 15), fragment)
    else:
        walked = find(data, -1)
        for kind in EXTENSIONS:
            found = find(data, kind)
            given[f"extension{kind}"] = z3.BoolVal(found is not None)
            start = found[1] if found else len(data)
            given[f"extension{kind}.size"] = const(len(data) - start, 16)
            for i in range(8):
                given[f"extension{kind}.{i}"] = const(data[start + i] if start + i < len(data) else 0, 8)
    given["protocol known"] = z3.BoolVal(walked is not None)
    protocol, start, fragment = walked or (0, len(data), 0)
    rest = data[start:]
    given["later fragment"] = z3.BoolVal(fragment != 0)
    given["protocol"] = const(protocol, 8)
    given["transport"] = const(len(rest), 16)
    for i in range(64):
        given[f"transport{i}"] = const(rest[i] if i < len(rest) else 0, 8)
    return packet
