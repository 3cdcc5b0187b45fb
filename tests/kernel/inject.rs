//! Packets made by hand, from any source address: raw sockets on the client.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use socket2::{Domain, Protocol as Ip, Socket, Type};
use toctoc::knock::Protocol;
use toctoc::lab::SERVER;
use toctoc::trace::Packet;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
/// FIN, PSH and URG, as in nmap's XMAS scan.
pub const XMAS: u8 = 1 | 8 | 32;
pub const ACK: u8 = 16;

/// "The header is included": IPPROTO_RAW.
const RAW: i32 = 255;

/// Sends to the server. Made and used on the client.
pub struct Injector {
    v4: Socket,
    v6: Socket,
    /// Each packet of a trace is a connection of its own: the last port of each source.
    ports: RefCell<BTreeMap<IpAddr, u16>>,
}

impl Injector {
    pub fn new() -> io::Result<Injector> {
        let raw = |domain| Socket::new(domain, Type::RAW, Some(Ip::from(RAW)));
        let v4 = raw(Domain::IPV4)?;
        v4.set_broadcast(true)?;
        Ok(Injector {
            v4,
            v6: raw(Domain::IPV6)?,
            ports: RefCell::default(),
        })
    }

    /// A SYN or a datagram, as the trace says. Returns the port it came from.
    pub fn packet(&self, packet: &Packet) -> u16 {
        let port = packet.to.port.get();
        let mut ports = self.ports.borrow_mut();
        let from = ports.entry(packet.source).or_insert(40_000);
        *from += 1;
        let (source, to) = (packet.source, packet.host.unwrap_or(server(packet.source)));
        match packet.to.protocol {
            Protocol::Tcp => self.ip_to(source, to, 6, &tcp_header(source, to, *from, port, SYN)),
            Protocol::Udp => self.ip_to(source, to, 17, &datagram(source, to, *from, port, &[])),
        }
        *from
    }

    pub fn tcp(&self, source: IpAddr, from: u16, to: u16, flags: u8) {
        self.ip(
            source,
            6,
            &tcp_header(source, server(source), from, to, flags),
        );
    }

    /// A SYN with a sequence number of its own; the others have 1.
    pub fn syn_numbered(&self, source: IpAddr, from: u16, to: u16, number: u32) {
        let mut header = tcp_header(source, server(source), from, to, SYN);
        header[4..8].copy_from_slice(&number.to_be_bytes());
        header[16..18].fill(0);
        let sum = checksum(source, server(source), 6, &header);
        header[16..18].copy_from_slice(&sum.to_be_bytes());
        self.ip(source, 6, &header);
    }

    pub fn udp(&self, source: IpAddr, from: u16, to: u16) {
        self.datagram(source, from, to, &[]);
    }

    pub fn datagram(&self, source: IpAddr, from: u16, to: u16, payload: &[u8]) {
        self.ip(
            source,
            17,
            &datagram(source, server(source), from, to, payload),
        );
    }

    /// A whole IP packet around a transport header.
    pub fn ip(&self, source: IpAddr, protocol: u8, payload: &[u8]) {
        self.ip_to(source, server(source), protocol, payload);
    }

    /// The same to another host.
    pub fn ip_to(&self, source: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) {
        match (source, to) {
            (IpAddr::V4(source), IpAddr::V4(to)) => {
                self.fragment(source, to, protocol, 0, payload);
            }
            (IpAddr::V6(_), IpAddr::V6(to)) => {
                self.ip6(source, SocketAddrV6::new(to, 0, 0, 0), protocol, payload);
            }
            _ => unreachable!("one family"),
        }
    }

    /// The same to any IPv6 address; one of a link has its interface as scope.
    pub fn ip6(&self, source: IpAddr, to: SocketAddrV6, protocol: u8, payload: &[u8]) {
        self.ip6_labelled(source, to, 0, protocol, payload);
    }

    /// The same with a flow label, of which these are the last 16 bits.
    pub fn ip6_labelled(
        &self,
        source: IpAddr,
        to: SocketAddrV6,
        label: u16,
        protocol: u8,
        payload: &[u8],
    ) {
        let IpAddr::V6(source) = source else {
            unreachable!("one family");
        };
        let mut packet = vec![0x60, 0];
        packet.extend(label.to_be_bytes());
        packet.extend((payload.len() as u16).to_be_bytes());
        packet.extend([protocol, 64]);
        packet.extend(source.octets());
        packet.extend(to.ip().octets());
        packet.extend(payload);
        self.v6.send_to(&packet, &to.into()).unwrap();
    }

    /// An IPv4 packet whose fragment field is as told: 0x2000 is "more follow", the rest the offset
    /// in units of eight bytes.
    pub fn fragment(
        &self,
        source: Ipv4Addr,
        to: Ipv4Addr,
        protocol: u8,
        fragment: u16,
        payload: &[u8],
    ) {
        let mut packet = vec![0x45, 0, 0, 0, 0x12, 0x34];
        packet.extend(fragment.to_be_bytes());
        packet.extend([64, protocol, 0, 0]);
        packet.extend(source.octets());
        packet.extend(to.octets());
        packet.extend(payload);
        let to = SocketAddr::new(to.into(), 0);
        self.v4.send_to(&packet, &to.into()).unwrap();
    }
}

fn server(of: IpAddr) -> IpAddr {
    SERVER[usize::from(of.is_ipv6())].parse().unwrap()
}

/// A UDP header and what it carries.
pub fn datagram(source: IpAddr, server: IpAddr, from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(from.to_be_bytes());
    header.extend(to.to_be_bytes());
    header.extend((8 + payload.len() as u16).to_be_bytes());
    header.extend([0, 0]);
    header.extend(payload);
    let sum = checksum(source, server, 17, &header);
    header[6..8].copy_from_slice(&sum.to_be_bytes());
    header
}

pub fn tcp_header(source: IpAddr, to: IpAddr, from_port: u16, to_port: u16, flags: u8) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(from_port.to_be_bytes());
    header.extend(to_port.to_be_bytes());
    header.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0x10, 0, 0, 0, 0, 0]);
    let sum = checksum(source, to, 6, &header);
    header[16..18].copy_from_slice(&sum.to_be_bytes());
    header
}

/// The Internet checksum over the pseudo header and the packet (RFC 9293, RFC 8200).
fn checksum(source: IpAddr, to: IpAddr, protocol: u8, packet: &[u8]) -> u16 {
    let mut bytes = Vec::new();
    for address in [source, to] {
        match address {
            IpAddr::V4(a) => bytes.extend(a.octets()),
            IpAddr::V6(a) => bytes.extend(Ipv6Addr::octets(&a)),
        }
    }
    bytes.extend([0, protocol]);
    bytes.extend((packet.len() as u16).to_be_bytes());
    bytes.extend(packet);
    if bytes.len() % 2 == 1 {
        bytes.push(0);
    }
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    match !(sum as u16) {
        0 => 0xffff,
        sum => sum,
    }
}
