//! `toctoc draw`

use clap::Args;

use super::{Answer, PolicyAlone, complain, now, policy, say};
use crate::automaton::Automaton;
use crate::picture::{Picture, Ports, dot, svg, text};
use crate::policy::diagnostic::Style;

#[derive(Args)]
#[command(after_help = "\
A picture holds the sequences, as the policy does: `umask 077` before you write it to a file.")]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    policy: PolicyAlone,
    /// `text` for a terminal, `svg` for a browser or paper, `dot` for Graphviz.
    #[arg(long = "as", value_name = "FORM", default_value = "text",
          value_parser = ["text", "svg", "dot"])]
    form: String,
    /// Leave out ports and addresses, to show the picture to others.
    #[arg(long)]
    without_ports: bool,
}

pub(super) fn run(arguments: &Arguments) -> Answer {
    let policy = match policy(&arguments.policy.as_written()) {
        Ok(policy) => policy,
        Err(answer) => return answer,
    };
    let ports = match arguments.without_ports {
        true => Ports::LeftOut,
        false => Ports::Shown,
    };
    let automaton = Automaton::build(policy.sequences());
    let picture = Picture::of(&policy, &automaton, ports, now());
    let drawn = match arguments.form.as_str() {
        "svg" => svg(&picture),
        "dot" => dot(&picture),
        _ => Ok(text(&picture, Style::Coloured)),
    };
    match drawn {
        Ok(drawn) => {
            say(&drawn);
            Answer::Yes
        }
        Err(error) => {
            complain(&error.to_string());
            Answer::CouldNot
        }
    }
}
