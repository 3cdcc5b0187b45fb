//! The commands of a server: those that know policies and firewalls.

mod apply;
mod by_hand;
mod check;
mod client_host;
mod demo;
mod draw;
mod duration;
mod explain;
pub mod fleet;
mod heal;
mod import;
mod init;
mod key;
mod log;
mod own_namespace;
mod policy_path;
mod refill;
mod remove;
mod render;
mod revoke;
mod status;
mod trial;
mod watch;

use clap::Subcommand;

use super::{Answer, complain, completions, count, heard, now, print, qr, say};
pub use policy_path::{POLICY, policy_at};
use policy_path::{
    PolicyAlone, PolicyPath, applied_policy, backend, could_not_read, host, policy,
    policy_and_origin, report, reported, trusted, warn_of_readers,
};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make the first door: a few questions, then a policy on trial.
    Init(init::Arguments),
    /// Check a policy file, and warn of what is not wise.
    Check(check::Arguments),
    /// Print the ruleset of a policy.
    Render(render::Arguments),
    /// Draw a policy: which knocks make which key, and what it opens.
    Draw(draw::Arguments),
    /// Say what each knock of a trace on standard input means.
    Explain(PolicyAlone),
    /// Turn a knockd.conf, a firewall script or the like into a policy.
    Import(import::Arguments),
    /// Put a policy into the running firewall, keeping live grants.
    Apply(apply::Arguments),
    /// Keep the policy that is on trial (`apply --confirm`).
    Confirm,
    /// Go back at once from the policy that is on trial.
    Rollback(trial::Rollback),
    /// Make, list and revoke keys.
    Key(key::Arguments),
    /// Load tokens of the coming hours, and the clock (a timer does so).
    Refill(refill::Arguments),
    /// Restore what was applied, if it was changed (a timer does so).
    Heal,
    /// Show doors and grants, and whether the kernel holds the policy.
    Status(status::Arguments),
    /// Watch doors and knocks live, or run a program at an opening.
    Watch(watch::Arguments),
    /// Say who opened what and when, from the kernel's log.
    Log(log::Arguments),
    /// Share grants with other hosts. It runs until it is stopped.
    Fleet(fleet::Arguments),
    /// Grant a source a door by hand.
    Open(by_hand::Open),
    /// End grants: all, of one door, of one source.
    Close(by_hand::Close),
    /// Take all rules of toctoc out: the doors are then open to all.
    Remove(remove::Arguments),
    /// Watch it work, on two hosts in namespaces.
    Demo(demo::Arguments),
}

/// The command where none is given.
pub(super) fn without() -> Command {
    Command::Status(status::Arguments::default())
}

pub(super) fn run(command: &Command) -> Answer {
    match command {
        Command::Init(arguments) => init::run(arguments),
        Command::Check(arguments) => check::run(arguments),
        Command::Render(arguments) => render::run(arguments),
        Command::Draw(arguments) => draw::run(arguments),
        Command::Explain(policy) => explain::run(policy),
        Command::Import(arguments) => import::run(arguments),
        Command::Apply(arguments) => apply::run(arguments),
        Command::Confirm => trial::stay(),
        Command::Rollback(arguments) => trial::go_back(arguments),
        Command::Key(arguments) => key::run(arguments),
        Command::Refill(arguments) => refill::run(arguments),
        Command::Heal => heal::run(),
        Command::Status(arguments) => status::run(arguments),
        Command::Watch(arguments) => watch::run(arguments),
        Command::Log(arguments) => log::run(arguments),
        Command::Fleet(_) => fleet::run(),
        Command::Open(arguments) => by_hand::open(arguments),
        Command::Close(arguments) => by_hand::close(arguments),
        Command::Remove(arguments) => remove::run(arguments),
        Command::Demo(arguments) => demo::run(arguments),
    }
}
