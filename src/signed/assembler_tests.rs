//! Encoding and listing.

use super::*;

/// As `llvm-mc` encodes them (RFC 9669 has the same numbers).
#[test]
#[cfg(target_endian = "little")]
fn instructions_are_encoded_as_the_kernel_reads_them() {
    let end = Label("end");
    let mut code = Assembly::default();
    code.set(Register::R1, 7);
    code.calculate(Operation::Xor, Register::R6, Register::R2);
    code.push(Instruction::Wide(Register::R2, 0x1122_3344_5566_7788));
    code.load(Size::Half, Register::R1, Register::R10, -122);
    code.store(Size::Double, Register::R10, -8, Register::R6);
    code.turn(Order::Big, Size::Half, Register::R1);
    code.jump(Register::R1, Condition::NotEqual, 17, end);
    code.push(Instruction::Call(Function::SinceBoot));
    code.label(end);
    code.push(Instruction::Exit);
    let hex: Vec<String> = code
        .encode()
        .bytes
        .chunks(8)
        .map(|place| place.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    let wanted = [
        "b701000007000000",
        "af26000000000000",
        "1802000088776655",
        "0000000044332211",
        "69a186ff00000000",
        "7b6af8ff00000000",
        "dc01000010000000",
        "5501010011000000",
        "850000007d000000",
        "9500000000000000",
    ];
    assert_eq!(hex, wanted);
    assert_eq!(code.places(), wanted.len());
}

#[test]
fn the_listing_says_what_each_does() {
    let mut code = Assembly::default();
    code.comment("why");
    code.push(Instruction::Map(Register::R1));
    code.label(Label("here"));
    code.load(Size::Byte, Register::R1, Register::R10, -8);
    assert_eq!(
        code.to_string(),
        "      ; why\n   0  r1 = map keys\nhere:\n   2  r1 = u8 [r10 -8]\n"
    );
    assert_eq!(code.encode().maps, [0]);
}
