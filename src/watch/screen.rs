//! The full-screen view: who is in and for how long, who is midway, what happens. Pure: it draws into a
//! buffer.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph};

use super::{Event, Rates, What};
use crate::firewall::status::{DoorStatus, GrantStatus, Status};
use crate::policy::show;

/// All that is on the screen.
#[derive(Debug)]
pub struct View<'v> {
    /// The policy's path.
    pub policy: String,
    /// The time now, in words.
    pub time: String,
    /// The status that was seen last; `None` when nothing of ours is in the kernel.
    pub status: Option<&'v Status>,
    pub rates: Rates,
    /// The events, the last first, each with its time in words.
    pub events: &'v [(String, Event)],
    /// Other things to know, a sentence each.
    pub notes: &'v [String],
}

const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);
const GREEN: Style = Style::new().fg(Color::Green);
const RED: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);

/// Draws it on the whole of a frame.
pub fn draw(frame: &mut Frame, view: &View) {
    let doors = doors(view.status);
    let midway = midway(view.status);
    let keys = keys(view.status);
    let height = |lines: &[Line]| {
        u16::try_from(lines.len())
            .unwrap_or(u16::MAX)
            .saturating_add(1)
    };
    let notes = u16::try_from(view.notes.len()).unwrap_or(3).min(3);
    let [head, upper, middle, lower, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Max(height(&doors)),
        Constraint::Max(height(&midway).max(height(&keys))),
        Constraint::Min(3),
        Constraint::Length(1 + notes),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(headline(view, head.width)), head);
    section(frame, upper, "doors", doors);
    let [left, right] =
        Layout::horizontal([Constraint::Percentage(55), Constraint::Percentage(45)]).areas(middle);
    section(frame, left, "midway", midway);
    section(frame, right, "keys", keys);
    section(frame, lower, "what happened", happened(view.events));
    let mut last: Vec<Line> = view
        .notes
        .iter()
        .take(usize::from(notes))
        .map(|note| Line::styled(note.clone(), RED))
        .collect();
    last.push(Line::styled(
        format!(
            "per second: {:.1} openings, {:.1} wrong knocks, {:.1} turned away at a door       q quits",
            view.rates.opened, view.rates.wrong, view.rates.shut_out
        ),
        DIM,
    ));
    frame.render_widget(Paragraph::new(last), foot);
}

fn headline(view: &View, width: u16) -> Line<'static> {
    let left = format!("toctoc  {}", view.policy);
    let room = usize::from(width).saturating_sub(left.chars().count());
    Line::from(vec![
        Span::styled(left, STRONG),
        Span::styled(format!("{:>room$}", view.time), DIM),
    ])
}

fn section(frame: &mut Frame, area: Rect, title: &'static str, mut lines: Vec<Line>) {
    let room = usize::from(area.height.saturating_sub(1));
    if lines.len() > room && room > 0 {
        let more = lines.len() - room + 1;
        lines.truncate(room - 1);
        lines.push(Line::styled(format!("  ... and {more} more"), DIM));
    }
    let block = Block::new()
        .borders(Borders::TOP)
        .border_style(DIM)
        .title(Span::styled(title, STRONG));
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn doors(status: Option<&Status>) -> Vec<Line<'static>> {
    let Some(status) = status else {
        return vec![Line::styled(
            "  nothing is applied: every door is OPEN TO EVERYONE",
            RED,
        )];
    };
    status.doors.iter().flat_map(door).collect()
}

fn door(door: &DoorStatus) -> Vec<Line<'static>> {
    let sources = door.grants.len() + door.with_every_port.len();
    let (state, style) = match (&door.guarded_by, sources) {
        (None, _) => ("OPEN TO EVERYONE".to_string(), RED),
        (_, 0) => ("closed".to_string(), DIM),
        (_, 1) => ("open to 1 source".to_string(), GREEN),
        (_, sources) => (format!("open to {sources} sources"), GREEN),
    };
    let ports = match door.every_port {
        true => "every port".to_string(),
        false => door.ports.join(" "),
    };
    let name = format!("  {:<12} {ports:<16} ", door.name);
    let mut lines = vec![Line::from(vec![
        Span::raw(name),
        Span::styled(state, style),
    ])];
    let mut grants: Vec<&GrantStatus> = door.grants.iter().collect();
    grants.sort_by(|a, b| b.expires_in.total_cmp(&a.expires_in));
    lines.extend(grants.into_iter().map(|grant| {
        let by = match (&grant.key, grant.by_hand) {
            (Some(key), _) => format!("  {key}"),
            (None, true) => "  by hand".to_string(),
            (None, false) => String::new(),
        };
        let once = if grant.once { ", one connection" } else { "" };
        let text = format!(
            "    {:<39} {:>8}{by}{once}",
            grant.source,
            left(grant.expires_in)
        );
        Line::styled(text, GREEN)
    }));
    lines
}

fn midway(status: Option<&Status>) -> Vec<Line<'static>> {
    let entries = status.map_or(&[][..], |status| &status.progress);
    if entries.is_empty() {
        return vec![Line::styled("  nobody", DIM)];
    }
    let line = |entry: &crate::firewall::status::ProgressStatus| {
        Line::raw(format!(
            "  {:<20} {} of {}  {}",
            entry.source,
            match entry.knocks {
                1 => "1 knock".to_string(),
                knocks => format!("{knocks} knocks"),
            },
            match entry.keys.as_slice() {
                [one] => one.clone(),
                [one, rest @ ..] => format!("{one} and {} more", rest.len()),
                [] => "?".to_string(),
            },
            left(entry.expires_in)
        ))
    };
    entries.iter().map(line).collect()
}

fn keys(status: Option<&Status>) -> Vec<Line<'static>> {
    let keys = status.map_or(&[][..], |status| &status.keys);
    let line = |key: &crate::firewall::status::KeyStatus| {
        let tokens = match &key.tokens {
            Some(tokens) if tokens.last_for > 0.0 => {
                format!(", tokens for {}", left(tokens.last_for))
            }
            Some(_) => ", NO TOKENS".to_string(),
            None => String::new(),
        };
        let expired = if key.expired { ", expired" } else { "" };
        let style = if key.opened == 0 { DIM } else { Style::new() };
        Line::styled(
            format!("  {:<12} opened {}{tokens}{expired}", key.name, key.opened),
            style,
        )
    };
    keys.iter().map(line).collect()
}

fn happened(events: &[(String, Event)]) -> Vec<Line<'static>> {
    if events.is_empty() {
        return vec![Line::styled("  nothing yet", DIM)];
    }
    let line = |(time, event): &(String, Event)| {
        let style = match event.what {
            What::Open => GREEN,
            What::Close => DIM,
        };
        Line::styled(format!("  {time}  {}", event.words()), style)
    };
    events.iter().map(line).collect()
}

/// "41s", "1h 30m": to the second below, and above an hour to the minute.
fn left(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    show(Duration::from_secs(match whole {
        0..3600 => whole,
        _ => whole / 60 * 60,
    }))
}
