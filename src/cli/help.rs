//! `toctoc --help`: the commands in groups.

use clap::Command;

/// The groups, and their commands in the order in which people need them.
pub(super) const GROUPS: [(&str, &[&str]); 5] = [
    (
        "Look and try",
        &["demo", "check", "explain", "draw", "render", "import"],
    ),
    (
        "Run",
        &[
            "init", "apply", "confirm", "rollback", "status", "watch", "log", "open", "close",
            "heal", "remove", "fleet",
        ],
    ),
    ("Keys", &["key", "refill"]),
    ("Client", &["knock", "connect", "profile", "code"]),
    ("Help", &["man", "completions", "help"]),
];

/// The program, with a help of its own.
pub(super) fn grouped(program: Command) -> Command {
    let mut list = String::new();
    for (group, names) in GROUPS {
        let there = names.iter().filter_map(|name| {
            let about = match *name {
                "help" => "Print this, or the help of a command".to_string(),
                name => program.find_subcommand(name)?.get_about()?.to_string(),
            };
            Some(format!("  {name:<12} {about}\n"))
        });
        let there: String = there.collect();
        if !there.is_empty() {
            list.push_str(&format!("{group}:\n{there}"));
        }
    }
    let without = match cfg!(feature = "server") {
        true => "Plain `toctoc` means `toctoc status`.\n",
        false => "",
    };
    program.help_template(format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n{without}\n{list}\nOptions:\n{{options}}{{after-help}}"
    ))
}
