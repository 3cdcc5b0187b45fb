//! The steps that follow `toctoc init`: at the client, here, and at the next boot.

use std::io::{self, IsTerminal};
use std::path::Path;

use super::super::{POLICY, now};
use super::{Arguments, Plan};
use crate::cli::qr::{code, show_in_terminal};
use crate::client::Profile;
use crate::client::profile::Way;
use crate::client::recipe::{Tool, recipe};
use crate::enrol::Kind;
use crate::firewall::unit::{UNIT, is_enabled, is_there};
use crate::first::Files;
use crate::policy::show;

/// Where systemd says that it runs.
const SYSTEMD: &str = "/run/systemd/system";

/// The port that ssh tries by itself.
const SSH_PORT: u16 = 22;

/// The next steps. Secrets are shown on a terminal only.
pub(super) fn next(arguments: &Arguments, plan: &Plan, files: &Files, back: &str) -> String {
    let lasting = show(arguments.confirm);
    let mut text = format!("\nThe trial runs for {lasting}. Keep this session open.\n");
    if let Some(profile) = &files.key.profile {
        text += &at_the_client(plan, files, profile);
    }
    text += &format!(
        "\n3. Here, when the new connection works:\n\n     toctoc confirm\n\n   \
         Without a confirmation it goes back in {lasting} to\n   {back}.\n   \
         To go back at once: toctoc rollback\n"
    );
    text + &at_boot(&arguments.policy.path, plan.kind)
}

fn at_the_client(plan: &Plan, files: &Files, profile: &Profile) -> String {
    let (key, file) = (&plan.key, files.profile.display());
    let mut text = String::new();
    match (io::stdout().is_terminal(), code(profile)) {
        (true, Ok(code)) => {
            text += &format!(
                "\n1. Give the client its key. With toctoc there: type the command, paste the line\n   \
                 below it, press Enter, then Ctrl-D.\n\n     toctoc profile import - {key}\n\n{}\n\n   \
                 For a phone, this code holds the same line:\n\n{}\n   \
                 The key is also in {file}.\n   Remove that file when the client has its key.\n",
                profile.link().as_str(),
                show_in_terminal(&code),
            );
        }
        _ => {
            text += &format!(
                "\n1. Give the client its key: copy {file} there,\n   and remove it here. On the client:\n\n     \
                 toctoc profile import FILE {key}\n"
            );
        }
    }
    text += &format!(
        "\n2. From the client, in another window:\n\n     toctoc knock {key}\n{}",
        connect(plan, profile)
    );
    if let (true, Way::Sequence(_)) = (io::stdout().is_terminal(), &profile.way)
        && let Ok(line) = recipe(Tool::Nc, key.as_str(), profile, now())
    {
        text += &format!("\n   Without toctoc, with nc:\n\n     {line}");
    }
    if plan.door == "ssh" {
        text += &format!(
            "\n   So that ssh knocks by itself:\n\n     toctoc profile ssh-config {key} >>~/.ssh/config\n     \
             ssh {key}\n"
        );
    }
    text
}

/// The command that tries the door.
fn connect(plan: &Plan, profile: &Profile) -> String {
    let (host, port) = (&profile.host, profile.door.map(|door| door.get()));
    match (plan.door.as_str(), port) {
        ("ssh", Some(SSH_PORT)) => format!("     ssh {host}\n"),
        ("ssh", Some(port)) => format!("     ssh -p {port} {host}\n"),
        _ => String::new(),
    }
}

/// The effect of the next boot.
fn at_boot(path: &Path, kind: Kind) -> String {
    let timers = match kind {
        Kind::Token | Kind::Signed => "toctoc-heal.timer toctoc-refill.timer",
        Kind::Sequence(_) | Kind::Scratch(_) => "toctoc-heal.timer",
    };
    let enable = format!("     systemctl enable --now {UNIT} {timers}\n");
    let what = match (Path::new(SYSTEMD).is_dir(), is_there(), is_enabled()) {
        _ if path != Path::new(POLICY) => format!(
            "   The next boot knows only {POLICY}: put the policy there\n   to have it applied.\n"
        ),
        (false, ..) => "   This host has no systemd. Let every boot run this before the network starts,\n   or \
                        the port is open after a boot:\n\n     toctoc apply --boot\n"
            .to_string(),
        (true, false, _) => format!(
            "   {UNIT} is not installed, so the port is open after a boot. The package\n   and `make install` \
             install it.\n"
        ),
        (true, true, true) => format!(
            "   {UNIT} is enabled, so each boot closes the port again: after a\n   `toctoc confirm`, not \
             before.{}",
            match kind {
                Kind::Token => format!(" Tokens need their timer:\n\n{enable}"),
                Kind::Signed => format!(" Signed keys need the timer:\n\n{enable}"),
                Kind::Sequence(_) | Kind::Scratch(_) => "\n".to_string(),
            }
        ),
        (true, true, false) => format!("   The port is open after a boot, unless you type this:\n\n{enable}"),
    };
    format!("\n4. The next boot\n\n{what}")
}
