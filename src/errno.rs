//! Messages of the system without their numbers: "No such file or directory", not "... (os error 2)".

/// A message without the numbers that the standard library puts behind those of the system.
pub fn without_numbers(message: &str) -> String {
    const BEFORE: &str = " (os error ";
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    while let Some((text, behind)) = rest.split_once(BEFORE) {
        out.push_str(text);
        let number = behind.split_once(')');
        let number = number.filter(|(number, _)| number.bytes().all(|byte| byte.is_ascii_digit()));
        rest = match number {
            Some((_, after)) => after,
            None => {
                out.push_str(BEFORE);
                behind
            }
        };
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::without_numbers;

    #[test]
    fn every_number_of_the_system_goes_and_nothing_else() {
        for number in 1..130 {
            let error = io::Error::from_raw_os_error(number).to_string();
            let plain = without_numbers(&format!("a: {error}: b, {error}"));
            assert!(!plain.contains("os error"), "{plain}");
            assert!(
                plain.starts_with("a: ") && plain.contains(": b, "),
                "{plain}"
            );
        }
        for text in [
            "",
            "a (os error",
            "a (os error x) b",
            " (os error 2",
            "(os error 2)",
        ] {
            assert_eq!(without_numbers(text), text);
        }
    }
}
