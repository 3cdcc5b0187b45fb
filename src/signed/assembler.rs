//! Instructions of BPF as values: written by their meaning, listed for people, and encoded for the kernel.
//!
//! Only what [`program`](super::program) needs. Every jump leads forward, to a label that is placed later: so there are no
//! loops, and the kernel's verifier sees each instruction about once. Encoding: RFC 9669.

use std::fmt;

/// A register. `R0` has what a call returns and `R1` to `R5` its arguments; a call destroys them. `R10` is the end of the
/// stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Register {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

impl Register {
    fn number(self) -> u8 {
        match self {
            Register::R0 => 0,
            Register::R1 => 1,
            Register::R2 => 2,
            Register::R3 => 3,
            Register::R4 => 4,
            Register::R5 => 5,
            Register::R6 => 6,
            Register::R7 => 7,
            Register::R8 => 8,
            Register::R9 => 9,
            Register::R10 => 10,
        }
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.number())
    }
}

/// The size of what is loaded or stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    Byte,
    Half,
    Word,
    Double,
}

impl Size {
    fn code(self) -> u8 {
        match self {
            Size::Word => 0x00,
            Size::Half => 0x08,
            Size::Byte => 0x10,
            Size::Double => 0x18,
        }
    }

    fn bits(self) -> u8 {
        match self {
            Size::Byte => 8,
            Size::Half => 16,
            Size::Word => 32,
            Size::Double => 64,
        }
    }
}

/// Arithmetic on 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Add,
    Subtract,
    Or,
    And,
    Left,
    Right,
    Xor,
    Move,
}

impl Operation {
    fn code(self) -> u8 {
        match self {
            Operation::Add => 0x00,
            Operation::Subtract => 0x10,
            Operation::Or => 0x40,
            Operation::And => 0x50,
            Operation::Left => 0x60,
            Operation::Right => 0x70,
            Operation::Xor => 0xa0,
            Operation::Move => 0xb0,
        }
    }

    fn sign(self) -> &'static str {
        match self {
            Operation::Add => "+=",
            Operation::Subtract => "-=",
            Operation::Or => "|=",
            Operation::And => "&=",
            Operation::Left => "<<=",
            Operation::Right => ">>=",
            Operation::Xor => "^=",
            Operation::Move => "=",
        }
    }
}

/// When a jump is taken. Numbers have no sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    Equal,
    NotEqual,
    Above,
    Below,
}

impl Condition {
    fn code(self) -> u8 {
        match self {
            Condition::Equal => 0x10,
            Condition::Above => 0x20,
            Condition::NotEqual => 0x50,
            Condition::Below => 0xa0,
        }
    }

    fn sign(self) -> &'static str {
        match self {
            Condition::Equal => "==",
            Condition::NotEqual => "!=",
            Condition::Above => ">",
            Condition::Below => "<",
        }
    }
}

/// The second operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    Of(Register),
    Number(i32),
}

impl From<Register> for Operand {
    fn from(register: Register) -> Operand {
        Operand::Of(register)
    }
}

impl From<i32> for Operand {
    fn from(number: i32) -> Operand {
        Operand::Number(number)
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operand::Of(register) => register.fmt(f),
            Operand::Number(number) => number.fmt(f),
        }
    }
}

/// The order of bytes that a number has outside of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Lowest first, as SipHash reads them.
    Little,
    /// Highest first, as the network has them.
    Big,
}

/// Functions of the kernel (`include/uapi/linux/bpf.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// `bpf_map_lookup_elem(map, key)`: the value, or 0.
    LookUp,
    /// `bpf_skb_load_bytes_relative(packet, offset, to, length, 1)`: copies from the network header on; 0 if all is there.
    Copy,
    /// `bpf_ktime_get_boot_ns()`: nanoseconds since the machine started, also while it sleeps. Since 5.8.
    SinceBoot,
}

impl Function {
    /// All of them, with their numbers.
    pub const ALL: [(Function, i32); 3] = [
        (Function::LookUp, 1),
        (Function::Copy, 68),
        (Function::SinceBoot, 125),
    ];

    fn number(self) -> i32 {
        let mut all = Function::ALL.into_iter();
        all.find(|(one, _)| *one == self).map_or(0, |(_, n)| n)
    }

    fn name(self) -> &'static str {
        match self {
            Function::LookUp => "look up",
            Function::Copy => "copy",
            Function::SinceBoot => "since boot",
        }
    }
}

/// A place that jumps lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label(pub &'static str);

/// One instruction.
#[derive(Debug, Clone, PartialEq)]
pub enum Instruction {
    Calculate(Operation, Register, Operand),
    /// Turns the lowest bits of a register between this machine's order and another.
    Turn(Order, Size, Register),
    /// A number of 64 bits. Takes two places.
    Wide(Register, u64),
    /// The only map. Takes two places.
    Map(Register),
    /// From memory: register, address, offset.
    Load(Size, Register, Register, i16),
    /// To memory: address, offset, register.
    Store(Size, Register, i16, Register),
    Jump(Condition, Register, Operand, Label),
    Go(Label),
    Call(Function),
    Exit,
}

impl Instruction {
    /// The places of 8 bytes that it takes.
    fn places(&self) -> usize {
        match self {
            Instruction::Wide(..) | Instruction::Map(_) => 2,
            _ => 1,
        }
    }
}

impl fmt::Display for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Instruction::Calculate(operation, to, by) => {
                write!(f, "{to} {} {by}", operation.sign())
            }
            Instruction::Turn(order, size, of) => {
                let order = match order {
                    Order::Little => "le",
                    Order::Big => "be",
                };
                write!(f, "{of} = {order}{} {of}", size.bits())
            }
            Instruction::Wide(to, number) => write!(f, "{to} = {number:#x}"),
            Instruction::Map(to) => write!(f, "{to} = map keys"),
            Instruction::Load(size, to, at, offset) => {
                write!(f, "{to} = u{} [{at} {offset:+}]", size.bits())
            }
            Instruction::Store(size, at, offset, from) => {
                write!(f, "u{} [{at} {offset:+}] = {from}", size.bits())
            }
            Instruction::Jump(condition, left, right, to) => {
                write!(f, "if {left} {} {right} goto {}", condition.sign(), to.0)
            }
            Instruction::Go(to) => write!(f, "goto {}", to.0),
            Instruction::Call(function) => write!(f, "call {}", function.name()),
            Instruction::Exit => f.write_str("exit"),
        }
    }
}

/// A line of the listing.
#[derive(Debug, Clone, PartialEq)]
enum Line {
    Comment(String),
    Label(Label),
    Instruction(Instruction),
}

/// Instructions, with labels and comments between them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Assembly {
    lines: Vec<Line>,
}

/// What the kernel is given.
#[derive(Debug, Clone, PartialEq)]
pub struct Code {
    pub bytes: Vec<u8>,
    /// Where in `bytes` the map has to be put in.
    pub maps: Vec<usize>,
}

impl Assembly {
    pub fn comment(&mut self, text: impl Into<String>) {
        self.lines.push(Line::Comment(text.into()));
    }

    /// Places a label here.
    pub fn label(&mut self, label: Label) {
        self.lines.push(Line::Label(label));
    }

    pub fn push(&mut self, instruction: Instruction) {
        self.lines.push(Line::Instruction(instruction));
    }

    pub fn calculate(&mut self, operation: Operation, to: Register, by: impl Into<Operand>) {
        self.push(Instruction::Calculate(operation, to, by.into()));
    }

    pub fn set(&mut self, to: Register, from: impl Into<Operand>) {
        self.calculate(Operation::Move, to, from);
    }

    pub fn load(&mut self, size: Size, to: Register, at: Register, offset: i16) {
        self.push(Instruction::Load(size, to, at, offset));
    }

    pub fn store(&mut self, size: Size, at: Register, offset: i16, from: Register) {
        self.push(Instruction::Store(size, at, offset, from));
    }

    pub fn turn(&mut self, order: Order, size: Size, of: Register) {
        self.push(Instruction::Turn(order, size, of));
    }

    pub fn jump(
        &mut self,
        left: Register,
        condition: Condition,
        right: impl Into<Operand>,
        to: Label,
    ) {
        self.push(Instruction::Jump(condition, left, right.into(), to));
    }

    /// The number of instructions; those that take two places count twice, as the kernel counts them.
    pub fn places(&self) -> usize {
        let instructions = self.lines.iter().filter_map(|line| match line {
            Line::Instruction(instruction) => Some(instruction.places()),
            Line::Comment(_) | Line::Label(_) => None,
        });
        instructions.sum()
    }

    /// The place of a label, or the end.
    fn place(&self, label: Label) -> usize {
        let before = self
            .lines
            .iter()
            .take_while(|line| **line != Line::Label(label));
        let instructions = before.filter_map(|line| match line {
            Line::Instruction(instruction) => Some(instruction.places()),
            Line::Comment(_) | Line::Label(_) => None,
        });
        instructions.sum()
    }

    /// Encodes it, for a machine of this one's order of bytes.
    pub fn encode(&self) -> Code {
        let mut code = Code {
            bytes: Vec::new(),
            maps: Vec::new(),
        };
        for line in &self.lines {
            let Line::Instruction(instruction) = line else {
                continue;
            };
            let here = code.bytes.len() / 8;
            let distance = |to: &Label| (self.place(*to) - here - 1) as i16;
            let mut put = |code_: u8, to: u8, from: u8, offset: i16, number: i32| {
                code.bytes.push(code_);
                code.bytes.push(match cfg!(target_endian = "big") {
                    true => to << 4 | from,
                    false => from << 4 | to,
                });
                code.bytes.extend(offset.to_ne_bytes());
                code.bytes.extend(number.to_ne_bytes());
            };
            match instruction {
                Instruction::Calculate(operation, to, Operand::Of(by)) => {
                    put(0x0f | operation.code(), to.number(), by.number(), 0, 0);
                }
                Instruction::Calculate(operation, to, Operand::Number(by)) => {
                    put(0x07 | operation.code(), to.number(), 0, 0, *by);
                }
                Instruction::Turn(order, size, of) => {
                    let order = match order {
                        Order::Little => 0x00,
                        Order::Big => 0x08,
                    };
                    put(0xd4 | order, of.number(), 0, 0, i32::from(size.bits()));
                }
                Instruction::Wide(to, number) => {
                    put(0x18, to.number(), 0, 0, *number as i32);
                    put(0, 0, 0, 0, (number >> 32) as i32);
                }
                Instruction::Map(to) => {
                    // `BPF_PSEUDO_MAP_FD`.
                    put(0x18, to.number(), 1, 0, 0);
                    put(0, 0, 0, 0, 0);
                    code.maps.push(8 * here);
                }
                Instruction::Load(size, to, at, offset) => {
                    put(0x61 | size.code(), to.number(), at.number(), *offset, 0);
                }
                Instruction::Store(size, at, offset, from) => {
                    put(0x63 | size.code(), at.number(), from.number(), *offset, 0);
                }
                Instruction::Jump(condition, left, Operand::Of(right), to) => {
                    let code = 0x0d | condition.code();
                    put(code, left.number(), right.number(), distance(to), 0);
                }
                Instruction::Jump(condition, left, Operand::Number(right), to) => {
                    let code = 0x05 | condition.code();
                    put(code, left.number(), 0, distance(to), *right);
                }
                Instruction::Go(to) => put(0x05, 0, 0, distance(to), 0),
                Instruction::Call(function) => put(0x85, 0, 0, 0, function.number()),
                Instruction::Exit => put(0x95, 0, 0, 0, 0),
            }
        }
        code
    }
}

/// The listing: each instruction after its place.
impl fmt::Display for Assembly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut place = 0;
        for line in &self.lines {
            match line {
                Line::Comment(text) => writeln!(f, "      ; {text}")?,
                Line::Label(label) => writeln!(f, "{}:", label.0)?,
                Line::Instruction(instruction) => {
                    writeln!(f, "{place:>4}  {instruction}")?;
                    place += instruction.places();
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "assembler_tests.rs"]
mod tests;
