//! The parts of a manual page beside the definitions of a command: how it is used, and examples. A test parses each
//! example.

/// The page of a command.
pub(super) struct Page {
    pub command: &'static str,
    pub text: &'static str,
    /// A line to type, and its meaning.
    pub examples: &'static [(&'static str, &'static str)],
}

const fn page(
    command: &'static str,
    text: &'static str,
    examples: &'static [(&'static str, &'static str)],
) -> Page {
    Page {
        command,
        text,
        examples,
    }
}

/// All that there is to say of a command.
pub(super) fn of(command: &str) -> Option<&'static Page> {
    PAGES.iter().find(|page| page.command == command)
}

const PAGES: &[Page] = &[
    page(
        "init",
        "It finds what listens, and proposes the port of the ssh server. It draws a key, writes a policy that explains \
         each line and a profile for the client, tries both in namespaces, and puts the policy on trial. It overwrites no \
         file. Until the last question is answered, nothing is written. If something fails, it removes what it wrote, or \
         says how to go on.",
        &[
            ("toctoc init", "Asks for everything."),
            (
                "toctoc init --yes --door 22 --key anna --host server.example",
                "Asks nothing, for scripts.",
            ),
        ],
    ),
    page(
        "check",
        "It shows all mistakes at once, each with its place and with what would be accepted; then how hard each key is to \
         guess, and warnings.",
        &[
            ("toctoc check", "Checks the usual policy."),
            (
                "toctoc check --rehearse new.toml",
                "Tries every key at every door, in namespaces.",
            ),
            (
                "toctoc check --strict --elsewhere new.toml",
                "For scripts, on another host.",
            ),
        ],
    ),
    page(
        "render",
        "It changes nothing.",
        &[(
            "toctoc render --backend ip6tables",
            "Prints the rules for IPv6 of the iptables backend.",
        )],
    ),
    page(
        "draw",
        "The picture has the sequences in it, unless you leave them out.",
        &[(
            "toctoc draw --as svg --without-ports",
            "Prints a picture to show to others.",
        )],
    ),
    page(
        "explain",
        "Each line of standard input has seconds, a source and a port, as `0.5 192.0.2.7 443/tcp`.",
        &[("toctoc explain", "Reads lines until Ctrl-D.")],
    ),
    page(
        "import",
        "It prints the policy, and changes no file. Comments say what has no counterpart. If nothing can be imported, \
         it gives the reason for each section and ends with status 1.",
        &[
            (
                "toctoc import /etc/knockd.conf",
                "Shows the policy that does the same.",
            ),
            (
                "toctoc import --from script firewall.sh",
                "Reads it as a shell script, whatever it looks like.",
            ),
        ],
    ),
    page(
        "apply",
        "It checks the policy, replaces the running rules in one transaction, and verifies what the kernel holds. Live \
         grants stay, except those whose door or key is gone. It refuses to shut out your own ssh connection. If it \
         fails, it says in which state the firewall was left.",
        &[
            ("toctoc apply --dry-run", "Says what would change."),
            (
                "toctoc apply --confirm 10m",
                "Goes back after ten minutes, unless toctoc confirm comes.",
            ),
        ],
    ),
    page(
        "confirm",
        "Without it, the firewall goes back when the time is over.",
        &[("toctoc confirm", "In a session that began after the apply.")],
    ),
    page(
        "rollback",
        "The policy that ran before is applied again. If there was none, the rules are taken out.",
        &[("toctoc rollback", "Ends the trial.")],
    ),
    page(
        "key",
        "A key opens doors with a sequence of ports, with tokens that open once each, or with scratch sequences on paper. \
         `key new` writes it into the policy and makes a profile for the client.",
        &[
            (
                "toctoc key new phone --host server.example --qr",
                "A key of tokens, shown as a QR code.",
            ),
            (
                "toctoc key new phone --host server.example --html phone.html --passphrase",
                "A key in a web page that knocks, under a passphrase.",
            ),
            (
                "toctoc key new anna --sequence 5 --opens ssh --host server.example",
                "A key that any tool can use.",
            ),
            (
                "toctoc key revoke phone",
                "Takes it out of the file and of what runs, and ends its grants.",
            ),
        ],
    ),
    page(
        "refill",
        "`toctoc-refill.timer` runs it every quarter of an hour. It also saves which tokens were used up.",
        &[("toctoc refill", "Loads what is missing.")],
    ),
    page(
        "heal",
        "`toctoc-heal.timer` runs it every half minute. It says nothing when nothing is wrong. It undoes no `toctoc \
         remove`.",
        &[("toctoc heal", "After somebody has flushed the ruleset.")],
    ),
    page(
        "status",
        "It compares what the kernel holds with the policy that was applied. It says no if they differ, or if a stranger \
         can enter.",
        &[
            ("toctoc", "The same."),
            ("toctoc status --json", "For programs."),
        ],
    ),
    page(
        "watch",
        "On a terminal it shows a screen until you press q.",
        &[
            ("toctoc watch", "The screen."),
            (
                "toctoc watch --exec /usr/local/bin/tell",
                "Runs a program at each opening and each end.",
            ),
        ],
    ),
    page(
        "log",
        "Only what the kernel itself has said is believed.",
        &[("toctoc log --follow", "What was, and what comes.")],
    ),
    page(
        "fleet",
        "It runs until it is stopped, where the policy has `[fleet]`. It is a program of its own, `toctoc-fleet`, in a package \
         of that name. `toctoc-fleet.service` starts it.",
        &[(
            "toctoc fleet --new-secret fleet.secret",
            "Makes what the hosts sign with.",
        )],
    ),
    page(
        "open",
        "The grant ends by itself.",
        &[(
            "toctoc open ssh 192.0.2.7 --for 1h",
            "Lets one address in for an hour.",
        )],
    ),
    page(
        "close",
        "Connections that are open stay open.",
        &[
            ("toctoc close", "Ends all grants."),
            (
                "toctoc close ssh 192.0.2.7",
                "Ends that of one source for one door.",
            ),
        ],
    ),
    page(
        "remove",
        "It says so if the next boot closes the doors again.",
        &[("toctoc remove", "No door is guarded then.")],
    ),
    page(
        "demo",
        "It needs no rights where user namespaces are allowed, and touches nothing of this host.",
        &[("toctoc demo", "Takes some seconds.")],
    ),
    page(
        "knock",
        "With a profile, or with `--door`, it sees whether the door opened, and tries again, slower, if not. If it stays \
         shut, it says what is likely wrong and what to do next. It needs no rights.",
        &[
            ("toctoc knock home", "As the profile says."),
            (
                "toctoc knock 192.0.2.1 4431 2387 920 --door 22",
                "Without a profile.",
            ),
        ],
    ),
    page(
        "connect",
        "ssh calls it, as `toctoc profile ssh-config` sets up.",
        &[(
            "toctoc connect home 22",
            "Passes standard input and output through the door.",
        )],
    ),
    page(
        "profile",
        "A profile holds a host, its door, and the secret that opens it. It is private to you.",
        &[
            (
                "toctoc profile import yves.toml home",
                "Takes in what the server has made.",
            ),
            (
                "toctoc profile ssh-config home",
                "Prints what makes `ssh home` knock.",
            ),
            (
                "toctoc profile show home --as nmap",
                "Prints what to type without toctoc.",
            ),
            (
                "toctoc profile show home --qr --page https://pages.example/knock.html",
                "Shows the link to a page on a host of your own, with the key.",
            ),
        ],
    ),
    page(
        "code",
        "A token opens once, and only for some two minutes.",
        &[("toctoc code home", "For a profile with tokens.")],
    ),
    page(
        "man",
        "Without an argument it prints the overview.",
        &[
            ("toctoc man apply", "Prints toctoc-apply(1)."),
            (
                "toctoc man --into man",
                "Writes all pages below a directory, as an installation needs them.",
            ),
        ],
    ),
    page(
        "completions",
        "The shell then asks the program itself, which knows the profiles, doors and keys that there are.",
        &[(
            "toctoc completions bash",
            "For a line in ~/.bashrc: eval \"$(toctoc completions bash)\"",
        )],
    ),
];

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_command_has_a_page_with_examples_that_are_understood() {
        let program = Cli::command();
        for command in program.get_subcommands() {
            let name = command.get_name();
            let page = of(name).unwrap_or_else(|| panic!("{name} has no page"));
            assert!(!page.text.is_empty() && !page.examples.is_empty(), "{name}");
        }
        let known = |page: &&Page| program.find_subcommand(page.command).is_some();
        for page in PAGES.iter().filter(known) {
            for (line, _) in page.examples {
                let words = line.split(' ');
                let parsed = Cli::command().try_get_matches_from(words);
                assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
            }
        }
    }
}
