//! The style of a drawing, by day and by night.

use std::fmt::Write as _;

use super::frame::{KNOCK, NAME, SAID};

/// The colours of doors, in turn: on white, and on black.
pub(super) const COLOURS: [(&str, &str); 8] = [
    ("#0969da", "#58a6ff"),
    ("#bc4c00", "#f0883e"),
    ("#1a7f37", "#3fb950"),
    ("#8250df", "#bc8cff"),
    ("#0a7b83", "#39c5cf"),
    ("#bf3989", "#f778ba"),
    ("#7d5600", "#d29922"),
    ("#cf222e", "#ff7b72"),
];

/// Everything else that is coloured: what it is, on white, and on black.
const STYLE: [(&str, &str, &str); 14] = [
    ("text", "fill:#1f2328", "fill:#e6edf3"),
    (".said,.head", "fill:#57606a", "fill:#9aa4af"),
    (".paper", "fill:#ffffff", "fill:#0d1117"),
    (".way", "stroke:#8c959f", "stroke:#6e7681"),
    (".tip", "fill:#8c959f", "fill:#6e7681"),
    (".edge", "stroke:#ffffff", "stroke:#0d1117"),
    (
        ".stranger",
        "fill:#57606a;stroke:#57606a",
        "fill:#9aa4af;stroke:#9aa4af",
    ),
    (".stranger+text", "fill:#ffffff", "fill:#0d1117"),
    (
        ".tcp",
        "fill:#eef3f8;stroke:#b6c4d2",
        "fill:#1b2633;stroke:#44566a",
    ),
    (
        ".udp",
        "fill:#fdf3e3;stroke:#d4a24c",
        "fill:#33270f;stroke:#9a7430",
    ),
    (
        ".token",
        "fill:#e9f5ec;stroke:#79b48a",
        "fill:#12291a;stroke:#3f7a52",
    ),
    (
        ".scratch",
        "fill:#f3ecfa;stroke:#b294cf",
        "fill:#251a33;stroke:#7d5fa0",
    ),
    (
        ".key",
        "fill:#ffffff;stroke:#8c959f",
        "fill:#161b22;stroke:#6e7681",
    ),
    (".door", "fill:#ffffff", "fill:#161b22"),
];

const FONT: &str = "ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,'Liberation Mono',monospace";

/// The style sheet of a drawing.
pub(super) fn style(text: &mut String) {
    let _ = writeln!(text, "<style>");
    let _ = writeln!(text, "text{{font-family:{FONT};font-size:{SAID}px}}");
    let _ = writeln!(text, ".title{{font-size:20px;font-weight:bold}}");
    let _ = writeln!(text, ".name{{font-size:{NAME}px;font-weight:bold}}");
    let _ = writeln!(text, ".knock{{font-size:{KNOCK}px;text-anchor:middle}}");
    let _ = writeln!(text, ".head{{letter-spacing:1px}}");
    let _ = writeln!(text, ".way,.edge{{fill:none;stroke-width:2}}");
    let _ = writeln!(text, ".edge{{stroke-width:5}}");
    let _ = writeln!(text, ".door{{stroke-width:2}}");
    let _ = writeln!(text, ".scratch,.shut{{stroke-dasharray:5 4}}");
    let _ = writeln!(text, ".gone{{opacity:.55}}");
    for (what, light, _) in STYLE {
        let _ = writeln!(text, "{what}{{{light}}}");
    }
    for (number, (light, _)) in COLOURS.iter().enumerate() {
        let _ = writeln!(
            text,
            ".d{number}{{stroke:{light}}} .t{number}{{fill:{light}}}"
        );
    }
    let _ = writeln!(text, "@media (prefers-color-scheme:dark){{");
    for (what, _, dark) in STYLE {
        let _ = writeln!(text, "{what}{{{dark}}}");
    }
    for (number, (_, dark)) in COLOURS.iter().enumerate() {
        let _ = writeln!(
            text,
            ".d{number}{{stroke:{dark}}} .t{number}{{fill:{dark}}}"
        );
    }
    let _ = writeln!(text, "}}\n</style>");
}
