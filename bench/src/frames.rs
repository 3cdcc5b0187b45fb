//! Ethernet frames made by hand, from any source address to the server of the lab.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use toctoc::lab::SERVER;

pub const SYN: u8 = 2;
pub const ACK: u8 = 16;

/// An Ethernet frame, as it goes onto the cable.
pub type Frame = Vec<u8>;

/// The n-th of many sources: 10.0.0.1 and up.
pub fn source(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0001 + number % 0x00ff_fffe)
}

/// A TCP segment without data.
pub fn tcp(source: Ipv4Addr, from: u16, to: u16, flags: u8) -> Frame {
    let mut segment = bare(from, to, flags);
    let sum = checksum(&pseudo_header(source, 6, segment.len()), &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    ethernet(source, 6, &segment)
}

/// The n-th of many sources that may be anywhere in the Internet.
pub fn anywhere(number: u32) -> Ipv4Addr {
    // An odd factor visits each number once.
    let number = number.wrapping_mul(2_654_435_761);
    // From 16.0.0.0 to 111.255.255.255: neither private, nor loopback, nor multicast.
    Ipv4Addr::from(0x1000_0000 + number % 0x6000_0000)
}

/// The n-th of many sources of IPv6, each in a network of its own.
pub fn source6(number: u32) -> Ipv6Addr {
    let (high, low) = ((number >> 16) as u16, number as u16);
    Ipv6Addr::new(0x2001, 0xdb8, 0x1000 + high, low, 0, 0, 0, 1)
}

/// A TCP segment without data, in IPv6.
pub fn tcp6(source: Ipv6Addr, from: u16, to: u16, flags: u8) -> Frame {
    let Ok(server) = SERVER[1].parse::<Ipv6Addr>() else {
        unreachable!("the lab's server has an IPv6 address");
    };
    let mut segment = bare(from, to, flags);
    let addresses = [source.octets(), server.octets()].concat();
    let length = [0, 0, 0, segment.len() as u8, 0, 0, 0, 6];
    let sum = checksum(&[&addresses[..], &length].concat(), &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd];
    frame.extend([0x60, 0, 0, 0, 0, segment.len() as u8, 6, 64]);
    frame.extend(addresses);
    frame.extend(segment);
    frame
}

/// The header of TCP alone, without its checksum.
fn bare(from: u16, to: u16, flags: u8) -> Vec<u8> {
    let mut segment = Vec::with_capacity(20);
    segment.extend(from.to_be_bytes());
    segment.extend(to.to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0x10, 0, 0, 0, 0, 0]);
    segment
}

/// A UDP datagram.
pub fn udp(source: Ipv4Addr, from: u16, to: u16, payload: &[u8]) -> Frame {
    let mut datagram = Vec::with_capacity(8 + payload.len());
    datagram.extend(from.to_be_bytes());
    datagram.extend(to.to_be_bytes());
    datagram.extend((8 + payload.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    let sum = checksum(&pseudo_header(source, 17, datagram.len()), &datagram);
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    ethernet(source, 17, &datagram)
}

fn server() -> Ipv4Addr {
    match SERVER[0].parse() {
        Ok(IpAddr::V4(address)) => address,
        _ => unreachable!("the lab's server has an IPv4 address"),
    }
}

fn ethernet(source: Ipv4Addr, protocol: u8, payload: &[u8]) -> Frame {
    // The hardware addresses of the lab's cable, server's first.
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    let length = 20 + payload.len() as u16;
    let mut header = vec![0x45, 0];
    header.extend(length.to_be_bytes());
    header.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
    header.extend(source.octets());
    header.extend(server().octets());
    let sum = checksum(&[], &header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(header);
    frame.extend(payload);
    frame
}

fn pseudo_header(source: Ipv4Addr, protocol: u8, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(12);
    bytes.extend(source.octets());
    bytes.extend(server().octets());
    bytes.extend([0, protocol]);
    bytes.extend((length as u16).to_be_bytes());
    bytes
}

/// The Internet checksum (RFC 1071) over two parts, the first of an even length.
fn checksum(first: &[u8], second: &[u8]) -> u16 {
    let words = |bytes: &[u8]| -> u32 {
        let pairs = bytes.chunks(2);
        pairs
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
            .sum()
    };
    let mut sum = words(first) + words(second);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    match !(sum as u16) {
        0 => 0xffff,
        sum => sum,
    }
}
