//! `toctoc import`

use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::{Answer, complain, say};
use crate::import::{Form, import, import_as};
use crate::policy;
use crate::policy::diagnostic::Style;

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    /// A configuration of knockd, csf, fwknop or letmein, a script of `iptables -m recent` or nft, or saved rules.
    file: PathBuf,
    /// The form of the file, instead of what its text looks like.
    #[arg(long, value_name = "FORM", value_parser = forms())]
    from: Option<Form>,
}

fn forms() -> impl TypedValueParser<Value = Form> {
    let names = Form::NAMES.map(|(name, _)| name);
    PossibleValuesParser::new(names).try_map(|name| {
        let known = Form::NAMES.into_iter().find(|(known, _)| *known == name);
        known.map(|(_, form)| form).ok_or("no such form")
    })
}

/// Larger files are something else.
const LARGEST: u64 = 1 << 20;

pub(super) fn run(arguments: &Arguments) -> Answer {
    let path = arguments.file.display();
    let mut text = String::new();
    let read = std::fs::File::open(&arguments.file)
        .and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text));
    if let Err(error) = read {
        complain(&format!("{path} cannot be read: {error}"));
        return Answer::CouldNot;
    }
    if text.len() as u64 > LARGEST {
        complain(&format!(
            "{path} has more than {LARGEST} bytes, and was not read: leave out what is not about knocking"
        ));
        return Answer::No;
    }
    let imported = match arguments.from {
        Some(form) => import_as(&text, form),
        None => import(&text),
    };
    let imported = match imported {
        Ok(imported) => imported,
        Err(error) => {
            complain(&format!("{path}: {error}"));
            return Answer::No;
        }
    };
    say(&imported);
    // It is shown whatever `check` says of it: the errors say what to mend.
    match policy::read("the policy above", &imported) {
        Ok(_) => Answer::Yes,
        Err(report) => {
            use std::io::Write;
            let _ = writeln!(anstream::stderr(), "\n{}", report.render(Style::Coloured));
            Answer::No
        }
    }
}
