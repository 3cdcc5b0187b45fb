//! `toctoc profile`

use std::fs::DirBuilder;
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use super::{Answer, complain, name, say};
use crate::client::Profile;
use crate::client::profile::directory;
use crate::enrol::write_new;
use crate::policy::Name;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Take in a profile: a file of `toctoc key new`, or the text of its QR code on standard input.
    Import(Import),
}

#[derive(Args)]
struct Import {
    /// What the profile shall be called here.
    #[arg(value_parser = name)]
    name: Name,
    /// The file, or `-` for standard input.
    #[arg(default_value = "-")]
    file: String,
}

pub(super) fn run(arguments: &Arguments) -> Answer {
    let Command::Import(import) = &arguments.command;
    match take_in(import) {
        Ok(said) => {
            say(&said);
            Answer::Yes
        }
        Err(message) => {
            complain(&message);
            Answer::CouldNot
        }
    }
}

fn take_in(import: &Import) -> Result<String, String> {
    let text = match import.file.as_str() {
        "-" => read(std::io::stdin(), "standard input")?,
        path => {
            let file = std::fs::File::open(path);
            read(
                file.map_err(|error| format!("{path} cannot be read: {error}"))?,
                path,
            )?
        }
    };
    let parsed = match text.trim_start().starts_with("toctoc://") {
        true => Profile::parse_link(&text),
        false => Profile::parse(&text),
    };
    let profile = parsed.map_err(|error| format!("{}: {error}", import.file))?;
    let directory = directory();
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory);
    made.map_err(|error| format!("{} cannot be made: {error}", directory.display()))?;
    let path = Profile::path(import.name.as_str());
    if path.symlink_metadata().is_ok() {
        return Err(format!(
            "there is a profile `{}` already: `rm {}` if it is of no use any more, or take another name",
            import.name,
            path.display()
        ));
    }
    write_new(&path, profile.text().as_bytes())?;
    Ok(imported(&path, &import.name))
}

fn imported(path: &Path, name: &Name) -> String {
    format!("wrote {}: `toctoc knock {name}`\n", path.display())
}

fn read(from: impl Read, shown: &str) -> Result<Zeroizing<String>, String> {
    let mut text = Zeroizing::new(String::with_capacity(64 << 10));
    from.take(64 << 10)
        .read_to_string(&mut text)
        .map_err(|error| format!("{shown} cannot be read: {error}"))?;
    Ok(text)
}
