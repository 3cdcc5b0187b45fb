//! The program that judges datagrams where they come in, before the firewall sees them.
//!
//! It changes nothing but two notes that the kernel keeps beside a packet: of a good datagram, `mark` becomes the policy's
//! mark and `priority` the key's class. From any other packet that comes with this mark it takes the mark off. It lets all
//! packets pass: the rules drop what is not good. Where it is missing, nothing has a mark, and nothing opens.
//!
//! It remembers nothing. Whether a tag was spent is asked by the rule behind it. The time is the machine's own count plus
//! an offset that stands in the program: it never follows a clock that is set until it is loaded again, and whoever loads
//! it sees both the old time and the new.
//!
//! Only plain headers are read: an IPv4 header without options, or an IPv6 header without extensions, then UDP. Fragments,
//! lengths that do not agree, packets for other stations: not judged. So it never takes for a datagram to the token port
//! what the rules would not.

use std::num::{NonZeroU16, NonZeroU32};

use super::assembler::{
    Assembly, Condition, Function, Instruction, Label, Operation, Order, Register, Size,
};
use super::datagram::{Binding, LONGEST, SHORTEST, SKEW, Signer, Time};
use super::siphash;

use Register::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};

/// The numbers that the program has in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The UDP port that datagrams go to.
    pub port: NonZeroU16,
    /// The mark of a good datagram.
    pub mark: NonZeroU32,
    /// The time at which the machine started, by the clock as it is now.
    pub started: Time,
    /// Nothing from before this opens.
    pub not_before: Time,
}

/// A key as the map has it: found by its id, as four bytes of the datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub id: [u8; 4],
    /// The key's halves, and then class and permits.
    pub value: [u64; 3],
}

impl Entry {
    /// In bytes.
    pub const LENGTH: u32 = 24;

    pub fn of(signer: &Signer, binding: Binding) -> Entry {
        let permits: u32 = match binding {
            Binding::Address => ADDRESS as u32,
            Binding::Network => (ADDRESS | NETWORK) as u32,
            Binding::Nothing => (ADDRESS | NETWORK | NOTHING) as u32,
        };
        let halves = signer.halves();
        let (class, permits) = (signer.class().to_ne_bytes(), permits.to_ne_bytes());
        let mut last = [0; 8];
        last[..4].copy_from_slice(&class);
        last[4..].copy_from_slice(&permits);
        Entry {
            id: signer.id().to_be_bytes(),
            value: [halves[0], halves[1], u64::from_ne_bytes(last)],
        }
    }
}

/// Bits of an entry's permits.
const ADDRESS: i32 = 1;
const NETWORK: i32 = 2;
const NOTHING: i32 = 4;

/// Offsets in `struct __sk_buff`.
const PACKET_TYPE: i16 = 4;
const MARK: i16 = 8;
const PROTOCOL: i16 = 16;
const PRIORITY: i16 = 32;

/// Places on the stack. The datagram, then the source: so the signed bytes are in a row.
const CONTEXT: i16 = -8;
const CLASS: i16 = -12;
const SOURCE: i16 = -48;
const TIME: i16 = -56;
const BOUND: i16 = -59;
const VERSION: i16 = -60;
const ID: i16 = -64;
const TAG: i16 = -80;
const HEADERS: i16 = -128;

const V6: Label = Label("ipv6");
const CLEAN: Label = Label("clean");
const DATAGRAM: Label = Label("datagram");
const NETWORK_BOUND: Label = Label("network");
const SUBNET: Label = Label("slash-64");
const NOT_BOUND: Label = Label("nothing");
const JUDGE: Label = Label("judge");
const PASS: Label = Label("pass");

/// The program of a policy.
pub fn program(settings: &Settings) -> Assembly {
    let mut code = Assembly::default();
    code.comment("r6 is the packet. A mark of ours that somebody else has set is taken off.");
    code.set(R6, R1);
    code.load(Size::Word, R1, R6, MARK);
    code.push(Instruction::Wide(R2, settings.mark.get().into()));
    code.jump(R1, Condition::NotEqual, R2, CLEAN);
    code.set(R2, 0);
    code.store(Size::Word, R6, MARK, R2);
    code.label(CLEAN);
    code.comment("Only packets for this station.");
    code.load(Size::Word, R1, R6, PACKET_TYPE);
    code.jump(R1, Condition::NotEqual, 0, PASS);
    code.load(Size::Word, R1, R6, PROTOCOL);
    code.jump(R1, Condition::Equal, in_network_order(0x86dd), V6);
    code.jump(R1, Condition::NotEqual, in_network_order(0x0800), PASS);
    ipv4(&mut code, settings.port);
    ipv6(&mut code, settings.port);
    datagram(&mut code);
    time(&mut code, settings);
    signature(&mut code);
    code.comment("It is good: mark and class.");
    code.load(Size::Double, R6, R10, CONTEXT);
    code.push(Instruction::Wide(R1, settings.mark.get().into()));
    code.store(Size::Word, R6, MARK, R1);
    code.load(Size::Word, R1, R10, CLASS);
    code.store(Size::Word, R6, PRIORITY, R1);
    code.label(PASS);
    code.comment("`TC_ACT_UNSPEC`: others may judge it too.");
    code.set(R0, -1);
    code.push(Instruction::Exit);
    code
}

/// Copies from the packet to the stack. The offset in the packet is in `R2`.
fn copy(code: &mut Assembly, to: i16, length: i32) {
    code.set(R1, R6);
    code.set(R3, R10);
    code.calculate(Operation::Add, R3, i32::from(to));
    code.set(R4, length);
    code.set(R5, 1);
    code.push(Instruction::Call(Function::Copy));
    code.jump(R0, Condition::NotEqual, 0, PASS);
}

/// A 16-bit number of the headers into `R1`.
fn number(code: &mut Assembly, offset: i16) {
    code.load(Size::Half, R1, R10, HEADERS + offset);
    code.turn(Order::Big, Size::Half, R1);
}

/// `R7` becomes the length of the datagram with its header, `R8` where what it carries begins, and `R9` the bits of the
/// network around the source.
fn ipv4(code: &mut Assembly, port: NonZeroU16) {
    code.comment("IPv4 without options, no fragment, UDP.");
    code.set(R2, 0);
    copy(code, HEADERS, 28);
    code.load(Size::Byte, R1, R10, HEADERS);
    code.jump(R1, Condition::NotEqual, 0x45, PASS);
    code.load(Size::Byte, R1, R10, HEADERS + 9);
    code.jump(R1, Condition::NotEqual, 17, PASS);
    number(code, 6);
    code.calculate(Operation::And, R1, 0x3fff);
    code.jump(R1, Condition::NotEqual, 0, PASS);
    number(code, 2);
    code.set(R7, R1);
    code.calculate(Operation::Subtract, R7, 20);
    udp(code, 20, port);
    code.comment("The source as ::ffff:a.b.c.d.");
    code.set(R1, 0);
    code.store(Size::Double, R10, SOURCE, R1);
    code.store(Size::Half, R10, SOURCE + 8, R1);
    code.set(R1, 0xffff);
    code.store(Size::Half, R10, SOURCE + 10, R1);
    code.load(Size::Word, R1, R10, HEADERS + 12);
    code.store(Size::Word, R10, SOURCE + 12, R1);
    code.set(R8, 28);
    code.set(R9, 120);
    code.push(Instruction::Go(DATAGRAM));
}

fn ipv6(code: &mut Assembly, port: NonZeroU16) {
    code.label(V6);
    code.comment("IPv6 without extension headers, UDP.");
    code.set(R2, 0);
    copy(code, HEADERS, 48);
    code.load(Size::Byte, R1, R10, HEADERS);
    code.calculate(Operation::Right, R1, 4);
    code.jump(R1, Condition::NotEqual, 6, PASS);
    code.load(Size::Byte, R1, R10, HEADERS + 6);
    code.jump(R1, Condition::NotEqual, 17, PASS);
    number(code, 4);
    code.set(R7, R1);
    udp(code, 40, port);
    code.load(Size::Double, R1, R10, HEADERS + 16);
    code.store(Size::Double, R10, SOURCE + 8, R1);
    code.comment(
        "No source in ::/64: an address of IPv4 that is written as one of IPv6 is another source.",
    );
    code.load(Size::Double, R1, R10, HEADERS + 8);
    code.jump(R1, Condition::Equal, 0, PASS);
    code.store(Size::Double, R10, SOURCE, R1);
    code.set(R8, 48);
    code.set(R9, 64);
}

/// The port is ours, and both lengths agree.
fn udp(code: &mut Assembly, offset: i16, port: NonZeroU16) {
    number(code, offset + 2);
    code.jump(R1, Condition::NotEqual, i32::from(port.get()), PASS);
    number(code, offset + 4);
    code.jump(R1, Condition::NotEqual, R7, PASS);
}

fn datagram(code: &mut Assembly) {
    code.label(DATAGRAM);
    code.comment("The length, with the header of 8 bytes.");
    code.jump(R7, Condition::Below, 8 + SHORTEST as i32, PASS);
    code.jump(R7, Condition::Above, 8 + LONGEST as i32, PASS);
    code.set(R2, R8);
    copy(code, TAG, SHORTEST as i32);
    code.comment("The version, and two bytes of zeros.");
    code.load(Size::Byte, R1, R10, VERSION);
    code.jump(R1, Condition::NotEqual, 1, PASS);
    code.load(Size::Half, R1, R10, BOUND + 1);
    code.jump(R1, Condition::NotEqual, 0, PASS);
    code.comment(
        "r8 becomes what the key must permit. Bits of the source that are not bound count as 0.",
    );
    code.load(Size::Byte, R7, R10, BOUND);
    code.set(R2, 0);
    code.set(R8, ADDRESS);
    code.jump(R7, Condition::Equal, 128, JUDGE);
    code.set(R8, NETWORK);
    code.jump(R7, Condition::Equal, R9, NETWORK_BOUND);
    code.set(R8, NOTHING);
    code.jump(R7, Condition::Equal, 0, NOT_BOUND);
    code.push(Instruction::Go(PASS));
    code.label(NETWORK_BOUND);
    code.jump(R9, Condition::Equal, 64, SUBNET);
    code.store(Size::Byte, R10, SOURCE + 15, R2);
    code.push(Instruction::Go(JUDGE));
    code.label(NOT_BOUND);
    code.store(Size::Double, R10, SOURCE, R2);
    code.label(SUBNET);
    code.store(Size::Double, R10, SOURCE + 8, R2);
    code.label(JUDGE);
}

fn time(code: &mut Assembly, settings: &Settings) {
    let skew = SKEW.as_nanos() as u64;
    code.comment("The time of the datagram, less that of this machine: between -120 s and 120 s.");
    code.load(Size::Double, R9, R10, TIME);
    code.turn(Order::Big, Size::Double, R9);
    code.push(Instruction::Call(Function::SinceBoot));
    code.set(R1, R9);
    code.calculate(Operation::Subtract, R1, R0);
    let started = settings.started.0.wrapping_sub(skew);
    code.push(Instruction::Wide(R2, started));
    code.calculate(Operation::Subtract, R1, R2);
    code.push(Instruction::Wide(R2, 2 * skew));
    code.jump(R1, Condition::Above, R2, PASS);
    code.comment("What was spent before this moment is not known.");
    code.push(Instruction::Wide(R2, settings.not_before.0));
    code.jump(R9, Condition::Below, R2, PASS);
}

fn signature(code: &mut Assembly) {
    code.comment("The key, and what it permits.");
    code.set(R2, R10);
    code.calculate(Operation::Add, R2, i32::from(ID));
    code.push(Instruction::Map(R1));
    code.push(Instruction::Call(Function::LookUp));
    code.jump(R0, Condition::Equal, 0, PASS);
    code.load(Size::Word, R1, R0, 20);
    code.calculate(Operation::And, R1, R8);
    code.jump(R1, Condition::Equal, 0, PASS);
    code.load(Size::Word, R1, R0, 16);
    code.store(Size::Word, R10, CLASS, R1);
    code.store(Size::Double, R10, CONTEXT, R6);
    code.comment("SipHash over id, version, bound, time and source.");
    code.load(Size::Double, R2, R0, 0);
    code.load(Size::Double, R3, R0, 8);
    siphash::begin(code);
    for word in 0..4 {
        siphash::take_in(code, ID + 8 * word);
    }
    siphash::take_in_length(code, 32);
    code.comment("Both halves of the tag are compared before anything is said.");
    siphash::first_half(code);
    code.load(Size::Double, R3, R10, TAG);
    code.turn(Order::Little, Size::Double, R3);
    code.calculate(Operation::Xor, R3, R1);
    siphash::second_half(code);
    code.load(Size::Double, R2, R10, TAG + 8);
    code.turn(Order::Little, Size::Double, R2);
    code.calculate(Operation::Xor, R2, R1);
    code.calculate(Operation::Or, R3, R2);
    code.jump(R3, Condition::NotEqual, 0, PASS);
}

/// The number of an Ethernet protocol as `__sk_buff` has it.
fn in_network_order(number: u16) -> i32 {
    i32::from(number.to_be())
}
