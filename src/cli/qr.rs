//! Profiles as QR codes.

use qrcode::render::unicode::Dense1x2;
use qrcode::{Color, EcLevel, QrCode};

use crate::client::Profile;

/// The code of a profile's link.
///
/// # Errors
/// When it is too long for one.
pub(super) fn code(profile: &Profile) -> Result<QrCode, String> {
    QrCode::new(profile.link().as_bytes()).map_err(|error| format!("no QR code: {error}"))
}

/// The code of the address of a page with its key: as small as it can be.
///
/// # Errors
/// When it is too long for one.
pub(super) fn code_of_address(address: &str) -> Result<QrCode, String> {
    let code = QrCode::with_error_correction_level(address, EcLevel::L);
    code.map_err(|error| format!("no QR code: {error}"))
}

/// The modules of a code, row by row: dark ones are `true`.
pub(super) fn modules(code: &QrCode) -> Vec<bool> {
    let colours = code.to_colors();
    colours
        .iter()
        .map(|colour| *colour == Color::Dark)
        .collect()
}

/// Dark on light, whatever the terminal's colours: readers want it so.
pub(super) fn show_in_terminal(code: &QrCode) -> String {
    let picture = code
        .render::<Dense1x2>()
        .dark_color(Dense1x2::Light)
        .light_color(Dense1x2::Dark)
        .build();
    format!("{picture}\n")
}
