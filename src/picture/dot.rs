//! A picture for Graphviz: `dot -Tpdf`, or other tools that read its language.

use std::fmt::Write as _;

use super::colours::COLOURS;
use super::frame::{rows_of_door, rows_of_key};
use super::{Look, Picture, TooMuch};

/// The picture as a directed graph: `w…` are places of knocks, `k…` keys, `d…` doors.
///
/// # Errors
/// When it is too much for a drawing.
pub fn dot(picture: &Picture) -> Result<String, TooMuch> {
    picture.fits()?;
    let mut text = String::from("digraph toctoc {\n");
    let notes: String = picture.notes.iter().map(|n| format!("{n}\n")).collect();
    let label = format!("{}\n{notes}", picture.title);
    let _ = writeln!(
        text,
        "  bgcolor=white; rankdir=LR; ranksep=0.3; nodesep=0.15;"
    );
    let _ = writeln!(
        text,
        "  label={}; labelloc=t; fontname=monospace;",
        quoted(&label)
    );
    let _ = writeln!(
        text,
        "  node [shape=box, style=\"rounded,filled\", fillcolor=white, fontname=monospace, \
         fontsize=11, height=0.3, margin=\"0.12,0.04\"];"
    );
    let _ = writeln!(text, "  edge [color=\"#6e7781\", arrowsize=0.6];");
    knocks(&mut text, picture);
    keys(&mut text, picture);
    doors(&mut text, picture);
    text.push_str("}\n");
    Ok(text)
}

fn knocks(text: &mut String, picture: &Picture) {
    if picture.keys.is_empty() {
        return;
    }
    for (place, knocked) in picture.knocks.iter().enumerate() {
        let label = quoted(&knocked.label);
        let look = match knocked.look {
            Look::Stranger => "shape=plain, style=\"\"",
            Look::Tcp => "fillcolor=\"#eef3f8\"",
            Look::Udp => "fillcolor=\"#fdf3e3\"",
            Look::Token => "fillcolor=\"#e9f5ec\"",
            Look::Scratch => "fillcolor=\"#f3ecfa\", style=\"rounded,filled,dashed\"",
        };
        let _ = writeln!(text, "  w{place} [label={label}, {look}];");
        for next in &knocked.then {
            let _ = writeln!(text, "  w{place} -> w{next};");
        }
        if let Some(key) = knocked.makes {
            let _ = writeln!(text, "  w{place} -> k{key};");
        }
    }
}

fn keys(text: &mut String, picture: &Picture) {
    let mut same = String::new();
    for (place, key) in picture.keys.iter().enumerate() {
        let label = rows_of_key(key).join(
            "
",
        );
        let (look, style) = match key.expired {
            true => (", style=dashed, fontcolor=\"#6e7781\"", ", style=dashed"),
            false => (", style=filled", ""),
        };
        let _ = writeln!(text, "  k{place} [label={}{look}];", quoted(&label));
        for door in &key.opens {
            let colour = COLOURS[door % COLOURS.len()].0;
            let _ = writeln!(text, "  k{place} -> d{door} [color=\"{colour}\"{style}];");
        }
        let _ = write!(same, " k{place};");
    }
    if !same.is_empty() {
        let _ = writeln!(text, "  {{ rank=same;{same} }}");
    }
}

fn doors(text: &mut String, picture: &Picture) {
    for (place, door) in picture.doors.iter().enumerate() {
        let label = rows_of_door(door).join(
            "
",
        );
        let colour = COLOURS[place % COLOURS.len()].0;
        let style = match door.opened_by.is_empty() {
            true => "\"filled,dashed\"",
            false => "filled",
        };
        let _ = writeln!(
            text,
            "  d{place} [label={}, style={style}, color=\"{colour}\", penwidth=2];",
            quoted(&label)
        );
    }
    let same: String = (0..picture.doors.len())
        .map(|d| format!(" d{d};"))
        .collect();
    let _ = writeln!(text, "  {{ rank=same;{same} }}");
}

/// A string of the language: only quotes and backslashes mean something in it, and with the latter
/// in labels also letters after them.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", escaped.replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_in_a_string_is_escaped() {
        assert_eq!(quoted("a \"b\" \\N\nc"), r#""a \"b\" \\N\nc""#);
    }
}
