//! Profiles as QR codes.

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

use crate::client::Profile;

/// The code of a profile's link.
///
/// # Errors
/// When it is too long for one.
pub(super) fn code(profile: &Profile) -> Result<QrCode, String> {
    QrCode::new(profile.link().as_bytes()).map_err(|error| format!("no QR code: {error}"))
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
