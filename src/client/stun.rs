//! Asking a STUN server which address packets of this host have outside (RFC 8489): a binding request over UDP, and its answer.
//!
//! The server is believed. Whoever answers in its place (it itself, or a thief on the way to it) decides for which address the
//! datagram is signed. From elsewhere nobody can: an answer counts only if it comes from the server, with the 96 random bits
//! of the request.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::outside::{StunServer, is_of_a_sender};
use super::send::udp_towards;
use crate::lookup::lookup;

/// The 96 random bits of a request.
type Transaction = [u8; 12];

/// Times after the first request at which it is sent again. After the last one, nothing more is waited for.
const AGAIN: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_millis(750),
    Duration::from_millis(1500),
    Duration::from_millis(2500),
];

const HEAD: usize = 20;
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// Asks a server for the address that packets of this host have outside, in one family. `None` where the server has no
/// address of that family.
///
/// # Errors
/// When there is no such server, it does not answer, or says what cannot be.
pub fn ask(server: &StunServer, is_ipv4: bool) -> io::Result<Option<IpAddr>> {
    let failed = |why: &dyn std::fmt::Display| {
        io::Error::other(format!(
            "{server} does not say which address this host has outside ({why}); name it in the profile: `from`"
        ))
    };
    let found = lookup(&server.host).map_err(|error| failed(&error))?;
    let mut found = found.into_iter().filter(|at| at.is_ipv4() == is_ipv4);
    let Some(mut at) = found.next() else {
        return Ok(None);
    };
    at.set_port(server.port.get());
    let mut transaction = Transaction::default();
    getrandom::fill(&mut transaction).map_err(io::Error::other)?;
    let outside = answer_of(at, &transaction).map_err(|error| failed(&error))?;
    match is_of_a_sender(outside) && outside.is_ipv4() == is_ipv4 {
        true => Ok(Some(outside)),
        false => Err(failed(&format!("it says {outside}"))),
    }
}

fn answer_of(at: SocketAddr, transaction: &Transaction) -> io::Result<IpAddr> {
    let socket = udp_towards(at)?;
    // From then on nothing arrives but what comes from there.
    socket.connect(at)?;
    let start = Instant::now();
    let mut bytes = [0; 1500];
    for again in AGAIN {
        socket.send(&request(transaction))?;
        while let Some(left) = again
            .checked_sub(start.elapsed())
            .filter(|left| !left.is_zero())
        {
            socket.set_read_timeout(Some(left))?;
            match socket.recv(&mut bytes) {
                Ok(length) => {
                    if let Some(address) = answer(&bytes[..length], transaction) {
                        return Ok(address);
                    }
                }
                Err(error) if is_over(&error) => break,
                Err(error) => return Err(error),
            }
        }
    }
    Err(io::Error::other("no answer"))
}

fn is_over(error: &io::Error) -> bool {
    let kind = error.kind();
    kind == io::ErrorKind::WouldBlock || kind == io::ErrorKind::TimedOut
}

/// A binding request without attributes.
fn request(transaction: &Transaction) -> [u8; HEAD] {
    let mut bytes = [0; HEAD];
    bytes[1] = 1;
    bytes[4..8].copy_from_slice(&COOKIE);
    bytes[8..].copy_from_slice(transaction);
    bytes
}

/// The address in the answer to a request. `None` if it is none, or says no address.
fn answer(bytes: &[u8], transaction: &Transaction) -> Option<IpAddr> {
    /// Binding success response; `XOR-MAPPED-ADDRESS`
    const SUCCESS: u16 = 0x0101;
    const ADDRESS: u16 = 0x0020;
    let number = |bytes: &[u8], at: usize| {
        let two = bytes.get(at..at + 2)?;
        Some(u16::from_be_bytes([two[0], two[1]]))
    };
    let length = usize::from(number(bytes, 2)?);
    let mut attributes = bytes.get(HEAD..HEAD + length)?;
    let is_ours = number(bytes, 0)? == SUCCESS && bytes[4..8] == COOKIE;
    (is_ours && bytes[8..HEAD] == transaction[..]).then_some(())?;
    loop {
        let (kind, length) = (number(attributes, 0)?, usize::from(number(attributes, 2)?));
        let value = attributes.get(4..4 + length)?;
        if kind == ADDRESS {
            return address(value, transaction);
        }
        attributes = attributes.get(4 + length.next_multiple_of(4)..)?;
    }
}

/// The address in an attribute: a byte of zeros, the family, the port, and then it, xored with the cookie and the transaction.
fn address(value: &[u8], transaction: &Transaction) -> Option<IpAddr> {
    let mask = COOKIE.iter().chain(transaction);
    let plain = value
        .get(4..)?
        .iter()
        .zip(mask)
        .map(|(byte, mask)| byte ^ mask);
    let plain: Vec<u8> = plain.collect();
    match (value[1], value.len()) {
        (1, 8) => Some(Ipv4Addr::from(<[u8; 4]>::try_from(plain).ok()?).into()),
        (2, 20) => Some(Ipv6Addr::from(<[u8; 16]>::try_from(plain).ok()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The transaction of the samples in RFC 5769.
    const SAMPLE: Transaction = [
        0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae,
    ];

    /// An answer with these attributes.
    fn told(attributes: &[u8]) -> Vec<u8> {
        let mut bytes = request(&SAMPLE).to_vec();
        bytes[..2].copy_from_slice(&[1, 1]);
        bytes[2..4].copy_from_slice(&(attributes.len() as u16).to_be_bytes());
        bytes.extend(attributes);
        bytes
    }

    /// `SOFTWARE` with eleven letters, and then the addresses of RFC 5769, 2.2 and 2.3.
    const SOFTWARE: [u8; 16] = *b"\x80\x22\x00\x0btest vector\x20";
    const V4: [u8; 12] = [0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43];
    const V6: [u8; 24] = [
        0, 0x20, 0, 0x14, 0, 2, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc,
        0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
    ];

    #[test]
    fn the_samples_of_the_standard_are_read() {
        let v4 = told(&[&SOFTWARE[..], &V4].concat());
        assert_eq!(answer(&v4, &SAMPLE), "192.0.2.1".parse().ok());
        let v6 = told(&[&SOFTWARE[..], &V6].concat());
        let wanted = "2001:db8:1234:5678:11:2233:4455:6677".parse().ok();
        assert_eq!(answer(&v6, &SAMPLE), wanted);
    }

    /// Another transaction, another kind, no cookie, no address; and however it is cut or changed, nothing else happens.
    #[test]
    fn what_is_no_answer_says_no_address() {
        let good = told(&[&SOFTWARE[..], &V4].concat());
        let mut other = SAMPLE;
        other[11] ^= 1;
        assert_eq!(answer(&good, &other), None);
        for (at, byte) in [(0, 0), (1, 0x11), (4, 0), (3, 200)] {
            let mut bytes = good.clone();
            bytes[at] = byte;
            assert_eq!(answer(&bytes, &SAMPLE), None, "{at}");
        }
        assert_eq!(answer(&told(&SOFTWARE), &SAMPLE), None);
        assert_eq!(answer(&told(&[]), &SAMPLE), None);
        for cut in 0..good.len() {
            assert_eq!(answer(&good[..cut], &SAMPLE), None, "{cut}");
        }
        for bit in 0..8 * good.len() {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let _ = answer(&bytes, &SAMPLE);
        }
    }

    /// A server on loopback that says `127.0.0.1`, from where no packet comes.
    #[test]
    fn an_answer_of_no_sender_is_refused() {
        let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let named = format!("stun:127.0.0.1:{}", server.local_addr().unwrap().port());
        let Ok(super::super::outside::Outside::Asked(named)) = named.parse() else {
            panic!("{named}");
        };
        let answering = std::thread::spawn(move || {
            let mut bytes = [0; 100];
            let (_, from) = server.recv_from(&mut bytes).unwrap();
            let mut told = bytes[..HEAD].to_vec();
            told[..4].copy_from_slice(&[1, 1, 0, 12]);
            told.extend([0, 0x20, 0, 8, 0, 1, 0, 0]);
            let xored = [127, 0, 0, 1].iter().zip(COOKIE).map(|(a, b)| a ^ b);
            told.extend(xored);
            server.send_to(&told, from).unwrap();
        });
        let said = ask(&named, true).unwrap_err().to_string();
        answering.join().unwrap();
        assert!(said.contains("it says 127.0.0.1"), "{said}");
        assert!(ask(&named, false).unwrap().is_none());
    }
}
