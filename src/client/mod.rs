//! The client: `profile --plan--> knocks --send--> sent --enter--> open door`. Needs no privileges.

mod clock;
mod diagnose;
mod dial;
mod enter;
mod outside;
pub mod page;
mod plan;
pub mod profile;
mod race;
pub mod recipe;
mod relay;
mod send;
pub mod store;
mod stun;

pub use clock::time_at;
pub use diagnose::{Heard, likely, look_around};
pub use dial::{Dial, Met};
pub use enter::{Answers, Door, Open, Seen, compare, connect, enter};
pub use outside::{Outside, StunServer};
pub use plan::{Packets, Plan, Slot, Try, tokens};
pub use profile::Profile;
pub use race::{Addresses, Family, MOST_ADDRESSES, addresses, race};
pub use relay::{hand_over, relay};
pub use send::is_this_machine;
pub use send::{send_knock, send_signed, send_token, signed_for, signed_now};
