//! Several hosts that let in whom one of them let in, with the real redis-server.

mod access;
mod bottle;
mod burning;
mod ending;
mod faults;
mod guide;
mod hand_over;
mod load;
mod sharing;
mod signing;
