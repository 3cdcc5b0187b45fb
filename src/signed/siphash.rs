//! SipHash-2-4 with 128 bits, as instructions.
//!
//! The state is in `R6` to `R9`; `R1` has the word that is taken in, and `R2` and `R3` are used up.

use super::assembler::{Assembly, Instruction, Operation, Order, Register, Size};

use Register::{R1, R2, R3, R6, R7, R8, R9, R10};

/// The state at the beginning, before the key: "somepseudorandomlygeneratedbytes".
const START: [(Register, u64); 4] = [
    (R6, 0x736f_6d65_7073_6575),
    (R7, 0x646f_7261_6e64_6f6d),
    (R8, 0x6c79_6765_6e65_7261),
    (R9, 0x7465_6462_7974_6573),
];

/// Takes the key from `R2` and `R3` into the state.
pub(super) fn begin(code: &mut Assembly) {
    for ((register, number), half) in START.into_iter().zip([R2, R3, R2, R3]) {
        code.push(Instruction::Wide(register, number));
        code.calculate(Operation::Xor, register, half);
    }
    code.comment("128 bits come out.");
    code.calculate(Operation::Xor, R7, 0xee);
}

/// Takes in the word at an offset on the stack.
pub(super) fn take_in(code: &mut Assembly, offset: i16) {
    code.load(Size::Double, R1, R10, offset);
    code.turn(Order::Little, Size::Double, R1);
    compress(code);
}

/// Takes in the last word: of `length` bytes, a multiple of 8, nothing is left but the length.
pub(super) fn take_in_length(code: &mut Assembly, length: u64) {
    code.push(Instruction::Wide(R1, length << 56));
    compress(code);
}

fn compress(code: &mut Assembly) {
    code.calculate(Operation::Xor, R9, R1);
    round(code);
    round(code);
    code.calculate(Operation::Xor, R6, R1);
}

/// The first half of the hash into `R1`.
pub(super) fn first_half(code: &mut Assembly) {
    code.calculate(Operation::Xor, R8, 0xee);
    finish(code);
}

/// The second half of the hash into `R1`.
pub(super) fn second_half(code: &mut Assembly) {
    code.calculate(Operation::Xor, R7, 0xdd);
    finish(code);
}

fn finish(code: &mut Assembly) {
    for _ in 0..4 {
        round(code);
    }
    code.set(R1, R6);
    for other in [R7, R8, R9] {
        code.calculate(Operation::Xor, R1, other);
    }
}

/// SipRound. Each line of the reference, and of the four registers.
fn round(code: &mut Assembly) {
    let [v0, v1, v2, v3] = [R6, R7, R8, R9];
    let mix = |code: &mut Assembly, to, by, bits| {
        code.calculate(Operation::Add, to, by);
        rotate(code, by, bits);
        code.calculate(Operation::Xor, by, to);
    };
    mix(code, v0, v1, 13);
    rotate(code, v0, 32);
    mix(code, v2, v3, 16);
    mix(code, v0, v3, 21);
    mix(code, v2, v1, 17);
    rotate(code, v2, 32);
}

/// To the left.
fn rotate(code: &mut Assembly, register: Register, bits: i32) {
    code.set(R2, register);
    code.calculate(Operation::Left, R2, bits);
    code.calculate(Operation::Right, register, 64 - bits);
    code.calculate(Operation::Or, register, R2);
}
