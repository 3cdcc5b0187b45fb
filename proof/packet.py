"""The packet as the firewall sees it: what each expression may load of it, as bit-vectors of z3.

Every field is a free variable unless it is given, so one `Packet` stands for all packets. Bytes are in the order of the
wire; what the kernel keeps in its own order (numbers of `meta`, `ct` and `fib`) is in that of the machine, little-endian.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import z3

Bits = z3.BitVecRef
Truth = z3.BoolRef

V4, V6 = 2, 10  # NFPROTO_IPV4, NFPROTO_IPV6
TCP, UDP = 6, 17
LOCAL, UNICAST = 2, 1  # RTN_LOCAL, RTN_UNICAST
BROADCAST, ANYCAST, MULTICAST = 3, 4, 5
CT_INVALID, CT_ESTABLISHED, CT_RELATED, CT_NEW, CT_UNTRACKED = 1, 2, 4, 8, 64
HEADER = {V4: 20, V6: 40}


class NoMeaning(Exception):
    """Something that has no meaning here. It is an error, never passed over."""


def const(value: int, bits: int) -> Bits:
    return z3.BitVecVal(value, bits)


def join(parts: list[Bits]) -> Bits:
    return parts[0] if len(parts) == 1 else z3.Concat(*parts)


def turned(value: Bits) -> Bits:
    """The same bytes in the other order."""
    size = value.size() // 8
    return join([z3.Extract(8 * i + 7, 8 * i, value) for i in range(size)])


@dataclass
class Packet:
    """One packet at one hook."""

    name: str
    family: int
    given: dict[str, z3.ExprRef] = field(default_factory=dict)

    def of(self, what: str, bits: int) -> Bits:
        """A field by its name; a variable where nothing is given."""
        if what not in self.given:
            self.given[what] = z3.BitVec(f"{self.name}.{what}", bits)
        return self.given[what]

    def whether(self, what: str) -> Truth:
        if what not in self.given:
            self.given[what] = z3.Bool(f"{self.name}.{what}")
        return self.given[what]

    # Headers.

    def network(self, offset: int, length: int) -> Bits:
        """Bytes of the IP header, which the stack has checked before any hook."""
        if offset + length > HEADER[self.family]:
            raise NoMeaning(f"bytes {offset} to {offset + length} are behind the IP header")
        return join([self.of(f"network{i}", 8) for i in range(offset, offset + length)])

    def transport(self, offset: int, length: int) -> Bits:
        return join([self.of(f"transport{i}", 8) for i in range(offset, offset + length)])

    def has_transport(self, upto: int) -> Truth:
        """Whether so many bytes can be read where the kernel looks for the header behind the IP headers."""
        return z3.UGE(self.of("transport", 16), upto)

    @property
    def is_later(self) -> Truth:
        """A fragment that is not the first: it has no such header. Small loads read what stands there instead (IPv4: the
        data of the fragment; IPv6: the IP header), since `nft_payload_fast_eval` does not ask."""
        return self.whether("later fragment")

    @property
    def protocol_is_known(self) -> Truth:
        """Whether the walk over the headers has come to an end. That of IPv4 has no walk."""
        return z3.BoolVal(True) if self.family == V4 else self.whether("protocol known")

    @property
    def protocol(self) -> Bits:
        return self.of("protocol", 8)

    @property
    def source(self) -> Bits:
        return self.network(12, 4) if self.family == V4 else self.network(8, 16)

    @property
    def destination(self) -> Bits:
        return self.network(16, 4) if self.family == V4 else self.network(24, 16)

    @property
    def source_port(self) -> Bits:
        return self.transport(0, 2)

    @property
    def port(self) -> Bits:
        return self.transport(2, 2)

    @property
    def flags(self) -> Bits:
        return self.transport(13, 1)

    # IPv6 extension headers, each as `ipv6_find_hdr` finds it.

    def has_extension(self, kind: int) -> Truth:
        return z3.BoolVal(False) if self.family == V4 else self.whether(f"extension{kind}")

    def extension(self, kind: int, offset: int, length: int) -> Bits:
        return join([self.of(f"extension{kind}.{i}", 8) for i in range(offset, offset + length)])

    def has_of_extension(self, kind: int, upto: int) -> Truth:
        return z3.And(self.has_extension(kind), z3.UGE(self.of(f"extension{kind}.size", 16), upto))

    # Options of IPv4, as `ipv4_find_option` finds them.

    def has_option(self, kind: int) -> Truth:
        return self.whether(f"option{kind}") if self.family == V4 else z3.BoolVal(False)

    # Facts that the kernel knows besides.

    @property
    def mark(self) -> Bits:
        """The mark with which it comes to the hook."""
        return self.of("mark", 32)

    @property
    def priority(self) -> Bits:
        return self.of("priority", 32)

    @property
    def interface(self) -> Bits:
        return self.of("interface", 32)

    @property
    def interface_name(self) -> Bits:
        return self.of("interface name", 128)

    @property
    def address_type(self) -> Bits:
        """The type of the destination by the routing tables (`fib daddr type`)."""
        return self.of("address type", 32)

    @property
    def connection(self) -> Bits:
        """The state by connection tracking: one bit."""
        return self.of("connection", 32)

    @property
    def connection_status(self) -> Bits:
        """Its status there: bit 5 says that its destination was translated."""
        return self.of("connection status", 32)

    @property
    def first_port(self) -> Bits:
        """The port that the connection was begun to."""
        return self.of("first port", 16)

    @property
    def time(self) -> Bits:
        """The wall clock in nanoseconds since 1970."""
        return self.of("time", 64)

    @property
    def has_socket(self) -> Truth:
        return self.whether("socket")

    @property
    def socket_is_wildcard(self) -> Bits:
        return self.of("socket wildcard", 8)

    def facts(self) -> list[Truth]:
        """What is true of every packet at a hook: all that the proof takes for granted of packets."""
        states = (CT_INVALID, CT_ESTABLISHED, CT_RELATED, CT_NEW, CT_UNTRACKED)
        # A header of TCP that ends right behind the flags (IPv4: a first fragment, which the stack cuts to 8 bytes) begins
        # nothing as it is. What the stack puts together is asked again at the input hook.
        odd = z3.And(self.protocol == TCP, self.has_transport(14), z3.Not(self.has_transport(16)))
        return [
            z3.Or([self.connection == state for state in states]),
            self.is_later == self.says_later(),
            z3.Not(odd),
        ]

    def says_later(self) -> Truth:
        """Whether the IP headers say that it is a later fragment."""
        if self.family == V4:
            return self.network(6, 2) & 0x1FFF != 0
        return z3.And(self.has_of_extension(44, 4), self.extension(44, 2, 2) & 0xFFF8 != 0)
