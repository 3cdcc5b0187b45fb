//! A picture as SVG: one file with all that it needs, for a browser, a document or paper. It is
//! dark where the reader's screen is.

use std::fmt::Write as _;

use super::colours::{COLOURS, style};
use super::frame::{Frame, Of, PADDING, ROW};
use super::place::{Drawing, Leads, Line, MARGIN, place};
use super::{Look, Picture, TooMuch};

/// The roundness of the corners of lines.
const ROUND: i64 = 8;

/// The picture as an SVG document.
///
/// # Errors
/// When it is too much for a drawing.
pub fn svg(picture: &Picture) -> Result<String, TooMuch> {
    let drawing = place(picture)?;
    let (width, height) = (drawing.width, drawing.height);
    let mut text = String::new();
    let _ = writeln!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"title desc\">"
    );
    let _ = writeln!(
        text,
        "<title id=\"title\">{}</title>",
        escaped(&picture.title)
    );
    let _ = writeln!(text, "<desc id=\"desc\">{}</desc>", escaped(&told(picture)));
    style(&mut text);
    let _ = writeln!(
        text,
        "<rect class=\"paper\" width=\"100%\" height=\"100%\"/>"
    );
    row(&mut text, "title", (MARGIN, 42), &picture.title);
    for (x, head) in &drawing.heads {
        row(&mut text, "head", (*x, 80), head);
    }
    lines(&mut text, picture, &drawing);
    for at in &drawing.frames {
        frame(&mut text, picture, at);
    }
    for (y, note) in &drawing.notes {
        row(&mut text, "said", (MARGIN, *y), note);
    }
    text.push_str("</svg>\n");
    Ok(text)
}

/// The picture in sentences, for those who do not see it.
fn told(picture: &Picture) -> String {
    let mut sentences = Vec::new();
    for key in &picture.keys {
        let limits: String = key.limits.iter().map(|l| format!(", {l}")).collect();
        sentences.push(format!(
            "{}: {}, opens {}{limits}.",
            key.name, key.way, key.grants
        ));
    }
    for door in picture
        .doors
        .iter()
        .filter(|door| door.opened_by.is_empty())
    {
        sentences.push(format!("{}: no key opens it.", door.name));
    }
    sentences.join("\n")
}

/// Lines of the tree, then those of each door over an edge that parts them from what they cross.
fn lines(text: &mut String, picture: &Picture, drawing: &Drawing) {
    let mut tree = String::new();
    // Of keys that open, and of those that have expired.
    let mut to_doors = vec![[String::new(), String::new()]; picture.doors.len()];
    for line in &drawing.lines {
        match line.leads {
            Leads::ToDoor { door, key } => {
                let expired = picture.keys[key].expired;
                to_doors[door][usize::from(expired)].push_str(&path(line));
            }
            Leads::OnToAKnock | Leads::ToAKey => tree.push_str(&path(line)),
        }
    }
    if !tree.is_empty() {
        let _ = writeln!(text, "<path class=\"way\" d=\"{tree}\"/>");
    }
    for (door, [open, expired]) in to_doors.iter().enumerate() {
        let colour = door % COLOURS.len();
        for (path, more) in [(expired, " shut gone"), (open, "")] {
            if !path.is_empty() {
                let _ = writeln!(text, "<path class=\"edge\" d=\"{path}\"/>");
                let _ = writeln!(text, "<path class=\"way d{colour}{more}\" d=\"{path}\"/>");
            }
        }
    }
    let mut pointed = vec![false; picture.doors.len()];
    for line in &drawing.lines {
        match line.leads {
            Leads::ToAKey => tip(text, "tip", line.to),
            Leads::ToDoor { door, .. } if !std::mem::replace(&mut pointed[door], true) => {
                tip(text, &format!("t{}", door % COLOURS.len()), line.to);
            }
            Leads::ToDoor { .. } | Leads::OnToAKnock => {}
        }
    }
}

fn path(line: &Line) -> String {
    let ((x, y), (end, level)) = (line.from, line.to);
    let rise = level - y;
    if rise == 0 {
        return format!("M{x} {y}H{end}");
    }
    let round = ROUND
        .min(rise.abs() / 2)
        .min(line.bend - x)
        .min(end - line.bend);
    let round = round.max(0);
    let (bend, down) = (line.bend, rise.signum() * round);
    format!(
        "M{x} {y}H{}Q{bend} {y} {bend} {}V{}Q{bend} {level} {} {level}H{end}",
        bend - round,
        y + down,
        level - down,
        bend + round
    )
}

/// The point of an arrow.
fn tip(text: &mut String, class: &str, (x, y): (i64, i64)) {
    let _ = writeln!(text, "<path class=\"{class}\" d=\"M{x} {y}l-9 -5v10z\"/>");
}

fn frame(text: &mut String, picture: &Picture, frame: &Frame) {
    let (class, round) = match frame.of {
        Of::Knock(place) => {
            let class = match picture.knocks[place].look {
                Look::Stranger => "stranger",
                Look::Tcp => "tcp",
                Look::Udp => "udp",
                Look::Token => "token",
                Look::Scratch => "scratch",
            };
            (class.to_string(), frame.height / 2)
        }
        Of::Key(place) => match picture.keys[place].expired {
            true => ("key shut".to_string(), 6),
            false => ("key".to_string(), 6),
        },
        Of::Door(place) => {
            let colour = place % COLOURS.len();
            match picture.doors[place].opened_by.is_empty() {
                true => ("door way shut".to_string(), 2),
                false => (format!("door d{colour}"), 2),
            }
        }
    };
    let Frame {
        x,
        y,
        width,
        height,
        ..
    } = frame;
    let gone = matches!(frame.of, Of::Key(place) if picture.keys[place].expired);
    let _ = writeln!(text, "<g{}>", if gone { " class=\"gone\"" } else { "" });
    let _ = writeln!(
        text,
        "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"{round}\"/>"
    );
    let above = (height - frame.rows.len() as i64 * ROW) / 2;
    for (number, said) in (0..).zip(&frame.rows) {
        let base = y + above + number * ROW + ROW - 4;
        match (frame.of, number) {
            (Of::Knock(_), _) => row(text, "knock", (x + width / 2, base), said),
            (_, 0) => row(text, "name", (x + PADDING + 2, base), said),
            _ => row(text, "said", (x + PADDING + 2, base), said),
        }
    }
    let _ = writeln!(text, "</g>");
}

fn row(text: &mut String, class: &str, (x, y): (i64, i64), said: &str) {
    let said = escaped(said);
    let _ = writeln!(
        text,
        "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{said}</text>"
    );
}

/// Text between tags or in quotes. What XML 1.0 cannot hold becomes a question mark.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' => escaped.push('\n'),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('?'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_in_xml_is_escaped() {
        assert_eq!(
            escaped("<a href=\"x\">&'\u{1b}\u{ffff}\n"),
            "&lt;a href=&quot;x&quot;&gt;&amp;&#39;??\n"
        );
    }
}
