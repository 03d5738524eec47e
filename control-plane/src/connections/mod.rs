//! Who may be connected, and for how long.
//!
//! A connection is *fresh* until its first request: until then nobody knows whether an honest client is behind it. There is
//! a bounded number of fresh connections, each for a bounded time, and where there is no room for a further one, the oldest
//! of the address that has the most gives way. So what never speaks cannot keep out who does, however much of it comes.
//!
//! A connection with a request counts for its client: the name in its certificate, or, where clients have none, its
//! address. A client may hold as many connections, and as many streams, as are still free: the greediest has at most half
//! of all, the next half of the rest. A fleet that shares one certificate is one client.
//!
//! All numbers come from the limit on file descriptors, of which a part stays for files: see [`Limits`].

mod accept;
mod connection;
mod door;
mod limits;
mod peer;

pub use accept::{HttpListener, listen};
pub use connection::Connection;
pub use door::{Client, Door};
pub use limits::{Limits, descriptors, may_take};
pub use peer::{OpenStream, Peer, Refusal, peer};
