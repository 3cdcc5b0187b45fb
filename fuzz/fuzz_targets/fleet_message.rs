#![no_main]

#[path = "../fleet.rs"]
mod fleet;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fleet::fleet_message(data));
