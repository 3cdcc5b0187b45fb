//! Runs encoded instructions of BPF on a packet, as the kernel would: the few that the program has, and nothing that its
//! verifier would refuse (no jump back, no read of what was not written, no address out of bounds).

use std::collections::HashMap;

/// A packet, and the notes that the kernel keeps beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Packet {
    pub mark: u32,
    pub priority: u32,
    /// 0: for this station.
    pub kind: u32,
    /// The Ethernet protocol.
    pub protocol: u16,
    /// From the network header on.
    pub bytes: Vec<u8>,
}

pub struct Machine<'m> {
    pub code: &'m [u8],
    pub keys: &'m HashMap<[u8; 4], [u8; 24]>,
    pub since_boot: u64,
}

const STACK: u64 = 1 << 32;
const PACKET: u64 = 2 << 32;
const MAP: u64 = 3 << 32;
const VALUE: u64 = 4 << 32;
const ROOM: usize = 512;

impl Machine<'_> {
    /// Returns what the program returns.
    pub fn run(&self, packet: &mut Packet) -> i32 {
        let mut registers: [Option<u64>; 11] = [None; 11];
        registers[1] = Some(PACKET);
        registers[10] = Some(STACK + ROOM as u64);
        let mut stack: [Option<u8>; ROOM] = [None; ROOM];
        let mut value = [0; 24];
        let mut at = 0;
        loop {
            let place = &self.code[8 * at..8 * at + 8];
            let (to, from) = (usize::from(place[1] & 15), usize::from(place[1] >> 4));
            let offset = i16::from_le_bytes([place[2], place[3]]);
            let number = i32::from_le_bytes([place[4], place[5], place[6], place[7]]);
            let read = |register: usize| registers[register].expect("a register that was not set");
            at += 1;
            match place[0] {
                // A wide number, or the map.
                0x18 => {
                    let high = &self.code[8 * at + 4..8 * at + 8];
                    let high = u32::from_le_bytes(high.try_into().unwrap());
                    registers[to] = Some(match from {
                        1 => MAP,
                        _ => u64::from(high) << 32 | u64::from(number as u32),
                    });
                    at += 1;
                }
                0x95 => return read(0) as i32,
                0x85 => {
                    registers[0] = Some(match number {
                        1 => {
                            assert_eq!(read(1), MAP);
                            let key: Vec<u8> = load(&stack, read(2), 4);
                            match self.keys.get(&key[..]) {
                                Some(found) => {
                                    value = *found;
                                    VALUE
                                }
                                None => 0,
                            }
                        }
                        68 => {
                            assert_eq!((read(1), read(5)), (PACKET, 1));
                            let (begin, length) = (read(2) as usize, read(4) as usize);
                            match packet.bytes.get(begin..begin + length) {
                                Some(bytes) => {
                                    store(&mut stack, read(3), bytes);
                                    0
                                }
                                None => u64::MAX,
                            }
                        }
                        125 => self.since_boot,
                        other => panic!("function {other}"),
                    });
                    for register in &mut registers[1..=5] {
                        *register = None;
                    }
                }
                0x05 => at += usize::try_from(offset).expect("forward"),
                0xd4 | 0xdc => {
                    let (little, bytes) = (read(to).to_le_bytes(), number as usize / 8);
                    let mut turned = little[..bytes].to_vec();
                    if place[0] == 0xdc {
                        turned.reverse();
                    }
                    turned.resize(8, 0);
                    registers[to] = Some(u64::from_le_bytes(turned.try_into().unwrap()));
                }
                code if code & 0x07 == 0x07 => {
                    let by = match code & 0x08 {
                        0 => number as i64 as u64,
                        _ => read(from),
                    };
                    registers[to] = Some(match code & 0xf0 {
                        0x00 => read(to).wrapping_add(by),
                        0x10 => read(to).wrapping_sub(by),
                        0x40 => read(to) | by,
                        0x50 => read(to) & by,
                        0x60 => read(to) << by,
                        0x70 => read(to) >> by,
                        0xa0 => read(to) ^ by,
                        0xb0 => by,
                        other => panic!("operation {other:#x}"),
                    });
                }
                code if code & 0x07 == 0x05 => {
                    let right = match code & 0x08 {
                        0 => number as i64 as u64,
                        _ => read(from),
                    };
                    let left = read(to);
                    let taken = match code & 0xf0 {
                        0x10 => left == right,
                        0x20 => left > right,
                        0x50 => left != right,
                        0xa0 => left < right,
                        other => panic!("condition {other:#x}"),
                    };
                    if taken {
                        at += usize::try_from(offset).expect("forward");
                    }
                }
                code if code & 0x67 == 0x61 => {
                    let address = read(from).wrapping_add_signed(offset.into());
                    let size = size(code);
                    assert_eq!(address % size as u64, 0, "aligned");
                    let mut bytes = match address >> 32 {
                        1 => load(&stack, address, size),
                        2 => noted(packet, address - PACKET).to_le_bytes()[..size].to_vec(),
                        4 => value[(address - VALUE) as usize..][..size].to_vec(),
                        _ => panic!("an address: {address:#x}"),
                    };
                    bytes.resize(8, 0);
                    registers[to] = Some(u64::from_le_bytes(bytes.try_into().unwrap()));
                }
                code if code & 0x67 == 0x63 => {
                    let address = read(to).wrapping_add_signed(offset.into());
                    let size = size(code);
                    assert_eq!(address % size as u64, 0, "aligned");
                    let from = read(from);
                    match (address >> 32, address & 0xffff_ffff) {
                        (1, _) => store(&mut stack, address, &from.to_le_bytes()[..size]),
                        (2, 8) => packet.mark = from as u32,
                        (2, 32) => packet.priority = from as u32,
                        _ => panic!("an address: {address:#x}"),
                    }
                }
                other => panic!("code {other:#x}"),
            }
        }
    }
}

fn size(code: u8) -> usize {
    match code & 0x18 {
        0x00 => 4,
        0x08 => 2,
        0x10 => 1,
        _ => 8,
    }
}

fn load(stack: &[Option<u8>; ROOM], address: u64, size: usize) -> Vec<u8> {
    let at = (address - STACK) as usize;
    let bytes = stack[at..at + size].iter();
    bytes.map(|byte| byte.expect("was written")).collect()
}

fn store(stack: &mut [Option<u8>; ROOM], address: u64, bytes: &[u8]) {
    let at = (address - STACK) as usize;
    for (place, byte) in stack[at..at + bytes.len()].iter_mut().zip(bytes) {
        *place = Some(*byte);
    }
}

fn noted(packet: &Packet, offset: u64) -> u32 {
    match offset {
        4 => packet.kind,
        8 => packet.mark,
        16 => u32::from(packet.protocol.to_be()),
        32 => packet.priority,
        other => panic!("offset {other}"),
    }
}
